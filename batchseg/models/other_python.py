"""Scripts of ours in an interpreter of the user's, which has libraries that do not go with batchseg's own."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError, ModelError
from batchseg.system.json_text import parse_json

LOG_LINES = 15
"""Of a failed script's log, in the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One that is called `script.py REQUEST.json ANSWER.json`; its answer holds `error` and its `cause`
    (environment, config or model), or what it did."""

    path: Path
    package: str
    """That it needs, in words."""
    how_to_install: tuple[str, ...]
    """Commands, in lines."""
    timeout: float
    """Seconds."""


def run_script(script: Script, python: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a script answers; what its libraries print is shown only if there is no answer.

    Args:
        script: which.
        python: the interpreter.
        request: JSON; its paths are absolute.
        folder: a scratch folder.

    Raises:
        ConfigError: the interpreter cannot be run or lacks the library, or the script blames the request.
        ModelError: it gave no answer, or blames the model.
    """
    asked, answered, log = folder / "request.json", folder / "answer.json", folder / "log"
    asked.write_text(json.dumps(request), encoding="utf-8")
    # A copy, alone in its folder: Python looks for modules beside a script first, and would find ours.
    copy = shutil.copyfile(script.path, folder / script.path.name)
    with log.open("wb") as stream:
        try:
            process = subprocess.run(  # noqa: S603  the user's interpreter, and our own script
                [python, "-W", "ignore", str(copy), str(asked), str(answered)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_environment(),
                timeout=script.timeout,
                check=False,
            )
            ending = f"ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"gave no answer within {script.timeout:.0f} s"
        except OSError as e:
            msg = f"cannot run {python}: {e.strerror}"
            raise ConfigError(msg) from e
    answer = _answer(answered)
    if answer is None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        msg = f"{script.package} in {python} {ending}, without an answer"
        raise ModelError(msg, *(f"    {line}" for line in lines))
    if answer.get("cause") == "environment":
        msg = f"{python}: {answer['error']}"
        raise ConfigError(msg, *script.how_to_install)
    if "error" in answer:
        raise (ConfigError if answer["cause"] == "config" else ModelError)(answer["error"])
    return answer


def _environment() -> dict[str, str]:
    """Of another interpreter: what points this one to its packages would lead that one astray."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _answer(path: Path) -> dict[str, Any] | None:
    try:
        answer = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def program_at(source: str, value: str, library: str) -> str:
    """The path of an interpreter that somebody named.

    Raises:
        ConfigError: there is no such program.
    """
    found = shutil.which(value)
    if found is None:
        msg = f"{source}: {value} is no program; expected the Python interpreter that has {library}"
        raise ConfigError(msg)
    return found


def check_new(output: Path) -> None:
    """Raises ConfigError where a folder that is to be written exists."""
    if output.exists() or output.is_symlink():
        msg = f"{output} exists; name a folder that does not"
        raise ConfigError(msg)


@contextlib.contextmanager
def staging_beside(output: Path) -> Iterator[Path]:
    """A folder on the output's own disk, so that what is made in it can be renamed into place."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as e:
        msg = f"cannot write {output}: {e.strerror}"
        raise ConfigError(msg) from e
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
