"""A scene's fragments to its Cloud Optimized GeoTIFF, and its row of numbers.

The fragments are laid out by a VRT that also carries georeference, colour table and class names, and
GDAL's COG driver copies it: block by block, so memory does not grow with the scene.
"""

import contextlib
import hashlib
import math
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
import pyproj
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchseg import storage
from batchseg.config import ClassInfo
from batchseg.errors import OutputError
from batchseg.grid import Window
from batchseg.ledger import Output, Record
from batchseg.locks import check_epoch
from batchseg.overviews import BLOCK, Pixels, halve_classes, halve_confidence, make_levels
from batchseg.recipe import Product, Recipe
from batchseg.scene import Georeference, Scene
from batchseg.scratch import cache_root
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
    output: str, scene: Scene, recipe: Recipe, product: Product, shards: tuple[Record, ...], epoch: int
) -> tuple[Record, float]:
    """Assemble, publish and measure one scene's mask.

    Args:
        output: root of the results.
        scene: the source.
        recipe: the pixel settings.
        product: names, colours, compression.
        shards: the records of all its shards; or its own `done` record, to encode its mask again.
        epoch: of the run's lock: nothing is published by a run that was taken for dead.

    Returns:
        The scene's `done` record, not committed yet, and the seconds it took.

    Raises:
        OutputError: fragments are missing or the result cannot be written.
    """
    started = time.perf_counter()
    layers = ["mask", "confidence"] if recipe.confidence else ["mask"]
    record = _done_record(scene, recipe, product, shards)
    with scratch_folder(output) as folder:
        for layer in layers:
            pieces = _pieces(output, scene, shards, layer, folder)
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
            if layer == "mask":
                record = census.counted(record)
        check_epoch(output, epoch)
        outputs = [o for layer in layers for o in _publish(output, scene, layer, folder / f"{layer}.tif")]
        record = replace(record, outputs=tuple(outputs))
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
        bad_pixels=sum(shard.bad_pixels for shard in shards),
        uri=scene.source.uri,
    )


def _publish(output: str, scene: Scene, layer: str, cog: Path) -> list[Output]:
    """The sidecar with the class names first: a mask that is there is complete."""
    target = mask_path(scene.source.source_id, layer)
    sidecar = cog.with_name(cog.name + ".aux.xml")
    published = []
    if sidecar.exists():
        published.append(publish_output(output, target + ".aux.xml", sidecar))
    else:
        storage.remove_files([storage.join(output, *target.split("/")) + ".aux.xml"])
    return [publish_output(output, target, cog), *published]


def publish_output(output: str, path: str, local: Path) -> Output:
    """Move a finished local file to its path below the output. Raises OutputError."""
    size = local.stat().st_size
    with local.open("rb") as f:
        checksum = hashlib.file_digest(f, "sha256").hexdigest()
    storage.publish_file(local, storage.join(output, *path.split("/")))
    return Output(path=path, nbytes=size, sha256=checksum)


@contextlib.contextmanager
def scratch_folder(output: str) -> Iterator[Path]:
    """A folder for files in the making: on a local output's file system, so that publishing is a rename."""
    root = storage.local_path(storage.join(output, "_batchseg", "scratch")) or cache_root()
    try:
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


def _pieces(output: str, scene: Scene, shards: tuple[Record, ...], layer: str, scratch: Path) -> list[Piece]:
    first, source = shards[0], scene.source
    if first.status == "done":
        uris = {storage.join(output, *mask_path(source.source_id, layer).split("/")): first.window}
    else:
        folder = fragment_folder(
            output, source.source_id, source.tag, first.pixel, first.grid, first.cpu_class
        )
        uris = {
            fragment_uri(folder, shard.window, layer): shard.window for shard in shards if not shard.empty
        }
    paths = storage.at_once(partial(_readable, folder=scratch / f"{layer}-pieces"), list(uris))
    return [Piece(path=path, window=window) for path, window in zip(paths, uris.values(), strict=True)]


def _readable(uri: str, folder: Path) -> str:
    """Where GDAL can read it: of a bucket's file, a copy in `folder`."""
    path = storage.local_path(uri)
    try:
        if path is None:
            path = folder / uri.rpartition("/")[2]
            storage.fetch(uri, path)
        elif not path.exists():
            raise FileNotFoundError
    except FileNotFoundError as e:
        msg = f"{uri} is recorded but missing"
        raise OutputError(msg) from e
    except OSError as e:
        msg = f"cannot read {uri}: {e}"
        raise OutputError(msg) from e
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
        self._areas = _row_areas(scene)
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


def _row_areas(scene: Scene) -> NDArray[np.float64] | None:
    """Square metres of one pixel, per row; None without CRS and geotransform.

    Projected: the plane's area, in metres whatever the CRS's unit. Geographic: the ellipsoid's area
    between the row's parallels; for a rotated raster, at the latitude of the row's middle.
    """
    georeference = scene.georeference
    if georeference.transform is None or not georeference.crs_wkt:
        return None
    try:
        crs = pyproj.CRS.from_wkt(georeference.crs_wkt)
    except pyproj.exceptions.CRSError:
        return None
    a, b, _, d, e, f = georeference.transform
    determinant = abs(a * e - b * d)
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    if crs.is_projected:
        return np.full(scene.height, determinant * unit * unit)
    if not crs.is_geographic:
        return None
    geod = crs.get_geod()
    if geod is None:
        return None
    rows = np.arange(scene.height)
    if d == 0:
        edges = np.clip(np.array((f + e * rows, f + e * (rows + 1))) * unit, -np.pi / 2, np.pi / 2)
        zone = np.abs(np.diff(_authalic(np.sin(edges), geod.es), axis=0))[0]
        areas: NDArray[np.float64] = zone * abs(a) * unit * geod.a**2 / 2
        return areas
    sine = np.sin((f + d * scene.width / 2 + e * (rows + 0.5)) * unit)
    # The derivative of _authalic by latitude is 2 (1 - es) cos / (1 - es sin^2)^2.
    density = (1 - geod.es) * np.sqrt(1 - sine**2) / (1 - geod.es * sine**2) ** 2
    return np.asarray(density * determinant * unit**2 * geod.a**2)


def _authalic(sine: NDArray[np.float64], es: float) -> NDArray[np.float64]:
    """Snyder, Map Projections: A Working Manual (USGS 1987), equation 3-12: q of a latitude.

    The ellipsoid's area between two parallels and over a longitude difference is a**2 / 2 times the
    difference of q times that of longitude, in radians.
    """
    if es == 0:
        return 2 * sine
    ecc = math.sqrt(es)
    return (1 - es) * (sine / (1 - es * sine**2) - np.log((1 - ecc * sine) / (1 + ecc * sine)) / (2 * ecc))


def discard_fragments(output: str, source_id: str) -> None:
    """Remove what a finished scene no longer needs, of this and of earlier versions."""
    storage.remove(fragment_folder(output, source_id, "", "", "", "").rpartition("/")[0])
