"""A scene's fragments to its Cloud Optimized GeoTIFF, and its row of numbers.

The fragments are laid out by a VRT that also carries georeference, colour table and class names, and
GDAL's COG driver copies it: block by block, so memory does not grow with the scene.
"""

import contextlib
import hashlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchseg import storage
from batchseg.config import ClassInfo
from batchseg.errors import OutputError
from batchseg.geodesy import row_areas
from batchseg.grid import Window
from batchseg.ledger import Record
from batchseg.overviews import BLOCK, Pixels, halve_classes, halve_confidence, make_levels
from batchseg.recipe import Product, Recipe
from batchseg.scene import Georeference, Scene
from batchseg.write import fragment_folder, fragment_uri

FEW_CLASSES = 16
"""Up to so many, a comparison per class beats a histogram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file of a mosaic and where it goes."""

    path: str
    window: Window


def mask_path(source_id: str, layer: str = "mask") -> str:
    """Path below the output."""
    return f"{'masks' if layer == 'mask' else layer}/{source_id}.tif"


def finish_scene(
    output: str, scene: Scene, recipe: Recipe, product: Product, shards: tuple[Record, ...]
) -> tuple[Record, float]:
    """Assemble, publish and measure one scene's mask.

    Args:
        output: root of the results.
        scene: the source.
        recipe: the pixel settings.
        product: names, colours, compression.
        shards: the records of all its shards; or its own `done` record, to encode its mask again.

    Returns:
        The scene's `done` record, not committed yet, and the seconds it took.

    Raises:
        OutputError: fragments are missing or the result cannot be written.
    """
    started = time.perf_counter()
    layers = ["mask", "confidence"] if recipe.confidence else ["mask"]
    record = _done_record(scene, recipe, product, shards)
    with _scratch(output) as folder:
        for layer in layers:
            pieces = _pieces(output, scene, shards, layer)
            try:
                with _gdal_for_output():
                    census = _Census(scene, recipe)
                    look = census.look if layer == "mask" else None
                    mosaic = _vrt(scene, recipe, product, layer, pieces)
                    levels = make_levels(mosaic, folder, layer, _halving(recipe, layer), look)
                    vrt = _vrt(scene, recipe, product, layer, pieces, levels)
                    _to_cog(vrt, folder / f"{layer}.tif", product)
            except (RasterioError, rasterio._err.CPLE_BaseError) as e:
                msg = f"cannot assemble {layer} of {scene.source.source_id}: {e.__cause__ or e}"
                raise OutputError(msg) from e
            record = _publish(output, scene, record, layer, folder / f"{layer}.tif")
            if layer == "mask":
                record = census.counted(record)
    return record, time.perf_counter() - started


def _halving(recipe: Recipe, layer: str) -> Callable[[Pixels], Pixels]:
    return partial(halve_classes, nodata=recipe.mask_nodata) if layer == "mask" else halve_confidence


def _done_record(scene: Scene, recipe: Recipe, product: Product, shards: tuple[Record, ...]) -> Record:
    return Record(
        status="done",
        source_id=scene.source.source_id,
        tag=scene.source.tag,
        pixel=recipe.digest,
        product=product.digest,
        cpu_class=shards[0].cpu_class,
        grid=shards[0].grid,
        height=scene.height,
        width=scene.width,
        predicted=sum(shard.predicted for shard in shards),
        uri=scene.source.uri,
    )


def _publish(output: str, scene: Scene, record: Record, layer: str, cog: Path) -> Record:
    """The sidecar with the class names first: a mask that is there is complete."""
    target = mask_path(scene.source.source_id, layer)
    sidecar = cog.with_name(cog.name + ".aux.xml")
    uri = storage.join(output, *target.split("/"))
    size = cog.stat().st_size
    with cog.open("rb") as f:
        checksum = hashlib.file_digest(f, "sha256").hexdigest()
    if sidecar.exists():
        storage.publish_file(sidecar, uri + ".aux.xml")
    else:
        storage.remove(uri + ".aux.xml")
    storage.publish_file(cog, uri)
    if layer != "mask":
        return record
    return replace(record, mask=target, mask_bytes=size, mask_sha256=checksum)


@contextlib.contextmanager
def _scratch(output: str) -> Iterator[Path]:
    """A folder for files in the making: on the output's own file system, so that publishing is a rename."""
    root = storage.local_path(storage.join(output, "_batchseg", "scratch"))
    try:
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root))
    except OSError as e:
        msg = f"cannot write {root}: {e.strerror}"
        raise OutputError(msg) from e
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _gdal_for_output() -> Iterator[None]:
    with rasterio.Env(GDAL_CACHEMAX=96 * 1024**2, GDAL_NUM_THREADS="ALL_CPUS"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _pieces(output: str, scene: Scene, shards: tuple[Record, ...], layer: str) -> list[Piece]:
    first, source = shards[0], scene.source
    if first.status == "done":
        path = _readable(storage.join(output, *mask_path(source.source_id, layer).split("/")))
        return [Piece(path=path, window=first.window)]
    folder = fragment_folder(output, source.source_id, source.tag, first.pixel, first.grid, first.cpu_class)
    return [
        Piece(path=_readable(fragment_uri(folder, shard.window, layer)), window=shard.window)
        for shard in shards
        if not shard.empty
    ]


def _readable(uri: str) -> str:
    path = storage.local_path(uri)
    if path is None or not path.exists():
        msg = f"{uri} is recorded but missing"
        raise OutputError(msg)
    return str(path)


def _vrt(
    scene: Scene,
    recipe: Recipe,
    product: Product,
    layer: str,
    pieces: list[Piece],
    levels: Sequence[Path] = (),
) -> str:
    """A VRT of the whole scene as XML text; what no piece covers is nodata."""
    root = Element("VRTDataset", rasterXSize=str(scene.width), rasterYSize=str(scene.height))
    _add_georeference(root, scene.georeference)
    data_type = "UInt16" if layer == "mask" and recipe.mask_dtype == "uint16" else "Byte"
    band = SubElement(root, "VRTRasterBand", dataType=data_type, band="1")
    if layer == "mask":
        SubElement(band, "Description").text = "class"
        SubElement(band, "NoDataValue").text = str(recipe.mask_nodata)
        _add_classes(root, band, product.classes)
    else:
        SubElement(band, "Description").text = "probability of the winning class, 255 = 1"
        SubElement(band, "NoDataValue").text = "0"
    for path in levels:
        overview = SubElement(band, "Overview")
        SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(path)
        SubElement(overview, "SourceBand").text = "1"
    for piece in pieces:
        _add_piece(band, piece)
    return ElementTree.tostring(root, encoding="unicode")


def _add_georeference(root: Element, georeference: Georeference) -> None:
    if georeference.transform is not None:
        if georeference.crs_wkt:
            SubElement(root, "SRS").text = georeference.crs_wkt
        a, b, c, d, e, f = georeference.transform
        SubElement(root, "GeoTransform").text = ", ".join(repr(v) for v in (c, a, b, f, d, e))
    elif georeference.gcps:
        wkt = georeference.gcps_crs_wkt or georeference.crs_wkt
        gcps = SubElement(root, "GCPList", {"Projection": wkt} if wkt else {})
        for p in georeference.gcps:
            numbers = {"Pixel": p.col, "Line": p.row, "X": p.x, "Y": p.y, "Z": p.z}
            SubElement(gcps, "GCP", {"Id": p.id, **{key: repr(value) for key, value in numbers.items()}})
    elif georeference.crs_wkt:
        SubElement(root, "SRS").text = georeference.crs_wkt
    if georeference.rpcs:
        metadata = SubElement(root, "Metadata", domain="RPC")
        for key, value in georeference.rpcs:
            SubElement(metadata, "MDI", key=key).text = value


def _add_classes(root: Element, band: Element, classes: tuple[ClassInfo, ...]) -> None:
    """Names twice: as categories, which QGIS shows (GDAL keeps them in .aux.xml), and inside the file."""
    if not classes:
        return
    metadata = SubElement(root, "Metadata")
    for number, info in enumerate(classes):
        SubElement(metadata, "MDI", key=f"CLASS_{number}").text = info.name
    SubElement(band, "ColorInterp").text = "Palette"
    table = SubElement(band, "ColorTable")
    names = SubElement(band, "CategoryNames")
    for info in classes:
        red, green, blue = (str(int(info.color[at : at + 2], 16)) for at in (1, 3, 5))
        SubElement(table, "Entry", c1=red, c2=green, c3=blue, c4="255")
        SubElement(names, "Category").text = info.name


def _add_piece(band: Element, piece: Piece) -> None:
    window = piece.window
    size = {"xSize": str(window.width), "ySize": str(window.height)}
    source = SubElement(band, "SimpleSource")
    SubElement(source, "SourceFilename", relativeToVRT="0").text = piece.path
    SubElement(source, "SourceBand").text = "1"
    SubElement(
        source,
        "SourceProperties",
        RasterXSize=size["xSize"],
        RasterYSize=size["ySize"],
        DataType=band.attrib["dataType"],
        BlockXSize="256",
        BlockYSize="256",
    )
    SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    SubElement(source, "DstRect", {"xOff": str(window.col_off), "yOff": str(window.row_off), **size})


def _to_cog(vrt: str, path: Path, product: Product) -> None:
    with rasterio.open(vrt) as mosaic:
        rasterio.shutil.copy(
            mosaic,
            str(path),
            driver="COG",
            COMPRESS=product.compress.upper(),
            BLOCKSIZE=str(BLOCK),
            OVERVIEWS="FORCE_USE_EXISTING",
            BIGTIFF="IF_SAFER",
            NUM_THREADS="ALL_CPUS",
        )


class _Census:
    """Pixels and square metres per class, from the strips of a mask."""

    def __init__(self, scene: Scene, recipe: Recipe) -> None:
        self._recipe = recipe
        self._areas = row_areas(scene.georeference, height=scene.height, width=scene.width)
        self._constant = self._areas is None or bool(np.all(self._areas == self._areas[0]))
        self._pixels: dict[int, int] = {}
        self._square_metres: dict[int, float] = {}

    def look(self, row_off: int, strip: Pixels) -> None:
        for class_id in self._present(strip):
            hit = strip == class_id
            if self._areas is None or self._constant:
                count = int(np.count_nonzero(hit))
            else:
                rows = np.count_nonzero(hit, axis=1)
                count = int(rows.sum())
                part = float(self._areas[row_off : row_off + len(rows)] @ rows)
                self._square_metres[class_id] = self._square_metres.get(class_id, 0.0) + part
            self._pixels[class_id] = self._pixels.get(class_id, 0) + count

    def _present(self, strip: Pixels) -> list[int]:
        """Class ids to look for; a few comparisons are faster than a histogram, which needs wide integers."""
        nodata = self._recipe.mask_nodata
        highest = int(np.max(strip, where=strip != nodata, initial=0))
        if highest < FEW_CLASSES:
            return list(range(highest + 1))
        counts = sum(np.bincount(row, minlength=nodata + 1) for row in strip)
        return [class_id for class_id in np.flatnonzero(counts).tolist() if class_id != nodata]

    def counted(self, record: Record) -> Record:
        ids = sorted(key for key, count in self._pixels.items() if count)
        areas: tuple[float, ...] = ()
        if self._areas is not None:
            one = float(self._areas[0])
            areas = tuple(self._pixels[i] * one if self._constant else self._square_metres[i] for i in ids)
        return replace(
            record,
            class_ids=tuple(ids),
            class_pixels=tuple(self._pixels[i] for i in ids),
            class_area_m2=areas,
            valid_pixels=sum(self._pixels.values()),
        )


def discard_fragments(output: str, source_id: str) -> None:
    """Remove what a finished scene no longer needs, of this and of earlier versions."""
    storage.remove(fragment_folder(output, source_id, "", "", "", "").rpartition("/")[0])
