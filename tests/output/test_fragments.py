import dataclasses

import numpy as np
import pytest
import rasterio
from factories import make_recipe, make_scene

from batchseg.output.fragments import discard_leftovers, fragment_folder, fragments_exist, write_shards
from batchseg.output.layout import fragments_folder
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.stitch import ShardMask

HEIGHT, WIDTH = 90, 70
GRID = "2x2"


def masks_of(recipe, scene, *, confidence: bool) -> list[ShardMask]:
    """Random shards, the first of them without a valid pixel."""
    grid = ShardGrid(tiles=tile_grid(recipe, scene.height, scene.width), tiles_hw=(2, 2))
    random = np.random.default_rng(3)
    made = []
    for number, shard in enumerate(grid):
        shape = shard.core.height, shard.core.width
        ids = random.integers(0, 4, shape).astype(np.uint8) if number else None
        sure = random.integers(0, 255, shape).astype(np.uint8) if number and confidence else None
        made.append(ShardMask(shard=shard, classes=ids, confidence=sure, predicted=number))
    assert len(made) > 2
    return made


@pytest.fixture
def recipe():
    return make_recipe()


@pytest.fixture
def scene():
    return make_scene(HEIGHT, WIDTH)


@pytest.mark.parametrize("confidence", [False, True])
def test_fragments_hold_the_shards_pixels(tmp_path, recipe, scene, confidence):
    masks = masks_of(recipe, scene, confidence=confidence)
    records, _ = write_shards(str(tmp_path), scene, recipe, GRID, "avx2", masks)
    assert [record.window for record in records] == [mask.shard.core for mask in masks]
    assert [record.empty for record in records] == [True] + [False] * (len(masks) - 1)
    files = sorted(tmp_path.rglob("*.tif"))
    assert len(files) == (len(masks) - 1) * (2 if confidence else 1)
    assert sum(record.fragment_bytes for record in records) == sum(path.stat().st_size for path in files)
    core = masks[1].shard.core
    (path,) = tmp_path.rglob(f"mask-{core.row_off:08d}-{core.col_off:08d}.tif")
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), masks[1].classes)


def test_equal_pixels_give_equal_bytes(tmp_path, recipe, scene):
    masks = masks_of(recipe, scene, confidence=False)
    for name in "ab":
        write_shards(str(tmp_path / name), scene, recipe, GRID, "avx2", masks)
    first, second = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*.tif"))] for name in "ab"
    )
    assert first == second


def test_fragments_that_are_cut_off_or_gone_do_not_count(tmp_path, recipe, scene):
    masks = masks_of(recipe, scene, confidence=True)
    records, _ = write_shards(str(tmp_path), scene, recipe, GRID, "avx2", masks)
    assert fragments_exist(str(tmp_path), records) == [True] * len(records)
    second, third = (records[number].window for number in (1, 2))
    (cut,) = tmp_path.rglob(f"mask-{second.row_off:08d}-{second.col_off:08d}.tif")
    cut.write_bytes(cut.read_bytes()[:-1])
    (gone,) = tmp_path.rglob(f"confidence-{third.row_off:08d}-{third.col_off:08d}.tif")
    gone.unlink()
    assert fragments_exist(str(tmp_path), records) == [True, False, False] + [True] * (len(records) - 3)
    assert fragments_exist(str(tmp_path), []) == []


def test_another_version_setting_or_grid_lies_elsewhere():
    key = {"source_id": "a.tif", "tag": "t", "pixel": "p", "grid": "1x1", "cpu_class": "avx2"}
    folders = {fragment_folder("/out", **key | {name: "other"}) for name in key}
    assert len(folders | {fragment_folder("/out", **key)}) == 6
    assert all(folder.uri.startswith(f"{fragments_folder('/out')}/") for folder in folders)


def test_leftovers_of_scenes_that_are_begun_stay(tmp_path, recipe, scene):
    other = dataclasses.replace(scene, source=dataclasses.replace(scene.source, source_id="other.tif"))
    for each in (scene, other):
        masks = masks_of(recipe, each, confidence=False)
        write_shards(str(tmp_path), each, recipe, GRID, "avx2", masks)
    strange = tmp_path / "_batchseg" / "fragments" / "somebody's"
    strange.mkdir()
    discard_leftovers(str(tmp_path), ["other.tif"])
    strange.rmdir()  # what has no digest's name is not removed
    (left,) = (tmp_path / "_batchseg" / "fragments").iterdir()
    key = (other.source.tag, recipe.digest, GRID, "avx2")
    assert fragment_folder(str(tmp_path), "other.tif", *key).uri.startswith(str(left))
