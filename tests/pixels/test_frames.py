import io
from pathlib import Path

import numpy as np
import pytest
import rasterio
from archives import find
from PIL import Image

from batchseg.inputs.source import Refusal, Scene
from batchseg.pixels.header import read_header

PICTURES = [Image.fromarray(np.full((40, 30, 3), value, np.uint8)) for value in (9, 99, 199)]


def saved(path: Path, form: str, count: int, **options) -> Scene | Refusal:
    """The header of a file of so many pictures."""
    stream = io.BytesIO()
    more = {"save_all": True, "append_images": PICTURES[1:count]} if count > 1 else {}
    PICTURES[0].save(stream, form, **more, **options)
    path.write_bytes(stream.getvalue())
    (source,), _ = find(path)
    return read_header(source)


@pytest.mark.parametrize(
    ("form", "name", "words"),
    [
        ("TIFF", "a.tif", "holds 3 pages; save each as a file of its own"),
        ("GIF", "a.gif", "is an animated GIF"),
        ("PNG", "a.png", "is an animated PNG"),
        ("WEBP", "a.webp", "is an animated WEBP"),
    ],
)
def test_a_scene_is_never_the_first_of_several_pictures(tmp_path, form, name, words):
    refusal = saved(tmp_path / name, form, 3)
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
    assert isinstance(saved(tmp_path / name, form, 1), Scene)


def test_a_stack_of_imagej_is_told_by_its_description(tmp_path):
    """Of more than 4 GB it has one directory alone."""
    refusal = saved(tmp_path / "a.tif", "TIFF", 1, tiffinfo={270: "ImageJ=1.53t\nimages=7\nslices=7\n"})
    assert isinstance(refusal, Refusal)
    assert "is an ImageJ stack of 7 images" in refusal.reason
    refusal = saved(
        tmp_path / "c.tif", "TIFF", 1, tiffinfo={270: '{"shape": [7, 40, 30], "truncated": true}'}
    )
    assert isinstance(refusal, Refusal)
    whole = saved(tmp_path / "d.tif", "TIFF", 1, tiffinfo={270: '{"shape": [40, 30]}'})
    assert isinstance(whole, Scene)
    colour = saved(tmp_path / "b.tif", "TIFF", 1, tiffinfo={270: "ImageJ=1.53t\nimages=3\nchannels=3\n"})
    assert isinstance(colour, Scene)


def test_overviews_and_masks_are_no_pictures(tmp_path):
    path = tmp_path / "a.tif"
    assert isinstance(saved(path, "TIFF", 1), Scene)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((40, 30), bool))
        dataset.build_overviews([2])
    (source,), _ = find(path)
    assert isinstance(read_header(source), Scene)
