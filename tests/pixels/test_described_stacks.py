"""Real files of one directory, whose description says that more pictures follow."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from factories import source_of
from PIL import Image

from batchseg.errors import SourceError
from batchseg.inputs.source import Refusal, Scene
from batchseg.pixels.described_stacks import stack_of
from batchseg.pixels.header import read_header
from batchseg.pixels.photo import tiff
from batchseg.pixels.photo.limits import Limits

HEIGHT, WIDTH = 40, 30


def written(description: str, bands: int = 1, following: int = 0) -> bytes:
    """A TIFF of one directory, and so many planes behind it."""
    pixels = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, bands), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(stream, "TIFF", tiffinfo={270: description})
    return stream.getvalue() + bytes(HEIGHT * WIDTH * bands * following)


def ome(*sizes: tuple[int, int, int], files: int = 0) -> str:
    """OME-XML of images of (SizeZ, SizeC, SizeT)."""
    names = "".join(
        f'<TiffData IFD="0"><UUID FileName="a{n}.ome.tif">u</UUID></TiffData>' for n in range(files)
    )
    images = "".join(
        f'<Image ID="Image:{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" Type="uint8" SizeX="{WIDTH}" '
        f'SizeY="{HEIGHT}" SizeC="{c}" SizeZ="{z}" SizeT="{t}">{names}</Pixels></Image>'
        for n, (z, c, t) in enumerate(sizes)
    )
    return (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
    )


def imagej(name="ImageJ", **sizes: object) -> str:
    return "".join(f"{key}={value}\n" for key, value in ({name: "1.54f"} | sizes).items())


STACKS = {
    "ImageJ slices": (imagej(images=7, slices=7), 1, "an ImageJ stack of 7 images;"),
    "ImageJ frames": (imagej(images=7, frames=7), 1, "an ImageJ stack of 7 images;"),
    "ImageJ channels": (imagej(images=2, channels=2), 1, "an ImageJ stack of 2 images;"),
    "ImageJ hyperstack": (
        imagej(images=12, channels=2, slices=3, frames=2, hyperstack="true"),
        1,
        "an ImageJ stack of 12 images (2 channels, 3 slices, 2 frames)",
    ),
    "ImageJ without images": (imagej(slices=5), 1, "an ImageJ stack of 5 images"),
    "ImageJ slices in colour": (imagej(images=3, slices=3), 3, "an ImageJ stack of 3 images;"),
    "SCIFIO": (imagej("SCIFIO", axes="X,Y,Z", lengths="30,40,7"), 1, "a SCIFIO stack of 7 images"),
    "SCIFIO other axes": (imagej("SCIFIO", axes="X,Y,Lifetime", lengths="30,40,64"), 1, "of 64 images"),
    "SCIFIO images": (imagej("SCIFIO", axes="X,Y", images=4, frames=4), 1, "a SCIFIO stack of 4 images;"),
    "tifffile": ('{"shape": [7, 40, 30]}', 1, "a stack of shape 7 x 40 x 30"),
    "tifffile in colour": ('{"shape": [4, 40, 30, 3]}', 3, "a stack of shape 4 x 40 x 30 x 3"),
    "tifffile with axes": ('{"shape": [2, 5, 40, 30], "axes": "TZYX"}', 1, "2 x 5 x 40 x 30"),
    "tifffile truncated": ('{"shape": [3, 40, 30], "truncated": true}', 3, "3 x 40 x 30"),
    "OME z": (ome((5, 1, 1)), 1, "an OME-TIFF stack (SizeZ 5)"),
    "OME t": (ome((1, 1, 5)), 3, "(SizeT 5)"),
    "OME c": (ome((1, 4, 1)), 1, "(SizeC 4)"),
    "OME all": (ome((5, 3, 2)), 3, "(SizeZ 5, SizeC 3, SizeT 2)"),
    "OME images": (ome((1, 1, 1), (1, 1, 1)), 1, "an OME-TIFF of 2 images"),
    "OME in few files": (ome((6, 1, 1), files=2), 1, "(SizeZ 6)"),
}

SINGLE = {
    "ImageJ": (imagej(images=1), 1),
    "ImageJ in colour": (imagej(images=1), 3),
    "ImageJ channels that are bands": (imagej(images=3, channels=3), 3),
    "SCIFIO": (imagej("SCIFIO", axes="X,Y", lengths="30,40"), 1),
    "SCIFIO in colour": (imagej("SCIFIO", axes="X,Y,Channel", lengths="30,40,3"), 3),
    "tifffile": ('{"shape": [40, 30]}', 1),
    "tifffile in colour": ('{"shape": [40, 30, 3]}', 3),
    "tifffile planes": ('{"shape": [3, 40, 30]}', 3),
    "tifffile before GDAL cut it": ('{"shape": [4000, 3000, 3]}', 3),
    "OME": (ome((1, 1, 1)), 1),
    "OME in colour": (ome((1, 3, 1)), 3),
    "OME, a file for each": (ome((6, 1, 1), files=6), 1),
    "somebody's words": ("images=7 <b>bold</b>", 1),
    "damaged": ('{"shape": [', 1),
}


def header_of(folder: Path, data: bytes) -> Scene | Refusal:
    path = folder / "a.tif"
    path.write_bytes(data)
    return read_header(source_of(path))


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_refused_by_name_as_a_scene_and_as_a_photograph(tmp_path, name):
    description, bands, words = STACKS[name]
    refusal = header_of(tmp_path, written(description, bands))
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
    assert refusal.reason.endswith("save each as a file of its own")
    with pytest.raises(SourceError, match="save each as a file of its own"):
        tiff.read(written(description, bands), Limits())


@pytest.mark.parametrize("name", SINGLE)
def test_one_picture_is_done_whatever_describes_it(tmp_path, name):
    description, bands = SINGLE[name]
    assert isinstance(header_of(tmp_path, written(description, bands)), Scene)
    assert tiff.read(written(description, bands), Limits()).pixels.shape == (HEIGHT, WIDTH, bands)


def test_three_images_in_colour_are_told_from_three_channels_by_the_files_size(tmp_path):
    """tifffile says `channels=3` of both."""
    description = imagej(images=3, channels=3, hyperstack="true")
    assert isinstance(header_of(tmp_path, written(description, 3)), Scene)
    assert isinstance(header_of(tmp_path, written(description, 3, following=2)), Refusal)


def test_sizes_of_any_kind_are_a_stack_only_where_more_pictures_follow():
    for z, c, t, bands in itertools.product((1, 2, 5), (1, 3), (1, 4), (1, 3)):
        many = z * t > 1 or c > bands
        said = stack_of(ome((z, c, t)), (bands, HEIGHT, WIDTH), nbytes=100, itemsize=1)
        assert bool(said) is many, (z, c, t, bands)


def test_what_tifffile_writes_itself(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    many = np.zeros((5, HEIGHT, WIDTH), np.uint8)
    for keys in ({"imagej": True}, {"metadata": {"axes": "ZYX"}}):
        tifffile.imwrite(tmp_path / "a.tif", many, truncate=True, **keys)
        assert isinstance(read_header(source_of(tmp_path / "a.tif")), Refusal)
        tifffile.imwrite(tmp_path / "a.tif", many[0], **{**keys, "metadata": None})
        assert isinstance(read_header(source_of(tmp_path / "a.tif")), Scene)
