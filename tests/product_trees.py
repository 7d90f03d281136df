"""Products of Landsat and Sentinel-2 as agencies deliver them, made small."""

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from conftest import UTM, write_raster
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.inputs.metadata import S2_BANDS

OLI = "LC08_L2SP_038031_20180901_20200820_02_T1"
TM = "LT05_L2SP_038031_20110901_20200820_02_T1"
L2A = "S2A_MSIL2A_20260101T100000_N0511_R022_T33UUU_20260101T120000"
L1C = "S2B_MSIL1C_20260102T100000_N0511_R022_T33UUU_20260102T120000"

MTL = """<?xml version="1.0"?>
<LANDSAT_METADATA_FILE><LEVEL2_SURFACE_REFLECTANCE_PARAMETERS>{}
</LEVEL2_SURFACE_REFLECTANCE_PARAMETERS></LANDSAT_METADATA_FILE>"""


def landsat(folder: Path, product: str, bands: Mapping[str, NDArray | None]) -> Path:
    """`SR_B4`, `QA_PIXEL`, ...: pixels, or None for a file of a few bytes; and an MTL.xml."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, pixels in bands.items():
        path = folder / f"{product}_{part}.TIF"
        if pixels is None:
            path.write_bytes(b"pixels")
        else:
            write_raster(path, pixels[None])
    factors = "".join(
        f"<REFLECTANCE_{key}_BAND_{n}>{value}</REFLECTANCE_{key}_BAND_{n}>"
        for n in range(1, 8)
        for key, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))
    )
    (folder / f"{product}_MTL.xml").write_text(MTL.format(factors))
    return folder


def sentinel2(root: Path, bands: Mapping[str, NDArray | None], *, metadata: str = "") -> Path:
    """A product's folder.

    Args:
        root: the folder, whatever it is called.
        bands: `B04_10m`, `SCL_20m`, or of Level 1C `B04` and `MSK_CLASSI_B00` (3, H, W): pixels, or None for
            a file of a few bytes.
        metadata: name of its MTD file; empty: as its level has it.
    """
    level = "L1C" if "MSIL1C" in root.name else "L2A"
    quality = root / "GRANULE" / f"{level}_T33UUU_A000001_20260101T100000" / "QI_DATA"
    quality.mkdir(parents=True, exist_ok=True)
    (quality / "MSK_DETFOO_B04.jp2").write_bytes(b"no band")
    for part, pixels in bands.items():
        if part.startswith("MSK_"):
            write_jp2(quality / f"{part}.jp2", pixels, 60)
            continue
        metres = part.partition("_")[2]
        images = root / "GRANULE" / f"{level}_T33UUU_A000001_20260101T100000" / "IMG_DATA"
        folder = images / f"R{metres}" if metres else images
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"T33UUU_20260101T100000_{part}.jp2"
        if pixels is None:
            path.write_bytes(b"pixels")
        else:
            write_jp2(path, pixels, int(metres[:2]) if metres else 10)
    kind, add = ("", "RADIO_ADD_OFFSET") if level == "L1C" else ("BOA_", "BOA_ADD_OFFSET")
    offsets = "".join(f'<{add} band_id="{n}">-1000</{add}>' for n in range(len(S2_BANDS)))
    value = f"<{kind}QUANTIFICATION_VALUE>10000</{kind}QUANTIFICATION_VALUE>"
    (root / (metadata or f"MTD_MSI{level}.xml")).write_text(f"<a>{value}{offsets}</a>")
    return root


def write_jp2(path: Path, pixels: NDArray, metres: int) -> None:
    """Without loss, as JPEG 2000; (H, W), or (K, H, W)."""
    stack = pixels.reshape(-1, *pixels.shape[-2:])
    transform = Affine(metres, 0, UTM.c, 0, -metres, UTM.f)
    keys = {"crs": "EPSG:32633", "transform": transform, "QUALITY": 100, "REVERSIBLE": "YES"}
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        width=stack.shape[2],
        height=stack.shape[1],
        count=len(stack),
        dtype=pixels.dtype,
        **keys,
    ) as dataset:
        dataset.write(stack)


def packed(folder: Path, archive: Path, *, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A folder's files in an archive, by its ending; `top`: the folder in it that holds them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [f"{top}/{path.relative_to(folder)}".lstrip("/") for path in files]
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", method) as target:
            for path, name in zip(files, names, strict=True):
                target.write(path, name)
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix in (".gz", ".tgz") else "w") as target:
            for path, name in zip(files, names, strict=True):
                target.add(path, name)
    return archive


def classes(height: int, width: int, seed: int = 3) -> NDArray[np.uint8]:
    """Scene classes 0..11 in blobs."""
    small = np.random.default_rng(seed).integers(0, 12, (-(-height // 5), -(-width // 5)), dtype=np.uint8)
    return np.kron(small, np.ones((5, 5), np.uint8))[:height, :width]
