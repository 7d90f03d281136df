"""One scene of several files, as a listing of its files shows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from batchseg.inputs.source import BandMetadata
from batchseg.system.file_info import FileInfo, file_infos
from batchseg.system.location import unreadable

PATH_SHOWN = 300
"""Characters of a path that is in no way one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFiles:
    """One scene as the listing shows it."""

    name: str
    """From the pattern, the id column, the item or the product; empty: the first file's relative path."""
    uri: str
    """The first raster, or where it was looked for."""
    rasters: tuple[FileInfo, ...]
    """One per band pattern, column or asset, unless there is a problem."""
    mask: FileInfo | None = None
    """The raster of what is masked."""
    mask_bands: tuple[int, ...] = ()
    """Its bands that mark pixels; empty: as the input says."""
    beside: tuple[FileInfo, ...] = ()
    """Sidecars and metadata files, and rasters that are one too many."""
    metadata: tuple[str, ...] = ()
    """Per raster, as in `Source`."""
    said: tuple[tuple[BandMetadata, ...], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finders:
    """How what belongs to a raster is found, by its URI."""

    sidecars: Callable[[str], list[FileInfo]]
    metadata: Callable[[str], FileInfo | None]


def made_scene(
    *,
    name: str,
    uri: str,
    rasters: Sequence[FileInfo],
    finders: Finders,
    mask: FileInfo | None = None,
    mask_bands: tuple[int, ...] = (),
    extra: Sequence[FileInfo] = (),
    problem: str = "",
    said: Sequence[tuple[BandMetadata, ...]] = (),
) -> SceneFiles:
    """A scene of the files that were found, with what lies beside them.

    Args:
        name: as in `SceneFiles`, like `uri`, `rasters`, `mask` and `said`.
        uri: the same.
        rasters: the same.
        finders: of sidecars and metadata.
        mask: the same.
        mask_bands: the same.
        extra: files that are one too many.
        problem: what is wrong with them; empty: nothing that the listing shows.
        said: the same.
    """
    opened = [*rasters, *([mask] if mask else [])]
    empty = next((info for info in opened if info.size == 0), None)
    if empty is not None and not problem:
        problem = f"the file {PurePosixPath(empty.uri).name} is empty"
    found = [None if problem else finders.metadata(info.uri) for info in rasters]
    beside = [*extra, *(other for info in opened for other in finders.sidecars(info.uri))]
    return SceneFiles(
        name=name,
        uri=uri,
        rasters=tuple(rasters),
        mask=mask,
        mask_bands=mask_bands,
        beside=tuple({info.uri: info for info in [*beside, *filter(None, found)]}.values()),
        metadata=tuple(info.uri if info else "" for info in found) if any(found) else (),
        said=tuple(said) if any(said) else (),
        problem=problem,
    )


def listed_scene(
    *,
    name: str,
    wanted: Sequence[tuple[str, str]],
    where: str,
    absent: str,
    finders: Finders,
    mask: bool = False,
    said: Sequence[tuple[BandMetadata, ...]] = (),
) -> SceneFiles:
    """A scene of the files that a list names.

    Args:
        name: of the scene.
        wanted: what each file is called, and its URI; no URI: the list names no file for it.
        where: of the list.
        absent: what is wrong with one that the list does not name, `{}` being what it is called.
        finders: of sidecars and metadata.
        mask: the last of `wanted` is the raster of what is masked.
        said: of its bands, as in `Source`.

    Raises:
        SourceIOError: the storage does not answer.
    """
    infos = file_infos([uri for _, uri in wanted if uri and not unreadable(uri)])
    problems = [
        absent.format(repr(part)) if not uri else f"its file for {part} is missing: {uri[:PATH_SHOWN]}"
        for part, uri in wanted
        if not uri or infos.get(uri) is None
    ]
    bands = wanted[:-1] if mask else wanted
    return made_scene(
        name=name,
        uri=next((uri for _, uri in bands if uri), where),
        rasters=[info for _, uri in bands if (info := infos.get(uri))],
        mask=infos.get(wanted[-1][1]) if mask else None,
        finders=finders,
        problem=problems[0] if problems else "",
        said=said,
    )
