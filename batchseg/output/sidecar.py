"""The file of class names beside a mask, which GDAL and QGIS write into as well (.aux.xml).

`gdalinfo -stats` adds statistics, QGIS histograms and whatever its user says of the layer. Ours are the names
of the classes and their table; what others added is theirs.
"""

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from batchseg.models.package import ClassInfo
from batchseg.system import fetch
from batchseg.system.file_info import file_info
from batchseg.system.location import Location

SUFFIX = ".aux.xml"

MOST_BYTES = 16 * 2**20
"""Of a file that is looked into; as for those beside inputs."""

_BAND = "PAMRasterBand"
_OWN = ("Description", "CategoryNames", "GDALRasterAttributeTable")
"""Elements of the band that are ours."""

_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
"""Name, GDALRATFieldType and GDALRATFieldUsage (gdal.h) of each column of the table."""


def add_class_table(band: Element, classes: Sequence[ClassInfo]) -> None:
    """Add the classes alone as a GDAL raster attribute table.

    A TIFF's colour table has an entry for each value that a pixel may have, 256 for bytes, and so has a
    legend that is made of it. From version 3.30 on QGIS makes it of this table. A class that was merged into
    another has no row.
    """
    table = SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for number, (name, kind, usage) in enumerate(_COLUMNS):
        field = SubElement(table, "FieldDefn", index=str(number))
        for tag, value in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            SubElement(field, tag).text = value
    for index, (number, info) in enumerate((n, info) for n, info in enumerate(classes) if info.name):
        row = SubElement(table, "Row", index=str(index))
        colors = (int(info.color[at : at + 2], 16) for at in (1, 3, 5))
        for text in (str(number), info.name, *map(str, colors)):
            SubElement(row, "F").text = text


def names_in(data: bytes) -> tuple[str, ...] | None:
    """The names of the classes, none where it has none; None where it is no such file, or too large."""
    root = _parsed(data)
    return None if root is None else tuple(name.text or "" for name in root.iter("Category"))


def has_names(data: bytes, names: Sequence[str]) -> bool:
    """Whether such a file has these names, in their order. GDAL drops white space around some."""
    found = names_in(data)
    return found is not None and [name.strip() for name in found] == [name.strip() for name in names]


def content_at(place: Location) -> bytes | None:
    """Such a file of an output; None where there is none, or a larger one than GDAL writes.

    Raises:
        OSError: it cannot be read.
    """
    info = file_info(place)
    is_small = info is not None and info.size is not None and info.size <= MOST_BYTES
    return fetch.read_bytes(place) if is_small else None


def with_additions(own: bytes, there: bytes, *, same_pixels: bool) -> bytes:
    """What is published where others may have added something to what is there.

    Args:
        own: as GDAL made it for the new mask.
        there: content of the file that is replaced.
        same_pixels: the new mask holds the same pixels. Else only metadata are kept: statistics, histograms
            and a place would be of another mask.

    Returns:
        `own` where nothing is kept.
    """
    root = _parsed(there)
    if root is None:
        return own
    band = next((band for band in root.iter(_BAND) if band.get("band") == "1"), None)
    if band is None:
        band = SubElement(root, _BAND, band="1")
    for element in [child for child in band if child.tag in _OWN]:
        band.remove(element)
    if not same_pixels:
        for holder in (root, band):
            _keep_metadata_alone(holder)
    if len(root) == 1 and not len(band):
        return own
    made = _parsed(own)
    ours = [] if made is None else [child for band in made.iter(_BAND) for child in band if child.tag in _OWN]
    for number, element in enumerate(ours):
        band.insert(number, element)
    try:
        ElementTree.indent(root)
        return f"{ElementTree.tostring(root, encoding='unicode')}\n".encode()
    except RecursionError:  # nested as deep as nobody does
        return own


def _keep_metadata_alone(holder: Element) -> None:
    for element in [child for child in holder if child.tag != _BAND]:
        if element.tag != "Metadata" or element.get("domain", "") == "OVERVIEWS":
            holder.remove(element)
            continue
        for item in [item for item in element if item.get("key", "").startswith("STATISTICS_")]:
            element.remove(item)
        if not len(element):
            holder.remove(element)


def _parsed(data: bytes) -> Element | None:
    if len(data) > MOST_BYTES:
        return None
    try:
        # expat opens no external entity, and ends entities that multiply.
        root = ElementTree.fromstring(data)  # noqa: S314  as in `inputs.formats`
    except (ElementTree.ParseError, LookupError, ValueError):
        return None
    return root if root.tag == "PAMDataset" else None
