"""Bytes of a photograph to upright pixels. Whatever a decoder says of a file becomes a SourceError here.

JPEG goes the quickest way (`jpeg`), TIFF and JPEG 2000 through GDAL (`tiff`, `jp2`), PGM and PPM as they
are (`netpbm`), the rest through Pillow (`pillow`). The content decides, never the name.
"""

import re

from batchseg.errors import SourceError
from batchseg.pixels.photo import jp2, jpeg, netpbm, pillow, tiff
from batchseg.pixels.photo.limits import Limits, NoRoomError
from batchseg.pixels.photo.picture import Picture

USUAL = Limits()

FORMATS = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"P[56][\s#]"), "Netpbm"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
)
"""How the taken formats begin; HEIC and AVIF are told by their brands."""

BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC",
}
"""ISO/IEC 23008-12 and AVIF 1.1, the more telling first."""

STRANGERS = (
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "a JPEG XL picture"),
    (re.compile(rb"P[12347f][\s#]"), "a Netpbm file other than a binary PGM or PPM"),
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"%PDF"), "a PDF"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
)
"""What people take for photographs too."""

ENDED = re.compile(
    r"truncated|requires a buffer of|no more images|got \d+ bytes|Failed to read directory", re.IGNORECASE
)
"""How Pillow and GDAL say that there should have been more."""

TAKEN = "JPEG, PNG, BMP, TIFF, WebP or GIF"
"""Of the formats that are taken those that everything writes."""


def decode(data: bytes, name: str, *, limits: Limits = USUAL) -> Picture:
    """Decode a photograph, whole and upright.

    Grey, RGB, palette and CMYK of JPEG, PNG, BMP, TIFF, WebP, GIF, PGM, PPM, JPEG 2000, AVIF and HEIC; 16
    bits are kept, but those of AVIF and HEIC become 8. Of an MPO it is the first picture. Transparent pixels
    (alpha 0) are invalid, other values of alpha are not looked at. Colour profiles and gamma are not
    applied: networks are trained on the numbers in the files.

    Args:
        data: the file's content.
        name: of the file, noted on errors; messages do without it, so that equal faults read equal.
        limits: what it may take, by what its header says, before memory is taken.

    Raises:
        SourceError: it is empty, of a format that is not taken, too large, cut off, damaged, of several
            frames or pages, or of a kind that is not expanded; in words for the owner of the file.
        NoRoomError: the limits have no room for it now.
        MemoryError: the process may take no more.
    """
    try:
        return _decoded(data, limits)
    except (NoRoomError, MemoryError):  # a machine without memory says nothing of the file
        raise
    except SourceError as e:
        e.add_note(name)
        raise
    except Exception as e:  # decoders raise what they like, and the content is to blame
        error = SourceError(_fault(e))
        error.add_note(name)
        raise error from e


def _decoded(data: bytes, limits: Limits) -> Picture:
    form = _format(data)
    if form in _READERS:
        return _READERS[form](data, limits)
    if form == "JPEG":
        try:
            return jpeg.read(data, limits)
        except jpeg.UnusualError:
            pass  # Pillow knows more kinds, and says better what is wrong
    return pillow.read(data, form, limits)


_READERS = {"TIFF": tiff.read, "Netpbm": netpbm.read, "JPEG 2000": jp2.read}


def _format(data: bytes) -> str:
    for pattern, form in FORMATS:
        if pattern.match(data):
            return form
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        named = {brands[at : at + 4] for at in (0, *range(8, len(brands), 4))}
        known = next((form for brand, form in BRANDS.items() if brand in named), None)
        if known:
            return known
    if not data:
        msg = "the file is empty"
        raise SourceError(msg)
    for pattern, words in STRANGERS:
        if pattern.match(data):
            msg = f"is {words}; save it as {TAKEN}"
            raise SourceError(msg)
    msg = f"no image: it begins with {_beginning(data)}"
    raise SourceError(msg)


def _beginning(data: bytes) -> str:
    head = data[:48]
    if not head.strip(b"\0"):
        return "zero bytes"
    text = " ".join(head.decode(errors="ignore").split())
    if text.isprintable() and len(text.encode()) > len(head) * 3 // 4:
        # A server's error page helps; a link among the inputs may lead to a file that is nobody's business.
        return f"text, {text[:32]!r}" if text[0] in "<{[" else "text"
    return f"the bytes {head[:8].hex(' ')}"


def _fault(error: Exception) -> str:
    """A library's error in words: the innermost message, without the names that it was given here."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = getattr(root, "errmsg", None) or str(root) or type(root).__name__
    text = " ".join(text.split())
    detail = re.sub(
        r"'?(/vsimem/[^:,]*?)?(image\.(?:tif|jp2)|<[^>]* object at [^>]*>)'?(: ?)?", "", text
    ).strip(" .")
    if ENDED.search(text):
        return f"cut off: the file ends before its picture does ({detail})"
    return f"damaged or cut off ({detail})"
