"""What files beside a raster say of its bands: STAC items, Sentinel-2's MTD_*.xml, Landsat's *_MTL files.

Reflectance is `raw * scale + offset` throughout.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

from batchseg.errors import SourceError, SourceIOError
from batchseg.inputs import mtl
from batchseg.inputs.source import BandMetadata
from batchseg.job.products import LANDSAT_ID
from batchseg.system import fetch
from batchseg.system.archives import DamagedError

S2_BANDS = ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12")
"""Names of Sentinel-2's bands by `band_id`, as `Spectral_Information` in MTD_*.xml lists them."""

_S2_FILES = ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml")
_S2_BAND = re.compile(r"_B(\d\d|8A)[_.]")
_LANDSAT = re.compile(r"_(SR_)?B(\d+)\.TIFF?$", re.IGNORECASE)


def metadata_files(uri: str) -> tuple[str, ...]:
    """Where metadata of a raster may lie, by its name alone; a glob gives globs. The first that exists holds.

    Sentinel-2: in the nearest folder above that ends in `.SAFE`, else in the one that holds `GRANULE`,
    whatever it is called. Landsat: `*_MTL.json`, `*_MTL.xml` or `*_MTL.txt` in the raster's folder.
    """
    folder, _, name = uri.rpartition("/")
    parts = folder.split("/")
    if root := product_depth(parts):
        return tuple("/".join((*parts[:root], file)) for file in _S2_FILES)
    product, found = _LANDSAT.subn("_MTL", name)
    return tuple(f"{folder}/{product}.{ending}" for ending in mtl.ENDINGS) if found else ()


def product_depth(folders: Sequence[str]) -> int:
    """How many of the folders above a raster of Sentinel-2 lead to its product's; 0: it is of none.

    >>> product_depth(["", "a", "x", "GRANULE", "L2A_T33UUU", "IMG_DATA"])
    3
    """
    names = [folder.upper() for folder in folders]
    safe = next((end for end in range(len(names), 0, -1) if names[end - 1].endswith(".SAFE")), 0)
    return safe or next((end for end in range(len(names) - 1, 0, -1) if names[end] == "GRANULE"), 0)


def missing_metadata(uri: str) -> str:
    """Of a product's raster, which file should lie with it and where, in words; empty: it is of no product.

    >>> missing_metadata("/a/S2A_MSIL2A_1.SAFE/GRANULE/L2A_T33UUU/IMG_DATA/R10m/T33UUU_B04_10m.jp2")
    'MTD_MSIL2A.xml is missing in S2A_MSIL2A_1.SAFE'
    """
    folder, _, name = uri.rpartition("/")
    parts = folder.split("/")
    if root := product_depth(parts):
        product, below = parts[root - 1], "/".join(parts[root - 1 :])
        level = re.search(r"MSI(L1C|L2A)_|/(L1C|L2A)_", below, re.IGNORECASE)
        said = f"MTD_MSI{(level[1] or level[2]).upper()}.xml" if level else " or ".join(_S2_FILES)
    elif product_id := LANDSAT_ID.match(name):
        said, product = f"{product_id[0]}_MTL (.json, .xml or .txt)", parts[-1]
    else:
        return ""
    return f"{said} is missing in {product.removesuffix('!')}"


def read_metadata(uri: str, raster: str) -> BandMetadata:
    """What one of `metadata_files` says of a raster's bands; it says nothing of some rasters (SCL, ST).

    Raises:
        SourceIOError: the storage does not give the file.
        SourceError: the file is not what its name says.
    """
    name = uri.rpartition("/")[2]
    try:
        data = fetch.read_bytes(uri)
    except OSError as e:
        msg = f"the storage does not give {name}: {e.strerror or e}"
        raise SourceIOError(msg) from e
    except DamagedError as e:
        raise SourceError(str(e)) from e
    try:
        if name.lower().endswith(".json"):
            return _landsat(mtl.groups_of_json(data), raster)
        if name.lower().endswith(".txt"):
            return _landsat(mtl.groups_of_text(data), raster)
        root = ElementTree.fromstring(data)  # noqa: S314  as in `formats`
        return _landsat(mtl.groups_of_xml(root), raster) if root.tag == mtl.ROOT else _sentinel2(root, raster)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        ElementTree.ParseError,
    ) as e:
        msg = f"{name} does not hold the metadata of its product ({type(e).__name__}: {e})"
        raise SourceError(msg) from e


def _sentinel2(root: ElementTree.Element, raster: str) -> BandMetadata:
    """(raw + ADD_OFFSET) / QUANTIFICATION_VALUE; there is no offset before processing baseline 04.00.

    Sentinel-2 Products Specification Document (ESA, issue 15), sections 4.9.9 and 4.10.
    """
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without its namespace
    special = {
        _text(value, "SPECIAL_VALUE_TEXT"): _text(value, "SPECIAL_VALUE_INDEX")
        for value in root.iter("Special_Values")
    }
    nodata = _number(special["NODATA"], "NODATA") if "NODATA" in special else None
    band = _S2_BAND.search(raster.rpartition("/")[2])
    if band is None:
        return BandMetadata(nodata=nodata)
    number = S2_BANDS.index(band[1])
    values = [e for e in root.iter() if _is_quantification(e.tag)]
    if not values:
        return BandMetadata(nodata=nodata)
    scale = 1 / _above_zero(values[0].text, values[0].tag)
    offsets = [e for e in root.iter() if e.tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")]
    offset = 0.0
    if offsets:
        added = {int(e.get("band_id", "-1")): e.text for e in offsets}[number]
        offset = _number(added, offsets[0].tag) * scale
    return _checked(BandMetadata(scale=scale, offset=offset, nodata=nodata))


def _is_quantification(tag: str) -> bool:
    """BOA_QUANTIFICATION_VALUE of Level 2A (L2A_BOA_... before 2018), QUANTIFICATION_VALUE of Level 1C."""
    return tag == "QUANTIFICATION_VALUE" or tag.endswith("BOA_QUANTIFICATION_VALUE")


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _landsat(groups: mtl.Groups, raster: str) -> BandMetadata:
    """REFLECTANCE_MULT/ADD of the file's band and level; Level 1 is not corrected for the sun's height."""
    found = _LANDSAT.search(raster)
    level = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if found and found[1] else "LEVEL1_RADIOMETRIC_RESCALING"
    values = groups.get(level, {})
    image = groups.get("IMAGE_ATTRIBUTES", {})
    spacecraft = " ".join(str(image.get(key, "")) for key in ("SPACECRAFT_ID", "SENSOR_ID")).strip()
    band = found[2] if found else ""
    if f"REFLECTANCE_MULT_BAND_{band}" not in values:
        return BandMetadata(spacecraft=spacecraft)
    factor, addend = f"REFLECTANCE_MULT_BAND_{band}", f"REFLECTANCE_ADD_BAND_{band}"
    return _checked(
        BandMetadata(
            scale=_above_zero(values[factor], factor),
            offset=_number(values[addend], addend),
            spacecraft=spacecraft,
        )
    )


def _number(text: Any, name: str) -> float:
    """Raises ValueError where it is none, or not finite."""
    value = float("" if text is None else text)
    if not math.isfinite(value):
        msg = f"{name} is {value}, expected a finite number"
        raise ValueError(msg)
    return value


def _above_zero(text: Any, name: str) -> float:
    """Raises ValueError where it is no finite number above 0."""
    value = _number(text, name)
    if value <= 0:
        msg = f"{name} is {value:g}, expected a number above 0"
        raise ValueError(msg)
    return value


def _checked(band: BandMetadata) -> BandMetadata:
    """Raises ValueError where nothing can be computed with its scale and offset."""
    if not band.scale or not math.isfinite(band.scale) or not math.isfinite(band.offset):
        msg = f"scale {band.scale} and offset {band.offset} are no finite numbers, or the scale is 0"
        raise ValueError(msg)
    return band


def stac_bands(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[BandMetadata, ...]:
    """What a STAC item says of an asset's bands, in the file's order; empty where it says nothing.

    One entry counts for all bands of the file. In order: `raster:bands` (raster extension 1), `bands`
    (STAC 1.1), the asset itself, which also fills in what its bands leave out. Earth Search repeats the
    offset for files from whose values it was already taken; `earthsearch:boa_offset_applied` says so.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: the item is not made as STAC says.
    """
    applied = any(properties.get(f"{who}:boa_offset_applied") is True for who in ("earthsearch", "sentinel"))
    lists = [asset.get("raster:bands"), asset.get("bands"), [asset]]
    said = [tuple(_stac_band(band, asset, applied=applied) for band in bands) for bands in lists if bands]
    scaled = [bands for bands in said if any(band.scale is not None for band in bands)]
    other = [bands for bands in said if any(band.nodata is not None for band in bands)]
    return next(iter([*scaled, *other]), ())


def _stac_band(band: Mapping[str, Any], asset: Mapping[str, Any], *, applied: bool) -> BandMetadata:
    def value(name: str) -> float | None:
        found = (band.get(f"raster:{name}"), band.get(name), asset.get(f"raster:{name}"), asset.get(name))
        return next((float(each) for each in found if each is not None), None)

    scale, offset = value("scale"), value("offset")
    if scale is None and offset is None:
        return BandMetadata(nodata=value("nodata"))
    # What the raster extension leaves out: scale 1, offset 0.
    said = BandMetadata(scale=1.0 if scale is None else scale, offset=offset or 0.0, nodata=value("nodata"))
    return _checked(replace(said, offset=0.0) if applied else said)
