import dataclasses
import json
import re

import numpy as np
import pytest
from factories import make_config, make_facts, make_package, make_product, make_recipe, make_scene, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ConfigError, ModelError
from batchseg.job.recipe import digest
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Scale
from batchseg.models.package import ClassInfo, ModelOptions, Normalize, Resize
from batchseg.pixels.fit import fill_values, mismatch, with_own_scale

IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
REFLECTANCE = Scale(kind="divide", low=(0.0,), high=(10_000.0,))
METADATA = Scale(kind="metadata", low=(0.0,), high=(1.0,))
STRETCH = Scale(kind="stretch", low=(100.0, 0.0, 50.0), high=(3000.0, 4000.0, 5000.0))


def test_a_model_without_normalisation_gets_the_pixels_as_they_are():
    config = make_config(normalize="none", bake=False)
    recipe = recipe_of(config, make_package(), make_facts(), "cpu")
    tile = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    assert np.array_equal(prepared(recipe, tile), tile.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("uint8", make_recipe().scale), ("uint16", REFLECTANCE), ("int16", STRETCH), ("float32", STRETCH)],
)
@pytest.mark.parametrize("normalize", [IMAGENET, None])
def test_the_fill_value_is_prepared_to_about_zero(dtype, scale, normalize):
    recipe = make_recipe(scale=scale, normalize=normalize)
    fill = fill_values(recipe, dtype)
    assert (fill.dtype, fill.shape) == (np.dtype(dtype), (3,))
    answer = prepared(recipe, np.broadcast_to(fill[:, None, None], (3, 2, 4)).copy())
    span = np.array(scale.high) - np.array(scale.low)
    step = 1e-5 if dtype == "float32" else 0.5 / span.min() / min(normalize.std if normalize else (1,))
    assert np.abs(answer).max() <= step * 1.001


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(1e-6, 10), st.floats(-5, 5)), min_size=4, max_size=4),
    st.permutations([1, 2, 3, 4]),
)
def test_metadata_bring_each_band_to_reflectance(pairs, bands):
    scene = make_scene(bands=4, dtypes=("uint16",) * 4, rescale=tuple(pairs))
    recipe = with_own_scale(make_recipe(scale=METADATA, normalize=None, bands=tuple(bands)), scene)
    tile = np.random.default_rng(0).integers(0, 10_000, (4, 5, 7), dtype=np.uint16)
    scale, offset = (np.array([pairs[band - 1][part] for band in bands])[:, None, None] for part in (0, 1))
    exact = tile * scale + offset
    largest = np.maximum(np.abs(exact), np.abs(offset) + 10_000 * scale)
    assert np.all(np.abs(prepared(recipe, tile) - exact) <= 3e-7 * largest)


def test_both_baselines_of_sentinel_2_are_a_division_by_10000_to_the_last_bit():
    tile = np.arange(1, 10_001, dtype=np.uint16).reshape(1, 100, 100)
    divided = prepared(make_recipe(scale=REFLECTANCE, normalize=None, bands=(1,)), tile)
    for raw, offset in ((tile, 0.0), (tile + 1000, -1000 / 10_000), (tile + 1000, -1000 * (1 / 10_000))):
        scene = make_scene(bands=1, dtypes=("uint16",), rescale=((1 / 10_000, offset),))
        recipe = with_own_scale(make_recipe(scale=METADATA, normalize=None, bands=(1,)), scene)
        assert np.array_equal(prepared(recipe, raw), divided)
    below = prepared(recipe, np.full((1, 2, 3), 400, np.uint16))
    np.testing.assert_allclose(below, -0.06, rtol=1e-6)  # negative reflectance is kept
    assert fill_values(recipe, "uint16").tolist() == [1000]


def test_other_scales_are_the_jobs_whatever_a_scene_says():
    recipe = make_recipe(scale=REFLECTANCE)
    assert with_own_scale(recipe, make_scene(rescale=((2.0, 3.0),) * 3)) is recipe


def test_a_scenes_own_scale_is_no_setting_of_the_output():
    recipe = make_recipe(scale=METADATA)
    assert recipe.digest != make_recipe(scale=REFLECTANCE).digest
    assert recipe.settings()["scale"]["kind"] == "metadata"


def test_a_fill_value_beyond_the_dtype_is_its_nearest_value():
    scale = Scale(kind="stretch", low=(-500.0,), high=(-100.0,))
    assert fill_values(make_recipe(scale=scale, normalize=None), "uint8").tolist() == [0, 0, 0]


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


def made(model=None, facts=None, model_options=None, **job):
    if model_options is not None:
        job["model"] = model_options
    return recipe_of(make_config(**job), model or make_package(), facts or make_facts(), "cpu")


def test_a_recipe_takes_all_bands_of_the_model_unless_the_job_names_some():
    assert (made().bands, made().all_bands) == ((1, 2, 3), True)
    assert (made(bands=(4, 3, 2)).bands, made(bands=(4, 3, 2)).all_bands) == ((4, 3, 2), False)


def test_normalisation_is_the_models_unless_the_job_says_otherwise():
    assert made().normalize == Normalize(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert made(make_package(normalize=IMAGENET)).normalize == IMAGENET
    assert made(make_package(normalize=None)).normalize is None
    own = Normalize(mean=(0.1,), std=(0.2,))
    assert made(normalize=own).normalize == Normalize(mean=(0.1,) * 3, std=(0.2,) * 3)


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"bands": (1, 2)}, ConfigError, "bands.* names 2"),
        ({"num_classes": 5}, ConfigError, "num_classes says 5"),
        ({"classes": make_product("a", "b").classes}, ConfigError, "classes says 2"),
        ({"normalize": Normalize(mean=(0.5, 0.5), std=(0.5, 0.5))}, ConfigError, "normalize has 2 values"),
        ({"scale": Scale(kind="stretch", low=(0.0, 1.0), high=(9.0,))}, ConfigError, "2 low values"),
        ({"scale": Scale(kind="stretch", low=(9.0,), high=(9.0,))}, ConfigError, "low < high"),
        ({"model": make_package(declares_transforms=False, normalize=None)}, ConfigError, "no deploy.yaml"),
        ({"facts": make_facts(output="classes"), "confidence": True}, ModelError, "confidence"),
        ({"model_options": ModelOptions(path="m", threshold=0.3)}, ConfigError, "gives logits"),
        (
            {"model": make_package(geometry=(Resize(target_hw=(20_000, 20_000)),))},
            ModelError,
            "20000 x 20000 pixels of a tile",
        ),
        ({"model": make_package(size_hw=(64, 96))}, ModelError, "tiles are square"),
        ({"model": make_package(size_hw=(64, 64)), "tile_size": 96}, ConfigError, "takes 64 pixels"),
        ({"model": make_package(size_divisor=32), "tile_size": 40}, ConfigError, "no multiple of 32"),
        ({"model": make_package(dtype="uint8")}, ConfigError, "raw uint8 pixels"),
    ],
)
def test_contradictions_are_refused(changes, error, word):
    with pytest.raises(error, match=word):
        made(**changes)


def test_where_the_model_gives_ids_the_job_says_how_many():
    facts = make_facts(output="classes", class_count=None)
    assert made(facts=facts).class_count is None
    assert made(facts=facts, num_classes=300).class_count == 300
    assert made(facts=facts, classes=make_product("a", "b").classes).class_count == 2


@pytest.mark.parametrize(
    ("scene", "recipe", "word"),
    [
        ({"bands": 4}, {}, "4 bands"),
        ({"bands": 4, "alpha_bands": (4,)}, {}, None),
        ({"bands": 3, "alpha_bands": (3,)}, {}, "2 bands .*alpha: band 3"),
        ({"bands": 4}, {"all_bands": False, "bands": (4, 2, 1)}, None),
        ({"bands": 4}, {"all_bands": False, "bands": (5, 2, 1)}, "band 5"),
        ({"dtypes": ("uint16",) * 3}, {}, "expect uint8"),
        ({"dtypes": ("uint16",) * 3}, {"scale": REFLECTANCE}, None),
        ({"dtypes": ("uint8",) * 3}, {"scale": REFLECTANCE}, "scale reaches 0..10000"),
        (
            {"dtypes": ("uint16",) * 3},
            {"scale": Scale(kind="divide", low=(0.0,), high=(255.0,))},
            "divides by 255",
        ),
        ({"dtypes": ("float32",) * 3}, {"scale": Scale(kind="divide", low=(0.0,), high=(1.0,))}, None),
        ({"dtypes": ("complex64",) * 3}, {"scale": REFLECTANCE}, "complex64"),
        ({"dtypes": ("uint16",) * 3}, {"scale": METADATA}, "no scale and offset for band 1"),
        ({"rescale": ((0.1, 0.0), None, (0.1, 0.0))}, {"scale": METADATA}, "for band 2.*divide: 10000"),
        (
            {"rescale": ((0.1, 0.0), None, (0.1, 0.0))},
            {"scale": METADATA, "bands": (3, 1, 1), "all_bands": False},
            None,
        ),
        ({"dtypes": ("complex64",) * 3, "rescale": ((1.0, 0.0),) * 3}, {"scale": METADATA}, "complex64"),
        ({"dtypes": ("uint8", "uint8", "uint16")}, {}, "uint16"),
        ({"height": 2**31 - 1, "width": 2**31 - 1}, {}, "claims 2,147,483,647 x .* at most 2,000,000"),
        ({"height": 500_000, "width": 400_000}, {"tile_size": 512, "halo": 64}, None),
    ],
)
def test_scenes_that_do_not_fit_are_told_why(scene, recipe, word):
    reason = mismatch(make_scene(**scene), make_recipe(**recipe))
    assert reason is None if word is None else re.search(word, reason)
