"""Scenes of several files: by a pattern per band, by a manifest's columns, by a STAC item collection."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urljoin

from batchseg.inputs.left_out import LeftOut, rows_left_out, scenes_unseen
from batchseg.inputs.manifest import member_uri, path_in, read_rows, unit_of
from batchseg.inputs.metadata import stac_bands
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.selection import selected_files
from batchseg.inputs.sidecars import Beside, Folders, is_sidecar, sidecars
from batchseg.inputs.source import BandMetadata
from batchseg.inputs.text_lists import OddLines
from batchseg.job.settings import SceneSet
from batchseg.system import fetch
from batchseg.system.file_info import FileInfo, file_infos
from batchseg.system.json_text import parse_json
from batchseg.system.location import unreadable

PATH_SHOWN = 300
"""Characters of a path that is in no way one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFiles:
    """One scene as the listing shows it."""

    name: str
    """From the pattern, the id column or the item; empty: the first file's relative path."""
    uri: str
    """The first raster, or where it was looked for."""
    rasters: tuple[FileInfo, ...]
    """One per band pattern, column or asset, unless there is a problem."""
    beside: tuple[FileInfo, ...] = ()
    """Sidecars and metadata files, and rasters that are one too many."""
    metadata: tuple[str, ...] = ()
    """Per raster, as in `Source`."""
    said: tuple[tuple[BandMetadata, ...], ...] = ()
    problem: str = ""


def list_scenes(
    given: SceneSet, output: str, left_out: LeftOut, *, allow_vrt: bool = False
) -> Iterator[SceneFiles]:
    """The scenes of a set, in the order of its file, or sorted by name; those that lack a file as well.

    Args:
        given: the set.
        output: of the job.
        left_out: told which folders and rows are left out.
        allow_vrt: files that a VRT names are looked at.

    Raises:
        OSError, SourceIOError: the storage cannot be listed.
        ValueError: the manifest or the item collection is not what it should be.
    """
    if given.kind == "bands":
        return _by_patterns(given, output, left_out, allow_vrt=allow_vrt)
    if given.kind == "manifest":
        return _by_manifest(given, left_out, allow_vrt=allow_vrt)
    return _by_items(given, left_out, allow_vrt=allow_vrt)


def literal_folder(given: SceneSet) -> str:
    """The folder below which a set's files lie; a manifest's own folder."""
    text = given.path if given.kind != "bands" else re.split(r"[*?\[{]", given.patterns[0][1], maxsplit=1)[0]
    return text.rpartition("/")[0]


def _by_patterns(given: SceneSet, output: str, left_out: LeftOut, *, allow_vrt: bool) -> Iterator[SceneFiles]:
    """One listing per pattern, whatever the number of scenes."""
    found: list[dict[str, list[FileInfo]]] = []
    listed: dict[str, FileInfo] = {}
    closed = len(left_out.closed)
    for _, pattern in given.patterns:
        rasters, others = _list_pattern(pattern, output, left_out)
        found.append(rasters)
        listed |= others
    beside = Beside(listed.values())
    empty = [pattern for (_, pattern), rasters in zip(given.patterns, found, strict=True) if not rasters]
    if empty and any(found):
        # As for one pattern that matches nothing: an unmounted disk must not quarantine a whole archive.
        msg = f"nothing matches {empty[0]}, other bands have files; check it, and that its disk is mounted"
        raise ValueError(msg)
    metadata = MetadataPlaces([pattern.replace("{scene}", "*") for _, pattern in given.patterns])
    names = sorted(set().union(*found))
    if len(left_out.closed) > closed:
        # Its results stay: nobody knows whether it lacks a file.
        unseen = [name for name in names if not all(name in rasters for rasters in found)]
        names = [name for name in names if all(name in rasters for rasters in found)]
        if unseen:
            left_out.add_unread(scenes_unseen(unseen))
    for name in names:
        lists = [rasters.get(name, []) for rasters in found]
        problems = [
            _band_problem(band, name, infos) for band, infos in zip(given.patterns, lists, strict=True)
        ]
        yield _scene(
            name=name,
            uri=next(infos[0].uri for infos in lists if infos),
            rasters=[infos[0] for infos in lists if infos],
            extra=[info for infos in lists for info in infos[1:]],
            sidecars_of=lambda uri: sidecars(uri, beside, allow_vrt=allow_vrt),
            metadata=metadata,
            problem=next(filter(None, problems), ""),
        )


def _list_pattern(
    pattern: str, output: str, left_out: LeftOut
) -> tuple[dict[str, list[FileInfo]], dict[str, FileInfo]]:
    """Rasters by scene, and all files by URI, by one glob that shows sidecars too."""
    scene_of = _pattern_regex(_without_protocol(pattern))
    glob = pattern.replace("{scene}", "*")
    suffix = re.search(r"\.[^./*?\[\]]+$", glob)
    rasters: dict[str, list[FileInfo]] = {}
    others: dict[str, FileInfo] = {}
    stem = glob.removesuffix(suffix[0]) if suffix else ""
    # `name*` shows `name_RPC.TXT` too; `**` would go down into folders.
    every = glob if not suffix else stem + (".*" if stem.endswith("*") else "*")
    for info in selected_files(every, output, frozenset(), left_out, sidecars=True):
        others[info.uri] = info
        if is_sidecar(info.uri):
            continue
        if match := scene_of.fullmatch(_without_protocol(info.uri)):
            rasters.setdefault(match["scene"], []).append(info)
    return rasters, others


def _without_protocol(uri: str) -> str:
    return re.sub(r"^\w+:/*", "/", uri)


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    """What a glob matches, as fsspec reads it; `{scene}` is one path part or less, everywhere the same.

    >>> _pattern_regex("/a/**/{scene}/{scene}_B4.tif").fullmatch("/a/y/z/LC08/LC08_B4.tif")["scene"]
    'LC08'
    """
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces: list[str] = []
    for part in re.findall(r"\{scene\}|\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, flags=re.DOTALL):
        if part == "{scene}":
            pieces.append("(?P=scene)" if "(?P<scene>" in "".join(pieces) else "(?P<scene>[^/]+)")
        elif part.startswith("[") and len(part) > 2:
            inside = part[1:-1].replace("\\", r"\\")
            inside = "^" + inside[1:] if inside.startswith("!") else inside
            pieces.append("[" + inside.replace("[", r"\[") + "]")
        else:
            pieces.append(meaning.get(part) or re.escape(part))
    return re.compile("".join(pieces), flags=re.DOTALL)


def _band_problem(band: tuple[str, str], scene: str, infos: Sequence[FileInfo]) -> str:
    name, pattern = band
    wanted = pattern.replace("{scene}", scene)
    if not infos:
        return f"its file for {name} is missing: nothing matches {wanted}"
    if len(infos) > 1:
        return f"has several files for {name}: {infos[0].uri} and {infos[1].uri}; make {pattern} match one"
    return ""


def _by_manifest(given: SceneSet, left_out: LeftOut, *, allow_vrt: bool) -> Iterator[SceneFiles]:
    columns = [*given.columns, *([given.id_column] if given.id_column else [])]
    odd = OddLines()
    rows = read_rows(given.path, columns, odd, paths=given.columns)
    folders, metadata = Folders(allow_vrt=allow_vrt), MetadataPlaces()
    nameless = []
    for number, row in rows:
        cells = [path_in(row, column, number) for column in given.columns]
        name = str(row[given.id_column] or "").strip() if given.id_column else ""
        if not name and not any(cells):
            odd.without.append(number)
            continue
        if given.id_column and not name:
            nameless.append(number)
            continue
        uris = [member_uri(cell, given.path) if cell else "" for cell in cells]
        yield _listed_scene(
            name=name,
            wanted=list(zip(given.columns, uris, strict=True)),
            where=given.path,
            absent="has no path in column {}",
            sidecars_of=folders.sidecars,
            metadata=metadata,
        )
    unit = unit_of(given.path)
    odd.tell(left_out, given.path, unit)
    if nameless:
        left_out.add_unread(rows_left_out(given.path, nameless, f"no {given.id_column}", unit))


def _by_items(given: SceneSet, left_out: LeftOut, *, allow_vrt: bool) -> Iterator[SceneFiles]:
    document = parse_json(fetch.read_bytes(given.path))
    folders, metadata = Folders(allow_vrt=allow_vrt), MetadataPlaces()
    for item in _items(document, given.path, left_out):
        try:
            base = _base(item, given.path)
            assets = item.get("assets") or {}
            chosen = [assets.get(name) for name in given.columns]
            uris = [_href(asset["href"], base) if asset is not None else "" for asset in chosen]
            said = [stac_bands(asset, item.get("properties") or {}) if asset else () for asset in chosen]
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as e:
            problem = f"its item is not made as STAC says ({type(e).__name__}: {e})"
            yield SceneFiles(name=item["id"], uri=given.path, rasters=(), problem=problem)
            continue
        yield _listed_scene(
            name=item["id"],
            wanted=list(zip(given.columns, uris, strict=True)),
            where=given.path,
            absent=f"has no asset {{}}; it has {', '.join(sorted(assets)) or 'none'}",
            sidecars_of=folders.sidecars,
            metadata=metadata,
            said=said,
        )


def _items(document: Any, path: str, left_out: LeftOut) -> list[dict[str, Any]]:
    kind = document.get("type") if isinstance(document, dict) else type(document).__name__
    items = document.get("features") if kind == "FeatureCollection" else [document]
    if kind not in ("Feature", "FeatureCollection") or not isinstance(items, list):
        msg = f"is a {kind}; expected a STAC item (Feature) or an item collection (FeatureCollection)"
        raise ValueError(msg)
    nameless = [number for number, item in enumerate(items, start=1) if not _has_id(item)]
    if nameless:
        left_out.add_unread(rows_left_out(path, nameless, "no id, which a STAC item must have", "feature"))
    return [item for item in items if _has_id(item)]


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("id"), str) and bool(item["id"].strip())


def _base(item: Mapping[str, Any], path: str) -> str:
    """What an item's relative hrefs are relative to: its self link, else the file.

    An item that was downloaded with its files still names its place on the web; then the file counts.
    """
    links = [link for link in item.get("links") or () if isinstance(link, dict)]
    own = next((str(link.get("href") or "") for link in links if link.get("rel") == "self"), "")
    on_web = own.startswith(("http://", "https://")) and not path.startswith(("http://", "https://"))
    return path if not own or on_web else _href(own, path)


def _href(href: str, base: str) -> str:
    if base.startswith(("http://", "https://")):
        return urljoin(base, href)
    return member_uri(href, base)


def _listed_scene(
    *,
    name: str,
    wanted: Sequence[tuple[str, str]],
    where: str,
    absent: str,
    sidecars_of: Callable[[str], list[FileInfo]],
    metadata: MetadataPlaces,
    said: Sequence[tuple[BandMetadata, ...]] = (),
) -> SceneFiles:
    """A scene by (what it is called, URI) of its files; no URI: the listing names no file for it."""
    infos = file_infos([uri for _, uri in wanted if uri and not unreadable(uri)])
    problems = [
        absent.format(repr(part)) if not uri else f"its file for {part} is missing: {uri[:PATH_SHOWN]}"
        for part, uri in wanted
        if not uri or infos.get(uri) is None
    ]
    return _scene(
        name=name,
        uri=next((uri for _, uri in wanted if uri), where),
        rasters=[info for _, uri in wanted if (info := infos.get(uri))],
        extra=[],
        sidecars_of=sidecars_of,
        metadata=metadata,
        problem=problems[0] if problems else "",
        said=said,
    )


def _scene(
    *,
    name: str,
    uri: str,
    rasters: Sequence[FileInfo],
    extra: Sequence[FileInfo],
    sidecars_of: Callable[[str], list[FileInfo]],
    metadata: MetadataPlaces,
    problem: str,
    said: Sequence[tuple[BandMetadata, ...]] = (),
) -> SceneFiles:
    empty = next((info for info in rasters if info.size == 0), None)
    if empty is not None and not problem:
        problem = f"the file {PurePosixPath(empty.uri).name} is empty"
    found = [None if problem else metadata.of(info.uri) for info in rasters]
    beside = [*extra, *(other for info in rasters for other in sidecars_of(info.uri))]
    return SceneFiles(
        name=name,
        uri=uri,
        rasters=tuple(rasters),
        beside=tuple({info.uri: info for info in [*beside, *filter(None, found)]}.values()),
        metadata=tuple(info.uri if info else "" for info in found) if any(found) else (),
        said=tuple(said) if any(said) else (),
        problem=problem,
    )
