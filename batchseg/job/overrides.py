"""`--set KEY=VALUE`: what the command line says in place of a job file's keys."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError
from batchseg.job.variables import Filled
from batchseg.system.yaml_text import parse_yaml

Place = tuple[str, ...]
"""The names of a key and of those above it."""

_SETS = frozenset(("bands", "manifest", "stac", "assets"))
"""One of them stands in an input of several files, and is no input's name."""

_IN_SETS = frozenset(("manifest", "stac", "landsat", "sentinel2"))
"""Keys of such inputs that hold paths."""

_PATHS: frozenset[Place] = frozenset(
    (
        *(("output",), ("model",), ("model", "path"), ("model", "key_file"), ("aoi",), ("aoi", "file")),
        ("values", "threshold", "of"),
    )
)


def apply(tree: dict[str, Any], override: str) -> Place:
    """Put one `key=value` into a job's keys; which one it was.

    Raises:
        ConfigError: it is no such word, or its value is not YAML.
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        msg = f"--set wants key=value, found {override!r}"
        raise ConfigError(msg)
    *parents, leaf = place = tuple(key.strip().split("."))
    for parent in parents:
        child = tree.get(parent)
        if not isinstance(child, dict):
            child = tree[parent] = {}
        tree = child
    try:
        tree[leaf] = parse_yaml(value)
    except ValueError as e:
        msg = f"--set {key}=...: the value is not YAML: {e}"
        raise ConfigError(msg) from None
    return place


def locate(keys: dict[str, Any], places: Sequence[Place], folder: Path) -> None:
    """Make the paths at some places of a job absolute, as those on a command line are: from its folder.

    Raises:
        ConfigError: a path begins with ~ and the name of nobody.
    """
    for place in places:
        parent: Any = keys
        for name in place[:-1]:
            parent = parent.get(name) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and place[-1] in parent:
            in_set = not _SETS.isdisjoint(parent)
            parent[place[-1]] = _located(parent[place[-1]], place, folder, in_set=in_set)


def _located(value: Any, place: Place, folder: Path, *, in_set: bool) -> Any:
    if isinstance(value, list):
        return [_located(item, place, folder, in_set=in_set) for item in value]
    if isinstance(value, dict):
        is_set = not _SETS.isdisjoint(value)
        return {key: _located(item, (*place, str(key)), folder, in_set=is_set) for key, item in value.items()}
    if not isinstance(value, str) or not value or not _is_path(place, in_set=in_set):
        return value
    path = absolute(value, folder)
    return Filled(path, value.written) if isinstance(value, Filled) else path


def _is_path(place: Place, *, in_set: bool) -> bool:
    if place[0] != "inputs":
        return place in _PATHS
    if "mask" in place[1:-1]:
        return place[-1] == "file"
    return not in_set or place[-1] in _IN_SETS


def absolute(uri: str, folder: Path) -> str:
    """A path made absolute against a folder; URIs with a protocol stay as they are. Raises ConfigError."""
    if "://" in uri:
        return uri.removeprefix("file://")
    try:
        return os.path.normpath(folder / Path(uri).expanduser())
    except RuntimeError as e:
        msg = f"{uri}: there is no such home folder for this user; write the path without ~"
        raise ConfigError(msg) from e
