"""What is odd about a run's scenes, in words: such a night ends well and may still be wrong.

`plan` shows it, a run says it when it begins, and its report repeats it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchseg.driver.band_warnings import band_warnings
from batchseg.driver.plan import Plan
from batchseg.driver.scene_area import area_warning, crossing_warning, outside_warning
from batchseg.driver.scene_words import count_of, examples
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.job.resolution import ModelGrid
from batchseg.pixels.bands import bands_of, describe_bands
from batchseg.pixels.fit import WARNED_FACTOR, impossible_nodata
from batchseg.pixels.ground import body, ground_resolution, metres, most_apart

LAYOUTS_SHOWN = 5
"""Different kinds of bands that a plan shows."""

COMPARED = 8
"""First scenes of a run with which its later ones are compared."""


def scene_warnings(plan: Plan, recipe: Recipe) -> tuple[str, ...]:
    """A line for each thing that is odd about the scenes of a plan."""
    scenes = [job.scene for job in plan.jobs if not job.is_outside]
    found = [
        area_warning(plan, recipe),
        crossing_warning(recipe),
        *_resolution(scenes, recipe),
        *band_warnings(scenes, recipe),
        _nodata(scenes, recipe),
        _bodies(scenes),
        _places(scenes),
    ]
    return tuple(filter(None, found))


class SceneWarnings:
    """Warnings of a run whose headers come while it works: each kind is told once, when it shows."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._lines: list[str] = []
        self._kinds: set[str] = set()
        self._begun_with: Plan | None = None
        """Some of the first scenes, with which later ones are compared."""
        self._outside = 0
        self._is_met = False
        """Whether the area of interest meets any scene."""

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def begin(self, plan: Plan) -> None:
        """Take the first scenes of a run."""
        self._begun_with = replace(plan, jobs=plan.jobs[:COMPARED], refusals=())
        self._is_met = not all(job.is_outside for job in plan.jobs)
        self._outside = len(plan.jobs)
        self._lines = list(scene_warnings(plan, self._recipe))
        ids = [job.scene.source.source_id for job in plan.jobs] if self._lines else []
        self._kinds = {_kind(line, ids) for line in self._lines}

    def add(self, plan: Plan) -> list[str]:
        """Take further scenes; what was not told yet of their kind."""
        first = self._begun_with or plan
        compared = replace(plan, jobs=(*first.jobs, *plan.jobs), unread=1)
        news = self._note(scene_warnings(compared, self._recipe), compared)
        self._is_met = self._is_met or not all(job.is_outside for job in plan.jobs)
        self._outside += len(plan.jobs)
        if self._recipe.area is not None and not (plan.unread or self._is_met):
            news += self._note([outside_warning(compared, self._recipe.area, self._outside)], compared)
        return news

    def _note(self, lines: Sequence[str], plan: Plan) -> list[str]:
        ids = [job.scene.source.source_id for job in plan.jobs] if lines else []
        kinds = {_kind(line, ids): line for line in lines}
        news = [line for kind, line in kinds.items() if kind not in self._kinds]
        self._kinds |= kinds.keys()
        self._lines += news
        return news


def _kind(line: str, ids: Sequence[str]) -> str:
    """A warning without the numbers and names that it would have of other scenes alike."""
    names = "|".join(map(re.escape, sorted(ids, key=len, reverse=True)))
    line = re.sub(rf"(?<![\w/.])({names})(?![\w/])", "@", line)
    line = re.sub(r"@(, (@|\.\.\.))*", "@", line)
    return re.sub(r"[\d.]+(e[+-]?\d+)?", "#", line).replace("scenes", "scene")


def describe_scenes(plan: Plan, recipe: Recipe) -> tuple[str, ...]:
    """Lines on the scenes' bands and the size of their pixels, each behind the name of what it is about."""
    scenes = [job.scene.on_own_grid for job in plan.jobs]
    if not scenes:
        return ()
    kinds: dict[str, list[Scene]] = {}
    for scene in scenes:
        kinds.setdefault(describe_bands(scene), []).append(scene)
    layouts = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    lines = [f"bands    {words}: {count_of(alike)}" for words, alike in layouts[:LAYOUTS_SHOWN]]
    if len(layouts) > LAYOUTS_SHOWN:
        rest = [scene for _, alike in layouts[LAYOUTS_SHOWN:] for scene in alike[:1]]
        lines.append(
            f"         and {len(rest)} other kinds of scenes ({examples(rest)}): `batchseg plan` with"
        )
        lines.append("         `--set inputs=FILE` shows those of one")
    given: Sequence[object] = recipe.band_names or recipe.bands
    if recipe.all_bands:
        several = {bands_of(scene, recipe) for scene in scenes}
        given = several.pop() if len(several) == 1 else ("all bands but alpha",)
    lines.append(f"         the network gets {', '.join(map(str, given))}")
    return (*lines, f"ground   {_ground(scenes)}{_read_at(plan, recipe)}")


def _ground(scenes: Sequence[Scene]) -> str:
    """How large the scenes' own pixels are."""
    sizes = [size for scene in scenes if (size := ground_resolution(scene)) is not None]
    if not sizes:
        return "nothing says how large the pixels are"
    sides = [side for size in sizes for side in size]
    words = {metres(size) for size in sizes}
    between = words.pop() if len(words) == 1 else f"{min(sides):.3g} to {max(sides):.3g} m"
    return f"{between} per pixel"


def _read_at(plan: Plan, recipe: Recipe) -> str:
    """At which resolution scenes are read, and what the model was made for."""
    grid = recipe.model_grid
    made_for = f"; the model was made for {recipe.resolution:.3g} m" if recipe.resolution else ""
    if grid is None:
        return made_for
    brought = [job.scene for job in plan.jobs if job.scene.own is not None]
    as_they_are = len(plan.jobs) - len(brought)
    words = f", read as they are, which is {grid.resolution}"
    if brought:
        some = f" ({count_of(brought)}; {as_they_are} as they are)" if as_they_are else ""
        words = f", read at {grid.resolution}{some}; masks on the {grid.mask}'s grid"
    return words + made_for


def _resolution(scenes: Sequence[Scene], recipe: Recipe) -> Iterator[str]:
    made_for = recipe.resolution
    if recipe.model_grid is not None:
        yield from _resampled(scenes, recipe.model_grid, made_for)
        return
    if made_for is None:
        return
    sizes = [(ground_resolution(scene), scene) for scene in scenes]
    begin = f"resolution: the model was made for pixels of {made_for:.3g} m; "
    far = [(most_apart(size, made_for), size, scene) for size, scene in sizes if size]
    far = [each for each in far if each[0] > WARNED_FACTOR]
    if far:
        _, size, scene = max(far, key=lambda each: each[0])
        yield (
            f"{begin}{len(far)} of {count_of(scenes)} have others ({scene.source.source_id}: "
            f"{metres(size)}), in which all things have another size; set resolution: model to have them "
            f"read at that"
        )
    unknown = [scene for size, scene in sizes if size is None]
    if unknown:
        yield (
            f"{begin}nothing says how large those of {len(unknown)} of {count_of(scenes)} are "
            f"({examples(unknown)})"
        )


def _resampled(scenes: Sequence[Scene], grid: ModelGrid, made_for: float | None) -> Iterator[str]:
    """Of scenes that are read at the job's resolution."""
    asked = grid.resolution
    if made_for and asked.unit == "m" and most_apart((asked.size, asked.size), made_for) > WARNED_FACTOR:
        yield (
            f"resolution: scenes are read at {asked}, and the model was made for {made_for:.3g} m; write "
            f"resolution: model to have them read at that"
        )
    coarse = [scene for scene in scenes if scene.own and scene.size > WARNED_FACTOR**2 * scene.own.size]
    if coarse:
        yield (
            f"resolution: {len(coarse)} of {count_of(scenes)} are coarser than {asked} ({examples(coarse)}): "
            f"pixels are put between theirs, which show no more than before"
        )


def _nodata(scenes: Sequence[Scene], recipe: Recipe) -> str:
    if isinstance(recipe.nodata, float | int):
        return _two_nodatas(scenes, recipe, recipe.nodata)
    if recipe.nodata != "source":
        return ""
    kinds: dict[tuple[object, ...], list[Scene]] = {}
    for scene in scenes:
        if any(value is not None for value in scene.nodata):
            kinds.setdefault((scene.dtypes, scene.nodata), []).append(scene)
    void = [scene for alike in kinds.values() if _never_nodata(alike[0]) for scene in alike]
    if not void:
        return ""
    value = next(value for value in void[0].nodata if value is not None)
    return (
        f"nodata: the files of {count_of(void)} ({examples(void)}) name {value:.12g}, which none of their "
        f"{void[0].dtypes[0]} pixels can be; if another value stands for no data, set `nodata`"
    )


def _two_nodatas(scenes: Sequence[Scene], recipe: Recipe, asked: float) -> str:
    """The job's value and the files' own: a user of GDAL may think that his replaces theirs."""
    said: dict[str, list[Scene]] = {}
    for scene in scenes:
        own = {value for band in bands_of(scene, recipe) if (value := scene.nodata[band - 1]) is not None}
        words = [f"{value:.12g}" for value in sorted(own) if value != asked]
        words += ["alpha"] if scene.alpha_bands and not own else []
        if words:
            said.setdefault(" and ".join(words), []).append(scene)
    if not said:
        return ""
    files = ", ".join(f"{words} ({count_of(alike)}: {examples(alike)})" for words, alike in said.items())
    return (
        f"nodata: the job says {asked:.12g}, and files say {files}: both count as no data; where a file's "
        f"own is wrong, take it out of the file (gdal_edit.py -unsetnodata)"
    )


def _never_nodata(scene: Scene) -> bool:
    pairs = zip(scene.dtypes, scene.nodata, strict=True)
    return any(value is not None and impossible_nodata(dtype, value) for dtype, value in pairs)


def _bodies(scenes: Sequence[Scene]) -> str:
    by_body: dict[str, list[Scene]] = {}
    for scene in scenes:
        if where := body(scene):
            by_body.setdefault(where, []).append(scene)
    if len(by_body) < 2:
        return ""
    usual = max(by_body, key=lambda where: len(by_body[where]))
    where, others = next((where, alike) for where, alike in by_body.items() if where != usual)
    return (
        f"CRS: {count_of(others)} of {where} ({examples(others)}), {len(by_body[usual])} of {usual}; look at "
        f"what `gdalinfo` says of their CRS"
    )


def _places(scenes: Sequence[Scene]) -> str:
    lost = [scene for scene in scenes if not _has_place(scene)]
    if not lost or (len(lost) == len(scenes) and not any(_is_on_web(scene) for scene in lost)):
        return ""  # pictures that lie nowhere
    web = "; files beside a raster on a web server are not read" if any(map(_is_on_web, lost)) else ""
    return (
        f"place: nothing says where {len(lost)} of {count_of(scenes)} lie ({examples(lost)}): their masks "
        f"have no geotransform, their regions are in pixels{web}"
    )


def _has_place(scene: Scene) -> bool:
    place = scene.georeference
    return place.transform is not None or bool(place.gcps) or bool(place.rpcs)


def _is_on_web(scene: Scene) -> bool:
    return scene.source.uri.startswith(("http://", "https://"))
