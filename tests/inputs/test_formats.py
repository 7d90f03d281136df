import os
from pathlib import Path

import numpy as np
import pytest
from archives import find, ids
from factories import write_raster

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
