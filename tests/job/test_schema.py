import re

import pytest
from factories import write_job
from job_files import RED, photographs, refusal

from batchseg.job.file import load_job
from batchseg.job.resolution import Resolution
from batchseg.job.settings import Photographs


@pytest.mark.parametrize("value", [-1, 0, "0MiB"])
def test_a_bound_of_memory_that_holds_nothing_is_refused(tmp_path, value):
    assert "max_in_flight" in refusal(write_job(tmp_path, max_in_flight=value))
    assert "max_photo_memory" in refusal(write_job(tmp_path, max_photo_memory=value))


def test_scenes_are_no_photographs_and_fit_or_rules_make_them_such(tmp_path):
    assert photographs(tmp_path) is None
    assert photographs(tmp_path, fit="resize") == Photographs(fit="resize")
    assert photographs(tmp_path, fit="tile", pixel_size=0.05) == Photographs(pixel_size=0.05)
    assert photographs(tmp_path, rules=[], masks="none") == Photographs(masks="none")
    assert photographs(tmp_path, fit="tile", max_photo_memory="4GiB") == Photographs(max_photo_memory=2**32)
    assert photographs(tmp_path, "same_content=true", fit="tile", mask_format="tif") == Photographs(
        same_content=True, mask_format="tif"
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"mask_format": "tif"},
        {"mask_format": "png"},
        {"pixel_size": 0.05},
        {"masks": "all"},
        {"same_content": False},
        {"max_photo_memory": "4GiB"},
    ],
    ids=str,
)
def test_no_other_key_makes_photographs_of_scenes(tmp_path, keys):
    """Their masks would lose CRS and transform."""
    (key,) = keys
    assert re.search(f"{key}: is for photographs; add `fit: tile`", refusal(write_job(tmp_path, **keys)))
    assert load_job(write_job(tmp_path, fit="tile", **keys)).photographs is not None


@pytest.mark.parametrize(
    ("rule", "keys", "words"),
    [
        ({"class": "crack"}, {"regions": False}, "rules: crack: rules look at regions.*leave that out"),
        ({"region_of_interest": {"box": [0, 0, 9, 9]}}, {"regions": {"simplify": 1}}, "needs exact outlines"),
        ({"min_area": 30}, {"regions": {"min_area": 31}}, "asks for regions from 30 px.*min_area: 31; lower"),
        ({"min_area_mm2": 0.4}, {"regions": {"min_area": 41}, "pixel_size": 0.1}, "regions from 40 px"),
    ],
)
def test_rules_and_regions_must_agree(tmp_path, rule, keys, words):
    assert re.search(words, refusal(write_job(tmp_path, rules=[rule], **keys)))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"aoi": "a.gpkg"},
            r"aoi: photographs have no place.*\(`fit` says that the inputs are photographs\)",
        ),
        ({"scale": "metadata"}, "scale: photographs say no reflectance"),
        ({"nodata": 0}, "nodata: every pixel of a photograph counts"),
        ({"on_bad_block": "nodata"}, "on_bad_block: "),
        ({"shard_tiles": 4}, "shard_tiles: "),
        ({"inputs": {"bands": RED}}, "inputs: photographs are one file each"),
        ({"inputs": ["a", {"manifest": "m.csv", "columns": ["a", "b"]}]}, "inputs: photographs are one"),
        ({"inputs": {"x": {"manifest": "m.csv", "columns": ["uri"]}}}, "name a folder, a glob or a manifest"),
        ({"fit": "resize", "halo": 64}, "halo: with fit: resize a photograph is one tile"),
        ({"compress": "zstd"}, "compress: PNG masks are deflated; set mask_format: tif"),
        ({"masks": "failed"}, "masks: nothing fails without `rules`"),
    ],
)
def test_keys_of_scenes_are_refused_with_photographs(tmp_path, keys, words):
    path = write_job(tmp_path, **{"fit": "tile", **keys})
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert re.search(words, message)
    assert "\n" not in message


def test_keys_that_go_with_photographs_are_taken(tmp_path):
    given = {
        "fit": "tile",
        "confidence": True,
        "nodata": "none",
        "compress": "zstd",
        "mask_format": "tif",
        "inputs": {"a": "m.csv", "b": "folder"},
        "scale": {"divide": 65535},
    }
    assert load_job(write_job(tmp_path, **given)).photographs == Photographs(mask_format="tif")


def test_a_whole_photograph_has_no_halo(tmp_path):
    config = load_job(write_job(tmp_path, fit="resize", tile_size=96))
    assert (config.halo, config.tile_size) == (0, 96)
    assert load_job(write_job(tmp_path, fit="resize", halo=0)).halo == 0
    assert load_job(write_job(tmp_path, fit="tile", tile_size=192)).halo is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bands", [1, "red"], "bands go all by number or all by name; found 1, red"),
        ("bands", ["red", " "], "a band's name is empty"),
        ("bands", [], "bands are numbered from 1"),
        ("bands", [0], "bands are numbered from 1"),
        ("resolution", 0, "resolution"),
        ("resolution", -1, "resolution"),
        ("resolution", "fine", "resolution: 'fine' is none; write metres such as 0.5"),
        ("resolution", "0 deg", "resolution: '0 deg' is none"),
        ("resolution", "1e999 m", "resolution: '1e999 m' is none"),
        ("resolution", [1], "resolution: expected metres such as 0.5, degrees such as '0.00001 deg'"),
        ("max_ratio", 0.5, "max_ratio"),
        ("max_ratio", 4, "max_ratio: is of scenes that are read at another resolution; set `resolution` too"),
        ("mask_resolution", "model", "mask_resolution: is of scenes that are read at another resolution"),
    ],
)
def test_bands_and_resolutions_that_are_none_are_refused(tmp_path, key, value, words):
    assert words in refusal(write_job(tmp_path, **{key: value}))


def test_bands_go_by_name_and_resolutions_in_metres(tmp_path):
    config = load_job(write_job(tmp_path, bands=["red", "nir"], resolution=10))
    assert (config.bands, config.resolution) == (("red", "nir"), Resolution(10.0))
    for word in ("any", "model"):
        assert load_job(write_job(tmp_path, resolution=word)).resolution == word
    config = load_job(write_job(tmp_path, resolution="0.00001 deg", max_ratio=20, mask_resolution="model"))
    assert config.resolution == Resolution(1e-5, "deg")
    assert (config.max_ratio, config.mask_resolution) == (20.0, "model")
    config = load_job(write_job(tmp_path))
    assert (config.resolution, config.max_ratio, config.mask_resolution) == (None, 8.0, "scene")


def test_photographs_have_no_resolution_and_no_names_of_bands(tmp_path):
    assert "resolution: photographs have no place" in refusal(write_job(tmp_path, fit="tile", resolution=1))
    assert "bands: those of a photograph go by number" in refusal(
        write_job(tmp_path, fit="tile", bands=["red"])
    )
