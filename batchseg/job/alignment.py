"""Halo and core against the network's stride: whether tiles see the raster through one grid.

A network of stride s pools or steps over cells of s pixels, counted from its input's first pixel. Where tiles
begin at another phase of s, the same pixels fall into other cells, and no halo makes both answers equal.
"""

import math

from batchseg.errors import ConfigError
from batchseg.job.recipe import Recipe
from batchseg.job.schema import LARGEST_TILE
from batchseg.job.settings import JobConfig
from batchseg.models.package import ModelPackage


def is_aligned(recipe: Recipe) -> bool:
    """Whether all tiles begin at one phase of the network's stride; also where no stride is known."""
    stride = recipe.facts.stride or 1
    if recipe.fit == "resize":
        return True
    return recipe.halo % stride == 0 and (recipe.tile_size - 2 * recipe.halo) % stride == 0


def next_aligned(tile_size: int, halo: int, stride: int, model: ModelPackage) -> tuple[int, int] | None:
    """The smallest tile and halo from the job's on with which tiles line up; None where the model has none.

    The halo is made larger, never smaller, as long as a core is left; so is the tile, unless the network
    takes one size alone, or the largest tile is reached.
    """
    # A tile of another size than the model's transforms make would be resized by them.
    is_fixed = bool(model.geometry) or any(side is not None for side in model.size_hw)
    step = math.lcm(stride, model.size_divisor)
    halo = -(-halo // stride) * stride
    size = tile_size if is_fixed else -(-max(tile_size, 2 * halo + stride) // step) * step
    size = min(size, LARGEST_TILE // step * step)
    if size % stride or size < stride:
        return None
    return size, min(halo, (size - stride) // 2 // stride * stride)


def misalignment(recipe: Recipe) -> str:
    """What does not line up, in words."""
    core = recipe.tile_size - 2 * recipe.halo
    odd = [
        f"a {what} of {size}"
        for what, size in (("halo", recipe.halo), ("core", core))
        if size % (recipe.facts.stride or 1)
    ]
    less = f" (tile_size {recipe.tile_size} less two halos)" if "core" in odd[-1] else ""
    return f"{' and '.join(odd)} pixels{less}, where the network's stride is {recipe.facts.stride}"


def remedy(recipe: Recipe) -> str:
    """The keys of a job whose tiles line up, as `tile_size: 512 and halo: 64`; empty where there are none."""
    found = next_aligned(recipe.tile_size, recipe.halo, recipe.facts.stride or 1, recipe.model)
    if found is None:
        return ""
    keys = {"tile_size": (recipe.tile_size, found[0]), "halo": (recipe.halo, found[1])}
    return " and ".join(f"{key}: {new}" for key, (old, new) in keys.items() if new != old)


def check_alignment(config: JobConfig, recipe: Recipe) -> None:
    """Refuse tiles that do not line up, where others would.

    Raises:
        ConfigError: names the next halo and tile that do.
    """
    if is_aligned(recipe) or not (keys := remedy(recipe)):
        return
    msg = (
        f"{config.path}: {misalignment(recipe)}. Halo and core must be multiples of it, or each tile sees "
        f"the raster through a grid of its own, and masks break at the borders of tiles. Set {keys}"
    )
    raise ConfigError(msg)
