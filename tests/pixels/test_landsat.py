"""What bands are by the numbers of Landsat's products (USGS, Landsat Collection 2 band designations)."""

import pytest

from batchseg.pixels.landsat import contradicts, roles

NAMES = {
    "LT05_L2SP_038031_20110901_20200820_02_T1": "Landsat 5",
    "LE07_L2SP_038031_20010901_20200820_02_T1": "Landsat 7",
    "LT04_L1TP_038031_19880901_20200820_02_T1": "Landsat 4",
    "LE70380312001244EDC00": "Landsat 7",
    "LC08_L2SP_038031_20180901_20200820_02_T1": "Landsat 8",
    "LC09_L2SP_038031_20220901_20220902_02_T1": "Landsat 9",
    "LO08_L1TP_038031_20180901_20200820_02_T1": "Landsat 8",
    "LM05_L1TP_038031_20110901_20200820_02_T1": "Landsat 5",
    "LM01_L1TP_038031_19730901_20200820_02_T1": "Landsat 1",
}
NEAR_INFRARED = {"T": 4, "E": 4, "C": 5, "O": 5}


@pytest.mark.parametrize("product", NAMES)
def test_the_id_says_what_a_files_number_means(product: str) -> None:
    mss = {"LM05": {1: "green", 2: "red", 3: "nir"}, "LM01": {4: "green", 5: "red", 6: "nir"}}.get(
        product[:4]
    )
    nir = NEAR_INFRARED.get(product[1], 0)
    visible = mss or {
        nir - 3: "blue",
        nir - 2: "green",
        nir - 1: "red",
        nir: "nir",
        nir + 1: "swir1",
        7: "swir2",
    }
    for number, role in visible.items():
        for where in (
            f"/a/{product}_SR_B{number}.TIF",
            f"/a/{product}/b{number}.tif",
            f"{product}_B{number}_60m.TIF",
        ):
            assert roles(where, ("",)) == ((role,), NAMES[product]), where


@pytest.mark.parametrize(
    ("name", "spacecraft", "role"),
    [
        ("x_SR_B4.TIF", "LANDSAT_5 TM", "nir"),
        ("x_SR_B4.TIF", "LANDSAT_9 OLI_TIRS", "red"),
        ("x_B4.TIF", "LANDSAT_4 MSS", "nir"),
        ("x_B2.TIF", "LANDSAT_4 MSS", "red"),
        ("LC08_x_SR_B4.TIF", "LANDSAT_5 TM", "red"),
        ("LE07_x_B6_VCID_1.TIF", "", "thermal"),
        ("LC08_x_ST_B10.TIF", "", "thermal"),
        ("x_SR_B4.TIF", "", ""),
        ("LE07_x_QA_PIXEL.TIF", "", ""),
        ("T31UFU_20260101_B04_10m.jp2", "", ""),
        ("filter05_B4.tif", "", ""),
    ],
)
def test_metadata_say_it_where_no_id_does(name: str, spacecraft: str, role: str) -> None:
    assert roles(f"/a/{name}", ("",), spacecraft=spacecraft)[0] == (role,)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("SR_B4,SR_B3,SR_B2", ("nir", "red", "green")),
        ("B3,B2,B1", ("red", "green", "blue")),
        ("B1,B2,B3", ("", "", "")),  # places in the file, or bands
        ("SR_B1,SR_B2,SR_B3", ("blue", "green", "red")),
        (",,", ("", "", "")),
    ],
)
def test_a_file_of_several_bands_is_read_by_their_names(names: str, found: tuple[str, ...]) -> None:
    assert roles("/a/LE07_038031_20010901.tif", names.split(","))[0] == found


@pytest.mark.parametrize(
    ("name", "role", "odd"),
    [
        ("red", "nir", True),
        ("Red", "red", False),
        ("nir08", "nir", False),
        ("nir", "swir1", True),
        ("swir16", "swir1", False),
        ("swir22", "swir1", True),
        ("SWIR", "swir2", False),
        ("swir", "nir", True),
        ("short-wave infra-red", "swir1", False),
        ("coastal", "blue", True),
        ("B4", "nir", False),
        ("rededge", "nir", False),
        ("red", "", False),
    ],
)
def test_a_name_contradicts_a_product_only_where_both_are_sure(name: str, role: str, odd: bool) -> None:
    assert contradicts(name, role) is odd
