"""What a run decides before it plans: recipe, product and engine, and what of earlier runs still holds.

A model is probed only where no earlier run on a machine of this kind has done it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from batchseg.driver.events import Listener, Note
from batchseg.driver.executors.start import LazyExecutor, worker_count
from batchseg.driver.tasks import Stop
from batchseg.engines.base import Device
from batchseg.inputs.source import Source
from batchseg.job.alignment import check_alignment, is_aligned, misalignment, remedy
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_product, make_recipe, named_engine, tile_size
from batchseg.job.settings import JobConfig
from batchseg.models.package import ModelFacts, ModelPackage
from batchseg.output.state import OutputState, check_pixel_settings
from batchseg.pixels.area import read_area
from batchseg.predict.engine_choice import ENGINES, Choice, choose, is_open
from batchseg.predict.probe import probed_once
from batchseg.system.machine import cpu_class
from batchseg.system.threads import start_aside, wait_for


def prepare(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor,
    sources: Sequence[Source],
    emit: Listener,
    stop: Stop,
    *,
    replace_all: bool,
) -> tuple[Recipe, Product, Choice]:
    """Recipe, product and engine, checked against what the output was made with."""
    area = read_area(config.aoi) if config.aoi else None
    kept = None if replace_all else kept_choice(package, state)
    facts, device = _facts(config, package, state, executor, stop, quiet=is_open(config, kept))
    recipe = make_recipe(config, package, facts, device, area)

    def say(line: str) -> None:
        emit(Note(text=line))

    check_tiles(config, recipe, None if replace_all else state, say)
    product = make_product(config, recipe)
    choosing = start_aside(
        partial(choose, config, recipe, kept, sources, workers=worker_count(config), say=say)
    )
    recipe, choice = wait_for(choosing, stop)
    if not replace_all:
        check_pixel_settings(state, recipe.settings(), config.output)
    return recipe, product, choice


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


def kept_choice(package: ModelPackage, state: OutputState | None) -> Choice | None:
    """What the output's earlier runs chose for this model."""
    if state is None or state.pixel.get("model") != package.digest:
        return None
    return state.choice


def _facts(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor,
    stop: Stop,
    *,
    quiet: bool,
) -> tuple[ModelFacts, Device]:
    """What the probe tile shows. `quiet`: engines will be measured, and nothing else should work then."""
    if state is not None and _same_model(config, package, state):
        return state.facts, state.device
    # Ray takes 4 s to start, the probe 3 s: side by side. The probe forks nothing of Ray's.
    answer = start_aside(probe_model, config, package)
    if not quiet:
        executor.start()
    return wait_for(answer, stop)


def probe_model(config: JobConfig, model: ModelPackage) -> tuple[ModelFacts, Device]:
    """What one tile shows of the job's model, and the device. Raises ModelError."""
    return probed_once(
        model,
        channels=len(config.bands) if config.bands else None,
        tile_size=tile_size(config, model),
        device=config.device,
        engines=ENGINES if config.engine == "auto" else (named_engine(config, model),),
    )


def _same_model(config: JobConfig, model: ModelPackage, state: OutputState) -> bool:
    """Whether what a probe tile would show is known from an earlier run on a machine of this kind."""
    asked = {
        "model": model.digest,
        "tile_size": tile_size(config, model),
    }
    # An earlier version did not look for the stride.
    is_whole = state.facts.stride is not None
    same_bands = config.bands is None or len(config.bands) == state.facts.channels
    same_device = config.device in ("auto", state.device)
    same_cpu = state.device != "cpu" or state.facts.cpu_class == cpu_class()
    return (
        is_whole
        and same_bands
        and same_device
        and same_cpu
        and all(state.pixel.get(k) == v for k, v in asked.items())
    )
