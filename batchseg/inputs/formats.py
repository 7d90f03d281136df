"""Which rasters are opened at all: the content decides, never the name.

GDAL knows 150 drivers, some of which read what a file merely points at: other files of the machine, or the
network. A source is opened by the one driver that its first bytes name, out of a short list, and nothing
that GDAL would read beside it may be of another kind.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from batchseg.errors import SourceError
from batchseg.system.redact import public

HEAD_BYTES = 512

MAX_BANDS = 4096
"""A file of 122 bytes may claim 65,535 bands, over which GDAL and rasterio go for minutes."""

SIGNATURES = (
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "GTiff"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JP2OpenJPEG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"EHFA_HEADER_TAG"), "HFA"),
)
"""How the formats begin that are opened, and GDAL's driver of each."""

VRT = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml.*?)?(?:<!--.*?-->\s*)*+<VRTDataset", re.DOTALL)
"""Comments are possessive: seventy of them could be told apart in 2^70 ways."""

NAMES_FILE = re.compile(r"Source(Filename|Dataset|File)$|^(KernelFile|OverviewFile|Filename)$", re.IGNORECASE)
"""Elements of a VRT."""

ADDRESS = re.compile(
    r"://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)\b|/vsi\w+_streaming/"
    r"|^\s*<|^(WMS|WMTS|WCS|TMS|PG|NGW|OGCAPI|EEDAI|STACIT|STACTA|PLMOSAIC|PLSCENES|DAAS):",
    re.IGNORECASE,
)
"""Of the network; XML in place of a name describes a service."""

CRS_ADDRESS = re.compile(r"(?:https?|ftp)://(?!(www\.)?opengis\.net/def/crs/)", re.IGNORECASE)
"""In place of a CRS; OGC's own addresses are names that GDAL knows without asking."""

GRID_ADDRESS = re.compile(r"(?:EXTENSION|PARAMETERFILE)\s*\[[^\]]*://", re.IGNORECASE)
"""In a CRS's WKT: where PROJ_NETWORK allows it, PROJ asks for the grids that one names."""

NUMBERS = re.compile(r"[\s\d.,:+eE-]*")

VRT_REFUSED = "is a VRT, which may name any file of this machine"
"""How the reason begins of sources that are refused for it."""

ARCHIVES = (
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive"),
    (re.compile(rb"7z\xbc\xaf"), "a 7-Zip archive"),
)

PICTURES_BESIDE = (".msk", ".ovr", ".ovr.msk", ".msk.ovr")
TEXTS_BESIDE = (".aux.xml", ".msk.aux.xml", ".ovr.aux.xml")
TEXT_BYTES = 16 * 2**20
"""Of one `.aux.xml`, which GDAL takes into memory as a tree."""

ELSEWHERE = frozenset(("OVERVIEW_FILE", "MASK_OVERVIEW_FILE", "MASK_FILE"))
"""Items of GDAL's metadata domain OVERVIEWS, each the name of a file, or of an address."""


def driver_of(head: bytes, *, allow_vrt: bool) -> str:
    """GDAL's driver for a file that begins with `head`, HEAD_BYTES of it or all.

    Raises:
        SourceError: it is of no kind that is opened.
    """
    if not head:
        msg = "the file is empty"
        raise SourceError(msg)
    for pattern, driver in SIGNATURES:
        if pattern.match(head):
            return driver
    if VRT.match(head):
        if allow_vrt:
            return "VRT"
        msg = f"{VRT_REFUSED}; set allow_vrt: true if these inputs are your own"
        raise SourceError(msg)
    archive = next((words for pattern, words in ARCHIVES if pattern.match(head)), None)
    if archive:
        msg = f"no raster: it is {archive}; unpack it"
        raise SourceError(msg)
    msg = (
        "no raster, or its header is damaged (expected the beginning of a TIFF, JPEG, PNG, JPEG 2000, WebP, "
        "BMP, GIF or ERDAS Imagine file)"
    )
    raise SourceError(msg)


def local_head(path: Path, count: int = HEAD_BYTES) -> bytes:
    """The first bytes of a regular file.

    Raises:
        FileNotFoundError: there is none; a FIFO or a device is no file, and could block for ever.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            msg = f"{path} is no regular file"
            raise FileNotFoundError(msg)
        return os.read(descriptor, count)
    finally:
        os.close(descriptor)


def check_beside(path: Path, files: Sequence[str] = ()) -> None:
    """Look at what GDAL reads with a local raster.

    Args:
        path: of the raster.
        files: names of what was found beside it; GDAL minds no case of letters.

    Raises:
        SourceError: a mask or overview is no TIFF, or metadata are too large or name files.
    """
    for suffix in PICTURES_BESIDE:
        for name in _named(path, files, suffix):
            head = _head_of(path.with_name(name))
            if head and not SIGNATURES[0][0].match(head):  # TIFF's
                msg = f"{_shown(name, path)} beside it is no TIFF; remove it, or make it again"
                raise SourceError(msg)
    for suffix in TEXTS_BESIDE:
        for name in _named(path, files, suffix):
            _check_text(path.with_name(name), _shown(name, path))


def _named(path: Path, files: Sequence[str], suffix: str) -> set[str]:
    return {f"{path.name}{suffix}", f"{path.stem}{suffix}", *(f for f in files if f.lower().endswith(suffix))}


def check_vrt(path: Path) -> None:
    """Look at what a VRT, and VRTs that it reads, name: GDAL would fetch it from the network.

    Raises:
        SourceError: one names an address.
    """
    pending, known = [path], {path}
    while pending:
        vrt = pending.pop()
        trees = _tree(vrt.read_bytes())
        sources, words = _sources(trees), _words(trees)
        names = {name for name, _ in sources}
        if address := next(filter(is_address, sorted(names | words)), None):
            msg = f"it names {public(address)[:80]!r}, and nothing is fetched from the network for a VRT"
            raise SourceError(msg)
        for name, relative in (*sources, *((word, way) for word in words - names for way in (True, False))):
            member = vrt.parent / name if relative else Path(name)
            if member not in known and VRT.match(_head_of(member)):
                known.add(member)
                pending.append(member)


def _words(trees: Sequence[ElementTree.Element]) -> set[str]:
    """Whatever in a VRT may be a name, wherever it stands: warpers and steps open files as sources do.

    Of a CRS only an address is one, its text may cite some; and numbers are none.
    """
    found: set[str] = set()
    crss: set[str] = set()
    pending = [*trees]
    while pending:
        element = pending.pop()
        tag = str(element.tag)
        if tag in ("VRTDataset", "VRTRasterBand"):
            pending += [child for child in element if not _is_description(child)]
        else:
            pending += element
        words = crss if tag.endswith("SRS") or tag == "GCPList" else found
        words.add(element.text or "")
        words.update(element.attrib.values())
    named = {word.strip() for word in found} | {
        word for crs in crss if CRS_ADDRESS.match(word := crs.strip())
    }
    return {word for word in named if not NUMBERS.fullmatch(word)}


def _is_description(element: ElementTree.Element) -> bool:
    """What GDAL shows and never opens, such as the software that wrote a file and its address."""
    if element.tag == "Metadata":
        return element.get("domain", "").upper() not in ("OVERVIEWS", "GEOLOCATION")
    return element.tag in ("Description", "UnitType", "CategoryNames")


def _tree(text: bytes) -> list[ElementTree.Element]:
    """Its root; nothing where it is no XML: the reader will say what is wrong with it."""
    try:
        # expat opens no external entity, and ends entities that multiply.
        return [ElementTree.fromstring(text)]  # noqa: S314  held to it by tests
    except (ElementTree.ParseError, LookupError, ValueError):
        return []


def names_in_vrt(text: bytes) -> list[tuple[str, bool]]:
    """Each file that a VRT names, and whether relative to its own folder; none where it is no XML."""
    return _sources(_tree(text))


def _sources(trees: Sequence[ElementTree.Element]) -> list[tuple[str, bool]]:
    elements = [
        e
        for tree in trees
        for e in tree.iter()
        if e.text
        and (NAMES_FILE.search(str(e.tag)) or (e.tag == "MDI" and e.get("key", "").upper() in ELSEWHERE))
    ]
    return [(str(e.text).strip(), e.get("relativeToVRT", "0") == "1") for e in elements]


def is_address(name: str) -> bool:
    """Whether GDAL would ask the network for a name, or for what stands in its place."""
    return bool(ADDRESS.search(name))


def check_elsewhere(tags: Mapping[str, str]) -> None:
    """Raises SourceError where a raster's items of the domain OVERVIEWS name a file."""
    item = next((name for name in tags if name.upper() in ELSEWHERE), None)
    if item:
        msg = f"its metadata name another file ({item}), which is not opened; remove that item"
        raise SourceError(msg)


def check_crs(wkt: str) -> None:
    """Raises SourceError where a CRS, as WKT, names an address of a grid."""
    if GRID_ADDRESS.search(wkt):
        msg = "its CRS names the address of a grid, and nothing is fetched from the network for it"
        raise SourceError(msg)


def check_bands(count: int) -> None:
    """Raises SourceError where a raster has more bands than any sensor gives."""
    if count > MAX_BANDS:
        msg = f"claims {count:,} bands, at most {MAX_BANDS:,} are taken"
        raise SourceError(msg)


def _shown(name: str, path: Path) -> str:
    """A sidecar's name in words that are the same for all rasters."""
    return name.removeprefix(path.name).removeprefix(path.stem)


def _head_of(path: Path) -> bytes:
    try:
        return local_head(path)
    except OSError:
        return b""


def _check_text(path: Path, shown: str) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        return
    if size > TEXT_BYTES:
        msg = f"{shown} beside it has {size:,} bytes, at most {TEXT_BYTES:,} are read; remove it"
        raise SourceError(msg)
    if not _head_of(path):
        return
    if any(name.encode() in path.read_bytes().upper() for name in ELSEWHERE):
        msg = f"{shown} beside it names another file, which is not opened; remove it"
        raise SourceError(msg)
