import dataclasses
import json

import pytest
from factories import (
    IMAGENET,
    METADATA,
    REFLECTANCE,
    STRETCH,
    make_facts,
    make_package,
    make_product,
    make_recipe,
)

from batchseg.job.recipe import Recipe, RegionSettings, digest
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.models.package import ClassInfo


def test_a_scenes_own_scale_is_no_setting_of_the_output():
    recipe = make_recipe(scale=METADATA)
    assert recipe.digest != make_recipe(scale=REFLECTANCE).digest
    assert recipe.settings()["scale"]["kind"] == "metadata"


def test_settings_survive_json():
    for recipe in (make_recipe(), make_recipe(normalize=None, nodata=0.5, scale=STRETCH)):
        assert json.loads(json.dumps(recipe.settings())) == recipe.settings()


CHANGES = {
    "model": make_package(digest="1" * 64),
    "bands": (3, 2, 1),
    "scale": REFLECTANCE,
    "normalize": IMAGENET,
    "nodata": 0.0,
    "tile_size": 32,
    "halo": 2,
    "precision": "bf16",
    "device": "gpu",
    "confidence": True,
    "class_count": 300,
}


@pytest.mark.parametrize("key", CHANGES)
def test_whatever_decides_a_pixel_changes_the_digest(key):
    assert make_recipe(**{key: CHANGES[key]}).digest != make_recipe().digest


def test_what_decides_no_pixel_does_not_change_the_digest():
    same = make_recipe(
        model=make_package(path="/elsewhere", network="/elsewhere/model.json"),
        facts=make_facts(seconds_per_tile=9.0, cpu_class="avx512"),
        class_count=3,
    )
    assert same.digest == make_recipe().digest


def test_a_products_digest_follows_names_colours_and_compression():
    product = make_product("a", "b")
    recoloured = dataclasses.replace(
        product, classes=(product.classes[0], ClassInfo(name="b", color="#010203"))
    )
    others = [make_product("a"), make_product("a", "c"), make_product("a", "b", compress="zstd"), recoloured]
    assert len({p.digest for p in [product, *others]}) == 5
    assert make_product("a", "b").digest == product.digest


def test_digests_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("count", "dtype", "nodata"), [(None, "uint8", 255), (255, "uint8", 255), (256, "uint16", 65535)]
)
def test_a_mask_has_room_for_all_classes_and_nodata(count, dtype, nodata):
    recipe = make_recipe(class_count=count)
    assert (recipe.mask_dtype, recipe.mask_nodata) == (dtype, nodata)


def test_a_digest_follows_the_names_of_bands_and_no_resolution():
    recipe = make_recipe()
    assert recipe.settings()["bands"] == [1, 2, 3]
    named = make_recipe(band_names=("red", "green", "blue"))
    assert named.settings()["bands"] == ["red", "green", "blue"]
    assert named.digest != recipe.digest
    assert make_recipe(resolution=10.0, any_resolution=True).digest == recipe.digest


def test_a_digest_follows_the_resolution_at_which_scenes_are_read_and_no_ratio():
    def read_at(*given, **changes) -> Recipe:
        return make_recipe(model_grid=ModelGrid(resolution=Resolution(*given), **changes))

    plain = make_recipe()
    assert not {"resolution", "mask_resolution"} & plain.settings().keys()
    assert read_at(1.0).settings() == plain.settings() | {"resolution": "1.0 m"}
    assert read_at(1.0, max_ratio=20.0).digest == read_at(1.0).digest
    other = [read_at(1.0), read_at(2.0), read_at(1.0, "deg"), read_at(1.0, mask="model"), plain]
    assert len({recipe.digest for recipe in other}) == len(other)


def test_connectivity_changes_a_products_digest_only_where_it_is_not_4():
    """As it was before the key was known."""
    four, eight = (make_product("a", regions=RegionSettings(connectivity=n)) for n in (4, 8))
    assert four.digest == make_product("a", regions=RegionSettings()).digest != eight.digest
    assert "connectivity" not in RegionSettings().settings()
