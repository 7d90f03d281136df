"""A scene through a plain Ray Data pipeline: read tiles, predict them in actors, write the mask.

    python ray_data.py JOB.yaml MASK.tif WORKERS

Tiles, halo, network, engine, precision and threads are those of a batchseg job, the network as its owner
ships it, nothing baked. Prints JSON: seconds of the pipeline, and from its first tile's reading on.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import ray
import ray.data
from rasterio.windows import Window

from batchseg.driver.prepare import probe_model
from batchseg.engines.base import engine
from batchseg.engines.graphs.derive import prepare_network
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.file import load_job
from batchseg.job.resolve import make_recipe
from batchseg.models.reading import read_package


class Network:
    """An actor: one predictor of one thread."""

    def __init__(self, recipe) -> None:
        network = prepare_network(
            recipe.model,
            engine=engine(recipe.engine),
            bake=None,
            precision=recipe.precision,
            device=recipe.device,
        )
        self._session = engine(recipe.engine).load(
            network, precision=recipe.precision, device=recipe.device, threads=1
        )
        self._mean, self._std = (
            np.float32(255 * np.array(values, dtype=np.float64)).reshape(1, -1, 1, 1)
            for values in ((0.5,), (0.5,))
        )

    def __call__(self, rows: dict) -> dict:
        batch = (rows.pop("pixels").astype(np.float32) - self._mean) / self._std
        return {**rows, "ids": self._session.run(batch)[0].argmax(axis=1).astype(np.uint8)}


def read_tile(row: dict, scene: str, side: int) -> dict:
    """Pixels of a tile; those outside of the scene are zeros."""
    began = time.time()
    with rasterio.open(scene) as dataset:
        window = Window(row["col"], row["row"], side, side)
        pixels = dataset.read([1, 2, 3], window=window, boundless=True, fill_value=0)
    return {**row, "pixels": pixels, "began": began}


def main(job: str, mask: str, workers: str) -> dict:
    config = load_job(Path(job))
    package = read_package(config.model)
    facts, device = probe_model(config, package)
    recipe = replace(make_recipe(config, package, facts, device), bake=None)
    scene = some_sources(list_inputs(config, {})[0], config)[0].uri
    side, halo = recipe.tile_size, recipe.halo
    core = side - 2 * halo
    with rasterio.open(scene) as dataset:
        height, width, profile = dataset.height, dataset.width, dataset.profile
    tiles = [
        {"row": row - halo, "col": col - halo}
        for row in range(0, height, core)
        for col in range(0, width, core)
    ]
    ray.init(num_cpus=2 * int(workers), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    began = time.time()
    rows = (
        ray.data.from_items(tiles)
        .map(read_tile, fn_kwargs={"scene": scene, "side": side})
        .map_batches(
            Network, fn_constructor_args=(recipe,), batch_size=1, concurrency=int(workers), num_cpus=1
        )
    )
    coding = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "tiled": True}
    place = {"crs": profile["crs"], "transform": profile["transform"]}
    first = float("inf")
    with rasterio.open(mask, "w", height=height, width=width, **coding, **place) as target:
        for row in rows.iter_rows():
            first = min(first, row["began"])
            top, left = row["row"] + halo, row["col"] + halo
            down, across = min(core, height - top), min(core, width - left)
            ids = row["ids"][halo : halo + down, halo : halo + across]
            target.write(ids, 1, window=Window(left, top, across, down))
    ended = time.time()
    return {"seconds": ended - began, "seconds_after_first": ended - first}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
