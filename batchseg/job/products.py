"""What products of Landsat and Sentinel-2 hold: their assets by name, and the flags that mark pixels.

Landsat: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619), and Landsat 4-7's
(LSDS-1618). Sentinel-2: ESA, Sentinel-2 Products Specification Document, issue 15. Assets are called as in
the STAC collections of USGS and of Earth Search.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Preset = Literal["landsat", "sentinel2"]

LANDSAT_ID = re.compile(
    r"L[COTEM]0[1-9]_L\w{3}_\d{6}_\d{8}_\d{8}_\d\d_(?:RT|T1|T2)(?![A-Z0-9])", re.IGNORECASE
)

SENTINEL2_ID = re.compile(r"S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_", re.IGNORECASE)
"""How the names of products begin; what follows differs by baseline."""


PRODUCT_IDS: Mapping[str, re.Pattern[str]] = {"landsat": LANDSAT_ID, "sentinel2": SENTINEL2_ID}
"""By preset."""


def _numbered(names: str, first: int) -> dict[str, str]:
    return {name: str(number) for number, name in enumerate(names.split(), start=first)}


_IMAGER = _numbered("coastal blue green red nir08 swir16 swir22 pan cirrus lwir11 lwir12", 1)
_MAPPER = _numbered("blue green red nir08 swir16 lwir swir22 pan", 1)
_SCANNER_3, _SCANNER_5 = (_numbered("green red nir08 nir09", first) for first in (4, 1))

_THERMAL = frozenset(("lwir", "lwir11"))
"""Of Level 2, as surface temperature."""

_LEVEL_1_ALONE = frozenset(("pan", "cirrus", "lwir12"))

_CODES = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"
_OF_CODES = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 cirrus swir16 swir22"
SENTINEL2_BANDS = dict(zip(_OF_CODES.split(), _CODES.split(), strict=True))

_KNOWN: Mapping[Preset, Mapping[str, Mapping[str, str]]] = {
    "landsat": {
        "Landsat 8 and 9": _IMAGER,
        "Landsat 4 to 7": _MAPPER,
        "Landsat 1 to 5 (MSS)": _SCANNER_5,
    },
    "sentinel2": {"Sentinel-2": SENTINEL2_BANDS},
}
"""Assets by satellite."""

_BITS = "fill dilated_cloud cirrus clouds shadows snow clear water"
"""Of QA_PIXEL, from 0."""

_CLASSES = "no_data saturated dark shadows vegetation bare water unclassified clouds clouds cirrus snow"
"""Of SCL, from 0: clouds of medium and of high probability are two."""


def _flags(names: str) -> dict[str, tuple[int, ...]]:
    """
    >>> _flags("a b b")
    {'a': (0,), 'b': (1, 2)}
    """
    each = names.split()
    return {name: tuple(n for n, other in enumerate(each) if other == name) for name in dict.fromkeys(each)}


@dataclass(frozen=True, slots=True)
class Flags:
    """What marks a product's pixels, in a raster of its own."""

    file: str
    """What the raster is called in the product."""
    by: Literal["bits", "values", "bands"]
    """`bands`: each is a flag of its own, set where it is not 0."""
    numbers: Mapping[str, tuple[int, ...]]
    """Bits from 0, values, or bands from 1, by the flag's name."""


FLAGS: Mapping[Preset, Flags] = {
    "landsat": Flags("QA_PIXEL", "bits", _flags(_BITS)),
    "sentinel2": Flags("SCL", "values", _flags(_CLASSES)),
}

LEVEL_1C_FLAGS = Flags("MSK_CLASSI_B00", "bands", {"clouds": (1,), "cirrus": (2,), "snow": (3,)})
"""Of Sentinel-2 since baseline 04.00, at 60 m."""

LEVEL_1C_VECTORS = "MSK_CLOUDS_B00"
"""What stands for them in earlier baselines: a .gml."""


def known_assets(preset: Preset) -> frozenset[str]:
    """Of all its satellites."""
    return frozenset(asset for assets in _KNOWN[preset].values() for asset in assets)


def assets_in_words(preset: Preset) -> str:
    """Its assets, by satellite."""
    return "; ".join(f"{satellite}: {', '.join(assets)}" for satellite, assets in _KNOWN[preset].items())


def landsat_assets(product: str) -> Mapping[str, str]:
    """What follows the id in the file names of a product's assets.

    Args:
        product: its id, in any case of letters.

    >>> landsat_assets("LT05_L2SP_038031_20110901_20200820_02_T1")["nir08"]
    'SR_B4'
    >>> landsat_assets("LC08_L1TP_038031_20180901_20200820_02_T1")["nir08"]
    'B5'
    """
    sensor, satellite, level = product[1].upper(), int(product[2:4]), product[6]
    if sensor == "M":
        bands = _SCANNER_3 if satellite <= 3 else _SCANNER_5
    elif sensor == "E" or satellite <= 7:
        bands = {asset: number for asset, number in _MAPPER.items() if asset != "pan" or sensor == "E"}
    else:
        bands = _IMAGER
    if level == "1":
        # Landsat 7's thermal band is there twice: VCID_1 is of low gain.
        return {
            asset: "B6_VCID_1" if asset == "lwir" and sensor == "E" else f"B{number}"
            for asset, number in bands.items()
        }
    return {
        asset: f"{'ST' if asset in _THERMAL else 'SR'}_B{number}"
        for asset, number in bands.items()
        if asset not in _LEVEL_1_ALONE
    }
