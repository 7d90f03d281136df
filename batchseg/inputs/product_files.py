"""Files of products of Landsat and Sentinel-2, by their names: which product each is of, and as what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchseg.inputs import mtl
from batchseg.inputs.metadata import product_depth
from batchseg.job.products import (
    FLAGS,
    LANDSAT_ID,
    LEVEL_1C_FLAGS,
    LEVEL_1C_VECTORS,
    PRODUCT_IDS,
    SENTINEL2_BANDS,
    SENTINEL2_ID,
    Flags,
    Preset,
    landsat_assets,
)
from batchseg.system.file_info import FileInfo

_LANDSAT_FILE = re.compile(rf"(?P<id>{LANDSAT_ID.pattern})_(?P<part>\w+)\.(?P<ending>\w+)", re.IGNORECASE)
_LANDSAT_RASTERS = frozenset(("tif", "tiff"))
_LANDSAT_PART = re.compile(r"(?:S[RT]_)?B\d{1,2}(?:_VCID_[12])?|QA_PIXEL|MTL", re.IGNORECASE)

_SENTINEL2_FILE = re.compile(
    r"_(?P<part>B\d\d|B8A|SCL)(?:_(?P<metres>[126]0)m)?\.(?:jp2|tiff?)", re.IGNORECASE
)
_SENTINEL2_QUALITY = re.compile(
    rf"(?P<part>{LEVEL_1C_FLAGS.file})\.jp2|(?P<vectors>{LEVEL_1C_VECTORS})\.gml", re.IGNORECASE
)
_SENTINEL2_METADATA = re.compile(r"MTD_MSIL(?P<level>1C|2A)\.xml", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Product:
    """The files of one product that matter, as they are found."""

    id: str
    where: str
    """Its folder or its archive, for messages."""
    parts: dict[str, list[tuple[int, FileInfo]]] = field(default_factory=dict)
    """Rasters by what their names say (`SR_B4`, `B04`, `SCL`), each with its pixel in metres, or 0."""
    metadata: dict[str, FileInfo] = field(default_factory=dict)
    """By kind: an ending of Landsat's, or a level of Sentinel-2."""
    archive: FileInfo | None = None
    """That cannot be read."""
    problem: str = ""

    def best(self, part: str) -> list[FileInfo]:
        """Of a raster the one at its finest resolution; several where it is not clear which."""
        found = self.parts.get(part.upper(), [])
        finest = min((metres for metres, _ in found), default=0)
        return [info for metres, info in found if metres == finest]


class Products:
    """Products of one kind, put together from files in any order."""

    def __init__(self, preset: Preset) -> None:
        self._preset = preset
        self._by_place: dict[tuple[str, str], Product] = {}

    def add(self, info: FileInfo, *, archive: str = "") -> bool:
        """Take a file.

        Args:
            info: the file.
            archive: that it is a member of, whose own folders may say no product's name.

        Returns:
            Whether it is of a product, by its name and where it lies.
        """
        add = self._add_landsat if self._preset == "landsat" else self._add_sentinel2
        return add(info, archive)

    def refuse(self, archive: FileInfo, problem: str) -> None:
        """Take an archive that cannot be read. `problem`: why, in words."""
        name = product_of_archive(self._preset, archive.uri)
        self._by_place[archive.uri, name] = Product(
            id=name, where=archive.uri, archive=archive, problem=problem
        )

    def __len__(self) -> int:
        return len(self._by_place)

    def folders(self) -> set[str]:
        """In which all files are an agency's own. Landsat's say in their names what they are."""
        return {place for place, _ in self._by_place} if self._preset == "sentinel2" else set()

    def found(self) -> list[Product]:
        """Sorted by id, and then by place."""
        return sorted(self._by_place.values(), key=lambda product: (product.id, product.where))

    def _product(self, name: str, place: str, where: str) -> Product:
        return self._by_place.setdefault((place, name), Product(id=name, where=where))

    def _add_landsat(self, info: FileInfo, archive: str) -> bool:
        folder, _, name = info.uri.rpartition("/")
        match = _LANDSAT_FILE.fullmatch(name)
        if match is None or not _LANDSAT_PART.fullmatch(match["part"]):
            return match is not None
        part, ending = match["part"].upper(), match["ending"].lower()
        product = self._product(match["id"].upper(), folder, archive or folder)
        if part == "MTL":
            if ending in mtl.ENDINGS:
                product.metadata[ending] = info
        elif ending in _LANDSAT_RASTERS:
            product.parts.setdefault(part, []).append((0, info))
        return True

    def _add_sentinel2(self, info: FileInfo, archive: str) -> bool:
        folder, _, name = info.uri.rpartition("/")
        folders = folder.split("/")
        if match := _SENTINEL2_METADATA.fullmatch(name):
            self._sentinel2(folders, archive).metadata.setdefault(match["level"].upper(), info)
            return True
        depth = _depth(folders)
        inside = [part.upper() for part in folders[depth:]][2:3]
        if not depth or inside not in (["IMG_DATA"], ["QI_DATA"]):
            return False
        if inside == ["QI_DATA"]:  # where other masks are called like bands
            flags = _SENTINEL2_QUALITY.fullmatch(name)
            part, metres = (flags["part"] or flags["vectors"], 0) if flags else ("", 0)
        else:
            found = _SENTINEL2_FILE.search(name)
            whole = found is not None and found.end() == len(name)
            part, metres = (found["part"], int(found["metres"] or 0)) if found and whole else ("", 0)
        if part:
            product = self._sentinel2(folders[:depth], archive)
            product.parts.setdefault(part.upper(), []).append((metres, info))
        return bool(part)

    def _sentinel2(self, folders: Sequence[str], archive: str) -> Product:
        name = _without_safe(folders[-1])
        if archive and (name.endswith("!") or not SENTINEL2_ID.search(name)):
            name = product_of_archive("sentinel2", archive)
        root = "/".join(folders)
        return self._product(name, root, archive or root)


def _depth(folders: Sequence[str]) -> int:
    """How many folders lead to a product's; 0 where the raster lies in none, or not where they do."""
    depth = product_depth(folders)
    return depth if [part.upper() for part in folders[depth : depth + 1]] == ["GRANULE"] else 0


def _without_safe(name: str) -> str:
    return re.sub(r"\.SAFE$", "", name, flags=re.IGNORECASE) or name


def wanted_file(preset: Preset) -> re.Pattern[str]:
    """What the names of files match that `Products.add` looks at."""
    if preset == "landsat":
        return _LANDSAT_FILE
    patterns = (_SENTINEL2_METADATA.pattern, _SENTINEL2_QUALITY.pattern, f".*{_SENTINEL2_FILE.pattern}")
    return re.compile("|".join(patterns).replace("?P<part>", "?:"), re.IGNORECASE)


ARCHIVE = re.compile(r"\.(?P<kind>zip|tar|tar\.gz|tgz)$", re.IGNORECASE)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name.

    >>> [is_archive(name) for name in ("download.zip", "X.TAR", "x.tar.gz", "x.zip.part")]
    [True, True, True, False]
    """
    return bool(ARCHIVE.search(name))


def names_product(preset: Preset, name: str) -> bool:
    """Whether a file's name holds a product's id.

    >>> names_product("landsat", "LC08_L2SP_038031_20180901_20200820_02_T1 (1).tar")
    True
    """
    return bool(PRODUCT_IDS[preset].search(name))


def product_of_archive(preset: Preset, archive: str) -> str:
    """A product's id by its archive's name.

    >>> product_of_archive("sentinel2", "/a/S2B_MSIL2A_20220413T150759_N0400.SAFE.zip")
    'S2B_MSIL2A_20220413T150759_N0400'
    """
    name = archive.rpartition("/")[2]
    found = LANDSAT_ID.search(name)
    return found[0].upper() if preset == "landsat" and found else _without_safe(ARCHIVE.sub("", name))


def part_of(product: Product, asset: str, preset: Preset) -> str:
    """What the name of a product's file says of an asset; empty where its satellite or level has none."""
    if preset == "landsat":
        return landsat_assets(product.id).get(asset, "")
    if asset == "cirrus" and level_of(product) == "2A":
        return ""
    return SENTINEL2_BANDS[asset]


def level_of(product: Product) -> str:
    """Of a product of Sentinel-2: `1C`, `2A`, or empty."""
    named = re.search(r"_MSIL(1C|2A)_", product.id.upper())
    return next(iter(product.metadata), named[1] if named else "")


def flags_of(product: Product, preset: Preset) -> Flags:
    """What marks a product's clouds, and in which file."""
    return LEVEL_1C_FLAGS if preset == "sentinel2" and level_of(product) == "1C" else FLAGS[preset]
