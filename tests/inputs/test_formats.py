import os
from pathlib import Path

import numpy as np
import pytest
from archives import find, ids
from entities import MULTIPLIED, with_entities
from factories import write_raster

from batchseg.inputs.formats import names_in_vrt
from batchseg.inputs.listing import current_tag


def vrt_of(path: Path, member: str, relative: int) -> None:
    path.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="3"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{member}</SourceFilename>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.mark.parametrize("relative", [0, 1])
def test_the_tag_of_a_vrt_follows_its_members(tmp_path, relative):
    member = write_raster(tmp_path / "parts" / "m.tif", np.zeros((1, 3, 5), np.uint8))
    vrt_of(tmp_path / "a.vrt", "parts/m.tif" if relative else str(member), relative)
    (before,), _ = find(tmp_path / "*.vrt", allow_vrt=True)
    assert current_tag(before) == before.tag
    os.utime(member, (1000, 1000))
    (after,), _ = find(tmp_path / "*.vrt", allow_vrt=True)
    assert current_tag(before) == after.tag != before.tag


def test_a_broken_vrt_is_left_to_the_reader(tmp_path):
    (tmp_path / "a.vrt").write_text("<VRTDataset")
    assert ids(tmp_path) == ["a.vrt"]


@pytest.mark.parametrize("entity", ["&file;", MULTIPLIED])
def test_a_vrts_entities_open_no_file_and_do_not_multiply(tmp_path, entity):
    secret = tmp_path / "secret.txt"
    secret.write_text("/other.tif")
    text = with_entities("VRTDataset", f"<SourceFilename>{entity}</SourceFilename>", str(secret))
    assert names_in_vrt(text.encode()) == []
    assert names_in_vrt(text.replace(entity, "a.tif").encode()) == [("a.tif", False)]
