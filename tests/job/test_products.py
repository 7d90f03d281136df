import pytest

from batchseg.job.products import FLAGS, SENTINEL2_BANDS, assets_in_words, known_assets, landsat_assets

PLACE = "038031_20110901_20200820_02_T1"


@pytest.mark.parametrize(
    ("product", "files"),
    [
        ("LC09_L2SP", {"coastal": "SR_B1", "red": "SR_B4", "nir08": "SR_B5", "lwir11": "ST_B10"}),
        ("LC08_L1TP", {"coastal": "B1", "red": "B4", "pan": "B8", "cirrus": "B9", "lwir12": "B11"}),
        ("LO08_L1TP", {"swir22": "B7"}),
        ("LE07_L2SP", {"blue": "SR_B1", "nir08": "SR_B4", "swir16": "SR_B5", "lwir": "ST_B6"}),
        ("LE07_L1TP", {"pan": "B8", "lwir": "B6_VCID_1"}),
        ("LT05_L1TP", {"red": "B3", "lwir": "B6", "swir22": "B7"}),
        ("lt04_l2sp", {"nir08": "SR_B4"}),
        ("LM05_L1TP", {"green": "B1", "nir09": "B4"}),
        ("LM03_L1TP", {"green": "B4", "nir09": "B7"}),
    ],
)
def test_each_satellite_numbers_its_bands_in_its_own_way(product, files):
    found = landsat_assets(f"{product}_{PLACE}")
    assert files.items() <= found.items()
    assert found.keys() <= known_assets("landsat")
    assert ("coastal" in found) == (product[2:4] in ("08", "09"))
    assert ("pan" in found) == ("L1" in product and product[1] in "COE")


def test_flags_are_numbered_as_the_guides_number_them():
    bits = {"fill": 0, "dilated_cloud": 1, "cirrus": 2, "clouds": 3, "shadows": 4, "snow": 5, "water": 7}
    assert {name: (bit,) for name, bit in bits.items()}.items() <= FLAGS["landsat"].numbers.items()
    classes = FLAGS["sentinel2"].numbers
    assert (classes["clouds"], classes["shadows"], classes["no_data"]) == ((8, 9), (3,), (0,))
    assert (classes["cirrus"], classes["snow"], classes["water"]) == ((10,), (11,), (6,))
    assert sorted(n for numbers in classes.values() for n in numbers) == list(range(12))


def test_words_name_every_asset():
    assert assets_in_words("sentinel2") == f"Sentinel-2: {', '.join(SENTINEL2_BANDS)}"
    assert "Landsat 4 to 7: blue, green, red, nir08" in assets_in_words("landsat")
