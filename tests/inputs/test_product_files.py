import pytest
from product_trees import L1C, L2A, OLI

from batchseg.inputs.product_files import (
    Products,
    is_archive,
    level_of,
    names_product,
    product_of_archive,
    wanted_file,
)
from batchseg.system.file_info import FileInfo

GRANULE = "GRANULE/L2A_T33UUU_A1/IMG_DATA"


def added(preset: str, *uris: str, archive: str = "") -> list:
    products = Products(preset)
    for uri in uris:
        products.add(FileInfo(uri=uri, size=5, version="1"), archive=archive)
    return products.found()


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        (f"/a/{OLI}_SR_B4.TIF", "SR_B4"),
        (f"/a/{OLI}_sr_b4.tif", "SR_B4"),
        (f"/a/{OLI}_ST_B10.TIF", "ST_B10"),
        (f"/a/{OLI}_QA_PIXEL.TIF", "QA_PIXEL"),
        ("/a/LE07_L1TP_038031_20110901_20200820_02_T1_B6_VCID_2.TIF", "B6_VCID_2"),
        (f"/a/{OLI}_SR_QA_AEROSOL.TIF", None),
        (f"/a/{OLI}_SR_B4.jpg", ""),
        (f"/a/x{OLI}_SR_B4.TIF", None),
        (f"/a/{OLI}", None),
    ],
)
def test_landsats_files_are_known_by_their_names(uri, part):
    found = added("landsat", uri)
    assert (list(found[0].parts) if found else None) == (None if part is None else [part] if part else [])
    assert part is None or wanted_file("landsat").fullmatch(uri[3:])


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        (f"/a/x.SAFE/{GRANULE}/R10m/T33UUU_20260101T100000_B04_10m.jp2", "B04"),
        (f"/a/x/{GRANULE}/T33UUU_20260101T100000_B8A.jp2", "B8A"),
        (f"/a/x/{GRANULE}/R20m/L2A_T33UUU_20260101T100000_SCL_20m.jp2", "SCL"),
        (f"/a/x/{GRANULE}/R10m/T33UUU_B04_10m.tif", "B04"),
        (f"/a/x/{GRANULE}/R10m/T33UUU_B04_10m.jp2.aux.xml", None),
        ("/a/x.SAFE/GRANULE/L2A_T33UUU_A1/QI_DATA/MSK_DETFOO_B04.jp2", None),
        ("/a/x.SAFE/IMG_DATA/R10m/T33UUU_B04_10m.jp2", None),
        (f"{GRANULE}/R10m/T33UUU_B04_10m.jp2", None),
        ("T33UUU_B04_10m.jp2", None),
    ],
)
def test_sentinel_2s_files_are_known_by_where_they_lie(uri, part):
    found = added("sentinel2", uri)
    assert [name for product in found for name in product.parts] == ([part] if part else [])


def test_a_level_is_said_by_the_metadata_or_by_the_id():
    (product,) = added("sentinel2", "/a/x/MTD_MSIL1C.xml")
    assert level_of(product) == "1C"
    for name, level in ((L1C, "1C"), (L2A, "2A"), ("x", "")):
        (product,) = added("sentinel2", f"/a/{name}/{GRANULE}/T_B04.jp2")
        assert level_of(product) == level


def test_a_folder_in_an_archive_that_says_no_product_is_called_as_the_archive():
    archive = f"/a/{L2A}.zip"
    for inside, name in ((f"{L1C}.SAFE/", L1C), ("data/", L2A), ("", L2A)):
        (product,) = added("sentinel2", f"{archive}!/{inside}{GRANULE}/R10m/T_B04_10m.jp2", archive=archive)
        assert (product.id, product.where) == (name, archive)


@pytest.mark.parametrize(
    ("preset", "name", "product"),
    [
        ("landsat", f"{OLI}.tar", OLI),
        ("landsat", f"{OLI.lower()}-SC2020.zip", OLI),
        ("landsat", f"{OLI}.tar.gz", OLI),
        ("landsat", f"{OLI}_SR_B4.TIF", None),
        ("landsat", f"{L2A}.zip", None),
        ("sentinel2", f"{L2A}.SAFE.zip", L2A),
        ("sentinel2", f"{L2A}.zip", L2A),
        ("sentinel2", f"esa_{L2A}.tar", f"esa_{L2A}"),
        ("sentinel2", "photographs.zip", None),
    ],
)
def test_archives_are_known_by_their_names(preset, name, product):
    assert (is_archive(name) and names_product(preset, name)) == (product is not None)
    assert product is None or product_of_archive(preset, f"/a/{name}") == product
