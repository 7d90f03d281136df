"""`batchseg plan`: everything that `run` decides before its first tile, and nothing written.

Headers of scenes are read, and samples of a few scenes or photographs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from batchseg.driver.executors.start import object_store_bytes, worker_count
from batchseg.driver.forecast import Forecast, forecast
from batchseg.driver.kind import kind_of
from batchseg.driver.photo_look import judge_photographs, look_at_photographs
from batchseg.driver.photo_triage import StoredOutputs, triage_photographs
from batchseg.driver.plan import Estimate, Plan, estimate, make_plan, refuse_unfit_job
from batchseg.driver.prepare import check_tiles, kept_choice, probe_model
from batchseg.driver.revise import revise
from batchseg.driver.scene_area import refuse_area_elsewhere
from batchseg.driver.scene_triage import triage_job
from batchseg.driver.scene_warnings import describe_scenes, scene_warnings
from batchseg.driver.value_check import Looked, judge, look_at_scenes
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.listing import find_sources
from batchseg.inputs.photo_listing import list_photographs
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_product, make_recipe
from batchseg.job.settings import JobConfig, Photographs
from batchseg.models.reading import read_package
from batchseg.output import publish
from batchseg.output.fragments import fragments_exist
from batchseg.output.ledger import Ledger
from batchseg.output.state import check_pixel_settings, load_state
from batchseg.pixels.area import read_area
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.pixels.value_samples import sample_alone
from batchseg.predict.engine_choice import choose, is_open, try_engines
from batchseg.predict.engine_trials import Bench
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
    workers: int
    object_store_bytes: int
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


def dry_run(config: JobConfig, say: Callable[[str], None]) -> DryRun:
    """Plan a job on this machine.

    Raises:
        BatchsegError: what `run` would refuse, with the same words and exit code.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        return _dry_run(config, say)


def bench_job(config: JobConfig, say: Callable[[str], None], *, everything: bool = True) -> Bench:
    """Try engines on a job's own tiles, and change nothing.

    Args:
        config: the job.
        say: told what is being tried.
        everything: all engines and precisions, whatever the job names.

    Raises:
        BatchsegError: what `run` would refuse, with the same words and exit code.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        facts, device = probe_model(config, package)
        area = read_area(config.aoi) if config.aoi else None
        recipe = make_recipe(config, package, facts, device, area)
        sources = kind_of(config).some_sources(config)
        return try_engines(
            config, recipe, sources, workers=worker_count(config), say=say, everything=everything
        )


def _dry_run(config: JobConfig, say: Callable[[str], None]) -> DryRun:
    area = read_area(config.aoi) if config.aoi else None
    say("checking the model with one tile")
    package = read_package(config.model)
    facts, device = probe_model(config, package)
    recipe = make_recipe(config, package, facts, device, area)
    state = load_state(config.output)
    check_tiles(config, recipe, state, say)
    kept = kept_choice(package, state)
    undecided = is_open(config, kept)
    if not undecided:
        recipe, _ = choose(config, recipe, kept, None, workers=worker_count(config), say=say)
        check_pixel_settings(state, recipe.settings(), config.output)
    left_out = LeftOut()
    sources, _ = find_sources(config, state.roots if state else {}, left_out)
    ledger = Ledger(config.output)
    product = make_product(config, recipe)
    triaged = triage_job(config, sources, ledger, recipe, product)
    say(f"reading {counted(len(triaged.todo), 'header')}")
    headers = _headers(triaged.todo, config)
    workers = worker_count(config)
    plan = make_plan(
        triaged,
        headers,
        recipe=recipe,
        product=product,
        ledger=ledger,
        cpu_classes=[facts.cpu_class],
        workers=workers,
        shard_tiles=config.shard_tiles,
        fragments_exist=partial(fragments_exist, config.output),
    )
    say("looking at the values of some scenes")
    looked = judge(look_at_scenes(headers, recipe, sample_alone), recipe, config)
    refuse_unfit_job(plan, config, looked.remedy)
    refuse_area_elsewhere(plan, recipe, config)
    publish.check_writable(config.output)
    numbers = estimate(plan, recipe, workers, config.max_in_flight)
    return DryRun(
        recipe=recipe,
        plan=plan,
        numbers=numbers,
        time=forecast(
            plan,
            numbers,
            executor=config.executor,
            regions=product.regions is not None,
            workers=workers,
        ),
        workers=workers,
        limits=_limits(config),
        object_store_bytes=object_store_bytes(workers, config.max_in_flight),
        looked=looked,
        min_age=config.min_age,
        undecided=undecided,
        scenes=describe_scenes(plan, recipe),
        warnings=scene_warnings(plan, recipe),
        left_out=left_out.lines(),
    )


def _headers(sources: Sequence[Source], config: JobConfig) -> list[Scene | Refusal]:
    """Of those that cannot be read it is seen whether they can be in a fresh process."""
    headers = [read_header(source) for source in sources]
    doubtful = [header.source for header in headers if isinstance(header, Refusal)]
    if not doubtful:
        return headers
    sound = [header for header in headers if not isinstance(header, Refusal)]
    return [*sound, *read_headers_alone(doubtful, config.lease_timeout)]


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


def plan_photographs(config: JobConfig, say: Callable[[str], None]) -> PhotoPlan:
    """Plan a job on this machine.

    Raises:
        BatchsegError: what `run` would refuse before its first prediction, with the same words.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        facts, device = probe_model(config, package)
        recipe = make_recipe(config, package, facts, device)
        state = load_state(config.output)
        check_tiles(config, recipe, state, say)
        kept = kept_choice(package, state)
        undecided = is_open(config, kept)
        if not undecided:
            recipe, _ = choose(config, recipe, kept, None, workers=worker_count(config), say=say)
            check_pixel_settings(state, recipe.settings(), config.output)
        product = make_product(config, recipe)
        say("listing inputs")
        left_out = LeftOut()
        listing, _ = list_photographs(config, state.roots if state else {}, left_out)
        known = Ledger(config.output).table()
        triaged = triage_photographs(
            listing,
            known,
            pixel=recipe.digest,
            product=product.digest,
            outputs_there=StoredOutputs(config.output),
        )
        revision = revise(triaged.todo, known, recipe, product, vanished=triaged.vanished)
        publish.check_writable(config.output)
        todo = revision.predict
        looked = _looked_at_photographs(config, recipe, todo, say, is_new=not triaged.done)
        wrong = todo.filter(pc.not_equal(todo["problem"], "")).select(["source_id", "problem"])
        return PhotoPlan(
            recipe=recipe,
            product=product,
            predict=revision.predict.num_rows,
            derive=revision.derive.num_rows,
            file_bytes=pc.sum(revision.predict["size"]).as_py() or 0,
            done=triaged.done,
            quarantined=triaged.quarantined,
            gone=len(triaged.vanished),
            young=triaged.young,
            min_age=config.min_age,
            workers=worker_count(config),
            limits=_limits(config),
            undecided=undecided,
            looked=looked,
            left_out=left_out.lines(),
            refused=tuple((row["source_id"], row["problem"]) for row in wrong.to_pylist()),
        )


def _looked_at_photographs(
    config: JobConfig, recipe: Recipe, todo: pa.Table, say: Callable[[str], None], *, is_new: bool
) -> Looked:
    if not todo.num_rows:
        return Looked()
    say("looking at some photographs")
    photographs = config.photographs or Photographs()
    seen = look_at_photographs(todo, recipe, config.lease_timeout, photographs.max_photo_memory)
    return judge_photographs(seen, recipe, config, is_new=is_new)


def _limits(config: JobConfig) -> str:
    """Those of this machine, where it is the one that works."""
    return describe_limits() if config.ray_address is None else ""
