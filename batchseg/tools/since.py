"""Since when a summary counts: the words of `--since`, and how a time is shown."""

import datetime as dt
import re

from batchseg.errors import ConfigError
from batchseg.output.layout import runs_folder
from batchseg.system import listing

SINCE = "24h"
"""What is counted unless somebody says: not `run`, as a night may take two, and the last may have found
nothing to do."""

_SECONDS = {"m": 60, "h": 3600, "d": 86400}


_DAYS_AGO = {"today": 0, "yesterday": 1}


def start_of(text: str, now: dt.datetime, output: str) -> dt.datetime | None:
    """The time that a word of the user's means, in UTC; None: the beginning.

    What users say and read is local time, what is kept is UTC.

    Args:
        text: a duration (`24h`, `90m`, `7d`), a date or a date and time in local time (`2026-11-19`,
            `2026-11-19T22:00`), `today` or `yesterday` (from 00:00 local time), `run` (the start of the last
            run) or `all`.
        now: with a time zone.
        output: whose last run.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "all":
        return None
    if text == "run":
        return _last_run(output)
    if text in _DAYS_AGO:
        day = now.astimezone().date() - dt.timedelta(days=_DAYS_AGO[text])
        return dt.datetime.combine(day, dt.time.min).astimezone(dt.UTC)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text):
        return (now - dt.timedelta(seconds=float(match[1]) * _SECONDS[match[2]])).astimezone(dt.UTC)
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError as e:
        msg = (
            f"--since {text!r}: expected 24h, 90m, 7d, today, yesterday, a date such as 2026-11-19, `run` "
            f"or `all`"
        )
        raise ConfigError(msg) from e


def _last_run(output: str) -> dt.datetime:
    """Run ids begin with the local time at which they started."""
    folders = listing.list_subfolders(runs_folder(output))
    names = sorted(folder.rstrip("/").rpartition("/")[2][:15] for folder in folders)
    for name in reversed(names):
        try:
            return dt.datetime.strptime(name, "%Y%m%d-%H%M%S").astimezone(dt.UTC)
        except ValueError:
            continue
    msg = f"--since run: {output} keeps no log of a run; give a time, or `all`"
    raise ConfigError(msg)


def local_time(time: dt.datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
