"""Plans: what a run would do, in numbers and in words, for scenes and for photographs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchseg.driver.dry_run import DryRun, PhotoPlan
from batchseg.driver.progress import describe_young, duration
from batchseg.driver.value_check import Looked
from batchseg.job.averaging import VIEW_COUNT
from batchseg.job.recipe import Recipe, engine_words
from batchseg.job.settings import Values
from batchseg.system.amounts import counted, pixels_in_words
from batchseg.system.escape import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do. `str()` says it as `batchseg plan` prints it."""

    photographs: bool
    """The sources are photographs, whose tiles and pixels nobody knows before they are read."""
    todo: int
    """Sources to predict."""
    begun: int
    """Of them, those that earlier runs began. Scenes only."""
    derive: int
    """Sources whose results are derived from stored ones. Photographs only."""
    done: int
    quarantined: int
    """By earlier runs, and unchanged since."""
    gone: int
    """Recorded by earlier runs, and no longer among the inputs."""
    young: int
    """Changed less than `min_age` ago: left to a later run."""
    refused: tuple[tuple[str, str], ...]
    """(source id, why) of those that would be quarantined, as far as headers and the listing tell."""
    workers: int
    """Predictors."""
    bytes_in: int
    """To read: of scenes decoded pixels, halo included; of photographs files."""
    tiles: int | None
    pixels: int | None
    bytes_out: int | None
    """Masks before compression, at most."""
    in_flight_bytes: int | None
    """Of pixels and masks in memory at a time, at most."""
    seconds: float | None
    """From start to end: starting, prediction at the speed of one tile, finishing masks and regions. Longer
    where reading is slower than the network."""
    left_out: tuple[str, ...]
    """What of the inputs' folders and lists is no input, in lines."""
    text: str
    """All of it in words."""
    warnings: tuple[str, ...] = ()
    """What is odd about the scenes, in words: a run would end well and may be wrong."""

    def __str__(self) -> str:
        return self.text


def plan_photographs(planned: PhotoPlan) -> Plan:
    return Plan(
        photographs=True,
        todo=planned.predict,
        begun=0,
        derive=planned.derive,
        done=planned.done,
        quarantined=planned.quarantined,
        gone=planned.gone,
        young=planned.young,
        refused=planned.refused,
        workers=planned.workers,
        bytes_in=planned.file_bytes,
        tiles=None,
        pixels=None,
        bytes_out=None,
        in_flight_bytes=None,
        seconds=None,
        left_out=planned.left_out,
        text=_text(_photograph_lines(planned)),
        warnings=planned.warnings,
    )


def plan_scenes(planned: DryRun) -> Plan:
    plan, numbers = planned.plan, planned.numbers
    return Plan(
        photographs=False,
        todo=numbers.scenes,
        begun=_begun(planned),
        derive=0,
        done=plan.triage.done,
        quarantined=plan.triage.quarantined,
        gone=planned.gone,
        young=plan.triage.young,
        refused=tuple((refusal.source.source_id, refusal.reason) for refusal in plan.refusals),
        workers=planned.workers,
        bytes_in=numbers.bytes_in,
        tiles=numbers.tiles,
        pixels=numbers.source_pixels,
        bytes_out=numbers.bytes_out,
        in_flight_bytes=numbers.in_flight_bytes,
        seconds=planned.time.total,
        left_out=planned.left_out,
        text=_text(_scene_lines(planned)),
        warnings=planned.warnings,
    )


def _text(lines: Iterable[str]) -> str:
    return "\n".join(shown(line, name_variables=True) for line in lines)


def _begun(planned: DryRun) -> int:
    return sum(bool(job.committed) for job in planned.plan.jobs)


def _photograph_lines(planned: PhotoPlan) -> list[str]:
    recipe, product = planned.recipe, planned.product
    options = product.photo_options
    how = "whole, resized to" if options.fit == "resize" else f"in tiles (halo {recipe.dropped}) of"
    derived = f", {planned.derive} to derive from stored results" if planned.derive else ""
    rules = f"{len(options.rules)} rules" if options.rules else "no rules, so no verdicts"
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"photos   {planned.predict} to do ({human(planned.file_bytes)}){derived}, {planned.done} done, "
        f"{planned.quarantined} quarantined before, {planned.gone} gone",
        f"values   {describe_values(recipe)}",
        *_value_lines(planned.looked),
        f"fit      {how} {recipe.tile_size} pixels, on {counted(planned.workers, 'worker')}",
        f"results  {rules}; masks: {options.masks}, as {options.mask_format}",
    ]
    if product.cleaning is not None:
        lines.append(f"clean    {product.cleaning.words}")
    if planned.limits:
        lines.append(f"limits   {planned.limits}")
    if planned.young:
        lines.append(f"young    {describe_young(planned.young, planned.min_age)}")
    lines += [f"inputs   {line}" for line in planned.left_out]
    if planned.refused:
        lines.append(f"refused  {counted(len(planned.refused), 'source')}:")
        lines += [f"  {source_id}: {reason}" for source_id, reason in planned.refused]
    return [*lines, *(f"warning  {line}" for line in planned.warnings)]


def _model_lines(recipe: Recipe, *, undecided: bool) -> list[str]:
    facts = recipe.facts
    count = f"{facts.class_count} classes" if facts.class_count else "class ids"
    if recipe.values is not None:
        count = _numbers_in_words(recipe.values)
    stride = "" if recipe.fit == "resize" else f", stride {facts.stride or 'unknown'}"
    return [
        f"model    {recipe.model.network}",
        f"         {facts.channels} bands in, {facts.output} out ({count}){stride}, "
        f"{describe_engine(recipe, undecided=undecided)}",
    ]


def _numbers_in_words(values: Values) -> str:
    """What becomes of them.

    >>> _numbers_in_words(Values(dtype="uint16", scale=0.01, threshold=0.5))
    'one number a pixel, as uint16 x 0.01 + 0, class 1 above 0.5'
    """
    scaled = f" x {values.scale:g} + {values.offset:g}" if values.dtype == "uint16" else ""
    words = f"one number a pixel, as {values.dtype}{scaled}"
    if values.threshold is not None:
        return f"{words}, class 1 above {values.threshold:g}"
    return f"{words}, class 1 above what good images reach" if values.divides else words


def _averaging_lines(recipe: Recipe) -> Iterator[str]:
    """What blending and views cost, and what becomes of pixels without a class."""
    if recipe.rim:
        alone = recipe.tile_size - 2 * recipe.dropped
        times = (alone / (alone - 2 * recipe.rim)) ** 2
        yield f"blend    {recipe.blend} over {2 * recipe.rim} pixels: {times:.2f} times the tiles of none"
    if recipe.unknown is not None:
        yield f"unknown  pixels of which no class is told become class {recipe.unknown}"
    if recipe.tta != "none":
        yield f"tta      {recipe.tta}: each tile is seen {VIEW_COUNT[recipe.tta]} times"


def _scene_lines(planned: DryRun) -> list[str]:
    plan, numbers, recipe = planned.plan, planned.numbers, planned.recipe
    resumed = _begun(planned)
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"sources  {numbers.scenes} to do ({resumed} begun by earlier runs), {plan.triage.done} done, "
        f"{plan.triage.quarantined} quarantined before, {planned.gone} gone",
        f"values   {describe_values(recipe)}",
        *_value_lines(planned.looked),
        f"tiles    {numbers.tiles} of {recipe.tile_size} pixels, halo {recipe.dropped}: "
        f"{pixels_in_words(numbers.source_pixels)}",
        *_averaging_lines(recipe),
        f"time     {_time_words(planned)}",
        f"bytes    {human(numbers.bytes_in)} in (decoded), "
        f"at most {human(numbers.bytes_out)} out (uncompressed)",
        f"memory   at most {human(numbers.in_flight_bytes)} of pixels in flight",
    ]
    lines += planned.scenes
    if planned.cleaning:
        lines.append(f"clean    {planned.cleaning}")
    if planned.limits:
        lines.append(f"limits   {planned.limits}")
    if recipe.masks:
        lines.append(f"masked   {'; '.join(recipe.masks)}: no data there")
    if recipe.area is not None:
        lines.append(f"aoi      {sum(job.is_outside for job in plan.jobs)} of the scenes lie outside")
    if plan.triage.young:
        lines.append(f"young    {describe_young(plan.triage.young, planned.min_age)}")
    lines += [f"inputs   {line}" for line in planned.left_out]
    if plan.refusals:
        lines.append(f"refused  {counted(len(plan.refusals), 'source')}:")
        lines += [f"  {refusal.source.source_id}: {refusal.reason}" for refusal in plan.refusals]
    return [*lines, *(f"warning  {line}" for line in planned.warnings)]


def _time_words(planned: DryRun) -> str:
    time = planned.time
    workers = counted(planned.workers, "worker")
    if not planned.numbers.scenes:
        return f"about {_at_least_a_second(time.total)}"
    parts = {"start": time.start, "prediction": time.predict, "finishing": time.finish}
    shares = ", ".join(f"{part} {_at_least_a_second(seconds)}" for part, seconds in parts.items())
    return f"about {duration(max(time.total, 1))} on {workers}: {shares}"


def _at_least_a_second(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "under 1 s"


def _value_lines(looked: Looked) -> list[str]:
    """What samples of the sources hold."""
    warning = [f"warning: {looked.warning}"] if looked.warning else []
    return [f"         {line}" for line in (*looked.lines, *warning)]


def describe_engine(recipe: Recipe, *, undecided: bool) -> str:
    if undecided:
        return (
            "engine, tiles and halo chosen by the first run, on its own pixels (`batchseg model bench` tries "
            "them now); the numbers below are of the usual ones"
        )
    return engine_words(recipe.engine, recipe.precision, recipe.device, baked=recipe.bake is not None)


def describe_values(recipe: Recipe) -> str:
    """What happens to a raw pixel value before the model sees it."""
    low, high = (" / ".join(f"{v:g}" for v in values) for values in (recipe.scale.low, recipe.scale.high))
    scaled = "as they are" if (low, high) == ("0", "1") else f"({low})..({high}) to 0..1"
    if recipe.scale.kind == "metadata":
        scaled = "to reflectance by each scene's own scale and offset"
    if recipe.scale.clips:
        scaled += ", clipped"
    if recipe.normalize is None:
        return f"{scaled}, not normalised"
    mean, std = (
        ", ".join(f"{v:g}" for v in values) for values in (recipe.normalize.mean, recipe.normalize.std)
    )
    return f"{scaled}, then less mean ({mean}), by std ({std})"


def human(count: int) -> str:
    """
    >>> human(0), human(1536), human(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
        value /= 1024
    return f"{value:.1f} TiB"
