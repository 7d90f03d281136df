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

USUAL_STRIDE = 32
"""Of most networks: numbers that are named where the stride does not show."""


def is_aligned(recipe: Recipe) -> bool:
    """Whether all tiles begin at one phase of the network's stride; also where no stride is known."""
    stride = recipe.facts.stride or 1
    if recipe.fit == "resize":
        return True
    return recipe.halo % stride == 0 and (recipe.tile_size - 2 * recipe.halo) % stride == 0


def next_aligned(tile_size: int, halo: int, stride: int, model: ModelPackage) -> tuple[int, int] | None:
    """The smallest tile and halo from the job's on with which tiles line up; None where the model has none.

    The halo is made larger, never smaller, as long as a core is left; so is the tile, unless the network
    takes one size alone, or the largest tile is reached. An ONNX file's own size is kept, because it may take
    no other; a job that names another size has one that takes it.
    """
    step = math.lcm(stride, model.size_divisor)
    halo = -(-halo // stride) * stride
    size = tile_size if _is_fixed(model, tile_size) else -(-max(tile_size, 2 * halo + stride) // step) * step
    size = min(size, LARGEST_TILE // step * step)
    if size % stride or size < stride:
        return None
    return size, min(halo, (size - stride) // 2 // stride * stride)


def _is_fixed(model: ModelPackage, tile_size: int) -> bool:
    """Whether a job with tiles of this size has to stay with it.

    A tile of another size than the model's transforms make would be resized by them.
    """
    if model.geometry:
        return True
    fixed = {side for side in model.size_hw if side is not None}
    return bool(fixed) and (tile_size in fixed or not may_be_opened(model))


def may_be_opened(model: ModelPackage) -> bool:
    """Whether it is worth a try to run a network of one size at another; see `engines/graphs/open_onnx`."""
    if model.output_name is not None:
        return False
    return model.format == "onnx" and not model.encrypted and not model.geometry


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
    return _keys(recipe.tile_size, recipe.halo, recipe.facts.stride or 1, recipe.model)


def _keys(tile_size: int, halo: int, stride: int, model: ModelPackage) -> str:
    found = next_aligned(tile_size, halo, stride, model)
    if found is None:
        return ""
    keys = {"tile_size": (tile_size, found[0]), "halo": (halo, found[1])}
    return " and ".join(f"{key}: {new}" for key, (old, new) in keys.items() if new != old)


def check_core(config: JobConfig, model: ModelPackage, tile_size: int, halo: int, stride: int | None) -> None:
    """Refuse a halo of which nothing is left of a tile.

    Raises:
        ConfigError: names the next halo and tile that leave a core and line up.
    """
    if tile_size > 2 * halo:
        return
    keys = _keys(tile_size, halo, stride or USUAL_STRIDE, model)
    if not keys:  # a network of one size that is no multiple of its own stride
        keys = f"a halo below {(tile_size + 1) // 2}"
    msg = f"{config.path}: halo {halo} leaves no core in tile_size {tile_size}. Set {keys}"
    raise ConfigError(msg)


def other_tile(recipe: Recipe, factor: float) -> int | None:
    """A tile of about so many times the size that lines up with the recipe's halo; None where none does.

    Args:
        recipe: whose tiles line up.
        factor: above 1 the next size from there on, below 1 the next down to there.
    """
    model, stride = recipe.model, recipe.facts.stride or USUAL_STRIDE
    if recipe.fit == "resize" or _is_fixed(model, recipe.tile_size) or recipe.halo % stride:
        return None
    step = math.lcm(stride, model.size_divisor)
    wanted = recipe.tile_size * factor / step
    size = step * (math.ceil(wanted) if factor > 1 else math.floor(wanted))
    return size if max(2 * recipe.halo, 7) < size <= LARGEST_TILE else None


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
