"""TIFFs of one directory that say of themselves that they are stacks of several pictures.

Programs of microscopy leave out all directories but the first, and say in its description how many pictures
follow. GDAL gives the first.
"""

import math
import re
from collections.abc import Mapping

from batchseg.system.json_text import parse_json

DESCRIPTION_BYTES = 2**20
"""Of one, that are looked at: OME's may be larger, and begins with what is asked."""

_PAIR = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^>]*)>")
_ATTRIBUTE = re.compile(r"""\b(Size[XYZCT])\s*=\s*["'](\d{1,9})["']""")
_FILE_NAME = re.compile(r"""\bFileName\s*=\s*["']([^"']*)["']""")
_SHAPE = re.compile(r'\A\s*\{\s*"shape"\s*:\s*\[([\d,\s]*)\]')


def stack_of(description: str, shape: tuple[int, int, int], *, nbytes: int | None, itemsize: int) -> str:
    """What kind of stack a file is, in words.

    Args:
        description: of the first directory.
        shape: (bands, height, width) of it, as GDAL gives it.
        nbytes: of the file; None: not known.
        itemsize: bytes of a sample.

    Returns:
        Such as `an ImageJ stack of 7 images`; empty where it says nothing, or its bands are all there is.
    """
    text = description[:DESCRIPTION_BYTES]
    samples = math.prod(shape)
    holds_two = nbytes is None or nbytes >= 2 * samples * itemsize
    for name in ("ImageJ", "SCIFIO"):
        if text.startswith(f"{name}="):
            return _hyperstack(name, dict(_PAIR.findall(text)), shape, holds_two=holds_two)
    if "<" in text and (pixels := _PIXELS.findall(text)):
        return _of_ome(text, pixels, shape[0])
    return _shaped(text, shape[0], samples)


def _hyperstack(name: str, said: Mapping[str, str], shape: tuple[int, int, int], *, holds_two: bool) -> str:
    """Of ImageJ's description, which SCIFIO writes too.

    One image in colours has three bands, and so may three channels: of such files the size decides.
    """
    images, channels = (_number(said.get(key)) for key in ("images", "channels"))
    beside = _number(said.get("slices")) * _number(said.get("frames"))
    if said.get("axes") and said.get("lengths"):
        images = max(images, _planes(said["axes"], said["lengths"]))
    if "images" not in said:
        images = max(images, channels * beside)
    if images <= 1:
        return ""
    if beside > 1 or images > shape[0] or (shape[0] == 3 and images > 1 and holds_two):
        sizes = {key: _number(said.get(key)) for key in ("channels", "slices", "frames")}
        parts = [f"{size} {key}" for key, size in sizes.items() if size > 1]
        article = "an" if name == "ImageJ" else "a"
        return f"{article} {name} stack of {images} images" + (
            f" ({', '.join(parts)})" if len(parts) > 1 else ""
        )
    return ""


def _planes(axes: str, lengths: str) -> int:
    """The product of all axes but those of one image, as SCIFIO lists them."""
    pairs = zip(axes.split(","), lengths.split(","), strict=False)
    return math.prod(_number(length) for axis, length in pairs if axis.strip() not in ("X", "Y", "Channel"))


def _number(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text.strip()) else 1


def _of_ome(text: str, pixels: list[str], bands: int) -> str:
    """Of OME-XML. Where each picture of a set has a file of its own, the file is that picture."""
    sizes = [{key: int(value) for key, value in _ATTRIBUTE.findall(one)} for one in pixels]
    sizes = [one for one in sizes if "SizeX" in one]
    pictures = sum(one.get("SizeZ", 1) * one.get("SizeT", 1) for one in sizes)
    values = sum(one.get("SizeZ", 1) * one.get("SizeT", 1) * one.get("SizeC", 1) for one in sizes)
    files = len(set(_FILE_NAME.findall(text)))
    if (pictures <= 1 and values <= bands) or (files > 1 and values <= files * bands):
        return ""
    if len(sizes) > 1:
        return f"an OME-TIFF of {len(sizes)} images"
    words = ", ".join(
        f"{key} {sizes[0][key]}" for key in ("SizeZ", "SizeC", "SizeT") if sizes[0].get(key, 1) > 1
    )
    return f"an OME-TIFF stack ({words})"


def _shaped(text: str, bands: int, samples: int) -> str:
    """Of tifffile's description: the shape of all that was written, or of what a file was cut from."""
    found = _SHAPE.match(text)
    if found is None:
        return ""
    sides = [int(side[:9]) for side in re.findall(r"\d+", found[1])]
    try:
        said = parse_json(text)
    except ValueError:
        said = {}
    is_cut = isinstance(said, dict) and said.get("truncated") is True
    is_one = len(sides) < 3 or (len(sides) == 3 and bands in (sides[0], sides[2]))
    if not is_cut and (is_one or math.prod(sides) <= samples):
        return ""
    return f"a stack of shape {' x '.join(map(str, sides))} with a directory of its first image alone"
