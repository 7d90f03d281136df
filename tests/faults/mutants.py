"""Variants of sound images as chance, a cut cable or malice makes them: by family, seeded."""

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.io import MemoryFile

HEIGHT, WIDTH = 90, 150
LARGEST = 400_000
"""Bytes of a real file that is taken for an original: thousands of variants are written."""


REAL_PER_FOLDER = 4


@dataclass(frozen=True, slots=True)
class Original:
    """A sound file, and what kind of file it is."""

    name: str
    """With a suffix; variants have their own name before it."""
    data: bytes


def originals(folder: Path | None = None) -> list[Original]:
    """Files of all formats that are read, made here; and small real ones of `folder`."""
    made = [*_tiffs(), *_pictures()]
    taken: Counter[Path] = Counter()
    for path in sorted(folder.rglob("*")) if folder else []:
        wanted = path.suffix.lower() in (".tif", ".jpg", ".png", ".jp2", ".webp", ".bmp")
        if not wanted or "bad" in path.parts or taken[path.parent] == REAL_PER_FOLDER:
            continue
        if path.is_file() and path.stat().st_size <= LARGEST:
            made.append(Original(path.name, path.read_bytes()))
            taken[path.parent] += 1
    return made


def _pixels(count: int, dtype: str = "uint8") -> np.ndarray:
    rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(rows / (7 + band)) * np.cos(cols / (11 - band)) for band in range(count)]
    noise = np.random.default_rng(count).normal(0, 0.05, (count, HEIGHT, WIDTH))
    most = 250 if dtype == "uint8" else 9000
    return np.clip((np.array(waves) + noise + 1.2) * most / 2.4, 1, most).astype(dtype)


def _by_gdal(pixels: np.ndarray, **profile: Any) -> bytes:
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": str(pixels.dtype)}
    with MemoryFile() as memory:
        with rasterio.Env(), memory.open(**shape, **profile) as dataset:
            dataset.write(pixels)
            if profile["driver"] == "GTiff":
                dataset.update_tags(AREA_OR_POINT="Area", owner="nobody")
        return bytes(memory.read())


def _tiffs() -> Iterator[Original]:
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 6e5, 0, -10, 5e6), "nodata": 0}
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    for layout, keys in (("tiled", tiled), ("striped", {"blockysize": 16})):
        for compress in ("none", "deflate", "lzw", "jpeg", "zstd"):
            for kind, big in (("", "NO"), ("-big", "YES")):
                dtype = "uint8" if compress in ("jpeg", "none") else "uint16"
                profile: dict[str, Any] = {"driver": "GTiff", "compress": compress, "BIGTIFF": big, **keys}
                name = f"{layout}-{compress}{kind}.tif"
                yield Original(name, _by_gdal(_pixels(3, dtype), **profile, **place))
    yield Original("planar.tif", _by_gdal(_pixels(4), driver="GTiff", interleave="band", **tiled))


def _pictures() -> Iterator[Original]:
    colour = Image.fromarray(np.moveaxis(_pixels(3), 0, 2))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a line's camera"
    ways: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("baseline.jpg", colour, {"quality": 85, "exif": exif}),
        ("progressive.jpg", colour, {"quality": 85, "progressive": True, "exif": exif}),
        ("grey.jpg", colour.convert("L"), {}),
        ("rgb.png", colour, {}),
        ("palette.png", colour.convert("P"), {}),
        ("alpha.png", colour.convert("RGBA"), {}),
        ("rgb.bmp", colour, {}),
        ("palette.bmp", colour.convert("P"), {}),
        ("lossy.webp", colour, {"quality": 80}),
        ("lossless.webp", colour, {"lossless": True}),
        ("palette.gif", colour.convert("P"), {}),
    ]
    for name, image, options in ways:
        stream = io.BytesIO()
        image.save(stream, {"jpg": "JPEG"}.get(name[-3:], name.rsplit(".", 1)[1].upper()), **options)
        yield Original(name, stream.getvalue())
    yield Original("deep.png", _by_gdal(_pixels(3, "uint16"), driver="PNG"))
    yield Original("interlaced.png", _interlaced())
    yield Original("rgb.jp2", _by_gdal(_pixels(3), driver="JP2OpenJPEG"))


def _chunk(kind: bytes, body: bytes, *, right: bool = True) -> bytes:
    check = zlib.crc32(kind + body) if right else 12345
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(height: int, width: int, lines: bytes, *, depth: int = 8, kind: int = 0, interlace: int = 0) -> bytes:
    """A PNG whose header says what it likes; `lines` are deflated as they are."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _interlaced() -> bytes:
    """Adam7 (PNG specification, 8.2)."""
    pixels = np.moveaxis(_pixels(3), 0, 2)
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    lines = [b"\0" + row.tobytes() for r, c, dr, dc in passes for row in pixels[r::dr, c::dc]]
    return png(HEIGHT, WIDTH, b"".join(lines), kind=2, interlace=1)


# Families of variants: what is done to a file.


def truncated(data: bytes, chance: random.Random) -> bytes:
    near_the_end = chance.random() < 0.3
    return data[: len(data) - chance.randint(1, 40)] if near_the_end else data[: chance.randrange(len(data))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 5, 20, 200))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def shuffled(data: bytes, chance: random.Random) -> bytes:
    """A stretch of it lies elsewhere, as after a bad copy."""
    start = chance.randrange(len(data))
    part = data[start : start + chance.randint(1, 4096)]
    at = chance.randrange(len(data))
    return data[:at] + part + data[at + chance.choice((0, len(part))) :]


def header_changed(data: bytes, chance: random.Random) -> bytes:
    """One or two fields of the header, by the format."""
    for _ in range(chance.choice((1, 1, 2))):
        if data[:2] in (b"II", b"MM"):
            data = _tiff_field(data, chance)
        elif data.startswith(b"\x89PNG"):
            data = _png_header(data, chance)
        elif data.startswith(b"\xff\xd8"):
            data = _jpeg_segment(data, chance)
        else:
            changed = bytearray(data)
            changed[chance.randrange(min(64, len(changed)))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            data = bytes(changed)
    return data


_ODD = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def entries(data: bytes) -> tuple[list[int], str, bool]:
    """Where a TIFF's first directory's entries lie; its byte order; whether it is a BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    first, size = at + (8 if big else 2), 20 if big else 12
    return [first + size * n for n in range(min(count, 100))], order, big


def _tiff_field(data: bytes, chance: random.Random) -> bytes:
    """Tag, type, count or value of one entry, or what the header says of the directory."""
    changed = bytearray(data)
    try:
        places, order, big = entries(data)
        at = chance.choice(places)
        field = chance.choice(("tag", "type", "count", "value", "value", "next"))
        odd = chance.choice((*_ODD, chance.randrange(2**32), chance.randrange(len(data))))
        if field in ("tag", "type"):
            some = chance.choice(
                (odd & 0xFFFF, 254, 256, 257, 258, 259, 262, 273, 277, 279, 322, 324, 330, 339)
            )
            struct.pack_into(
                order + "H", changed, at + 2 * (field == "type"), some if field == "tag" else odd % 20
            )
        elif field == "next":
            struct.pack_into(order + "I", changed, places[-1] + (20 if big else 12), odd)
        else:
            offset = 4 if field == "count" else (12 if big else 8)
            struct.pack_into(order + "I", changed, at + offset, odd)
    except (struct.error, IndexError):
        return flipped(data, chance)  # an earlier change left no directory
    return bytes(changed)


def _png_header(data: bytes, chance: random.Random) -> bytes:
    """IHDR, with a checksum that is right two times of three."""
    values = list(struct.unpack_from(">IIBBBBB", data, 16))
    number = chance.randrange(7)
    values[number] = chance.choice(_ODD) if number < 2 else chance.randrange(256)
    header = struct.pack(">IIBBBBB", *values)
    return data[:8] + _chunk(b"IHDR", header, right=chance.random() < 0.67) + data[33:]


def _jpeg_segment(data: bytes, chance: random.Random) -> bytes:
    """A byte of a frame's, a table's or a scan's header, or its length."""
    starts, at = [], 2
    while at + 4 < len(data) and data[at] == 0xFF:
        starts.append(at)
        if data[at + 1] == 0xDA:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if not starts:
        return flipped(data, chance)
    start = chance.choice(starts)
    changed = bytearray(data)
    place = start + chance.choice((1, 2, 3, *range(4, 24)))
    changed[min(place, len(changed) - 1)] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
    return bytes(changed)


FAMILIES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off at a random place": truncated,
    "random bits flipped": flipped,
    "stretches moved": shuffled,
    "fields of the header changed": header_changed,
}


def variants(kinds: list[Original], family: str, count: int, chance: random.Random) -> Iterator[Original]:
    """`count` variants of the originals in turn; names tell which, and sort at random."""
    change = FAMILIES[family]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        yield Original(f"{chance.randrange(16**6):06x}-{number:04}-{kind.name}", change(kind.data, chance))


# Files made to hurt.


def tiff(tags: dict[int, tuple[int, int, bytes | int]], *, tail: bytes = b"", following: int = 0) -> bytes:
    """A little-endian classic TIFF of one directory: tag to (type, count, value, or bytes that lie apart)."""
    place = 8 + 2 + 12 * len(tags) + 4
    directory, apart = struct.pack("<H", len(tags)), b""
    for tag in sorted(tags):
        kind, count, value = tags[tag]
        if isinstance(value, bytes):
            directory += struct.pack("<HHII", tag, kind, count, place + len(apart))
            apart += value
        else:
            directory += struct.pack("<HHII", tag, kind, count, value)
    directory += struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8) + directory + apart + tail


SHORT, LONG, ASCII, DOUBLE = 3, 4, 2, 12


def plain_tags(height: int = 8, width: int = 8, **more: Any) -> dict[int, tuple[int, int, bytes | int]]:
    """One band of uint8 in one strip that begins at byte 0: any bytes are pixels."""
    tags: dict[int, tuple[int, int, bytes | int]] = {
        256: (LONG, 1, width),
        257: (LONG, 1, height),
        258: (SHORT, 1, 8),
        259: (SHORT, 1, 1),
        262: (SHORT, 1, 1),
        273: (LONG, 1, 0),
        277: (SHORT, 1, 1),
        278: (LONG, 1, height),
        279: (LONG, 1, min(height * width, 2**31)),
    }
    return tags | more.get("tags", {})


def text(value: str) -> tuple[int, int, bytes]:
    data = value.encode() + b"\0" * (4 if len(value) < 4 else 1)
    return ASCII, len(data), data


def _chain(count: int, *, loop: bool) -> bytes:
    """Directories one after the other; the last one points at the first, or at none."""
    tags = plain_tags()
    size = 2 + 12 * len(tags) + 4
    parts = []
    for number in range(count):
        following = 8 + size * (number + 1) if number < count - 1 else (8 if loop else 0)
        parts.append(tiff(tags, following=following)[8 : 8 + size])
    return b"II*\0" + struct.pack("<I", 8) + b"".join(parts) + bytes(64)


BILLION = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + ' <!ENTITY file SYSTEM "file:///etc/passwd">]>'
)


def bombs(side: int = 50_000) -> Iterator[Original]:
    """Small files that claim, unpack to, or lead to very much.

    Args:
        side: in pixels, of those that are sound: a run has to do them.
    """
    most = 2**31 - 1
    yield Original("absurd-size.tif", tiff(plain_tags(most, most)))
    yield Original("absurd-size-strips.tif", tiff(plain_tags(most, most, tags={278: (LONG, 1, 1)})))
    yield Original("absurd-width.tif", tiff(plain_tags(3, most)))
    yield Original("absurd-bands.tif", tiff(plain_tags(tags={277: (SHORT, 1, 65535)})))
    yield Original(
        "absurd-bands-planar.tif", tiff(plain_tags(tags={277: (SHORT, 1, 65535), 284: (SHORT, 1, 2)}))
    )
    tiles = {322: (LONG, 1, 2**30), 323: (LONG, 1, 2**30), 324: (LONG, 1, 0), 325: (LONG, 1, 64)}
    yield Original("absurd-block.tif", tiff(plain_tags(tags=tiles)))
    small = {322: (LONG, 1, 16), 323: (LONG, 1, 16), 324: (LONG, 1, 0), 325: (LONG, 1, 64)}
    yield Original("many-blocks.tif", tiff(plain_tags(1_000_000, 1_000_000, tags=small)))
    yield Original("block-count.tif", tiff(plain_tags(tags={273: (LONG, 2**30, 0), 279: (LONG, 2**30, 0)})))
    yield Original("many-pages.tif", _chain(20_000, loop=False))
    yield Original("page-loop.tif", _chain(3, loop=True))
    yield Original("own-subpage.tif", tiff(plain_tags(tags={330: (LONG, 1, 8)})))
    yield Original("overview-of-itself.tif", tiff(plain_tags(tags={254: (LONG, 1, 1)}), following=8))
    yield Original("sparse.tif", _by_gdal_sparse(side))
    yield Original("deflate-bomb.tif", _zeros_tiff(side))
    yield Original("deflate-bomb.png", _zeros_png(side))
    yield Original("absurd-size.png", png(most, most, bytes(100)))
    yield Original("absurd-size-rgba16.png", png(60_000, 60_000, bytes(100), depth=16, kind=6))
    yield Original("absurd-size.jpg", _resized_jpeg(65_500))
    yield Original(
        "absurd-size.bmp",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, 40_000, 40_000, 1, 24, *[0] * 6) + bytes(100),
    )
    yield Original(
        "absurd-size.gif",
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0)
        + bytes(6)
        + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x01\x4c\0;",
    )


def _by_gdal_sparse(side: int) -> bytes:
    """Blocks that were never written: small on the disk, gigapixels to read."""
    return _empty_gdal(side, SPARSE_OK=True, BIGTIFF="YES", blockxsize=4096, blockysize=4096, tiled=True)


def _empty_gdal(side: int, **keys: Any) -> bytes:
    with MemoryFile() as memory:
        with (
            rasterio.Env(),
            memory.open(driver="GTiff", width=side, height=side, count=1, dtype="uint8", **keys),
        ):
            pass
        return bytes(memory.read())


def _packed_zeros(count: int, piece: int) -> bytes:
    """zlib's stream of `count` zeros, in pieces: after a full flush equal pieces are equal bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = count % 65521 << 16 | 1  # Adler-32 of zeros (RFC 1950, 8.2)
    return b"\x78\xda" + first * (count // piece) + b"\x03\x00" + struct.pack(">I", checksum)


def _zeros_tiff(side: int) -> bytes:
    """One strip of 2.5 GB of zeros in 2.5 MB."""
    body = _packed_zeros(side * side, side * 500)
    tags = plain_tags(side, side, tags={259: (SHORT, 1, 8), 279: (LONG, 1, len(body))})
    place = len(tiff(tags))
    return tiff(tags | {273: (LONG, 1, place)}, tail=body)


def _zeros_png(side: int) -> bytes:
    body = _packed_zeros((side + 1) * side, (side + 1) * 500)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _resized_jpeg(side: int) -> bytes:
    data = next(each.data for each in _pictures() if each.name == "baseline.jpg")
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]


def odd_texts() -> Iterator[Original]:
    """TIFFs whose text tags hold what somebody might parse: nodata, metadata, citations, control points."""
    pixels = bytes(64)
    for name, tag, value in (
        ("nodata-words", 42113, "ten thousand"),
        ("nodata-huge", 42113, "1e400"),
        ("nodata-long", 42113, "9" * 100_000),
        (
            "metadata-entities",
            42112,
            BILLION + '<GDALMetadata><Item name="x">&j;&file;</Item></GDALMetadata>',
        ),
        ("metadata-deep", 42112, "<GDALMetadata>" + "<Item>" * 50_000),
        (
            "metadata-scale",
            42112,
            '<GDALMetadata><Item name="SCALE" sample="0" role="scale">nan</Item></GDALMetadata>',
        ),
        (
            "metadata-long",
            42112,
            '<GDALMetadata><Item name="x">' + "y" * 2_000_000 + "</Item></GDALMetadata>",
        ),
        ("geo-citation", 34737, "%n%s|" * 20_000),
        ("xmp", 700, BILLION + "<x>&j;</x>"),
    ):
        tags = plain_tags(tags={tag: text(value)})
        place = len(tiff(tags))
        yield Original(f"{name}.tif", tiff(tags | {273: (LONG, 1, place)}, tail=pixels))
    points = struct.pack("<6d", *[float("nan"), float("inf"), -1e308, 1e308, 0, 0]) * 5_000
    yield Original(
        "control-points.tif", tiff(plain_tags(tags={33922: (DOUBLE, 30_000, points)}), tail=pixels)
    )
    scale = struct.pack("<3d", 0, float("nan"), 1e308)
    yield Original("pixel-scale.tif", tiff(plain_tags(tags={33550: (DOUBLE, 3, scale)}), tail=pixels))
    keys = struct.pack("<8H", 1, 1, 0, 1, 3072, 0, 1, 65535)
    yield Original("unknown-crs.tif", tiff(plain_tags(tags={34735: (SHORT, 8, keys)}), tail=pixels))
