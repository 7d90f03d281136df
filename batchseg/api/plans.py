"""Plans: what a run would do, in numbers and in words, for scenes and for photographs."""

from collections.abc import Iterable
from dataclasses import dataclass

from batchseg.driver.dry_run import DryRun, PhotoPlan
from batchseg.driver.progress import describe_young, duration
from batchseg.driver.value_check import Looked
from batchseg.job.recipe import Recipe
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
    """(source id, why) of scenes that would be quarantined."""
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
    object_store_bytes: int | None
    """That Ray is given."""
    seconds: float | None
    """Of prediction, at the speed of one tile."""
    text: str
    """All of it in words."""

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
        refused=(),
        workers=planned.workers,
        bytes_in=planned.file_bytes,
        tiles=None,
        pixels=None,
        bytes_out=None,
        in_flight_bytes=None,
        object_store_bytes=None,
        seconds=None,
        text=_text(_photograph_lines(planned)),
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
        gone=len(plan.triage.vanished),
        young=plan.triage.young,
        refused=tuple((refusal.source.source_id, refusal.reason) for refusal in plan.refusals),
        workers=planned.workers,
        bytes_in=numbers.bytes_in,
        tiles=numbers.tiles,
        pixels=numbers.source_pixels,
        bytes_out=numbers.bytes_out,
        in_flight_bytes=numbers.in_flight_bytes,
        object_store_bytes=planned.object_store_bytes,
        seconds=numbers.seconds,
        text=_text(_scene_lines(planned)),
    )


def _text(lines: Iterable[str]) -> str:
    return "\n".join(shown(line, name_variables=True) for line in lines)


def _begun(planned: DryRun) -> int:
    return sum(bool(job.committed) for job in planned.plan.jobs)


def _photograph_lines(planned: PhotoPlan) -> list[str]:
    recipe, product = planned.recipe, planned.product
    options = product.photo_options
    how = "whole, resized to" if options.fit == "resize" else f"in tiles (halo {recipe.halo}) of"
    derived = f", {planned.derive} to derive from stored results" if planned.derive else ""
    rules = f"{len(options.rules)} rules" if options.rules else "no rules, so no verdicts"
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"photos   {planned.predict} to do ({human(planned.file_bytes)}){derived}, {planned.done} done, "
        f"{planned.quarantined} quarantined before, {planned.gone} gone",
        f"values   {describe_values(recipe)}",
        *_value_lines(planned.looked),
        f"fit      {how} {recipe.tile_size} pixels, on {planned.workers} workers",
        f"results  {rules}; masks: {options.masks}, as {options.mask_format}",
    ]
    if planned.young:
        lines.append(f"young    {describe_young(planned.young, planned.min_age)}")
    return lines


def _model_lines(recipe: Recipe, *, undecided: bool) -> list[str]:
    facts = recipe.facts
    count = f"{facts.class_count} classes" if facts.class_count else "class ids"
    return [
        f"model    {recipe.model.network}",
        f"         {facts.channels} bands in, {facts.output} out ({count}), "
        f"{describe_engine(recipe, undecided=undecided)}",
    ]


def _scene_lines(planned: DryRun) -> list[str]:
    plan, numbers, recipe = planned.plan, planned.numbers, planned.recipe
    resumed = _begun(planned)
    seconds = f"about {duration(numbers.seconds)}" if numbers.seconds >= 1 else "under 1 s"
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"sources  {numbers.scenes} to do ({resumed} begun by earlier runs), {plan.triage.done} done, "
        f"{plan.triage.quarantined} quarantined before, {len(plan.triage.vanished)} gone",
        f"values   {describe_values(recipe)}",
        *_value_lines(planned.looked),
        f"tiles    {numbers.tiles} of {recipe.tile_size} pixels, halo {recipe.halo}: "
        f"{numbers.source_pixels / 1e6:.1f} Mpx; {seconds} of prediction on {planned.workers} workers",
        f"bytes    {human(numbers.bytes_in)} in (decoded), "
        f"at most {human(numbers.bytes_out)} out (uncompressed)",
        f"memory   at most {human(numbers.in_flight_bytes)} of pixels in flight, "
        f"object store {human(planned.object_store_bytes)}",
    ]
    if recipe.area is not None:
        lines.append(f"aoi      {sum(job.is_outside for job in plan.jobs)} of the scenes lie outside")
    if plan.triage.young:
        lines.append(f"young    {describe_young(plan.triage.young, planned.min_age)}")
    if plan.refusals:
        lines.append(f"refused  {len(plan.refusals)} sources:")
        lines += [f"  {refusal.source.source_id}: {refusal.reason}" for refusal in plan.refusals]
    return lines


def _value_lines(looked: Looked) -> list[str]:
    """What samples of the sources hold."""
    warning = [f"warning: {looked.warning}"] if looked.warning else []
    return [f"         {line}" for line in (*looked.lines, *warning)]


def describe_engine(recipe: Recipe, *, undecided: bool) -> str:
    if undecided:
        return "engine chosen by the first run, on its own tiles (`batchseg model bench` tries them now)"
    baked = ", baked" if recipe.bake is not None else ""
    return f"{recipe.engine} in {recipe.precision} on {recipe.device}{baked}"


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
