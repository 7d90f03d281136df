"""Inputs of the job file to sources: listing, stable ids, tags."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from batchseg.errors import ConfigError, CredentialsError, SourceIOError
from batchseg.inputs.ids import (
    NAME_BYTES,
    InputRoot,
    check_names,
    common_folder,
    in_utf8,
    input_key,
    is_manifest,
    lies_inside,
    literal_prefix,
    new_root,
    relative_path,
    source_id_of,
    unfit_name,
)
from batchseg.inputs.left_out import LeftOut, scene_left_out
from batchseg.inputs.manifest import member_uri, paths_of
from batchseg.inputs.metadata import metadata_files
from batchseg.inputs.scene_sets import SceneFiles, list_scenes, literal_folder
from batchseg.inputs.selection import selected_files
from batchseg.inputs.sidecars import Folders
from batchseg.inputs.source import Source
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import storage
from batchseg.system.file_info import ABSENT, FileInfo, digest_of, file_info, file_infos
from batchseg.system.location import unreadable
from batchseg.system.redact import public

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


def find_sources(
    config: JobConfig, recorded: Mapping[str, InputRoot], left_out: LeftOut | None = None
) -> tuple[list[Source], dict[str, InputRoot]]:
    """List all inputs.

    Args:
        config: the job.
        recorded: roots of the output's earlier runs, by pattern.
        left_out: told what of the folders is no input.

    Returns:
        Sources sorted by id, each id once; and the roots of this run, by pattern.

    Raises:
        ConfigError: an input matches nothing, or a manifest cannot be read.
    """
    left_out = left_out or LeftOut()
    roots = dict(recorded)
    sources: dict[str, Source] = {}
    folders = Folders(allow_vrt=config.allow_vrt)
    if not config.inputs:
        msg = f"{config.path}: inputs: the list is empty; name a file, a folder, a glob or a manifest"
        raise ConfigError(msg)
    check_names(config, recorded)
    known_files: set[tuple[str, ...]] = set()
    owners: dict[str, str] = {}
    is_young = partial(_is_young, min_age=config.min_age, now=time.time())
    # Known inputs first: a new one gets a name that none of their folders has.
    for given_name, given in sorted(config.inputs, key=lambda item: input_key(item[1]) not in recorded):
        scenes, key = _listed(given, config, left_out), input_key(given)
        if key not in roots:
            prefix = _literal_prefix(given, scenes)
            taken = {key.split("/")[0] for key in sources}
            roots[key] = new_root(key, given_name, prefix, roots, taken=taken, config=config)
        names = given.names if isinstance(given, SceneSet) else ()
        if not names:
            rasters = [info.uri for scene in scenes for info in scene.rasters]
            folders.list_remote(uri for uri in rasters if not unreadable(uri))
        for scene in scenes:
            files = tuple(info.uri for info in scene.rasters)
            if files in known_files:
                continue  # another input holds it as well
            known_files |= {files} if not scene.problem else set()
            if isinstance(given, SceneSet):
                source_id = _scene_id(scene, roots[key])
                if not source_id:
                    left_out.rows.append(scene_left_out(given.path, scene.name))
                    continue
                source = _scene_source(scene, source_id, given, names, is_young, allow_vrt=config.allow_vrt)
            else:
                source = _file_source(scene.rasters[0], roots[key], folders, config, is_young)
            _add(sources, source, config, is_own=owners.setdefault(source.source_id, key) == key)
    return [sources[key] for key in sorted(sources)], roots


def _add(sources: dict[str, Source], source: Source, config: JobConfig, *, is_own: bool) -> None:
    """`is_own`: the same input holds the other source of that id, whose problem it is then."""
    other = sources.setdefault(source.source_id, source)
    if other == source:
        return
    msg = f"{public(other.uri)} and {public(source.uri)} would both be called {source.source_id}; "
    if is_own:
        problem = other.problem or f"{msg}give every scene a name of its own"
        # By another tag: once the list is mended, it is another version, which is done.
        tag = f"{other.tag.removesuffix('-twice')}-twice"
        sources[source.source_id] = dataclasses.replace(other, problem=problem, tag=tag)
        return
    if source.rasters:
        msg += "give every scene a name of its own, or the inputs names, as in `inputs: {north: ...}`"
    else:
        msg += "give the inputs names, as in `inputs: {north: ..., south: ...}`"
    raise ConfigError(f"{config.path}: inputs: {msg}")  # noqa: EM102


def _listed(given: str | SceneSet, config: JobConfig, left_out: LeftOut) -> list[SceneFiles]:
    key = input_key(given)
    try:
        if isinstance(given, SceneSet):
            found = list(list_scenes(given, config.output, left_out, allow_vrt=config.allow_vrt))
        else:
            found = [SceneFiles(name="", uri=i.uri, rasters=(i,)) for i in _expand(given, config, left_out)]
    except (SourceIOError, CredentialsError, ImportError, OSError, ValueError) as e:
        raise storage.refusal(e, f"{config.path}: inputs: cannot list {key}: {e}") from e
    scenes = [scene for scene in found if not any(lies_inside(i.uri, config.output) for i in scene.rasters)]
    is_inside = not isinstance(given, SceneSet) and lies_inside(f"{given}/", config.output)
    if not scenes and (found or is_inside):
        msg = (
            f"{config.path}: inputs: all rasters of {key} lie inside the output {config.output}; choose an "
            f"output beside them or below them"
        )
        raise ConfigError(msg)
    if not scenes and not config.allow_empty:
        msg = (
            f"{config.path}: inputs: {key} matches no raster; check the path and that its disk is "
            f"mounted, or set allow_empty: true if an empty night is normal"
        )
        raise ConfigError(msg, *left_out.lines())
    return scenes


def _expand(pattern: str, config: JobConfig, left_out: LeftOut) -> Sequence[FileInfo]:
    if pattern.startswith("http") and any(c in pattern for c in "*["):
        msg = "web servers have no listings; name single URLs, or put them in a manifest"
        raise ValueError(msg)
    if is_manifest(pattern):
        return list(_manifest(pattern, config, left_out))
    return selected_files(pattern, config.output, RASTER_SUFFIXES, left_out)


def _manifest(uri: str, config: JobConfig, left_out: LeftOut) -> Iterator[FileInfo]:
    """One URI per line of a text file (# comments), or the column `uri` of a Parquet or CSV file."""
    try:
        names = paths_of(uri, left_out)
    except OSError as e:
        msg = f"{config.path}: inputs: cannot read the manifest {uri}: {e.strerror or e}"
        raise storage.refusal(e, msg) from e
    except ValueError as e:
        msg = (
            f"{config.path}: inputs: {uri} is not a manifest ({e}); it must be text with one path per line, "
            f"or CSV or Parquet with a column named uri"
        )
        raise ConfigError(msg) from e
    members = [member_uri(name, uri) for name in names]
    infos = file_infos([member for member in members if not unreadable(member)])
    for member in members:
        # A row that names no file is that source's problem: it is kept and refused when it is opened.
        yield infos.get(member) or FileInfo(uri=member, size=0, version=ABSENT)


def _literal_prefix(given: str | SceneSet, scenes: Sequence[SceneFiles]) -> str:
    if isinstance(given, SceneSet):
        by_path = given.kind == "manifest" and given.id_column is None
        return _common_folder(scenes) or literal_folder(given) if by_path else literal_folder(given)
    return literal_prefix(given, lambda: _common_folder(scenes))


def _common_folder(scenes: Sequence[SceneFiles]) -> str:
    uris = [public(scene.uri) for scene in scenes]
    return common_folder(min(uris), max(uris)) if uris else ""


def _file_source(
    info: FileInfo, root: InputRoot, folders: Folders, config: JobConfig, is_young: Callable[[FileInfo], bool]
) -> Source:
    relative, unspeakable = in_utf8(relative_path(info.uri, root))
    no_name = unreadable(info.uri)
    problem = unspeakable or no_name or unfit_name(relative)
    files = [info] if no_name else [info, *folders.sidecars(info.uri)]
    with_metadata = config.scale.kind == "metadata" and not no_name
    metadata = _metadata_of(info.uri) if with_metadata else None
    source = Source(
        source_id=source_id_of(relative, root),
        uri=relative if unspeakable else info.uri,
        files=tuple(f.uri for f in (*files, metadata) if f),
        tag="",
        size=info.size,
        problem=problem,
        rasters=(info.uri,) if metadata else (),
        metadata=(metadata.uri,) if metadata else (),
        allow_vrt=config.allow_vrt,
        young=any(map(is_young, files)),
    )
    return dataclasses.replace(source, tag=_tag(source, [f for f in (*files, metadata) if f]))


def _metadata_of(uri: str) -> FileInfo | None:
    return next((info for file in metadata_files(uri) if (info := file_info(file))), None)


def _scene_id(scene: SceneFiles, root: InputRoot) -> str:
    """Empty where no file can have the scene's name."""
    name = "".join(c if c.isprintable() else "_" for c in scene.name) or relative_path(scene.uri, root)
    source_id = source_id_of(name, root)
    longest = max(len(part.encode()) for part in source_id.split("/"))
    return "" if source_id == root.name or longest > NAME_BYTES else source_id


def _scene_source(
    scene: SceneFiles,
    source_id: str,
    given: SceneSet,
    names: tuple[str, ...],
    is_young: Callable[[FileInfo], bool],
    *,
    allow_vrt: bool,
) -> Source:
    infos = list({info.uri: info for info in (*scene.rasters, *scene.beside)}.values())
    uri, unspeakable = in_utf8(scene.uri)
    source = Source(
        source_id=source_id,
        uri=uri,
        files=tuple(info.uri for info in infos),
        tag="",
        size=_together(scene.rasters),
        problem=unspeakable or in_utf8(scene.problem)[0],
        rasters=tuple(info.uri for info in scene.rasters),
        names=names,
        resampling=given.resampling,
        metadata=scene.metadata,
        said=scene.said,
        allow_vrt=allow_vrt,
        young=any(map(is_young, infos)),
    )
    return dataclasses.replace(source, tag=_tag(source, infos))


def _together(infos: Sequence[FileInfo]) -> int | None:
    """Bytes of all; None where those of one are not said."""
    sizes = [info.size for info in infos if info.size is not None]
    return sum(sizes) if len(sizes) == len(infos) else None


def _tag(source: Source, infos: Sequence[FileInfo]) -> str:
    """Of one file: its digest. Of several, their order and whatever else decides their pixels count too.

    The STAC file that lists them is in no tag: one more item must not repeat all scenes.
    """
    whole = digest_of(list(infos))
    if source.files and not source.rasters:
        return whole
    by_uri = {info.uri: digest_of([info]) for info in infos}
    said = [[dataclasses.astuple(band) for band in bands] for bands in source.said]
    order = [by_uri.get(uri) for uri in source.rasters]
    words = json.dumps([whole, order, source.resampling, said, source.problem])
    return hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:16]


def _is_young(file: FileInfo, min_age: float, now: float) -> bool:
    """A time that lies further ahead than `min_age` is wrong, not young: such a file would wait for ever."""
    return file.modified is not None and abs(now - file.modified) < min_age


def current_tag(source: Source) -> str | None:
    """The tag of the source's files as they are now; None where a raster is gone.

    Raises:
        SourceIOError: the storage does not answer.
    """
    infos = file_infos(source.files)
    if any(infos[uri] is None for uri in source.rasters or source.files[:1]):
        return None
    return _tag(source, [info for info in infos.values() if info is not None])
