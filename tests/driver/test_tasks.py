"""What goes to an executor and what comes back: the values, not where they run."""

import dataclasses

import numpy as np
import pytest
from factories import make_recipe, make_scene, make_source
from listings import listing

from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import Failure, died_reading, failed_reading, finish_limit, from_stream, to_stream
from batchseg.errors import ModelError, NoRoomError, SourceError, SourceIOError
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.system.processes import NotStartedError, ProcessDiedError, ProcessHungError


def test_a_slice_of_a_table_travels_without_the_rest():
    table = listing("a.jpg").take(np.zeros(10_000, np.int64))
    few = to_stream(table.slice(5, 3))
    assert from_stream(few).num_rows == 3
    assert len(few) < len(to_stream(table)) / 50


@pytest.mark.parametrize(
    ("error", "transient"), [(SourceError("cut off"), False), (SourceIOError("no route"), True)]
)
def test_an_error_of_a_source_ends_no_run(error, transient):
    failure = Failure.of(error, "read")
    assert (failure.kind, failure.fatal, failure.transient) == ("error", None, transient)


def test_too_little_memory_for_one_source_blames_nobody_and_ends_no_run():
    failure = Failure.of(NoRoomError("sieve: too many regions"), "finish")
    assert (failure.fatal, failure.transient, failure.is_own, failure.memory) == (None, True, False, True)
    assert not Failure.of(SourceError("cut off"), "finish").memory


def test_an_error_about_no_source_ends_the_run():
    error = ModelError("gives NaN")
    assert Failure.of(error, "predict").fatal is error


def lease(uri: str) -> Lease:
    scene = make_scene(source=make_source(uri=uri, files=(uri,)))
    shard = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(1, 2)).shard(0)
    return Lease(id=0, scene=scene, grid="1x2", cpu_class="avx2", shards=(shard,))


@pytest.mark.parametrize("uri", ["/archive/a.tif", "s3://archive/a.tif"])
@pytest.mark.parametrize("hung", [False, True])
def test_a_reader_that_died_speaks_against_the_source_unless_it_waited_for_a_server(uri, hung):
    failure = died_reading(lease(uri), (ProcessHungError if hung else ProcessDiedError)("ended"))
    assert failure.kind == "crash"
    assert failure.transient == (hung and uri.startswith("s3"))


def test_a_reader_that_never_started_blames_nobody():
    assert died_reading(lease("/archive/a.tif"), NotStartedError("no memory")).kind == "lost"


def test_errors_that_no_module_foresaw_are_named():
    failure = failed_reading(ZeroDivisionError("division by zero"))
    assert (failure.kind, failure.fatal) == ("error", None)
    assert "ZeroDivisionError: division by zero" in failure.reason


def test_a_large_scene_has_longer_to_be_finished():
    small, large = make_scene(100, 100), make_scene(50_000, 50_000)
    assert finish_limit(small, 60) == pytest.approx(60, abs=1)
    assert finish_limit(large, 60) == 60 + 5000
    assert finish_limit(dataclasses.replace(small, own=large), 60) == finish_limit(large, 60)
