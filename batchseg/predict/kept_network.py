"""A quantised network that is kept with an output, on the host that runs it."""

import hashlib
from dataclasses import replace
from pathlib import Path

from batchseg.engines.graphs.cache import cache_key, cached_folder
from batchseg.engines.graphs.derive import is_own_size
from batchseg.engines.graphs.quantize import quantized_network, unpack
from batchseg.errors import BatchsegError, ModelError, OutputError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.models.package import Network
from batchseg.system.disks import describe
from batchseg.system.fetch import read_bytes
from batchseg.system.location import Location


def kept_network(recipe: Recipe, quantized: Quantized) -> Network:
    """From the cache of models, where it is read from the output once.

    Args:
        recipe: what is in the network's graph.
        quantized: where the network is kept.

    Raises:
        ModelError: another file is in its place.
        OutputError: it cannot be read.
        StoppedError: the cache's disk is full or failing.
    """

    def make(folder: Path) -> None:
        unpack(_content(quantized), folder)

    key = cache_key({"what": "quantized", "file": quantized.digest})
    network = quantized_network(recipe.model, recipe.bake, cached_folder(key, make))
    if is_own_size(recipe.model, (recipe.tile_size, recipe.tile_size)):
        return network
    return replace(network, size_hw=(None, None))  # it was opened before it was quantised


def _content(quantized: Quantized) -> bytes:
    place = Location.of(quantized.root).below(quantized.path)
    try:
        content = read_bytes(place)
    except BatchsegError:
        raise
    except OSError as e:
        why = describe(e, place.path)
        msg = f"cannot read {place}, the network in int8 that this output is made with: {why}"
        raise OutputError(msg) from e
    if hashlib.sha256(content).hexdigest() != quantized.digest:
        msg = (
            f"model: {place} is not the network in int8 that this output is made with; put that back, or use "
            f"another output"
        )
        raise ModelError(msg)
    return content
