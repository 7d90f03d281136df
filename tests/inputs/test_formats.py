import os
import time
from pathlib import Path

import numpy as np
import pytest
from archives import find, ids
from entities import MULTIPLIED, with_entities
from factories import write_raster

from batchseg.errors import SourceError
from batchseg.inputs.formats import check_crs, check_vrt, driver_of, names_in_vrt
from batchseg.inputs.scene_rows import current_tag


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


WARPED = """<VRTDataset rasterXSize="5" rasterYSize="3" subClass="VRTWarpedDataset"><GDALWarpOptions>
<SourceDataset relativeToVRT="1">m.tif</SourceDataset><Transformer>{}</Transformer>
</GDALWarpOptions></VRTDataset>"""

GEOGCS = 'GEOGCS["a",AUTHORITY["http://a","1"]]'


@pytest.mark.parametrize(
    "inside",
    [
        "<GenImgProjTransformer><SourceSRS>{}</SourceSRS></GenImgProjTransformer>",
        "<GenImgProjTransformer><TargetSRS> {}</TargetSRS></GenImgProjTransformer>",
        "<RPCTransformer><DEMPath>{}</DEMPath></RPCTransformer>",
        '<GeoLocTransformer><Metadata><MDI key="X_DATASET">{}</MDI></Metadata></GeoLocTransformer>',
        '<Step><Argument name="gain_dataset_filename_1">{}</Argument></Step>',
        '<Step name="{}"/>',
    ],
)
def test_vrts_name_no_address_wherever_it_stands(tmp_path, inside):
    address = "http://127.0.0.1:9/a"
    (tmp_path / "a.vrt").write_text(WARPED.format(inside.format(address)))
    with pytest.raises(SourceError, match="nothing is fetched from the network"):
        check_vrt(tmp_path / "a.vrt")
    if "SRS" not in inside:
        (tmp_path / "outer.vrt").write_text(WARPED.format(inside.format("a.vrt")))
        with pytest.raises(SourceError, match="nothing is fetched from the network"):
            check_vrt(tmp_path / "outer.vrt")


def test_addresses_that_are_only_shown_are_no_hindrance(tmp_path):
    (tmp_path / "a.vrt").write_text(
        f"<VRTDataset><SRS dataAxisToSRSAxisMapping='1,2'>{GEOGCS}</SRS>"
        '<Metadata><MDI key="TIFFTAG_SOFTWARE">https://example.com</MDI></Metadata>'
        '<VRTRasterBand band="1"><Description>see http://example.com</Description></VRTRasterBand></VRTDataset>'
    )
    check_vrt(tmp_path / "a.vrt")


def test_a_head_of_comments_is_told_from_a_vrt_at_once():
    started = time.monotonic()
    with pytest.raises(SourceError, match="no raster"):
        driver_of(b"<!---->" * 73, allow_vrt=False)
    assert time.monotonic() - started < 5
    assert driver_of(b"<?xml version='1.0'?><!-- a --> <!-- b --><VRTDataset", allow_vrt=True) == "VRT"


@pytest.mark.parametrize("node", ["EXTENSION", "PARAMETERFILE"])
def test_a_crs_names_no_address_of_a_grid(node):
    check_crs(f'GEOGCS["a",{node}["PROJ4_GRIDS","a.gsb"],URI["http://a"]]')
    with pytest.raises(SourceError, match="address of a grid"):
        check_crs(f'GEOGCS["a",{node}["PROJ4_GRIDS","http://a/a.gsb"]]')
