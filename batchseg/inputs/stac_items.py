"""Scenes of several files by a STAC item, or a collection of such."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from batchseg.inputs.left_out import LeftOut, rows_left_out
from batchseg.inputs.manifest import member_uri
from batchseg.inputs.metadata import stac_bands
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.one_scene import Finders, SceneFiles, listed_scene
from batchseg.inputs.sidecars import Folders
from batchseg.job.settings import SceneSet
from batchseg.system import fetch
from batchseg.system.file_info import file_info
from batchseg.system.json_text import parse_json
from batchseg.system.location import Location

_WEB = ("http://", "https://")


def by_items(given: SceneSet, left_out: LeftOut, *, allow_vrt: bool) -> Iterator[SceneFiles]:
    """The scenes of a file of items, in its order; those that lack a file as well.

    Args:
        given: the set, of kind `stac`.
        left_out: told which items are left out.
        allow_vrt: files that a VRT names are looked at.

    Raises:
        OSError, SourceIOError: the file or the storage cannot be read.
        ValueError: it is no item and no item collection.
    """
    document = parse_json(fetch.read_bytes(given.path))
    folders, finders = Folders(allow_vrt=allow_vrt), MetadataPlaces()
    wanted = [*given.columns, *([given.mask.file] if given.mask else [])]
    for item in _items(document, given.path, left_out):
        try:
            base = _base(item, given.path)
            assets = _by_name(item)
            chosen = [assets.get(name) for name in wanted]
            uris = [
                _place(_href(asset["href"], base), given.path) if asset is not None else ""
                for asset in chosen
            ]
            said = [stac_bands(asset, item.get("properties") or {}) if asset else () for asset in chosen]
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as e:
            problem = f"its item is not made as STAC says ({type(e).__name__}: {e})"
            yield SceneFiles(name=item["id"], uri=given.path, rasters=(), problem=problem)
            continue
        yield listed_scene(
            name=item["id"],
            wanted=list(zip(wanted, uris, strict=True)),
            where=given.path,
            absent=f"has no asset {{}}; it has {', '.join(sorted(assets)) or 'none'}",
            finders=Finders(folders.sidecars, finders.of),
            mask=given.mask is not None,
            said=said[: len(given.columns)],
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


def _by_name(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item's assets by their keys, and by the common names of those that hold one band.

    What a key says goes first. Items of STAC before 1.0 say per asset which places of the item's own list of
    bands it holds.
    """
    assets: dict[str, Any] = item.get("assets") or {}
    bands = (item.get("properties") or {}).get("eo:bands")
    named: dict[str, list[Any]] = {}
    for asset in assets.values():
        own = asset.get("eo:bands") or asset.get("bands") or []
        if isinstance(own, list) and len(own) == 1 and isinstance(asset.get("href"), str):
            band = own[0]
            if isinstance(band, int) and isinstance(bands, list):
                band = bands[band] if 0 <= band < len(bands) else {}
            name = band.get("common_name") or band.get("eo:common_name") if isinstance(band, dict) else None
            if isinstance(name, str):
                named.setdefault(name, []).append(asset)
    return {name: found[0] for name, found in named.items() if len(found) == 1} | assets


def _base(item: Mapping[str, Any], path: str) -> str:
    """What an item's relative hrefs are relative to: its self link, else the file.

    An item that was downloaded with its files still names its place on the web; then the file counts.
    """
    links = [link for link in item.get("links") or () if isinstance(link, dict)]
    own = next((str(link.get("href") or "") for link in links if link.get("rel") == "self"), "")
    on_web = own.startswith(_WEB) and not path.startswith(_WEB)
    return path if not own or on_web else _href(own, path)


def _href(href: str, base: str) -> str:
    if base.startswith(_WEB):
        return urljoin(base, href)
    return member_uri(href, base)


def _place(uri: str, path: str) -> str:
    """Where an asset lies: beside its item, where the item was downloaded with its files, else on the web."""
    if not uri.startswith(_WEB) or not Location.of(path).is_local:
        return uri
    name = unquote(urlsplit(uri).path.rpartition("/")[2])
    if not name or "/" in name or "\0" in name:
        return uri
    beside = f"{path.rpartition('/')[0]}/{name}"
    return beside if file_info(beside) is not None else uri
