"""A STAC item beside a network, with the Machine Learning Model extension: how large its pixels should be.

https://github.com/stac-extensions/mlm; `spatial_resolution` is of the raster extension, `gsd` STAC's own.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchseg.errors import ModelError
from batchseg.system.excerpt import excerpt
from batchseg.system.json_text import parse_json

ITEM_BYTES, FILES = 2**20, 100
"""Of one item, and files that are looked at: more lie beside no network."""

BAND_LISTS = ("raster:bands", "bands", "eo:bands")
RESOLUTIONS = ("raster:spatial_resolution", "spatial_resolution", "gsd")


def pixel_size_beside(network: Path) -> float | None:
    """Metres of a pixel's side that the item of a network says.

    The finest of the bands that are its input, else `gsd`; None where no item lies beside it, several do and
    none has it for an asset, or it says no size.

    Raises:
        ModelError: a size is no number above 0.
    """
    items = list(_items(network))
    own = [(path, item) for path, item in items if network.name in _asset_names(item)] or items
    if len(own) != 1:
        return None
    path, item = own[0]
    wanted = _input_bands(item["properties"])
    sizes = [
        size
        for band in _bands(item)
        if (not wanted or band.get("name") in wanted) and (size := _size(band, path)) is not None
    ]
    places = [item["properties"], *_assets(item)]
    return min(sizes, default=None) or next((size for place in places if (size := _size(place, path))), None)


def _items(network: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Items of models among the folder's files; other JSON is none of them."""
    for path in sorted(network.parent.glob("*.json"))[:FILES]:
        if path.name == network.name or not path.is_file() or path.stat().st_size > ITEM_BYTES:
            continue
        try:
            item = parse_json(path.read_bytes())
        except ValueError:
            continue
        if not isinstance(item, dict) or item.get("type") != "Feature":
            continue
        properties = item.get("properties")
        if isinstance(properties, dict) and any(key.startswith("mlm:") for key in properties):
            yield path, item


def _assets(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    assets = item.get("assets")
    return [asset for asset in assets.values() if isinstance(asset, dict)] if isinstance(assets, dict) else []


def _asset_names(item: Mapping[str, Any]) -> set[str]:
    return {str(asset.get("href")).rpartition("/")[2] for asset in _assets(item)}


def _bands(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for place in (item["properties"], *_assets(item)):
        for name in BAND_LISTS:
            listed = place.get(name)
            yield from (band for band in listed if isinstance(band, dict)) if isinstance(listed, list) else ()


def _input_bands(properties: Mapping[str, Any]) -> set[str]:
    """Names of the bands of the first input; empty: it names none."""
    inputs = properties.get("mlm:input")
    first = inputs[0] if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict) else {}
    listed = first.get("bands")
    named = listed if isinstance(listed, list) else []
    return {str(band.get("name") if isinstance(band, dict) else band) for band in named}


def _size(place: Mapping[str, Any], path: Path) -> float | None:
    key = next((key for key in RESOLUTIONS if place.get(key) is not None), None)
    if key is None:
        return None
    value = place[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        msg = f"model: {path}: {key} is {excerpt(value)}; expected metres, a number above 0"
        raise ModelError(msg)
    return float(value)
