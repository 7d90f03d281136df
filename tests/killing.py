"""Runs with faults in them: their environment, their processes, and waiting for what they do."""

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from conftest import REPOSITORY
from faults.commands import INJECT, marked


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
    return marked(environment["FAULT_MARK"], *parts)


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
