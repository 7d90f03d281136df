"""Directories of TIFFs that are written byte by byte, and of files that Pillow and GDAL write."""

import itertools
import struct
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
from archives import find
from conftest import Command, JobWriter, write_raster
from photo_runs import JobMaker
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter, ImageFileDirectory_v2

from batchseg.inputs.source import Refusal, Scene
from batchseg.pixels import open as opening
from batchseg.pixels.header import read_header
from batchseg.pixels.tiff_pages import Page, hidden_picture, read_pages

PICTURE, REDUCED, MASK = 0, 1, 4
"""Bits of NewSubfileType."""

Pages = list[tuple[int, int, int, int]]
"""Subfile type, height, width and bands of each."""

ONE = (PICTURE, 40, 30, 1)
HIDDEN: dict[str, Pages] = {
    "full size": [ONE, (REDUCED, 40, 30, 1)],
    "larger": [ONE, (REDUCED, 80, 60, 1)],
    "in colour": [(PICTURE, 40, 30, 3), (REDUCED, 40, 30, 3)],
    "other bands": [(PICTURE, 40, 30, 3), (REDUCED, 40, 30, 1)],
    "behind an overview": [ONE, (REDUCED, 20, 15, 1), (REDUCED, 40, 30, 1)],
    "pages": [(2, 40, 30, 1), (3, 40, 30, 1)],
    "all reduced": [(REDUCED, 40, 30, 1), (REDUCED, 40, 30, 1)],
    "preview first": [(REDUCED, 40, 30, 1), (PICTURE, 80, 60, 1)],
}
SOUND: dict[str, Pages] = {
    "one": [ONE],
    "one that is reduced": [(REDUCED, 40, 30, 1)],
    "overviews": [ONE, (REDUCED, 20, 15, 1), (REDUCED, 10, 8, 1)],
    "a little smaller": [ONE, (REDUCED, 39, 30, 1)],
    "mask": [ONE, (MASK, 40, 30, 1)],
    "masks and overviews": [ONE, (MASK, 40, 30, 1), (REDUCED, 20, 15, 1), (REDUCED | MASK, 20, 15, 1)],
    "a pixel": [(PICTURE, 1, 1, 1), (REDUCED, 1, 1, 1)],
    "a row": [(PICTURE, 1, 9, 1), (REDUCED, 1, 5, 1)],
}


def save(path: Path, pages: Pages) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    random = np.random.default_rng(1)
    with AppendingTiffWriter(str(path)) as writer:
        for kind, height, width, bands in pages:
            pixels = random.integers(0, 255, (height, width, bands), dtype=np.uint8)
            tags = ImageFileDirectory_v2()
            tags[254] = kind
            Image.fromarray(pixels[..., 0] if bands == 1 else pixels).save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    return path


@pytest.mark.parametrize("name", HIDDEN)
def test_a_picture_that_is_called_an_overview_is_told(tmp_path: Path, name: str) -> None:
    (source,), _ = find(save(tmp_path / "a.tif", HIDDEN[name]))
    refusal = read_header(source)
    assert isinstance(refusal, Refusal)
    assert "pages of full size, of which" in refusal.reason or "a preview as its first page" in refusal.reason
    assert refusal.reason.endswith("save each as a file of its own")


@pytest.mark.parametrize("name", SOUND)
def test_overviews_masks_and_single_pictures_are_sound(tmp_path: Path, name: str) -> None:
    (source,), _ = find(save(tmp_path / "a.tif", SOUND[name]))
    assert isinstance(read_header(source), Scene)


def test_a_night_with_such_scenes_and_photographs_names_them(
    tmp_path: Path, write_job: JobWriter, photo_job: JobMaker, command: Command
) -> None:
    for make, bands, keys in (
        (write_job, 1, {"bands": [1] * 4, "scale": {"divide": 255}}),
        (photo_job, 3, {}),
    ):
        save(tmp_path / "in" / "two.tif", [(PICTURE, 90, 80, bands), (REDUCED, 90, 80, bands)])
        save(tmp_path / "in" / "one.tif", [(PICTURE, 90, 80, bands), (REDUCED, 45, 40, bands)])
        done = command("run", make(**keys, output=f"out{bands}"), "--executor", "inline")
        assert done.returncode == 3, done.stderr
        told = command("status", tmp_path / f"out{bands}").stdout
        assert "two.tif" in told
        assert "holds 2 pages of full size" in told
        assert "one.tif" not in told


@pytest.mark.parametrize("name", ["full size", "overviews"])
def test_of_a_bucket_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(opening, "WHOLE_BYTES", 100)
    path = save(tmp_path / "a.tif", (HIDDEN | SOUND)[name])
    fsspec.filesystem("memory").pipe_file("/pages/a.tif", path.read_bytes() + bytes(100_000))
    (source,), _ = find("memory://pages/a.tif")
    header = read_header(source)
    assert isinstance(header, Scene) if name in SOUND else "holds 2 pages of full size" in header.reason


@pytest.mark.parametrize("driver", ["GTiff", "COG"])
@pytest.mark.parametrize("size", [1, 2, 3, 90, 600])
@pytest.mark.parametrize("big", ["YES", "NO"])
def test_what_gdal_writes_is_sound_and_counted(tmp_path: Path, driver: str, size: int, big: str) -> None:
    path = tmp_path / "a.tif"
    keys = {"driver": "COG", "blocksize": 128} if driver == "COG" else {}
    write_raster(path, np.ones((3, size, size), np.uint8), BIGTIFF=big, **keys)
    if driver == "GTiff":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.ones((size, size), bool))
            dataset.build_overviews([2, 4] if size > 2 else [2])
    data = path.read_bytes()
    pages = list(read_pages(lambda at, count: data[at : at + count]))
    with rasterio.open(path) as dataset:
        factors = len(dataset.overviews(1))
    masks = (1 + factors) * (driver == "GTiff")
    assert len(pages) == 1 + factors + masks
    assert pages[0] == Page(is_reduced=False, is_mask=False, height=size, width=size)
    assert hidden_picture(lambda at, count: data[at : at + count]) == ""


def directory(order: str, big: bool, kind: int, width: int, following: int) -> bytes:
    """A directory of a width in 16 bits and a height in 32."""
    offset, count = ("Q", "Q") if big else ("I", "H")
    entries = [(254, 4, "I", kind), (256, 3, "H", width), (257, 4, "I", 9)]
    data = struct.pack(order + count, len(entries))
    for tag, code, letter, value in entries:
        held = struct.pack(order + letter, value).ljust(8 if big else 4, b"\0")
        data += struct.pack(order + "HH" + offset, tag, code, 1) + held
    return data + struct.pack(order + offset, following)


@pytest.mark.parametrize(("order", "big"), list(itertools.product("<>", (False, True))))
def test_both_orders_of_bytes_both_sizes_and_circles(order: str, big: bool) -> None:
    head = {"<": b"II", ">": b"MM"}[order]
    head += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HIQ", 42, 16, 0)
    first = directory(order, big, 0, 7, 16 + len(directory(order, big, 0, 0, 0)))
    data = head[:16].ljust(16, b"\0") + first + directory(order, big, 1, 700, 16)
    pages = list(read_pages(lambda at, count: data[at : at + count]))
    assert [(page.width, page.height, page.is_reduced) for page in pages] == [(7, 9, False), (700, 9, True)]
    for end in range(len(data)):
        cut = data[:end]
        assert len(list(read_pages(lambda at, count, cut=cut: cut[at : at + count]))) < 2
