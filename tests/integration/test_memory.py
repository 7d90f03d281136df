"""A mask larger than the memory that a process may have."""

import subprocess
import sys

import pytest

FINISH_LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
from factories import make_recipe, make_scene
from batchseg.pixels.fit import tile_grid
from batchseg.output.scene_mask import finish_scene
from batchseg.pixels.grid import ShardGrid
from batchseg.job.recipe import Product, RegionSettings
from batchseg.predict.stitch import ShardMask
from batchseg.output.fragments import write_shards

output = sys.argv[1]
height, width = int(sys.argv[2]), 24_001
regions = RegionSettings() if sys.argv[3] == "regions" else None
recipe = make_recipe(tile_size=500, halo=0)
scene = make_scene(height=height, width=width)
grid = ShardGrid(tiles=tile_grid(recipe, height, width), tiles_hw=(8, 8))
rng = np.random.default_rng(0)
records = []
for shard in grid:
    coarse = rng.integers(0, 4, (shard.core.height // 50 + 1, shard.core.width // 50 + 1), dtype=np.uint8)
    classes = coarse.repeat(50, 0).repeat(50, 1)[: shard.core.height, : shard.core.width]
    mask = ShardMask(shard=shard, classes=classes, confidence=None, predicted=1)
    records += write_shards(output, scene, recipe, "1x1", "any", [mask])[0]
limit = height * width * 96 // 100
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones((height, width), dtype=np.uint8)
except MemoryError:
    print("the whole mask does not fit")
product = Product(classes=(), compress="deflate", regions=regions)
record, _ = finish_scene(output, scene, recipe, product, tuple(records), 1)
print(sum(record.class_pixels) == height * width, record.region_count > 100_000 or regions is None)
"""


@pytest.mark.parametrize(
    ("height", "regions"),
    # Tracing regions takes some 200 MB more, whatever the mask's height.
    [(22_003, "none"), pytest.param(44_003, "regions", marks=pytest.mark.slow)],
)
def test_a_mask_larger_than_the_data_limit_is_finished(tmp_path, height: int, regions: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FINISH_LARGE, str(tmp_path), str(height), regions],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "tests", "PATH": "/usr/bin"},
    )
    assert done.stdout.split("\n")[:2] == ["the whole mask does not fit", "True True"], done.stderr
