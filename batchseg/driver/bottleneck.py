"""What a run's predictors did and waited for, and what would make it faster."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from batchseg.driver.events import GroupDone, PlanReady, SceneDone, Setting, ShardsDone
from batchseg.job.alignment import other_tile
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.system.timing import Stint, host_clock

SHORT_SECONDS = 5.0
"""Runs below that show nothing but their own start and end."""

SMALL_SCENE = 8
"""Tiles of a scene, on average, below which what each scene costs counts more than its tiles."""

MOSTLY_HALO = 0.45
"""Share of a tile that is kept, below which a larger tile is the first thing to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Predictors' time in a run, from the first lease to the last table."""

    seconds: float
    slots: int
    """Predictors."""
    scenes: int
    tiles: int
    shares: Mapping[str, float]
    """Of slots x seconds, 0..1, the largest first: predicting (the network), preparing (cutting, placing,
    judging), reading (pixels were not there), writing and finishing (where the same thread does it),
    starting (until the first tile), ending (after the last one), waiting (no lease, or one on its way)."""
    setting: Setting = field(default_factory=Setting)

    @property
    def in_words(self) -> str:
        return share_words(self.shares)


def share_words(shares: Mapping[str, float]) -> str:
    """
    >>> share_words({"predicting": 0.803, "reading": 0.145, "ending": 0.05, "writing": 0.002})
    'predicting 80 %, reading 14 %, idle at the end 5 %'
    """
    shown = ((step_words(step), share) for step, share in shares.items() if share >= 0.005)
    return ", ".join(f"{step} {100 * share:.0f} %" for step, share in shown)


def step_words(step: str) -> str:
    """
    >>> step_words("ending"), step_words("reading")
    ('idle at the end', 'reading')
    """
    return {"ending": "idle at the end", "starting": "idle at the start"}.get(step, step)


def bound_words(bound: str) -> str:
    """What stands before an advice; empty where nothing bounds a run."""
    return f"bound by {step_words(bound)}: " if bound else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    bound: str
    """A key of `Usage.shares`; empty where nothing can be said."""
    advice: str
    """What would help, in a sentence."""


def diagnose(usage: Usage) -> Diagnosis:
    """The largest share, and what makes it smaller."""
    if usage.seconds < SHORT_SECONDS or not usage.shares:
        return Diagnosis(bound="", advice="too short a run to tell")
    bound = max(usage.shares, key=lambda step: usage.shares[step])
    return Diagnosis(bound=bound, advice=_advice(bound, usage))


def _advice(bound: str, usage: Usage) -> str:
    setting = usage.setting
    small = usage.tiles < SMALL_SCENE * usage.scenes
    if bound == "predicting":
        return _faster_network(setting)
    if bound == "reading":
        return _faster_reading(setting)
    if setting.inline and bound in ("writing", "finishing"):
        return "`executor: auto` does it beside predicting"
    if bound in ("finishing", "ending"):
        more = "; `regions: false` or a larger `min_area` shortens it" if setting.regions else ""
        return f"masks are finished after their scenes' last tiles: it matters less with more scenes{more}"
    return {
        "preparing": "`bake: true` makes it part of the network, where the model allows it",
        "writing": "a faster disk for the output",
        "starting": "a run that lasts longer: it starts once",
        "waiting": (
            "scenes are small, and each costs the same few steps: larger files, or fewer"
            if small
            else "more may be on its way: a larger `max_in_flight`, larger `shard_tiles`"
        ),
    }[bound]


def _faster_network(setting: Setting) -> str:
    if setting.kept < MOSTLY_HALO:
        size = f" ({setting.larger_tile})" if setting.larger_tile else ""
        return (
            f"{100 * (1 - setting.kept):.0f} % of each tile is halo: a larger `tile_size`{size} makes it less"
        )
    if setting.engine_open:
        other = "fp16" if setting.gpu else "bf16"
        return (
            f"trials look for a faster engine and precision ({other}), if neither is named and `gate: "
            f"budget` lets them; else more cores or GPUs"
        )
    return "more GPUs" if setting.gpu else "more cores, or a GPU"


def _faster_reading(setting: Setting) -> str:
    if setting.badly_tiled > 0.5:
        return "inputs lie in strips or huge blocks: tiled ones (gdal_translate -of COG) are read faster"
    if setting.inline:
        return "`executor: auto` reads ahead"
    if setting.remote:
        return "inputs copied near the predictors, or a larger `max_in_flight`, so that more is read ahead"
    return "a faster disk for the inputs, or fewer `workers`, which leave cores for decoding"


def is_badly_tiled(block_hw: tuple[int, int], size_hw: tuple[int, int], tile_size: int) -> bool:
    """Whether a block holds far more than a tile needs: whole rows of a wide raster, or a huge block."""
    (block_h, block_w), (height, width) = block_hw, size_hw
    is_strip = block_w >= width > 4 * tile_size
    is_huge = min(block_h, height) * min(block_w, width) > (4 * tile_size) ** 2
    return is_strip or is_huge


class Busy:
    """Adds up what predictors did, from what their leases tell.

    A predictor's gaps between leases are laid to what was under way in them: the reading of the next lease,
    then what its own thread wrote or finished; the rest was waiting.
    """

    def __init__(self) -> None:
        self._host, self._clock = host_clock()
        self._last: dict[int, float] = {}
        """When each slot's last work ended."""
        self._thread_of: dict[int, tuple[str, int]] = {}
        self._aside: dict[tuple[str, int], list[tuple[str, float, float]]] = {}
        """What threads did beside predicting, since their last lease: what, from, to."""
        self._plan = PlanReady(scenes=0, tiles=0, pixels=0, skipped=0)
        self._begun: float | None = None
        self._spent: dict[str, float] = {}
        self._scenes = self._tiles = 0

    def begin(self, plan: PlanReady, now: float) -> None:
        """The first lease may go out, at `now` of time.monotonic()."""
        self._plan, self._begun = plan, now

    def __call__(self, event: ShardsDone | GroupDone | SceneDone) -> None:
        if isinstance(event, SceneDone):
            self._scenes += 1
            self._put_aside("finishing", event.stints)
        elif isinstance(event, GroupDone):
            self._group(event)
        else:
            self._lease(event)

    def usage(self, now: float) -> Usage:
        """Until `now` of time.monotonic(); no shares where no work began."""
        if self._begun is None:
            return Usage(seconds=0.0, slots=0, scenes=0, tiles=0, shares={})
        seconds, slots = max(now - self._begun, 1e-9), max(self._plan.slots, len(self._last), 1)
        spent = dict(self._spent)
        for slot, last in self._last.items():
            self._lay(spent, self._thread_of.get(slot), last, now, rest="ending")
        total = max(slots * seconds, sum(spent.values()))
        spent["waiting"] = spent.get("waiting", 0.0) + total - sum(spent.values())
        ordered = sorted(spent.items(), key=lambda item: -item[1])
        return Usage(
            seconds=seconds,
            slots=slots,
            scenes=self._scenes,
            tiles=self._tiles,
            shares={step: value / total for step, value in ordered},
            setting=self._plan.setting,
        )

    def _lease(self, event: ShardsDone) -> None:
        self._tiles += event.tiles
        self._add("predicting", event.predict_seconds)
        stints = {stint.role: stint for stint in event.stints}
        if (predictor := stints.get("predictor")) is None:
            return
        begun, ended = self._times(predictor)
        thread = (predictor.host, predictor.thread)
        self._add("preparing", ended - begun - event.predict_seconds)
        since = self._last.get(event.slot, self._begun or 0.0)
        rest = "waiting" if event.slot in self._last else "starting"
        if "reader" in stints:
            self._aside.setdefault(thread, []).append(("reading", *self._times(stints["reader"])))
        self._lay(self._spent, thread, since, begun, rest=rest)
        self._aside[thread] = []
        self._last[event.slot] = max(ended, since)
        self._thread_of[event.slot] = thread
        self._put_aside("writing", [stint for stint in event.stints if stint.role == "writer"])

    def _group(self, event: GroupDone) -> None:
        """Photographs are read, predicted and written by one thread, which says how long each took."""
        self._scenes += event.images
        self._tiles += event.tiles
        self._add("reading", event.read_seconds)
        self._add("predicting", event.predict_seconds)
        self._add("preparing", event.stitch_seconds)
        self._add("writing", event.write_seconds)
        for stint in event.stints[-1:]:  # before it the loading may be told
            begun, ended = self._times(stint)
            rest = "waiting" if event.slot in self._last else "starting"
            self._add(rest, max(0.0, begun - self._last.get(event.slot, self._begun or 0.0)))
            self._last[event.slot] = ended

    def _put_aside(self, what: str, stints: Iterable[Stint]) -> None:
        for stint in stints:
            if (stint.host, stint.thread) in self._aside:  # else it is no predictor's thread
                self._aside[stint.host, stint.thread].append((what, *self._times(stint)))

    def _lay(
        self, spent: dict[str, float], thread: tuple[str, int] | None, since: float, to: float, *, rest: str
    ) -> None:
        """Lay the time from `since` to `to` to what a thread did aside, and what is left to `rest`."""
        at = since
        for what, begun, ended in sorted(
            self._aside.get(thread, []) if thread else [], key=lambda item: item[1]
        ):
            begun, ended = max(begun, at), min(ended, to)
            if ended > begun:
                spent[rest] = spent.get(rest, 0.0) + begun - at
                spent[what] = spent.get(what, 0.0) + ended - begun
                at = ended
        spent[rest] = spent.get(rest, 0.0) + max(0.0, to - at)

    def _times(self, stint: Stint) -> tuple[float, float]:
        shift = stint.shift(self._host, self._clock)
        return stint.started + shift, stint.ended + shift

    def _add(self, what: str, seconds: float) -> None:
        self._spent[what] = self._spent.get(what, 0.0) + max(0.0, seconds)


def setting_of(config: JobConfig, recipe: Recipe, product: Product) -> Setting:
    """What of a job decides what would make it faster."""
    side = recipe.tile_size
    return Setting(
        engine_open=(recipe.engine, recipe.precision) == (reference_engine(recipe.model), "fp32")
        and not (config.engine == "auto" and config.gate.budget),
        gpu=recipe.device == "gpu",
        inline=config.executor == "inline",
        kept=1.0 if recipe.fit == "resize" else (1 - 2 * recipe.halo / side) ** 2,
        regions=product.regions is not None,
        larger_tile=other_tile(recipe, 2),
    )
