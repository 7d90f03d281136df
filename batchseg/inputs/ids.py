"""The ids of sources: what of a path stands in an output, and keeps standing there."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from batchseg.errors import ConfigError
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import listing
from batchseg.system.location import has_control_character
from batchseg.system.redact import public

NAME_BYTES = 230
"""File systems take 255 in one name; the mask's may have `.mask.tif.aux.xml` behind the scene's."""


MANIFEST_SUFFIXES = frozenset((".txt", ".lst", ".csv", ".tsv", ".parquet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRoot:
    """How ids are made from one input's URIs; recorded in an output's first run and kept."""

    pattern: str
    """As the job file has it, made absolute; of a scene set its key."""
    name: str
    """First part of the ids when a job has several inputs; empty when it has one."""
    prefix: str
    """The folder that ids are relative to."""


def input_key(given: str | SceneSet) -> str:
    """What an output knows an input by: without credentials, which change, and are no part of a record."""
    return public(given if isinstance(given, str) else given.key)


def check_names(config: JobConfig, recorded: Mapping[str, InputRoot]) -> None:
    """Raises ConfigError where an input is there twice, or has another name than in earlier runs."""
    keys = [input_key(given) for _, given in config.inputs]
    for name, given in config.inputs:
        key = input_key(given)
        if keys.count(key) > 1:
            msg = f"{config.path}: inputs: {key} is listed twice; leave one out"
            raise ConfigError(msg)
        known = recorded.get(key)
        if known is not None and name is not None and name != known.name:
            msg = (
                f"{config.path}: inputs: {key} was called {known.name!r} in this output's first run, now "
                f"{name!r}; keep the name, or use another output"
            )
            raise ConfigError(msg)


def new_root(
    key: str,
    given_name: str | None,
    prefix: str,
    roots: Mapping[str, InputRoot],
    *,
    taken: set[str],
    config: JobConfig,
) -> InputRoot:
    """How ids of an input that the output does not know yet are made.

    Args:
        key: the input, as the output knows it.
        given_name: from the job file.
        prefix: the folder that its ids will be relative to, credentials and all.
        roots: of the other inputs, by key.
        taken: first parts of the ids that there are already.
        config: the job.
    """
    prefix = public(prefix)
    present = {input_key(given) for _, given in config.inputs}
    for root in roots.values():  # the same folder spelled in another way keeps its ids
        if root.prefix == prefix and root.pattern not in present and given_name in (None, root.name):
            return InputRoot(pattern=key, name=root.name, prefix=prefix)
    if len(config.inputs) == 1 and not given_name and not roots:
        return InputRoot(pattern=key, name="", prefix=prefix)
    names = {root.name for root in roots.values()} | taken
    return InputRoot(pattern=key, name=given_name or _free_name(prefix, names), prefix=prefix)


def _free_name(prefix: str, taken: set[str]) -> str:
    base = PurePosixPath(prefix).name or "input"
    number, unique = 2, base
    while unique in taken:
        unique, number = f"{base}-{number}", number + 1
    return unique


def is_manifest(pattern: str) -> bool:
    """Whether an input is a file that lists files."""
    return PurePosixPath(pattern).suffix.lower() in MANIFEST_SUFFIXES and not listing.is_glob(pattern)


def literal_prefix(pattern: str, folder_of_members: Callable[[], str]) -> str:
    """The folder that ids of a pattern's files are relative to.

    Args:
        pattern: a path, a folder, a glob or a manifest.
        folder_of_members: asked for a manifest; empty where its members have none in common.
    """
    folder = pattern.rpartition("/")[0]
    if is_manifest(pattern):
        return folder_of_members() or folder
    if not listing.is_glob(pattern):
        return pattern if listing.is_folder(pattern) else folder
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return literal.rpartition("/")[0]


def common_folder(first: str, last: str) -> str:
    """The folder of all files between the first and the last one in the order of their URIs; empty: none."""
    pairs = zip(first.split("/")[:-1], last.split("/")[:-1], strict=False)
    parts = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    if parts == [""]:
        return "/"
    # Of files in two buckets only the protocol is the same.
    return "/".join(parts) if parts and parts[1:] != [""] else ""


def relative_path(uri: str, root: InputRoot) -> str:
    """Of a file of an input, below the folder that ids are relative to; without credentials."""
    uri = public(uri)
    prefix = root.prefix.rstrip("/") + "/"
    if uri.startswith(prefix):
        return uri.removeprefix(prefix)
    # A manifest's member outside the folder of the first run's members.
    return "_elsewhere/" + re.sub(r"^\w+://", "", uri).lstrip("/")


def source_id_of(relative: str, root: InputRoot) -> str:
    """A path that stays below the output, whatever a listing calls a scene."""
    parts = [part for part in relative.split("/") if part not in ("", ".", "..")]
    return "/".join([root.name, *parts] if root.name else parts)


def unfit_name(relative: str) -> str:
    """Why no mask can have a file's path; empty where one can."""
    if has_control_character(relative):
        return "its name holds a control character, which no path of a result has; rename it"
    if all(len(part.encode()) <= NAME_BYTES for part in relative.split("/")):
        return ""
    return f"its name is longer than {NAME_BYTES} bytes, which leaves no room for the mask's; rename it"


def in_utf8(name: str) -> tuple[str, str]:
    """A name that tables can hold, and what is wrong with the original."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return shown, "its name is not UTF-8; rename it"
    return name, ""


def lies_inside(uri: str, folder: str) -> bool:
    return uri.startswith(folder.rstrip("/") + "/")
