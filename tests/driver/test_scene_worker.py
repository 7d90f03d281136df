"""A lease through a real network, with and without work beside it."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import reflectance, write_raster
from factories import make_config, make_facts, scene_of

from batchseg.driver import scene_worker
from batchseg.driver.scene_worker import Lease, LeasePixels, predict_lease, read_lease
from batchseg.errors import StoppedError
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import Scale
from batchseg.models.reading import read_model
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.predictor import Predictor, load_predictor


@pytest.fixture(scope="module")
def work(models: Path, tmp_path_factory: pytest.TempPathFactory):
    """A predictor, its recipe, and the pixels of a lease of several shards with a hole in them."""
    pixels = reflectance(301, 405)
    pixels[:, 60:190, 80:300] = 0
    scene = scene_of(write_raster(tmp_path_factory.mktemp("steps") / "a.tif", pixels, nodata=0))
    config = make_config(tile_size=64, halo=7, scale=Scale(kind="divide", low=(0.0,), high=(10_000.0,)))
    recipe = make_recipe(config, read_model(str(models / "spectral")), make_facts(channels=4), "cpu")
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 301, 405), tiles_hw=(2, 3)))
    lease = Lease(id=0, scene=scene, grid="2x3", cpu_class="x", shards=shards)
    return SimpleNamespace(
        predictor=load_predictor(recipe), recipe=recipe, pixels=read_lease(recipe, lease), count=len(shards)
    )


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_is_done_beside_the_network_changes_no_pixel(work, batch_size: int) -> None:
    plain = predict_lease(work.predictor, work.recipe, work.pixels, batch_size)
    beside = predict_lease(work.predictor, work.recipe, work.pixels, batch_size, overlap=True)
    assert len(plain.masks) == work.count
    assert sum(mask.predicted for mask in plain.masks) > 10
    for one, other in zip(plain.masks, beside.masks, strict=True):
        assert (one.shard, one.predicted) == (other.shard, other.predicted)
        np.testing.assert_array_equal(one.classes, other.classes)


def test_the_next_tile_is_prepared_while_the_network_computes(work, monkeypatch) -> None:
    recipe = replace(work.recipe, bake=None)
    total = sum(mask.predicted for mask in predict_lease(work.predictor, work.recipe, work.pixels).masks)
    cut, real = [0], scene_worker.cut_tile

    def counting(*arguments):
        cut[0] += 1
        return real(*arguments)

    class Session:
        """Computes until the tile after its own was cut."""

        done, alone = 0, 0

        def run(self, batch):
            self.done += 1
            until = time.monotonic() + 5
            while cut[0] < min(self.done + 1, total) and time.monotonic() < until:
                time.sleep(0.001)
            self.alone += cut[0] < min(self.done + 1, total)
            return [np.zeros((len(batch), 4, *batch.shape[2:]), np.float32)]

    monkeypatch.setattr(scene_worker, "cut_tile", counting)
    session = Session()
    predict_lease(Predictor(recipe, session), recipe, work.pixels, overlap=True)
    assert (session.done, session.alone) == (total, 0)


def test_a_lease_that_is_stopped_leaves_no_network_at_work(work) -> None:
    asked = iter([False, False, True])
    with pytest.raises(StoppedError):
        predict_lease(work.predictor, work.recipe, work.pixels, 1, lambda: next(asked), overlap=True)
    assert not work.predictor.is_busy


def test_an_error_of_the_network_comes_out_of_its_thread(work) -> None:
    class Broken:
        def run(self, batch):
            msg = "kernel not found"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="kernel not found"):
        predict_lease(Predictor(work.recipe, Broken()), work.recipe, work.pixels, overlap=True)


def test_a_lease_without_pixels_has_no_masks(work) -> None:
    nothing = LeasePixels(shards=[], seconds=0.0, scale=work.recipe.scale)
    assert predict_lease(work.predictor, work.recipe, nothing, overlap=True).masks == []


@pytest.mark.parametrize(("device", "beside"), [("cpu", False), ("gpu", True)])
def test_the_network_has_a_thread_of_its_own_where_a_device_computes(work, device, beside):
    threads = set()

    class Watched:
        def run(self, batch):
            threads.add(threading.current_thread())
            return work.predictor.run(batch)

        def __getattr__(self, name):
            return getattr(work.predictor, name)

    recipe = replace(work.recipe, device=device)
    predict_lease(Watched(), recipe, work.pixels)
    assert (threads == {threading.current_thread()}) is not beside
