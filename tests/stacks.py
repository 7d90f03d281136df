"""Scenes of several files."""

import csv
from pathlib import Path

import numpy as np
from conftest import UTM
from factories import find_sources, make_config, make_recipe
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.inputs.source import Scene, Source
from batchseg.job.settings import SceneSet
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.read import read_shards

GRIDS = {
    "twice": Affine(20.0, 0.0, UTM.c, 0.0, -20.0, UTM.f),
    "thrice, shifted": Affine(30.0, 0.0, UTM.c + 7.3, 0.0, -30.0, UTM.f - 7.3),
    "rotated": Affine(17.0, 1.0, UTM.c - 400, 0.9, -16.0, UTM.f - 100),
}


def source_of(*paths: Path, resampling: str = "none") -> Source:
    manifest = paths[0].parent / "scene.csv"
    names = [f"f{n}" for n in range(len(paths))]
    with manifest.open("w") as file:
        csv.writer(file).writerows((["name", *names], ["scene", *map(str, paths)]))
    given = SceneSet(
        kind="manifest", path=str(manifest), columns=tuple(names), id_column="name", resampling=resampling
    )
    (source,), _ = find_sources(make_config(inputs=((None, given),)), {})
    return source


def scene_of(*paths: Path, **keys) -> Scene:
    scene = read_header(source_of(*paths, **keys))
    assert isinstance(scene, Scene), scene
    return scene


def read(scene: Scene, tiles_hw=(99, 99), **changes) -> tuple[NDArray, NDArray]:
    """Pixels and validity of a whole scene, read shard by shard."""
    bands = tuple(range(1, scene.band_count + 1))
    recipe = make_recipe(normalize=None, **{"bands": bands, "all_bands": False, **changes})
    grid = tile_grid(recipe, scene.height, scene.width)
    pixels = valid = None
    for shard in ShardGrid(tiles=grid, tiles_hw=tiles_hw):
        (held,), _ = read_shards(scene, recipe, (shard,))
        if pixels is None:
            pixels = np.zeros((len(recipe.bands), scene.height, scene.width), held.pixels.dtype)
            valid = np.zeros(pixels.shape[1:], bool)
        at, core = shard.read, shard.core
        inside = core.slices_within(at)
        rows, cols = (
            slice(core.row_off, core.row_off + core.height),
            slice(core.col_off, core.col_off + core.width),
        )
        pixels[:, rows, cols] = held.pixels[:, *inside]
        valid[rows, cols] = True if held.valid is None else held.valid[inside]
    return pixels, valid
