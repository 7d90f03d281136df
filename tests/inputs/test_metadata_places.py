import pytest
from mtl_forms import FORMS, MTL

from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.system import listing

LANDSAT = "LC08_L2SP_224078_20200518_20200820_02_T1"
INSIDE = "GRANULE/L2A_T33UUU_A1/IMG_DATA/R10m/T33UUU_20260101T100000_B04_10m.jp2"


def test_metadata_are_found_in_any_case_of_letters_and_the_first_form_counts(tmp_path):
    product = tmp_path / "product"
    raster = product / INSIDE
    raster.parent.mkdir(parents=True)
    assert MetadataPlaces().of(str(raster)) is None
    (product / "mtd_MsiL2a.XML").write_text("<a/>")
    glob = f"{tmp_path}/*/GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2"
    for places in (MetadataPlaces(), MetadataPlaces([glob])):
        assert places.of(str(raster)).uri == str(product / "mtd_MsiL2a.XML")
    band = tmp_path / f"{LANDSAT}_SR_B4.TIF"
    for ending in ("txt", "xml", "json"):
        (tmp_path / f"{LANDSAT}_MTL.{ending}").write_text(FORMS[ending](MTL))
        for places in (MetadataPlaces(), MetadataPlaces([f"{tmp_path}/*_SR_B4.TIF"])):
            assert places.of(str(band)).uri.endswith(f"_MTL.{ending}")


def test_a_folder_is_listed_once_and_web_servers_are_not(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(listing, "list_folder", lambda folder: asked.append(folder) or [])
    places = MetadataPlaces()
    for number in range(5):
        assert places.of(f"{tmp_path}/p/{INSIDE}".replace("_B04_", f"_B0{number}_")) is None
    assert asked == [f"{tmp_path}/p"]
    monkeypatch.setattr("batchseg.inputs.metadata_places.file_info", lambda _: None)
    assert MetadataPlaces().of(f"https://example.org/p/{INSIDE}") is None
    assert MetadataPlaces().of(f"{tmp_path}/{LANDSAT}_SR_B4.TIF") is None
    assert asked == [f"{tmp_path}/p"]


@pytest.mark.parametrize("name", ["a.tif", "GRANULE", "GRANULE/a.jp2"])
def test_other_rasters_have_none(tmp_path, name):
    assert MetadataPlaces().of(str(tmp_path / "x" / name)) is None
