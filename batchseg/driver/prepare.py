"""What a run is before it begins: recipe, product, engine and inputs, and what of earlier runs still holds.

`batchseg plan` prepares the same and claims nothing. A model is probed only where no earlier run on a machine
of this kind has done it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from batchseg.driver.context import JobContext
from batchseg.driver.events import Listener, Note
from batchseg.driver.executors.start import LazyExecutor, worker_count
from batchseg.driver.gone import Gone, gone_of
from batchseg.driver.tasks import Stop
from batchseg.driver.threshold import with_threshold
from batchseg.driver.triage import Triage, triage_job
from batchseg.engines.base import Device
from batchseg.errors import ConfigError, ModelError
from batchseg.inputs.ids import InputRoot
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.alignment import check_alignment, is_aligned, misalignment, remedy
from batchseg.job.averaging import with_averaging
from batchseg.job.decisions import with_decisions
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_product, make_recipe, named_engine, tile_size, usual_tile_size
from batchseg.job.settings import JobConfig
from batchseg.models.package import ModelFacts, ModelPackage
from batchseg.models.reading import read_package
from batchseg.output.columns import first_output
from batchseg.output.layout import MASKS, RASTERS, network_path, result_folder
from batchseg.output.ledger import Ledger
from batchseg.output.mask_names import first_rule, shown_rule
from batchseg.output.quantized import store
from batchseg.output.state import OutputState, check_pixel_settings, load_state
from batchseg.pixels.area import read_area
from batchseg.pixels.usual_values import Usual
from batchseg.predict.choice import Choice
from batchseg.predict.engine_choice import ENGINES, choose, is_open
from batchseg.predict.probe import TileRefusedError, probed_once
from batchseg.predict.settled import check_asked, with_kept_tiles
from batchseg.predict.trial import Occasion
from batchseg.predict.truth import list_pairs
from batchseg.system.machine import cpu_class, has_gpu_nodes
from batchseg.system.threads import start_aside, wait_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job before anything of its sources is read, or anything is written."""

    state: OutputState | None
    """What earlier runs recorded of the output."""
    roots: Mapping[str, InputRoot]
    listing: pa.Table
    """LISTING."""
    ledger: Ledger
    recipe: Recipe
    product: Product
    choice: Choice | None
    """None: the first run will try engines, and this is none."""
    triaged: Triage
    gone: Gone
    usual: tuple[Usual, ...]
    """What the output's first sources held, unless all are to be replaced."""

    @property
    def new_state(self) -> OutputState:
        """What a run is to record of the output."""
        return OutputState(
            pixel=self.recipe.settings(),
            device=self.recipe.device,
            facts=self.recipe.facts,
            roots=self.roots,
            choice=self.choice,
            classes=self.product.class_names,
            colors=tuple(info.color for info in self.product.classes),
            vanished=self.gone.ids,
            unseen=self.gone.why,
            broken_rows=self.gone.broken,
            mask_names=self.product.mask_names,
        )

    @property
    def chosen(self) -> Choice:
        """Of a run, which has tried engines where that was to be."""
        assert self.choice is not None  # noqa: S101  as above
        return self.choice


def prepare(
    config: JobConfig,
    emit: Listener,
    stop: Stop,
    *,
    executor: LazyExecutor | None = None,
    claim: Callable[[Ledger], None] = lambda ledger: None,
    replace_all: bool = False,
) -> Prepared:
    """List the inputs, and find out what is to be done of them, and how.

    Args:
        config: the job.
        emit: hears of what is odd about it.
        stop: asked often; a reason ends the run.
        executor: started while the model is probed; None: nothing is started, and no engines are tried.
        claim: takes the ledger over for a run, before results are looked at.
        replace_all: earlier results are of other pixel settings, and are to be replaced.

    Raises:
        BatchsegError: one of errors.py; its exit code says how the run ended.
    """
    package = read_package(config.model)
    state, left_out = load_state(config.output), LeftOut()
    listing, roots = list_inputs(config, state.roots if state else {}, left_out)
    ledger = Ledger(config.output)
    recipe, product, choice = _recipe_of(
        config, package, state, executor, listing, emit, stop, replace_all=replace_all
    )
    product = with_mask_names(product, config, state, ledger.table(), roots)
    claim(ledger)
    triaged = triage_job(config, listing, ledger, recipe, product)
    return Prepared(
        state=state,
        roots=roots,
        listing=listing,
        ledger=ledger,
        recipe=recipe,
        product=product,
        choice=choice,
        triaged=triaged,
        gone=gone_of(triaged.vanished.to_pylist(), ledger.table(), left_out),
        usual=() if state is None or replace_all else state.usual,
    )


def prepare_run(context: JobContext, executor: LazyExecutor, *, replace_all: bool) -> Prepared:
    """The same for a run, which takes the ledger over. Says what of the inputs is left out."""
    prepared = prepare(
        context.config,
        context.emit,
        context.stop,
        executor=executor,
        claim=lambda ledger: ledger.claim(context.run_id, context.lock.guard),
        replace_all=replace_all,
    )
    context.note_left_out(prepared.gone, young=prepared.triaged.young)
    return prepared


def _recipe_of(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor | None,
    listing: pa.Table,
    emit: Listener,
    stop: Stop,
    *,
    replace_all: bool,
) -> tuple[Recipe, Product, Choice | None]:
    """Recipe, product and engine, checked against what the output was made with."""
    area = read_area(config.aoi) if config.aoi else None
    kept = None if replace_all else kept_choice(package, state)
    if kept is None and config.gate.truth is not None:
        list_pairs(config, config.gate.truth)
    # Without a GPU's node the device is known before a tile is predicted.
    is_known = config.device == "cpu" or (config.device == "auto" and not has_gpu_nodes())
    if kept is None and is_known:
        check_asked(config, package, "cpu")
    facts, device = _facts(config, package, state, executor, stop, quiet=is_open(config, kept))
    if kept is None and not is_known:
        check_asked(config, package, device)
    recipe = with_kept_tiles(config, make_recipe(config, package, facts, device, area), kept)

    def say(line: str) -> None:
        emit(Note(text=line))

    check_tiles(config, recipe, None if replace_all else state, say)
    if config.tile_size is not None and config.halo is not None:
        with_averaging(config, recipe)  # what it refuses is told before anything is tried
    product = make_product(config, with_decisions(config, recipe))
    occasion = Occasion(
        sources=some_sources(listing, config),
        count=listing.num_rows,
        workers=worker_count(config),
        tries=executor is not None,
    )
    choosing = start_aside(partial(choose, config, recipe, kept, occasion, say=say))
    recipe, choice = wait_for(choosing, stop)
    before = None if replace_all else state
    recipe, choice = with_threshold(config, recipe, choice, before, occasion, stop=stop, say=say)
    if choice is not None and choice != kept and _is_truth_idle(config, choice):
        say("gate: truth is not looked at: there are no trials, and the model's own engine needs no proof")
    recipe = with_averaging(config, with_decisions(config, recipe))
    if executor is not None and choice is not None:
        recipe, choice = _kept_with_output(config, recipe, choice)
    if not replace_all and choice is not None:
        check_pixel_settings(state, recipe.settings(), config.output)
    return recipe, product, choice


def _is_truth_idle(config: JobConfig, choice: Choice) -> bool:
    """Whether the job names a truth, and nothing was or will be compared with it."""
    return config.gate.truth is not None and choice.compared is True and not choice.trials


def _kept_with_output(config: JobConfig, recipe: Recipe, choice: Choice) -> tuple[Recipe, Choice]:
    """A network that was quantised for the output lies in it: every host and every night takes the same."""
    made = recipe.quantized
    if made is None or made.root == config.output:
        return recipe, choice
    stored = store(config.output, made)
    known = {**dataclasses.asdict(stored), "root": ""}  # wherever the output is moved
    return replace(recipe, quantized=stored), replace(choice, quantized=known)


def check_tiles(
    config: JobConfig, recipe: Recipe, state: OutputState | None, say: Callable[[str], None]
) -> None:
    """Refuse tiles that do not line up; what was begun with them is finished, and `say` told so.

    Raises:
        ConfigError: names the next halo and tile that do.
    """
    asked = {"model": recipe.model.digest, "tile_size": recipe.tile_size, "halo": recipe.halo}
    if state is None or any(state.pixel.get(key) != value for key, value in asked.items()):
        check_alignment(config, recipe)
    if not is_aligned(recipe):
        keys = remedy(recipe)
        say(
            f"tiles do not line up, so masks break at their borders: {misalignment(recipe)}. "
            + (
                f"This output is finished as it was begun; for one whose tiles line up name another "
                f"`output`, and set {keys}"
                if keys
                else f"{recipe.model.network} takes {recipe.tile_size} pixels: no halo mends it"
            )
        )


def with_mask_names(
    product: Product,
    config: JobConfig,
    state: OutputState | None,
    known: pa.Table,
    roots: Mapping[str, InputRoot],
) -> Product:
    """A product whose masks are named as the output began.

    Args:
        product: of the job.
        config: the job.
        state: None: the output is new, or what it remembers was lost; what is recorded tells then.
        known: the ledger's rows.
        roots: of the inputs.

    Raises:
        ConfigError: masks would take the places of their sources.
    """
    if state is None:
        ids, paths = known["source_id"].to_pylist(), first_output(known, MASKS).to_pylist()
        recorded = shown_rule((str(key), path) for key, path in zip(ids, paths, strict=True))
        names = recorded or first_rule(given for _, given in config.inputs)
    else:
        names = state.mask_names
    for root in roots.values() if names == "kept" else ():
        for folder in (result_folder(config.output, layer) for layer in RASTERS):
            if folder.path is not None and _is_same(folder.path / root.name, root.prefix):
                msg = (
                    f"{config.path}: inputs: {root.prefix} is the folder {folder} of the output by another "
                    f"name, where masks would replace their sources; choose another output"
                )
                raise ConfigError(msg)
    return replace(product, mask_names=names)


def _is_same(folder: Path, other: str) -> bool:
    try:
        return folder.samefile(other)
    except (OSError, ValueError):  # one is not there, or is no path
        return False


def kept_choice(package: ModelPackage, state: OutputState | None) -> Choice | None:
    """What the output's earlier runs chose for this model."""
    if state is None or state.pixel.get("model") != package.digest or "engine" not in state.pixel:
        return None
    made = state.pixel
    choice = state.choice or Choice(  # an earlier version recorded the pixel settings alone
        engine=made["engine"],
        precision=made["precision"],
        device=state.device,
        baked="bake" in made,
        asked={"bake": "bake" in made},
    )
    quantized = choice.quantized
    if quantized is not None:  # in the output, whatever the record says
        digest = str(quantized["digest"])
        quantized = {"root": "", "path": network_path(digest), "digest": digest}
    halo = made.get("halo")
    if halo is not None and "blend" in made:  # the rim is of the blending, and no choice's
        halo -= made["blend"][1] // 2
    return replace(choice, tile_size=made.get("tile_size"), halo=halo, quantized=quantized)


def _facts(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor | None,
    stop: Stop,
    *,
    quiet: bool,
) -> tuple[ModelFacts, Device]:
    """What the probe tile shows. `quiet`: engines will be measured, and nothing else should work then."""
    if state is not None and _same_model(config, package, state):
        return state.facts, state.device
    # Ray takes 4 s to start, the probe 3 s: side by side. The probe forks nothing of Ray's.
    answer = start_aside(probe_model, config, package)
    if executor is not None and not quiet:
        executor.start()
    return wait_for(answer, stop)


def probe_model(config: JobConfig, model: ModelPackage) -> tuple[ModelFacts, Device]:
    """What one tile shows of the job's model, and the device.

    Raises:
        ModelError: the model cannot be used.
        ConfigError: it fails on the job's tiles, which do not line up with its stride; names others.
    """
    try:
        return _probed(config, model, tile_size(config, model))
    except TileRefusedError:
        usual = usual_tile_size(config, model)
        if config.tile_size in (None, usual) or model.geometry:
            raise
        with contextlib.suppress(ModelError):
            check_alignment(config, make_recipe(config, model, *_probed(config, model, usual)))
        raise


def _probed(config: JobConfig, model: ModelPackage, side: int) -> tuple[ModelFacts, Device]:
    return probed_once(
        model,
        channels=len(config.bands) if config.bands else None,
        tile_size=side,
        device=config.device,
        engines=ENGINES if config.engine == "auto" else (named_engine(config, model),),
    )


def _same_model(config: JobConfig, model: ModelPackage, state: OutputState) -> bool:
    """Whether what a probe tile would show is known from an earlier run on a machine of this kind."""
    asked: dict[str, object] = {"model": model.digest}
    if config.tile_size is not None:
        asked["tile_size"] = tile_size(config, model)
    # An earlier version did not look for the stride.
    is_whole = state.facts.stride is not None
    same_bands = config.bands is None or len(config.bands) == state.facts.channels
    same_device = config.device in ("auto", state.device)
    same_result = (state.facts.output == "values") == (config.values is not None)
    same_cpu = state.device != "cpu" or state.facts.cpu_class == cpu_class()
    return (
        is_whole
        and same_bands
        and same_device
        and same_result
        and same_cpu
        and all(state.pixel.get(k) == v for k, v in asked.items())
    )
