"""A recipe's network in int8, made on tiles of its own data."""

import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.graphs.cache import cache_key, cached_folder
from batchseg.engines.graphs.quantize import pack, quantize
from batchseg.errors import ModelError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.predict.predictor import Preparation, network_for, with_engine
from batchseg.predict.probe import silence_stdout
from batchseg.predict.samples import Sample
from batchseg.system.fetch import sha256
from batchseg.system.processes import ProcessDiedError, call_in_fresh_process
from batchseg.system.temp_folders import cache_root

FILE = "network.zip"

TIMEOUT = 1800.0
"""Seconds. Land cover takes 0.1 s a tile of 512 on two cores, and NNCF's own work grows with the graph."""


def calibrate(
    recipe: Recipe, samples: Sequence[Sample], folder: Path, *, timeout: float = TIMEOUT
) -> Quantized:
    """Quantise the network of a recipe by what it gives for tiles, in a process of its own.

    Args:
        recipe: of the job; its engine and precision do not matter. The network serves recipes with the same
            model, `bake`, halo and tile size, with confidences or without.
        samples: the job's own tiles, at least one.
        folder: exists; gets the network, in one file.
        timeout: seconds until it is given up.

    Returns:
        Where it is: `quantized` of a recipe for openvino in int8, which can be tried so before it is kept.

    Raises:
        ModelError: the network cannot be quantised, or the process that did it died or hung.
    """
    target = folder / FILE
    with tempfile.TemporaryDirectory(prefix="int8-", dir=cache_root()) as scratch:
        tiles = Path(scratch) / "tiles"
        with tiles.open("wb") as file:
            for sample in samples:
                pickle.dump(sample, file)
        try:
            call_in_fresh_process(
                _calibrate, _float_recipe(recipe), tiles, len(samples), target, timeout=timeout
            )
        except ProcessDiedError as e:
            msg = f"model: the process that quantised {recipe.model.network} {e}"
            raise ModelError(msg) from e
    return Quantized(root=str(folder), path=FILE, digest=sha256(str(target)))


def kept_in_cache(made: Quantized) -> Quantized:
    """The same, copied to where it stays until it is stored with an output, and for the next output.

    Raises:
        StoppedError: the cache's disk is full or failing.
    """

    def make(folder: Path) -> None:
        shutil.copyfile(Path(made.root) / made.path, folder / FILE)

    folder = cached_folder(cache_key({"what": "int8", "file": made.digest}), make)
    return Quantized(root=str(folder), path=FILE, digest=made.digest)


def _float_recipe(recipe: Recipe) -> Recipe:
    """For the network that is quantised: one that gives confidences and probabilities wherever it can."""
    recipe = with_engine(recipe, "openvino", "fp32")
    if recipe.bake is None or recipe.bake.output == "classes":
        return recipe
    return replace(recipe, bake=replace(recipe.bake, confidence=True, probabilities=True))


def _calibrate(recipe: Recipe, tiles: Path, count: int, target: Path) -> None:
    silence_stdout()
    with tempfile.TemporaryDirectory(dir=tiles.parent) as folder:
        quantize(network_for(recipe), _Batches(recipe, tiles, count), Path(folder), count=count)
        pack(Path(folder), target)


@dataclass(frozen=True, slots=True)
class _Batches:
    """One tile after the other as the network takes it, prepared anew each time."""

    recipe: Recipe
    tiles: Path
    count: int

    def __iter__(self) -> Iterator[NDArray[Any]]:
        with self.tiles.open("rb") as file:
            for _ in range(self.count):
                sample: Sample = pickle.load(file)  # noqa: S301  this run's, from a folder of its own
                preparation = Preparation(replace(self.recipe, scale=sample.scale))
                batch = preparation.buffer(1)
                preparation(sample.pixels, batch[0])
                yield np.repeat(batch, self.recipe.model.batch or 1, axis=0)
