from dataclasses import replace

import numpy as np
import pytest
from factories import IMAGENET, make_config, make_facts, make_package, make_product, prepared

from batchseg.errors import ConfigError, ModelError
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Scale
from batchseg.models.package import ModelOptions, Normalize, Resize


def test_a_model_without_normalisation_gets_the_pixels_as_they_are():
    config = make_config(normalize="none", bake=False)
    recipe = recipe_of(config, make_package(), make_facts(), "cpu")
    tile = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    assert np.array_equal(prepared(recipe, tile), tile.astype(np.float32))


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


def test_scenes_are_read_at_the_jobs_resolution_or_the_models():
    model = make_package(pixel_size=0.1)
    plain = made(model=model)
    assert (plain.resolution, plain.any_resolution, plain.model_grid) == (0.1, False, None)
    taken = made(model=model, resolution="any")
    assert (taken.resolution, taken.any_resolution, taken.model_grid) == (0.1, True, None)
    asked = made(model=model, resolution=Resolution(2.0), max_ratio=20.0, mask_resolution="model")
    assert asked.resolution == 0.1
    assert asked.model_grid == ModelGrid(resolution=Resolution(2.0), max_ratio=20.0, mask="model")
    assert made(model=model, resolution="model").model_grid == ModelGrid(resolution=Resolution(0.1))
    with pytest.raises(ConfigError, match="resolution: model, but the model's files say none"):
        made(resolution="model")


def test_bands_by_name_are_counted_and_numbered_by_each_scene():
    recipe = made(bands=("red", "green", "blue"))
    assert (recipe.band_names, len(recipe.bands), recipe.all_bands) == (("red", "green", "blue"), 3, False)
    with pytest.raises(ConfigError, match="`bands` names 2, the model takes 3"):
        made(bands=("red", "green"))
    assert made(bands=(3, 2, 1)).band_names == ()


def test_an_onnx_file_of_one_size_may_be_asked_for_another():
    fixed = make_package(format="onnx", params=None, size_hw=(64, 64))
    assert (made(fixed, tile_size=None).tile_size, made(fixed, tile_size=96).tile_size) == (64, 96)
    with pytest.raises(ConfigError, match="100 is no multiple of 32"):
        made(replace(fixed, size_divisor=32), tile_size=100)
    with pytest.raises(ConfigError, match="takes 64 pixels; leave it out"):
        made(replace(fixed, encrypted=True), tile_size=96)
    with pytest.raises(ModelError, match="tiles are square"):
        made(replace(fixed, size_hw=(64, 96)), tile_size=96)


@pytest.mark.parametrize(
    ("model", "job", "tile"),
    [
        ({}, {"halo": 128}, 512),
        ({}, {"halo": 192}, 512),  # a quarter is left
        ({}, {"halo": 224}, 896),
        ({}, {"halo": 320}, 1280),
        ({"format": "onnx", "size_hw": (256, 256)}, {"halo": 128}, 512),  # it may be opened
        ({}, {"halo": 32, "tile_size": 96}, 96),  # what is named stays
    ],
)
def test_a_wide_halo_makes_the_tile_grow_unless_it_is_named(model, job, tile) -> None:
    recipe = made(make_package(**model), make_facts(stride=32), **{"tile_size": None, **job})
    assert (recipe.tile_size, recipe.halo) == (tile, job["halo"])


def test_a_network_of_one_size_alone_has_no_room_for_a_wide_halo() -> None:
    with pytest.raises(ConfigError, match="halo 128 leaves no core in tile_size 256"):
        made(make_package(size_hw=(256, 256)), make_facts(stride=32), tile_size=None, halo=128)
