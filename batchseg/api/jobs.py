"""Jobs: what a job file says, as a value that Python can make too."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError
from batchseg.job import file
from batchseg.job.settings import JobConfig
from batchseg.system.escape import errors_shown
from batchseg.system.redact import hidden, remember_variables

NAME = "the job"
"""What a job without a file is called in messages."""


class Job(JobConfig):
    """What to segment, with what, and where the results go. Frozen, checked, its paths absolute.

    A Job is a `JobConfig`, the value that runs take, so its keys can be read as they were understood:
    `job.halo`, `job.output`. It is no second schema: only its constructor is its own, which takes what the
    author of a job file writes instead of what is made of that, and has it checked by the same code. A public
    `JobConfig` alone could not be made by hand: it wants all of its forty values, each in its final type.

    Args:
        inputs: a path, folder, glob, manifest or set of bands; or a list of such; or a mapping with names.
        model: the folder of a model, an ONNX file, or a mapping such as `{"path": ..., "layout": "NHWC"}`.
        output: the folder or URI that gets the results.
        **keys: the other keys of a job file, such as `halo=64` or `scale={"divide": 10000}`.

    Paths are relative to the current folder, and may be `pathlib` objects. `${NAME}` stands for itself.

    Raises:
        batchseg.errors.ConfigError: a key or a value is wrong.
    """

    __slots__ = ()

    def __init__(self, *, inputs: Any, model: Any, output: str | os.PathLike[str], **keys: Any) -> None:
        with errors_shown():
            given = _plain({"inputs": inputs, "model": model, "output": output, **keys})
            _refuse_empty(given, NAME)
            config = file.make_job(given, name=NAME, folder=Path.cwd())
        _become(self, config)

    def __repr__(self) -> str:
        """Short, and without the options of storages, which may be secrets."""
        inputs = [key if isinstance(key, str) else key.key for _, key in self.inputs]
        shown = inputs[0] if len(inputs) == 1 else inputs
        return hidden(f"Job(inputs={shown!r}, model={self.model.path!r}, output={self.output!r}, ...)")


def load_job(path: str | os.PathLike[str], *, overrides: Sequence[str] = (), **keys: Any) -> Job:
    """Read a job file.

    Args:
        path: of the YAML file. Its relative paths are relative to its folder.
        overrides: `KEY=VALUE` words as the command line's `--set` takes them: values are YAML, dots descend
            (`scale.divide=10000`), relative paths are relative to the current folder.
        **keys: values that replace those of the file: `halo=32`. Relative paths are relative to its folder.

    Returns:
        The job.

    Raises:
        batchseg.errors.ConfigError: the file cannot be read, or a key or a value is wrong.
    """
    job = object.__new__(Job)
    with errors_shown():
        given = _plain(keys)
        _refuse_empty(given, str(path))
        _become(job, file.load_job(Path(path), overrides, keys=given))
    remember_variables(job.variables)
    return job


def _become(job: Job, config: JobConfig) -> None:
    """Frozen values are set past their own guard, as dataclasses do it themselves."""
    for name in JobConfig.__dataclass_fields__:
        object.__setattr__(job, name, getattr(config, name))


def _refuse_empty(given: Mapping[str, Any], where: str) -> None:
    """An empty path is the current folder; in a script it is a variable that was not set."""
    inputs = given.get("inputs")
    several = (
        inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list) else [inputs]
    )
    for key, paths in (("inputs", several), ("output", [given.get("output")])):
        if any(path == "" for path in paths):
            msg = f'{where}: {key}: found an empty path; name a place, or "." for the current folder'
            raise ConfigError(msg)


def _plain(value: Any) -> Any:
    """A value of the types that YAML has: paths as text, tuples as lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
