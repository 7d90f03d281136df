"""`batchseg plan`: everything that `run` decides before its first tile, and nothing written.

Headers of scenes are read, and samples of a few scenes or photographs.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from batchseg.driver.events import Event, Listener, Note
from batchseg.driver.executors.start import worker_count
from batchseg.driver.forecast import Forecast, forecast
from batchseg.driver.intake import FIRST, Intake
from batchseg.driver.photo_look import judge_photographs, look_at_photographs
from batchseg.driver.plan import Estimate, Plan, Planner
from batchseg.driver.prepare import Prepared, prepare, probe_model
from batchseg.driver.revise import revise
from batchseg.driver.scene_warnings import describe_scenes
from batchseg.driver.value_check import Looked, judge, look_at_scenes
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import some_sources
from batchseg.inputs.source import compute as pc
from batchseg.job.cleaning import Cleaning
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import JobConfig, Photographs
from batchseg.models.reading import read_package
from batchseg.output import publish
from batchseg.output.cleaning import REGION_BYTES
from batchseg.output.fragments import fragments_exist
from batchseg.pixels.area import read_area
from batchseg.pixels.band_order import turned_warning
from batchseg.pixels.header import read_headers_here
from batchseg.pixels.value_samples import sample_alone
from batchseg.predict.engine_choice import try_engines
from batchseg.predict.trial import Bench, Occasion
from batchseg.predict.truth import list_pairs
from batchseg.system import storage
from batchseg.system.amounts import counted
from batchseg.system.machine import describe_limits
from batchseg.system.redact import remember_variables
from batchseg.system.temp_folders import run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    recipe: Recipe
    plan: Plan
    numbers: Estimate
    time: Forecast
    gone: int
    workers: int
    min_age: float
    undecided: bool
    """The first run will try engines."""
    scenes: tuple[str, ...] = ()
    """Lines on their bands and their pixels on the ground."""
    warnings: tuple[str, ...] = ()
    limits: str = ""
    """Of this machine, in words; empty: none."""
    left_out: tuple[str, ...] = ()
    """What of the inputs' folders and lists is no input, in lines."""
    looked: Looked = field(default_factory=Looked)
    """What samples of the scenes hold."""
    cleaning: str = ""
    """What is done to masks, in words; empty: nothing."""


def dry_run(config: JobConfig, say: Callable[[str], None]) -> DryRun:
    """Plan a job on this machine.

    Raises:
        BatchsegError: what `run` would refuse, with the same words and exit code.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        return _dry_run(config, say)


def bench_job(config: JobConfig, say: Callable[[str], None], *, remember: bool = False) -> Bench:
    """Try engines on a job's own tiles.

    Args:
        config: the job.
        say: told what is being tried.
        remember: whether the next output of such a job takes what is chosen; else nothing is changed.

    Raises:
        BatchsegError: what `run` would refuse, with the same words and exit code.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        if config.gate.truth is not None:
            list_pairs(config, config.gate.truth)
        facts, device = probe_model(config, package)
        area = read_area(config.aoi) if config.aoi else None
        recipe = make_recipe(config, package, facts, device, area)
        listing, _ = list_inputs(config, {})
        occasion = Occasion(
            sources=some_sources(listing, config), count=listing.num_rows, workers=worker_count(config)
        )
        return try_engines(config, recipe, occasion, say=say, remember=remember)


def _dry_run(config: JobConfig, say: Callable[[str], None]) -> DryRun:
    prepared = _prepared(config, say)
    recipe, triaged, workers = prepared.recipe, prepared.triaged, worker_count(config)
    say(f"reading {counted(triaged.todo.num_rows, 'header')}")
    read = partial(read_headers_here, timeout=config.lease_timeout)
    with contextlib.closing(Intake(config, triaged, recipe, read, _teller(say), lambda: None)) as intake:
        headers = intake.gather(lambda: False, most=triaged.todo.num_rows + 1)
        say("looking at the values of some scenes")
        looked = judge(look_at_scenes(headers, recipe, sample_alone), recipe, config)
        planner = Planner(
            recipe=recipe,
            ledger=prepared.ledger,
            cpu_classes=[recipe.facts.cpu_class],
            workers=workers,
            shard_tiles=config.shard_tiles,
            fragments_exist=partial(fragments_exist, config.output),
        )
        plan = intake.begin(planner, looked.remedy)
        while intake.goes_on:
            taken = intake.take(FIRST, 1.0)
            jobs, refusals = (*plan.jobs, *taken.jobs), (*plan.refusals, *taken.refused)
            plan = replace(plan, jobs=jobs, refusals=refusals)
        numbers, warnings = intake.numbers, intake.warnings
    publish.check_writable(config.output)
    regions = prepared.product.regions is not None
    return DryRun(
        recipe=recipe,
        plan=plan,
        numbers=numbers,
        time=forecast(plan, numbers, executor=config.executor, regions=regions, workers=workers),
        workers=workers,
        limits=_limits(config),
        looked=looked,
        min_age=config.min_age,
        undecided=prepared.choice is None,
        scenes=describe_scenes(plan, recipe),
        warnings=warnings,
        gone=len(prepared.gone.ids),
        left_out=prepared.gone.left_out,
        cleaning=_cleaning_in_words(prepared.product.cleaning),
    )


def _cleaning_in_words(cleaning: Cleaning | None) -> str:
    if cleaning is None:
        return ""
    memory = f", with {REGION_BYTES} bytes of memory for a region of a mask" if cleaning.sieve else ""
    return cleaning.words + memory


def _prepared(config: JobConfig, say: Callable[[str], None]) -> Prepared:
    say("checking the model with one tile, and listing inputs")
    return prepare(config, _teller(say), lambda: None)


def _teller(say: Callable[[str], None]) -> Listener:
    """Says what has words."""

    def tell(event: Event) -> None:
        if isinstance(event, Note):
            say(event.text)

    return tell


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoPlan:
    """A run over photographs in numbers."""

    recipe: Recipe
    product: Product
    predict: int
    derive: int
    """From stored masks and regions."""
    file_bytes: int
    """Of those to predict."""
    done: int
    quarantined: int
    """In earlier runs, and unchanged since."""
    gone: int
    young: int
    min_age: float
    workers: int
    undecided: bool
    """The first run will try engines."""
    limits: str = ""
    """Of this machine, in words; empty: none."""
    left_out: tuple[str, ...] = ()
    """What of the inputs' folders and lists is no input, in lines."""
    refused: tuple[tuple[str, str], ...] = ()
    """(source id, why) of those that already the listing shows to be wrong."""
    looked: Looked = field(default_factory=Looked)
    """What some photographs hold."""
    warnings: tuple[str, ...] = ()


def plan_photographs(config: JobConfig, say: Callable[[str], None]) -> PhotoPlan:
    """Plan a job on this machine.

    Raises:
        BatchsegError: what `run` would refuse before its first prediction, with the same words.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        prepared = _prepared(config, say)
        recipe, product, triaged = prepared.recipe, prepared.product, prepared.triaged
        known = prepared.ledger.table()
        revision = revise(triaged.todo, known, recipe, product, vanished=triaged.vanished)
        publish.check_writable(config.output)
        todo = revision.predict
        looked, warnings = _looked_at_photographs(config, recipe, todo, say, is_new=not triaged.done)
        wrong = todo.filter(pc.not_equal(todo["problem"], "")).select(["source_id", "problem"])
        return PhotoPlan(
            recipe=recipe,
            product=product,
            predict=revision.predict.num_rows,
            derive=revision.derive.num_rows,
            file_bytes=pc.sum(revision.predict["size"]).as_py() or 0,
            done=triaged.done,
            quarantined=triaged.quarantined,
            gone=len(prepared.gone.ids),
            young=triaged.young,
            min_age=config.min_age,
            workers=worker_count(config),
            limits=_limits(config),
            undecided=prepared.choice is None,
            looked=looked,
            warnings=warnings,
            left_out=prepared.gone.left_out,
            refused=tuple((row["source_id"], row["problem"]) for row in wrong.to_pylist()),
        )


def _looked_at_photographs(
    config: JobConfig, recipe: Recipe, todo: pa.Table, say: Callable[[str], None], *, is_new: bool
) -> tuple[Looked, tuple[str, ...]]:
    """What they hold, and warnings that a run has at its end."""
    if not todo.num_rows:
        return Looked(), ()
    say("looking at some photographs")
    photographs = config.photographs or Photographs()
    seen = look_at_photographs(todo, recipe, config.lease_timeout, photographs.max_photo_memory)
    looked = judge_photographs(seen, recipe, config, is_new=is_new)
    some_rgb = next((one.source_id for one in seen if one.is_rgb and one.doubt is None), "")
    turned = turned_warning(some_rgb, recipe) if config.check_values else ""
    return looked, (turned,) if turned else ()


def _limits(config: JobConfig) -> str:
    """Those of this machine, where it is the one that works."""
    return describe_limits() if config.ray_address is None else ""
