"""What an output remembers of how it was made, and who works on it now."""

import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchseg import storage
from batchseg.errors import ConfigError, LockedError, OutputError
from batchseg.inputs import InputRoot
from batchseg.model import ModelFacts

FORMAT = 1
"""Of the files below _batchseg; an output of another format is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputState:
    """`_batchseg/output.json`."""

    pixel: Mapping[str, Any]
    """The pixel settings of all masks in this output."""
    device: str
    facts: ModelFacts
    """Kept, so that a night with nothing to do does not load the model."""
    roots: Mapping[str, InputRoot]
    """How source ids are made, by input pattern."""
    classes: tuple[str, ...] = ()


def _uri(output: str) -> str:
    return storage.join(output, "_batchseg", "output.json")


def load_state(output: str) -> OutputState | None:
    """None for an output that no run has recorded anything in.

    Raises:
        OutputError: it cannot be read.
        ConfigError: it was made by another format of batchseg.
    """
    try:
        loaded = json.loads(storage.read_bytes(_uri(output)))
        if loaded["format"] != FORMAT:
            msg = f"{output} has format {loaded['format']}, this batchseg writes {FORMAT}; use another output"
            raise ConfigError(msg)
        return OutputState(
            pixel=loaded["pixel"],
            device=loaded["device"],
            facts=ModelFacts(**loaded["facts"]),
            roots={root["pattern"]: InputRoot(**root) for root in loaded["roots"]},
            classes=tuple(loaded["classes"]),
        )
    except FileNotFoundError:
        return None
    except NotADirectoryError as e:
        msg = f"output: {output} lies below something that is no folder"
        raise ConfigError(msg) from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        msg = f"cannot read {_uri(output)}: {e}"
        raise OutputError(msg) from e


def save_state(output: str, state: OutputState) -> None:
    document = {
        "format": FORMAT,
        "pixel": dict(state.pixel),
        "device": state.device,
        "facts": dataclasses.asdict(state.facts),
        "roots": [dataclasses.asdict(root) for root in state.roots.values()],
        "classes": list(state.classes),
    }
    storage.publish(_uri(output), json.dumps(document, indent=1, sort_keys=True).encode())


def check_pixel_settings(state: OutputState | None, settings: Mapping[str, Any], output: str) -> None:
    """Refuse to mix masks of different settings in one output.

    Raises:
        ConfigError: names each setting that differs.
    """
    if state is None or state.pixel == settings:
        return
    keys = sorted(key for key in {*state.pixel, *settings} if state.pixel.get(key) != settings.get(key))
    changes = [f"  {key}: {_short(state.pixel.get(key))} -> {_short(settings.get(key))}" for key in keys]
    msg = "\n".join(
        (
            f"{output} holds masks made with other settings:",
            *changes,
            "Write to another output, restore the settings, or pass --replace to predict everything again.",
        )
    )
    raise ConfigError(msg)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:16] + "..."


@contextlib.contextmanager
def lock(output: str, run_id: str) -> Iterator[None]:
    """Hold the output for one run. The system releases it when the process ends, however it ends.

    Raises:
        LockedError: another run holds it.
        ConfigError: the output cannot be written.
    """
    path = storage.local_path(storage.join(output, "_batchseg", "lock"))
    if path is None:
        msg = f"output: {output}: only local outputs can be locked so far; give a folder on a disk"
        raise ConfigError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as e:
        msg = f"output: cannot write {path.parent}: {e.strerror}; check the path and its permissions"
        raise ConfigError(msg) from e
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            holder = file.read().strip() or "it has just started"
            msg = f"another run holds {output} ({holder}); wait for it or stop it"
            raise LockedError(msg) from e
        started = dt.datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"run {run_id}, process {os.getpid()} on {socket.gethostname()}, since {started}")
        file.flush()
        yield
        file.truncate(0)


def has_run(output: str) -> bool:
    """Whether a run has ever begun here."""
    path = storage.local_path(storage.join(output, "_batchseg"))
    return path is not None and path.is_dir()


def lock_holder(output: str) -> str | None:
    """Who works on the output now, in words; None: nobody."""
    path = storage.local_path(storage.join(output, "_batchseg", "lock"))
    if path is None or not path.exists():
        return None
    with contextlib.suppress(OSError), path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "a run that has just started"
    return None
