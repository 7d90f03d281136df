"""What is left to do, by the ledger."""

import pytest
from factories import make_config, make_recipe, make_scene, make_shard_record, make_source
from scene_runs import PIXEL, PRODUCT, done

from batchseg.driver.scene_triage import triage, worth_another_try
from batchseg.output.ledger import Ledger
from batchseg.pixels.fit import RESOLUTION_REFUSED, tile_grid
from batchseg.pixels.grid import ShardGrid


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ({}, "done"),
        ({"tag": "old"}, "todo"),
        ({"pixel": "other"}, "todo"),
        ({"product": "other"}, "todo"),
        ({"status": "failed"}, "todo"),
        ({"status": "quarantined", "pixel": "", "product": ""}, "quarantined"),
        ({"status": "quarantined", "tag": "old"}, "todo"),
        (None, "todo"),
    ],
)
def test_triage_follows_the_ledger(ledger, record, verdict):
    source = make_source()
    if record is not None:
        ledger.append([done(source, **record)])
    answer = triage([source], ledger, PIXEL, PRODUCT)
    assert answer.todo == ((source,) if verdict == "todo" else ())
    assert (answer.done, answer.quarantined) == (verdict == "done", verdict == "quarantined")


def test_an_unfinished_source_is_to_do(ledger):
    scene = make_scene()
    shard = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(1, 2)).shard(0)
    ledger.append([make_shard_record(scene, make_recipe(), shard, "1x2")])
    assert triage([scene.source], ledger, PIXEL, PRODUCT).todo == (scene.source,)


@pytest.mark.parametrize("status", ["done", "failed", "quarantined", None])
def test_a_young_source_is_left_alone_unless_it_is_done(ledger, status):
    source = make_source(young=True)
    for tag, changed in ((source.tag, False), ("old", True)):
        if status is not None:
            ledger.append([done(source, status=status, tag=tag)])
        answer = triage([source], ledger, PIXEL, PRODUCT)
        waits = changed or status in ("failed", None)
        assert (answer.todo, answer.vanished) == ((), ())
        assert answer.young == waits
        assert (answer.done, answer.quarantined) == (
            status == "done" and not changed,
            status == "quarantined" and not changed,
        )


def test_a_quarantined_source_is_tried_again_where_the_job_has_a_way(ledger):
    sources = [make_source("a.tif"), make_source("b.tif")]
    errors = {"a.tif": "damaged", "b.tif": "no raster"}
    ledger.append([done(s, status="quarantined", error=errors[s.source_id]) for s in sources])
    answer = triage(sources, ledger, PIXEL, PRODUCT, try_again=lambda record: record.error == "damaged")
    assert (answer.todo, answer.quarantined) == ((sources[0],), 1)


def test_sources_that_are_gone_are_named(ledger):
    ledger.append([done(make_source("a.tif")), done(make_source("b.tif"))])
    assert triage([make_source("b.tif")], ledger, PIXEL, PRODUCT).vanished == ("a.tif",)


def test_what_was_refused_for_its_resolution_is_tried_again_where_any_is_taken():
    record = done(make_source(), status="quarantined", error=f"{RESOLUTION_REFUSED} 10 m on the ground")
    assert worth_another_try(make_config(resolution="any"), record)
    assert not worth_another_try(make_config(resolution=10.0), record)
    assert not worth_another_try(make_config(), record)


def test_what_failed_is_told_apart_unless_it_is_another_version_now(ledger):
    sources = [make_source("a.tif"), make_source("b.tif"), make_source("c.tif")]
    tags = {"a.tif": sources[0].tag, "b.tif": "old"}
    ledger.append([done(s, status="failed", tag=tags[s.source_id]) for s in sources[:2]])
    answer = triage(sources, ledger, PIXEL, PRODUCT)
    assert (answer.todo, answer.failed) == (tuple(sources), {"a.tif"})
