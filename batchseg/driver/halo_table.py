"""`batchseg model halo`: what halos of several widths change of a model's answers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchseg.driver.executors.start import worker_count
from batchseg.driver.prepare import probe_model
from batchseg.errors import ConfigError, ModelError
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import JobConfig
from batchseg.models.reading import read_package
from batchseg.pixels.area import read_area
from batchseg.predict.halo import Geometry, HaloFigure, geometry, halos_to_try, is_proof
from batchseg.predict.halo_probe import CROPS, SECONDS, measured, noise_crops, telling
from batchseg.predict.remembered import remember_halos
from batchseg.predict.samples import Sample, sample_crops
from batchseg.system import storage
from batchseg.system.amounts import counted
from batchseg.system.redact import remember_variables
from batchseg.system.temp_folders import run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class HaloTable:
    recipe: Recipe
    figures: tuple[HaloFigure, ...]
    of_noise: bool
    """Whether no job gave images."""
    widest: int
    """Pixels per side with which the others are compared."""
    is_whole: bool
    """Whether the usual halos are among those that were tried: of a few nobody can say that one is enough."""
    known: int = 0
    """Pixels of a table that is known and is not replaced by this one, which has fewer; 0: there is none."""


def halo_table(
    config: JobConfig, halos: Sequence[int] | None, say: Callable[[str], None], *, of_noise: bool
) -> HaloTable:
    """Measure halos on a job's own pixels, or on noise.

    Of a job's pixels the usual halos are remembered, if they tell, in place of what was found of fewer.

    Args:
        config: the job.
        halos: pixels per side; None: the usual ones that the network takes.
        say: told what is done.
        of_noise: the job has no images, and is of a model alone.

    Raises:
        BatchsegError: what `run` would refuse; a network whose tiles are resized, which has no halo; or a
            halo that is not below the widest.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    with run_folder():
        say("checking the model with one tile")
        package = read_package(config.model)
        facts, device = probe_model(config, package)
        recipe = make_recipe(config, package, facts, device, read_area(config.aoi) if config.aoi else None)
        shape = geometry(recipe)
        if shape is None:
            msg = (
                f"model: {package.network} resizes what it gets; a halo of so many pixels says nothing of it"
            )
            raise ModelError(msg)
        usual = halos_to_try(recipe, shape)
        tried = usual if halos is None else _checked(recipe, shape, halos)
        crops = noise_crops(recipe) if of_noise else _crops(config, recipe, shape)
        say(f"predicting {counted(len(crops), 'square')} with {counted(len(tried) + 1, 'halo')}")
        figures = measured(recipe, shape, crops, tried, workers=worker_count(config), seconds=SECONDS)
        if tried and not figures:
            msg = f"model: {package.network} takes no tiles of other sizes; no halo can be tried"
            raise ModelError(msg)
        table = tuple(figure for figure in figures if figure.halo in usual)
        is_whole = set(usual) <= set(tried)
        known = 0
        if is_whole and not of_noise and is_proof(table):
            known = remember_halos(recipe, table)
        return HaloTable(
            recipe=recipe,
            figures=figures,
            of_noise=of_noise,
            widest=shape.widest,
            is_whole=is_whole,
            known=known,
        )


def _checked(recipe: Recipe, shape: Geometry, halos: Sequence[int]) -> tuple[int, ...]:
    tried = halos_to_try(recipe, shape, halos)
    if odd := sorted(set(halos) - set(tried)):
        side = "" if shape.fixed is None else f", which takes tiles of {shape.fixed} alone,"
        msg = (
            f"--halos: of {recipe.model.network}{side} halos of 0 to {shape.widest - 1} pixels can be "
            f"measured; found {odd[0]}"
        )
        raise ConfigError(msg)
    return tried


def _crops(config: JobConfig, recipe: Recipe, shape: Geometry) -> list[Sample]:
    sources = some_sources(list_inputs(config, {})[0], config)
    try:
        crops = sample_crops(recipe, sources, crops=CROPS).crops
    except ConfigError as e:
        msg = f"{config.path}: {e}. Without a job halos are measured on noise"
        raise ConfigError(msg) from e
    found = telling(crops, shape)
    if not found:
        msg = (
            f"{config.path}: no image has the {math.ceil(shape.side / 2)} pixels a side that show what "
            f"a halo changes. Without a job halos are measured on noise"
        )
        raise ConfigError(msg)
    return found
