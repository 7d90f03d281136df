"""Inputs of the job file to sources: listing, stable ids, tags."""

import io
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree import ElementTree

import pyarrow.parquet as pq

from batchseg import storage
from batchseg.config import JobConfig
from batchseg.errors import ConfigError, SourceIOError
from batchseg.scene import Source
from batchseg.storage import FileInfo

RASTER_SUFFIXES = frozenset(
    (
        ".tif",
        ".tiff",
        ".gtiff",
        ".vrt",
        ".jp2",
        ".j2k",
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
        ".webp",
        ".gif",
        ".img",
    )
)
"""What counts as a raster in a folder. A glob takes whatever it matches."""

SIDECAR_SUFFIXES = (".msk", ".aux.xml", ".ovr", ".ovr.msk", ".wld", ".prj", ".tfw", ".jgw", ".pgw", ".j2w")
"""Files beside a raster that GDAL reads with it: `a.tif.msk`, or `a.wld` for the last ones."""

MANIFEST_SUFFIXES = frozenset((".txt", ".lst", ".parquet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRoot:
    """How ids are made from one input's URIs; recorded in an output's first run and kept."""

    pattern: str
    name: str
    """First part of the ids when a job has several inputs; empty when it has one."""
    prefix: str
    """The folder that ids are relative to."""


def find_sources(
    config: JobConfig, recorded: Mapping[str, InputRoot]
) -> tuple[list[Source], dict[str, InputRoot]]:
    """List all inputs.

    Args:
        config: the job.
        recorded: roots of the output's earlier runs, by pattern.

    Returns:
        Sources sorted by id, each id once; and the roots of this run, by pattern.

    Raises:
        ConfigError: an input matches nothing, or a manifest cannot be read.
    """
    roots = dict(recorded)
    sources: dict[str, Source] = {}
    folders = _Folders()
    if not config.inputs:
        msg = f"{config.path}: inputs: there is none; name a file, a folder, a glob or a manifest"
        raise ConfigError(msg)
    _check_names(config, recorded)
    by_uri: set[str] = set()
    now = time.time()
    # Known inputs first: a new one gets a name that none of their folders has.
    for given_name, pattern in sorted(config.inputs, key=lambda item: item[1] not in recorded):
        infos = _listed(pattern, config)
        if pattern not in roots:
            roots[pattern] = _new_root(pattern, given_name, infos, roots, sources, config)
        for info in infos:
            if info.uri in by_uri:
                continue  # another input holds it as well
            by_uri.add(info.uri)
            source = _source(info, roots[pattern], folders, min_age=config.min_age, now=now)
            other = sources.setdefault(source.source_id, source)
            if other.uri != source.uri:
                msg = (
                    f"{config.path}: inputs: {other.uri} and {source.uri} would both be called "
                    f"{source.source_id}; give the inputs names, as in `inputs: {{north: ..., south: ...}}`"
                )
                raise ConfigError(msg)
    return [sources[key] for key in sorted(sources)], roots


def _check_names(config: JobConfig, recorded: Mapping[str, InputRoot]) -> None:
    patterns = [pattern for _, pattern in config.inputs]
    for name, pattern in config.inputs:
        if patterns.count(pattern) > 1:
            msg = f"{config.path}: inputs: {pattern} is there twice; leave one out"
            raise ConfigError(msg)
        known = recorded.get(pattern)
        if known is not None and name is not None and name != known.name:
            msg = (
                f"{config.path}: inputs: {pattern} was called {known.name!r} in this output's first run, now "
                f"{name!r}; keep the name, or use another output"
            )
            raise ConfigError(msg)


def _listed(pattern: str, config: JobConfig) -> list[FileInfo]:
    try:
        found = _expand(pattern, config)
    except (SourceIOError, ImportError, OSError, ValueError) as e:
        msg = f"{config.path}: inputs: cannot list {pattern}: {type(e).__name__}: {e}"
        raise ConfigError(msg) from e
    infos = [info for info in found if not _inside(info.uri, config.output)]
    if found and not infos:
        msg = (
            f"{config.path}: inputs: all {len(found)} rasters of {pattern} lie inside the output "
            f"{config.output}; choose an output beside them or below them"
        )
        raise ConfigError(msg)
    if not infos and not config.allow_empty:
        msg = (
            f"{config.path}: inputs: {pattern} matches no raster; check the path and that its disk is "
            f"mounted, or set allow_empty: true if an empty night is normal"
        )
        raise ConfigError(msg)
    return infos


def _new_root(
    pattern: str,
    given_name: str | None,
    infos: list[FileInfo],
    roots: Mapping[str, InputRoot],
    sources: Mapping[str, Source],
    config: JobConfig,
) -> InputRoot:
    """How ids of an input that the output does not know yet are made."""
    prefix = _literal_prefix(pattern, infos)
    present = {pattern for _, pattern in config.inputs}
    for root in roots.values():  # the same folder spelled in another way keeps its ids
        if root.prefix == prefix and root.pattern not in present and given_name in (None, root.name):
            return InputRoot(pattern=pattern, name=root.name, prefix=prefix)
    if len(config.inputs) == 1 and not given_name and not roots:
        return InputRoot(pattern=pattern, name="", prefix=prefix)
    taken = {root.name for root in roots.values()} | {key.split("/")[0] for key in sources}
    return InputRoot(pattern=pattern, name=given_name or _free_name(prefix, taken), prefix=prefix)


def _expand(pattern: str, config: JobConfig) -> list[FileInfo]:
    if _is_manifest(pattern):
        return list(_manifest(pattern, config))
    whole_folder = storage.is_folder(pattern)
    return [
        info
        for info in storage.list_files(pattern)
        if not _is_sidecar(info.uri)
        and not info.uri.rpartition("/")[2].startswith(".")
        and (not whole_folder or PurePosixPath(info.uri).suffix.lower() in RASTER_SUFFIXES)
    ]


def _manifest(uri: str, config: JobConfig) -> Iterator[FileInfo]:
    """One URI per line of a text file (# comments), or the column `uri` of a Parquet file."""
    try:
        data = storage.read_bytes(uri)
    except OSError as e:
        msg = f"{config.path}: inputs: cannot read the manifest {uri}: {e.strerror or e}"
        raise ConfigError(msg) from e
    try:
        if uri.endswith(".parquet"):
            column = pq.read_table(io.BytesIO(data), columns=["uri"]).column("uri")
            names = _texts(column.to_pylist())
        else:
            lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
            names = [line for line in lines if line and not line.startswith("#")]
    except (KeyError, ValueError, UnicodeDecodeError) as e:
        msg = (
            f"{config.path}: inputs: {uri} is not a manifest ({e}); it must be text with one path per line, "
            f"or Parquet with a column named uri"
        )
        raise ConfigError(msg) from e
    folder = uri.rpartition("/")[0]
    for name in names:
        below = name if name.startswith("/") else f"{folder}/{name}"
        member = name if "://" in name else os.path.normpath(below)
        # A row that names no file is that source's problem: it is kept and refused when it is opened.
        yield storage.file_info(member) or FileInfo(uri=member, size=0, version="absent")


def _texts(names: list[object]) -> list[str]:
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None or None in names:
        msg = f"uri: expected paths, found {wrong!r}"
        raise ValueError(msg)
    return [str(name) for name in names]


def _free_name(prefix: str, taken: set[str]) -> str:
    base = PurePosixPath(prefix).name or "input"
    number, unique = 2, base
    while unique in taken:
        unique, number = f"{base}-{number}", number + 1
    return unique


def _is_manifest(pattern: str) -> bool:
    return PurePosixPath(pattern).suffix.lower() in MANIFEST_SUFFIXES and not storage.is_glob(pattern)


def _literal_prefix(pattern: str, infos: list[FileInfo]) -> str:
    folder = pattern.rpartition("/")[0]
    if _is_manifest(pattern):
        parents = [info.uri.rpartition("/")[0] for info in infos]
        try:
            return os.path.commonpath(parents)
        except ValueError:  # none, or of several storages
            return folder
    if not storage.is_glob(pattern):
        return pattern if storage.is_folder(pattern) else folder
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return literal.rpartition("/")[0]


def _source(info: FileInfo, root: InputRoot, folders: "_Folders", *, min_age: float, now: float) -> Source:
    prefix = root.prefix.rstrip("/") + "/"
    if info.uri.startswith(prefix):
        relative = info.uri.removeprefix(prefix)
    else:  # a manifest's member outside the folder of the first run's members
        relative = "_elsewhere/" + re.sub(r"^\w+://", "", info.uri).lstrip("/")
    try:
        relative.encode()
        problem = ""
    except UnicodeEncodeError:
        relative = relative.encode(errors="surrogateescape").decode(errors="backslashreplace")
        problem = "its name is not UTF-8; rename it"
    parts = [part for part in relative.split("/") if part not in ("", ".", "..")]
    files = [info, *folders.sidecars(info.uri)]
    return Source(
        source_id="/".join([root.name, *parts] if root.name else parts),
        uri=relative if problem else info.uri,
        files=tuple(f.uri for f in files),
        tag=storage.digest_of(files),
        size=info.size,
        problem=problem,
        young=any(_is_young(file, min_age, now) for file in files),
    )


def _is_young(file: FileInfo, min_age: float, now: float) -> bool:
    """A time that lies further ahead than `min_age` is wrong, not young: such a file would wait for ever."""
    return file.modified is not None and abs(now - file.modified) < min_age


def current_tag(source: Source) -> str | None:
    """The tag of the source's files as they are now; None where the main file is gone.

    Raises:
        SourceIOError: the storage does not answer.
    """
    infos = [storage.file_info(uri) for uri in source.files]
    if infos[0] is None:
        return None
    return storage.digest_of([info for info in infos if info is not None])


class _Folders:
    """Sidecars by folder, one listing each: a glob such as *.tif does not show them."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, FileInfo]] = {}

    def sidecars(self, uri: str) -> list[FileInfo]:
        folder, _, name = uri.rpartition("/")
        if folder not in self._listed:
            pattern = folder.replace("[", "[[]") + "/*"
            self._listed[folder] = {
                info.uri: info for info in storage.list_files(pattern) if _is_sidecar(info.uri)
            }
        listed = self._listed[folder]
        stem = name.rpartition(".")[0]
        names = [f"{folder}/{base}{suffix}" for base in (name, stem) for suffix in SIDECAR_SUFFIXES]
        found = [listed[key] for key in names if key in listed]
        if name.lower().endswith(".vrt"):
            found += [info for member in _vrt_members(uri) if (info := storage.file_info(member))]
        return found


def _vrt_members(uri: str) -> list[str]:
    """Files that a VRT refers to: it changes when they do."""
    try:
        tree = ElementTree.fromstring(storage.read_bytes(uri))
    except (OSError, ElementTree.ParseError):
        return []  # the reader will say what is wrong with it
    folder = uri.rpartition("/")[0]
    names = []
    for element in tree.iter("SourceFilename"):
        if element.text and not element.text.startswith("/vsi"):
            relative = element.get("relativeToVRT", "0") == "1"
            names.append(os.path.normpath(f"{folder}/{element.text}") if relative else element.text)
    return sorted(set(names))


def _is_sidecar(uri: str) -> bool:
    return uri.lower().endswith(SIDECAR_SUFFIXES)


def _inside(uri: str, folder: str) -> bool:
    return uri.startswith(folder.rstrip("/") + "/")
