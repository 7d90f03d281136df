import datetime as dt
from pathlib import Path

import pytest

from batchseg.errors import ConfigError
from batchseg.tools.since import local_time, start_of

NOW = dt.datetime(2026, 11, 20, 7, tzinfo=dt.UTC)


def test_times_are_local_and_words_have_meanings(tmp_path: Path) -> None:
    output = str(tmp_path)
    assert start_of("90m", NOW, output) == NOW - dt.timedelta(minutes=90)
    assert start_of("7d", NOW, output) == NOW - dt.timedelta(days=7)
    assert start_of("2026-11-19", NOW, output) == dt.datetime(2026, 11, 19).astimezone()
    assert start_of("2026-11-19T22:00", NOW, output) == dt.datetime(2026, 11, 19, 22).astimezone()
    local = NOW.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    assert start_of("today", NOW, output) == midnight.astimezone()
    assert start_of("yesterday", NOW, output) == (midnight - dt.timedelta(days=1)).astimezone()
    assert start_of("all", NOW, output) is None
    with pytest.raises(ConfigError, match="keeps no log of a run"):
        start_of("run", NOW, output)
    for run in ("20261118-220000-aaaaaa", "20261119-220001-bbbbbb"):
        (Path(output) / "_batchseg" / "runs" / run).mkdir(parents=True)
    assert start_of("run", NOW, output) == dt.datetime(2026, 11, 19, 22, 0, 1).astimezone()
    for wrong in ("tomorrow", "24", "", "5w"):
        with pytest.raises(ConfigError, match="--since"):
            start_of(wrong, NOW, output)


def test_a_time_is_shown_as_the_clock_on_the_wall_shows_it() -> None:
    assert local_time(dt.datetime(2026, 11, 20, 3, 4).astimezone()) == "2026-11-20 03:04"
