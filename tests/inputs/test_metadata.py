import json
import re

import pytest
from conftest import SHARED
from entities import MULTIPLIED, with_entities
from hypothesis import given
from hypothesis import strategies as st
from mtl_forms import FORMS, MTL

from batchseg.errors import SourceError, SourceIOError
from batchseg.inputs.metadata import (
    S2_BANDS,
    metadata_files,
    missing_metadata,
    read_metadata,
    stac_bands,
)
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.source import BandMetadata

SAFE = "S2A_MSIL2A_20260101T100000_N0511_R022_T33UUU_20260101T120000.SAFE"
INSIDE = "GRANULE/L2A_T33UUU_A1/IMG_DATA/R10m/T33UUU_20260101T100000_B04_10m.jp2"
IMAGE = f"{SAFE}/{INSIDE}"
LANDSAT = "LC08_L2SP_224078_20200518_20200820_02_T1"


def mtd(level: str, offsets: dict[int, int], quantification: str = "10000") -> str:
    kind, add = ("BOA_", "BOA_ADD_OFFSET") if level == "2A" else ("", "RADIO_ADD_OFFSET")
    listed = "".join(f'<{add} band_id="{band}">{offset}</{add}>' for band, offset in offsets.items())
    return (
        f'<n1:Level-{level}_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/X.xsd"><n1:General_Info>'
        "<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0"
        "</SPECIAL_VALUE_INDEX></Special_Values>"
        f'<X><{kind}QUANTIFICATION_VALUE unit="none">{quantification}</{kind}QUANTIFICATION_VALUE>'
        f'<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></X><L>{listed}</L>'
        f"</n1:General_Info></n1:Level-{level}_User_Product>"
    )


@pytest.mark.parametrize(
    ("raster", "words"),
    [
        ("/a/x/GRANULE/L1C_T33UUU_A1/IMG_DATA/T33UUU_B04.jp2", "MTD_MSIL1C.xml is missing in x"),
        ("/a/x/GRANULE/1/IMG_DATA/T33UUU_B04.jp2", "MTD_MSIL2A.xml or MTD_MSIL1C.xml is missing in x"),
        ("/a/b.zip!/GRANULE/L2A_T33UUU_A1/IMG_DATA/T33UUU_B04.jp2", "MTD_MSIL2A.xml is missing in b.zip"),
        (
            "/a/LC08_L2SP_038031_20180901_20200820_02_T1_SR_B4.TIF",
            "LC08_L2SP_038031_20180901_20200820_02_T1_MTL (.json, .xml or .txt) is missing in a",
        ),
        ("/a/my_SR_B4.TIF", ""),
        ("/a/T33UUU_B04.jp2", ""),
    ],
)
def test_what_a_product_lacks_is_named_and_other_rasters_lack_nothing(raster, words):
    assert missing_metadata(raster) == words


@pytest.mark.parametrize(
    ("raster", "files"),
    [
        (f"/a/{IMAGE}", (f"/a/{SAFE}/MTD_MSIL2A.xml", f"/a/{SAFE}/MTD_MSIL1C.xml")),
        ("s3://b/*.SAFE/**/*_B04_10m.jp2", ("s3://b/*.SAFE/MTD_MSIL2A.xml", "s3://b/*.SAFE/MTD_MSIL1C.xml")),
        ("/a/x.SAFE/y.SAFE/B04.jp2", ("/a/x.SAFE/y.SAFE/MTD_MSIL2A.xml", "/a/x.SAFE/y.SAFE/MTD_MSIL1C.xml")),
        (f"/a/x/{INSIDE}", ("/a/x/MTD_MSIL2A.xml", "/a/x/MTD_MSIL1C.xml")),
        ("/a/*/granule/*/IMG_DATA/*_B04.jp2", ("/a/*/MTD_MSIL2A.xml", "/a/*/MTD_MSIL1C.xml")),
        (f"/a/{LANDSAT}_SR_B4.TIF", tuple(f"/a/{LANDSAT}_MTL.{e}" for e in ("json", "xml", "txt"))),
        (f"/a/{LANDSAT}_B10.TIF", tuple(f"/a/{LANDSAT}_MTL.{e}" for e in ("json", "xml", "txt"))),
        ("/a/scene_red.tif", ()),
    ],
)
def test_where_metadata_lie_is_seen_from_the_name(raster, files):
    assert metadata_files(raster) == files


@pytest.mark.parametrize("level", ["2A", "1C"])
@pytest.mark.parametrize("number", range(13))
def test_each_band_of_sentinel_2_has_its_own_offset(tmp_path, level, number):
    path = tmp_path / f"MTD_MSIL{level}.xml"
    path.write_text(mtd(level, {band: -1000 - band for band in range(13)}))
    for name in (f"T33UUU_20260101T100000_B{S2_BANDS[number]}.jp2", f"T33_B{S2_BANDS[number]}_60m.jp2"):
        said = read_metadata(str(path), f"/x/{name}")
        assert said == BandMetadata(scale=1e-4, offset=pytest.approx(-0.1 - number * 1e-4), nodata=0)


def test_before_baseline_4_there_is_no_offset(tmp_path):
    path = tmp_path / "MTD_MSIL2A.xml"
    path.write_text(mtd("2A", {}))
    assert read_metadata(str(path), IMAGE) == BandMetadata(scale=1e-4, offset=0, nodata=0)


def test_layers_that_are_no_reflectance_have_nodata_alone(tmp_path):
    path = tmp_path / "MTD_MSIL2A.xml"
    path.write_text(mtd("2A", dict.fromkeys(range(13), -1000)))
    assert read_metadata(str(path), "/x/T33UUU_20260101T100000_SCL_20m.jp2") == BandMetadata(nodata=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a",
        mtd("2A", {0: -1000}),
        mtd("2A", {3: "many"}),
        *(mtd("2A", {}, text) for text in ("zero", "0", "-1", "nan", "inf", "1e-320", "1e400")),
        *(mtd("2A", {3: text}) for text in ("nan", "inf", "-1e400")),
        mtd("2A", {3: "1e308"}, "1e-300"),
        mtd("2A", {}).replace("INDEX>0<", "INDEX>inf<"),
    ],
)
def test_damaged_metadata_are_the_sources_problem(tmp_path, text):
    path = tmp_path / "MTD_MSIL2A.xml"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"MTD_MSIL2A\.xml does not hold"):
        read_metadata(str(path), IMAGE)


@pytest.mark.parametrize("entity", ["&file;", MULTIPLIED])
def test_entities_of_metadata_open_no_file_and_do_not_multiply(tmp_path, entity):
    secret, path = tmp_path / "secret.txt", tmp_path / "MTD_MSIL2A.xml"
    secret.write_text("10000")
    value = "<BOA_QUANTIFICATION_VALUE>{}</BOA_QUANTIFICATION_VALUE>"
    path.write_text(with_entities("a", value.format("10000"), str(secret)))
    assert read_metadata(str(path), IMAGE).scale == 1e-4
    path.write_text(with_entities("a", value.format(entity), str(secret)))
    with pytest.raises(SourceError, match=r"MTD_MSIL2A\.xml does not hold"):
        read_metadata(str(path), IMAGE)


def test_metadata_that_the_storage_does_not_give_are_tried_again(tmp_path):
    with pytest.raises(SourceIOError):
        read_metadata(str(tmp_path / "MTD_MSIL2A.xml"), IMAGE)


@pytest.mark.parametrize("ending", FORMS)
def test_landsats_levels_have_their_own_factors(tmp_path, ending):
    path = tmp_path / f"{LANDSAT}_MTL.{ending}"
    path.write_text(FORMS[ending](MTL))
    craft = "LANDSAT_8 OLI_TIRS"
    for band, said in (
        ("SR_B4", BandMetadata(scale=2.75e-5, offset=-0.2, spacecraft=craft)),
        ("B4", BandMetadata(scale=2e-5, offset=-0.1, spacecraft=craft)),
        ("B10", BandMetadata(spacecraft=craft)),
    ):
        assert read_metadata(str(path), f"/x/{LANDSAT}_{band}.TIF") == said
    path.write_text({"json": "{}", "xml": "<a", "txt": "GROUP = OTHER"}[ending])
    with pytest.raises(SourceError, match=rf"_MTL\.{ending} does not hold"):
        read_metadata(str(path), f"/x/{LANDSAT}_B4.TIF")


@pytest.mark.parametrize("factor", ["0", 0, "-2e-5", "nan", float("inf"), 10**400, None, [1], {}, "x"])
@pytest.mark.parametrize("addend", ["-0.1", "nan", 10**400])
def test_landsats_factors_are_numbers(tmp_path, factor, addend):
    values = {"REFLECTANCE_MULT_BAND_4": factor, "REFLECTANCE_ADD_BAND_4": addend}
    path = tmp_path / f"{LANDSAT}_MTL.json"
    path.write_text(json.dumps({"LANDSAT_METADATA_FILE": {"LEVEL1_RADIOMETRIC_RESCALING": values}}))
    with pytest.raises(SourceError, match=r"_MTL\.json does not hold"):
        read_metadata(str(path), f"/x/{LANDSAT}_B4.TIF")


@pytest.mark.parametrize(
    "said", [{"scale": 0}, {"scale": "nan"}, {"scale": 1, "offset": "inf"}, {"offset": 10**400}]
)
def test_stacs_scales_are_numbers(said):
    with pytest.raises((ValueError, OverflowError)):
        stac_bands({"raster:bands": [said]}, {})


ONE = BandMetadata(scale=0.5, offset=-1, nodata=7)


@pytest.mark.parametrize(
    ("asset", "said"),
    [
        ({}, ()),
        ({"raster:bands": [{"scale": 0.5, "offset": -1, "nodata": 7}]}, (ONE,)),
        ({"bands": [{"name": "red", "raster:scale": 0.5, "raster:offset": -1, "nodata": 7}]}, (ONE,)),
        ({"raster:scale": 0.5, "raster:offset": -1, "nodata": 7}, (ONE,)),
        (
            {"bands": [{"name": "a"}, {"name": "b"}], "raster:scale": 0.5, "raster:offset": -1, "nodata": 7},
            (ONE, ONE),
        ),
        (
            {"raster:bands": [{"scale": 0.5, "offset": -1, "nodata": 7}], "raster:scale": 9, "bands": [{}]},
            (ONE,),
        ),
        (
            {"raster:bands": [{"nodata": 0}], "bands": [{"raster:scale": 2}]},
            (BandMetadata(scale=2, offset=0),),
        ),
        ({"raster:bands": [{"nodata": 0}]}, (BandMetadata(nodata=0),)),
        ({"raster:bands": [{"offset": -1}]}, (BandMetadata(scale=1, offset=-1),)),
        (
            {"raster:bands": [{"scale": 0.5}, {"data_type": "uint8"}]},
            (BandMetadata(scale=0.5), BandMetadata()),
        ),
        ({"eo:bands": [{"name": "red"}], "raster:bands": []}, ()),
    ],
)
def test_stac_says_scale_and_offset_in_three_places(asset, said):
    assert stac_bands({"href": "a.tif", **asset}, {}) == said


@given(st.sampled_from(["earthsearch", "sentinel"]), st.booleans())
def test_an_offset_that_was_applied_is_not_applied_again(who, applied):
    asset = {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}
    (said,) = stac_bands(asset, {f"{who}:boa_offset_applied": applied})
    assert said == BandMetadata(scale=0.0001, offset=0 if applied else -0.1)


def test_nan_as_text_is_a_nodata_value():
    (said,) = stac_bands({"raster:bands": [{"nodata": "nan"}]}, {})
    assert said.nodata != said.nodata


REAL = SHARED / "sentinel2-metadata"
PRODUCTS = SHARED / "landsat-c2"


def real_offsets(text: str) -> dict[str, float]:
    """By band as files are called, B01..B12: what the XML says, found without an XML parser."""
    numbers = dict(re.findall(r'<Spectral_Information bandId="(\d+)" physicalBand="(\w+)">', text))
    added = dict(re.findall(r'<(?:BOA|RADIO)_ADD_OFFSET band_id="(\d+)">(-?\d+)<', text))
    return {f"B{name[1:]:0>2}": float(added.get(number, 0)) for number, name in numbers.items()}


@pytest.mark.skipif(not REAL.is_dir(), reason="no real metadata: set BATCHSEG_DATA")
def test_real_metadata_of_sentinel_2_say_scale_and_offset_of_each_band():
    files = sorted(REAL.glob("*/*.[xX][mM][lL]"))
    assert len(files) == 12
    offsets = set()
    for file in files:
        text = file.read_text()
        (value,) = re.findall(r"<(?:BOA_)?QUANTIFICATION_VALUE[^>]*>(\d+)<", text)
        bands = real_offsets(text)
        assert len(bands) == 13
        product = f"{file.parent}/GRANULE/L_T33UUU_A1/IMG_DATA"
        for band, added in bands.items():
            raster = f"{product}/T33UUU_20260101T100000_{band}.jp2"
            found = MetadataPlaces().of(raster)
            assert found is not None and found.uri == str(file)
            said = read_metadata(found.uri, raster)
            assert (said.scale, said.nodata) == (1 / float(value), 0)
            assert said.offset == pytest.approx(added / float(value), abs=1e-12)
            offsets.add(added)
        by_glob = MetadataPlaces([f"{REAL}/*/GRANULE/*/IMG_DATA/*_B04.jp2"]).of(f"{product}/T_B04.jp2")
        assert by_glob is not None and by_glob.uri == str(file)
    assert offsets == {0.0, -1000.0}


@pytest.mark.skipif(not PRODUCTS.is_dir(), reason="no real products: set BATCHSEG_DATA")
@pytest.mark.parametrize("ending", ["json", "xml"])
def test_real_metadata_of_landsat_say_the_same_in_either_form(ending):
    files = sorted(PRODUCTS.glob(f"*/*_MTL.{ending}"))
    assert len(files) == 2
    for file in files:
        groups = re.split(r"LEVEL1_RADIOMETRIC_RESCALING", file.read_text())
        for level, text in (("SR_B", groups[0]), ("B", groups[1])):
            for number in range(2, 8):
                key = rf"REFLECTANCE_(MULT|ADD)_BAND_{number}\W+?(-?[\d.]+(?:[eE]-?\d+)?)\W"
                values = dict(re.findall(key, text))
                raster = str(file).replace(f"_MTL.{ending}", f"_{level}{number}.TIF")
                said = read_metadata(str(file), raster)
                assert (said.scale, said.offset) == (float(values["MULT"]), float(values["ADD"]))
                assert said.spacecraft == "LANDSAT_8 OLI_TIRS"
