"""Runs with faults in them: their environment, their processes, and waiting for what they do."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from conftest import REPOSITORY
from faults.commands import INJECT


def faults(tmp_path: Path, **settings: object) -> dict[str, str]:
    """An environment in which runs misbehave, and by whose mark their processes are found."""
    named = {f"FAULT_{key.upper()}": str(value) for key, value in settings.items()}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(INJECT), str(REPOSITORY))),
        "FAULT_COUNT": str(tmp_path / "count"),
        "FAULT_MARK": uuid.uuid4().hex,
        **named,
    }


def processes(environment: dict[str, str], *parts: str) -> list[int]:
    """All processes started in this environment whose command line or title has one of the parts, if any."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = environment["FAULT_MARK"].encode() in (entry / "environ").read_bytes()
            called = (entry / "cmdline").read_bytes() + (entry / "comm").read_bytes()
            if marked and any(part.encode() in called for part in parts or ("",)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
