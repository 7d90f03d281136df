"""Headers are read ahead by a bound, each row once, and nobody waits for those that nobody wants."""

import threading
import time

import numpy as np
import pytest
from factories import make_config, make_scene, make_source
from planned_scenes import listing_of

from batchseg.driver import header_feed
from batchseg.driver.header_feed import AHEAD, HeaderFeed, all_rows
from batchseg.errors import StoppedError

CONFIG = make_config()


def todo(count):
    return listing_of(make_source(f"{number:05d}.tif") for number in range(count))


def read(sources):
    return (make_scene(9, 9, source=source) for source in sources)


def everything(feed):
    found = []
    while not feed.is_over:
        found += feed.take(10**6, 1.0)
    return found


@pytest.mark.parametrize("first", [[], [3], [0, 599, 300]], ids=str)
def test_each_row_comes_once_those_that_are_wanted_first(first):
    listing, rows = todo(600), np.array(first, np.int64)
    found = everything(HeaderFeed(read, listing, CONFIG, all_rows(rows, 600)))
    assert [row for row, _ in found[: len(first)]] == first
    assert sorted(row for row, _ in found) == list(range(600))
    ids = listing["source_id"].to_pylist()
    assert all(header.source.source_id == ids[row] for row, header in found)


def test_no_more_is_read_than_is_wanted_soon():
    asked = []

    def noted(sources):
        for source in sources:
            asked.append(source)
            yield make_scene(9, 9, source=source)

    feed = HeaderFeed(noted, todo(10 * AHEAD), CONFIG, all_rows(np.array([], np.int64), 10 * AHEAD))
    for taken in (0, AHEAD):
        taken = len(feed.take(taken, 1.0)) if taken else 0
        time.sleep(0.3)
        assert AHEAD <= len(asked) <= 2 * AHEAD + 2
    feed.close()


def test_one_that_is_closed_asks_for_no_more(monkeypatch):
    monkeypatch.setattr(header_feed, "WAIT_SECONDS", 0.01)
    before = threading.active_count()
    feed = HeaderFeed(read, todo(10 * AHEAD), CONFIG, all_rows(np.array([], np.int64), 10 * AHEAD))
    feed.close()
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_what_ends_the_reading_is_raised_where_headers_are_taken():
    def broken(sources):
        yield make_scene(9, 9, source=next(sources))
        msg = "headers could not be read"
        raise StoppedError(msg)

    feed = HeaderFeed(broken, todo(5), CONFIG, all_rows(np.array([], np.int64), 5))
    assert len(feed.take(1, 1.0)) == 1
    with pytest.raises(StoppedError, match="could not be read"):
        feed.take(1, 1.0)
    assert feed.is_over
