"""A plan in words, for scenes and for photographs."""

from collections.abc import Callable

from batchseg.driver.dry_run import DryRun, PhotoPlan, dry_run, plan_photographs
from batchseg.driver.progress import describe_young, duration
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig


def planned_lines(config: JobConfig, say: Callable[[str], None]) -> list[str]:
    """Plan a job, and say what a run would do.

    Raises:
        BatchsegError: what `run` would refuse, with the same words and exit code.
    """
    if config.photographs is not None:
        return photograph_lines(plan_photographs(config, say))
    return scene_lines(dry_run(config, say))


def photograph_lines(planned: PhotoPlan) -> list[str]:
    recipe, product = planned.recipe, planned.product
    options = product.photographs
    assert options is not None
    how = "whole, resized to" if options.fit == "resize" else f"in tiles (halo {recipe.halo}) of"
    derived = f", {planned.derive} to derive from stored results" if planned.derive else ""
    rules = f"{len(options.rules)} rules" if options.rules else "no rules, so no verdicts"
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"photos   {planned.predict} to do ({human(planned.file_bytes)}){derived}, {planned.done} done, "
        f"{planned.quarantined} quarantined before, {planned.gone} gone",
        f"values   {describe_values(recipe)}",
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


def scene_lines(planned: DryRun) -> list[str]:
    plan, numbers, recipe = planned.plan, planned.numbers, planned.recipe
    seconds = f"about {duration(numbers.seconds)}" if numbers.seconds >= 1 else "under 1 s"
    resumed = sum(bool(job.committed) for job in plan.jobs)
    lines = [
        *_model_lines(recipe, undecided=planned.undecided),
        f"sources  {numbers.scenes} to do ({resumed} begun by earlier runs), {plan.triage.done} done, "
        f"{plan.triage.quarantined} quarantined before, {len(plan.triage.vanished)} gone",
        f"values   {describe_values(recipe)}",
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
