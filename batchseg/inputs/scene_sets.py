"""Scenes of several files: by a pattern per band, a manifest's columns, STAC items, or as products lie."""

import re
from collections.abc import Iterator, Sequence

from batchseg.inputs.left_out import LeftOut, rows_left_out, scenes_unseen
from batchseg.inputs.manifest import member_uri, path_in, read_rows, unit_of
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.one_scene import Finders, SceneFiles, listed_scene, made_scene
from batchseg.inputs.products import by_product
from batchseg.inputs.selection import selected_files
from batchseg.inputs.sidecars import Beside, Folders, is_sidecar, sidecars
from batchseg.inputs.stac_items import by_items
from batchseg.inputs.text_lists import OddLines
from batchseg.job.settings import SceneSet
from batchseg.system import listing
from batchseg.system.file_info import FileInfo


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
    if given.kind == "stac":
        return by_items(given, left_out, allow_vrt=allow_vrt)
    return by_product(given, output, left_out)


def literal_folder(given: SceneSet) -> str:
    """The folder below which a set's files lie; a manifest's own folder."""
    if given.kind == "bands":
        return _literal(given.patterns[0][1], r"[*?\[{]")
    if given.kind in ("manifest", "stac"):
        return given.path.rpartition("/")[0]
    return _literal(given.path, r"[*?\[]") if listing.is_glob(given.path) else given.path.rstrip("/")


def _literal(pattern: str, wildcards: str) -> str:
    return re.split(wildcards, pattern, maxsplit=1)[0].rpartition("/")[0]


def _by_patterns(given: SceneSet, output: str, left_out: LeftOut, *, allow_vrt: bool) -> Iterator[SceneFiles]:
    """One listing per pattern, whatever the number of scenes."""
    patterns = [*given.patterns, *([("the mask", given.mask.file)] if given.mask else [])]
    found: list[dict[str, list[FileInfo]]] = []
    listed: dict[str, FileInfo] = {}
    closed = len(left_out.closed)
    for _, pattern in patterns:
        rasters, others = _list_pattern(pattern, output, left_out)
        found.append(rasters)
        listed |= others
    beside = Beside(listed.values())
    empty = [pattern for (_, pattern), rasters in zip(patterns, found, strict=True) if not rasters]
    if empty and any(found):
        # As for one pattern that matches nothing: an unmounted disk must not quarantine a whole archive.
        msg = f"nothing matches {empty[0]}, other bands have files; check it, and that its disk is mounted"
        raise ValueError(msg)
    metadata = MetadataPlaces([pattern.replace("{scene}", "*") for _, pattern in given.patterns])
    finders = Finders(lambda uri: sidecars(uri, beside, allow_vrt=allow_vrt), metadata.of)
    names = sorted(set().union(*found[: len(given.patterns)]))
    if len(left_out.closed) > closed:
        # Its results stay: nobody knows whether it lacks a file.
        unseen = [name for name in names if not all(name in rasters for rasters in found)]
        names = [name for name in names if all(name in rasters for rasters in found)]
        if unseen:
            left_out.add_unread(scenes_unseen(unseen))
    for name in names:
        lists = [rasters.get(name, []) for rasters in found]
        problems = [_band_problem(band, name, infos) for band, infos in zip(patterns, lists, strict=True)]
        masks = lists.pop() if given.mask else []
        yield made_scene(
            name=name,
            uri=next(infos[0].uri for infos in lists if infos),
            rasters=[infos[0] for infos in lists if infos],
            mask=masks[0] if masks else None,
            extra=[info for infos in (*lists, masks) for info in infos[1:]],
            finders=finders,
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
    files = [*given.columns, *([given.mask.file] if given.mask else [])]
    columns = [*files, *([given.id_column] if given.id_column else [])]
    odd = OddLines()
    rows = read_rows(given.path, columns, odd, paths=files)
    folders, metadata = Folders(allow_vrt=allow_vrt), MetadataPlaces()
    finders = Finders(folders.sidecars, metadata.of)
    nameless = []
    for number, row in rows:
        cells = [path_in(row, column, number) for column in files]
        name = str(row[given.id_column] or "").strip() if given.id_column else ""
        if not name and not any(cells):
            odd.without.append(number)
            continue
        if given.id_column and not name:
            nameless.append(number)
            continue
        uris = [member_uri(cell, given.path) if cell else "" for cell in cells]
        yield listed_scene(
            name=name,
            wanted=list(zip(files, uris, strict=True)),
            where=given.path,
            absent="has no path in column {}",
            mask=given.mask is not None,
            finders=finders,
        )
    unit = unit_of(given.path)
    odd.tell(left_out, given.path, unit)
    if nameless:
        left_out.add_unread(rows_left_out(given.path, nameless, f"no {given.id_column}", unit))
