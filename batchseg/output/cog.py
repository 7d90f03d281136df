"""A layer of a scene as a VRT over its fragments, and the COG that GDAL makes of it.

The VRT also carries georeference, colour table and class names, and GDAL's COG driver copies it: block
by block, so memory does not grow with the scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import rasterio
import rasterio.shutil

from batchseg.inputs.source import Georeference, Scene
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import Values
from batchseg.models.package import ClassInfo
from batchseg.output.layout import Layer
from batchseg.output.overviews import BLOCK
from batchseg.output.sidecar import SUFFIX, add_class_table, has_names
from batchseg.pixels.grid import Window

FEW_BLOCKS = 4
"""That one thread packs sooner than GDAL has started others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file of a mosaic and where it goes."""

    path: str
    window: Window


def vrt_of(
    scene: Scene,
    recipe: Recipe,
    layer: Layer,
    pieces: list[Piece],
    classes: tuple[ClassInfo, ...] = (),
    levels: Sequence[Path] = (),
) -> str:
    """A VRT of the whole scene as XML text; what no piece covers is nodata.

    Args:
        scene: the source.
        recipe: the pixel settings.
        layer: which raster of it.
        pieces: files that hold it.
        classes: names and colours by class id, of a layer of classes.
        levels: its overviews, the largest first.
    """
    root = Element("VRTDataset", rasterXSize=str(scene.width), rasterYSize=str(scene.height))
    _add_georeference(root, scene.georeference)
    for number in range(1, 1 + (len(recipe.probabilities) if layer == "probabilities" else 1)):
        band = SubElement(root, "VRTRasterBand", dataType=_data_type(layer, recipe), band=str(number))
        if layer == "values" and recipe.values is not None:
            _add_numbers(band, recipe.values)
        elif layer in ("mask", "predicted"):
            SubElement(band, "Description").text = "class"
            SubElement(band, "NoDataValue").text = str(recipe.mask_nodata)
            _add_classes(root, band, classes)
        else:
            SubElement(band, "Description").text = _of_what(layer, number, recipe, classes)
            SubElement(band, "NoDataValue").text = "0"
        for path in levels:
            overview = SubElement(band, "Overview")
            SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(path)
            SubElement(overview, "SourceBand").text = str(number)
        for piece in pieces:
            _add_piece(band, piece, number)
    return ElementTree.tostring(root, encoding="unicode")


def _of_what(layer: Layer, number: int, recipe: Recipe, classes: tuple[ClassInfo, ...]) -> str:
    """A band of probabilities in words."""
    if layer == "confidence":
        return "probability of the winning class, 255 = 1"
    class_id = recipe.probabilities[number - 1]
    name = classes[class_id].name if class_id < len(classes) else str(class_id)
    return f"probability of {name}, 255 = 1"


def _data_type(layer: Layer, recipe: Recipe) -> str:
    names = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}
    if layer == "values" and recipe.values is not None:
        return names[recipe.values.dtype]
    return "Byte" if layer == "confidence" else names[recipe.mask_dtype]


def _add_numbers(band: Element, values: Values) -> None:
    """With the scale and the offset of uint16, by which GDAL and QGIS show real numbers."""
    SubElement(band, "Description").text = "value"
    SubElement(band, "NoDataValue").text = f"{values.nodata:g}"
    if values.dtype == "uint16":
        SubElement(band, "Offset").text = repr(values.offset)
        SubElement(band, "Scale").text = repr(values.scale)


def _add_georeference(root: Element, georeference: Georeference) -> None:
    if georeference.transform is not None:
        if georeference.crs_wkt:
            SubElement(root, "SRS").text = georeference.crs_wkt
        a, b, c, d, e, f = georeference.transform
        # GDAL's order. repr gives the shortest text that reads back as the same number.
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
    """Names as categories and in a table, which QGIS shows (GDAL keeps both in .aux.xml), and in the file.

    GeoTIFF itself has no place for names of classes.
    """
    if not classes:
        return
    metadata = SubElement(root, "Metadata")
    for number, info in enumerate(classes):
        if info.name:
            SubElement(metadata, "MDI", key=f"CLASS_{number}").text = info.name
    SubElement(band, "ColorInterp").text = "Palette"
    table = SubElement(band, "ColorTable")
    names = SubElement(band, "CategoryNames")
    for info in classes:
        red, green, blue = (str(int(info.color[at : at + 2], 16)) for at in (1, 3, 5))
        SubElement(table, "Entry", c1=red, c2=green, c3=blue, c4="255")
        SubElement(names, "Category").text = info.name
    add_class_table(band, classes)


def _add_piece(band: Element, piece: Piece, number: int) -> None:
    window = piece.window
    size = {"xSize": str(window.width), "ySize": str(window.height)}
    source = SubElement(band, "SimpleSource")
    # The first image of a GeoTIFF, in the words of that driver alone: any other, a VRT's say, would read
    # whatever files the piece names.
    SubElement(source, "SourceFilename", relativeToVRT="0").text = f"GTIFF_DIR:1:{piece.path}"
    SubElement(source, "SourceBand").text = str(number)
    # With them GDAL opens a piece only when it is read: a scene may have thousands.
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


def sidecar_is_whole(cog: Path, classes: tuple[ClassInfo, ...]) -> bool:
    """Whether GDAL's file of class names beside a COG has them: it says nothing of one that was cut off."""
    if not classes:
        return True
    try:
        found = cog.with_name(f"{cog.name}{SUFFIX}").read_bytes()
    except OSError:
        return False
    return has_names(found, [info.name for info in classes])


def compression_threads(height: int, width: int) -> str:
    """For GDAL, which starts as many threads for each file, however small it is."""
    return "ALL_CPUS" if height * width > FEW_BLOCKS * BLOCK**2 else "1"


def write_cog(vrt: str, path: Path, product: Product, *, numbers: bool = False) -> None:
    """Copy a mosaic, given as VRT text, to a Cloud Optimized GeoTIFF; one of numbers with a predictor, which
    stores how neighbours differ."""
    # From 3.12 on GDAL would put the table of classes into the TIFF, where earlier ones, and QGIS with them,
    # do not look.
    with rasterio.Env(GTIFF_WRITE_RAT_TO_PAM=True), rasterio.open(vrt) as mosaic:
        rasterio.shutil.copy(
            mosaic,
            str(path),
            driver="COG",
            COMPRESS=product.compress.upper(),
            BLOCKSIZE=str(BLOCK),
            OVERVIEWS="FORCE_USE_EXISTING",
            BIGTIFF="IF_SAFER",
            PREDICTOR="YES" if numbers else "NO",
            NUM_THREADS=compression_threads(mosaic.height, mosaic.width),
        )
