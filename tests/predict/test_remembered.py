"""What trials found for a model, on a machine, for a kind of data."""

import dataclasses
from pathlib import Path

import pytest
from factories import make_config, make_package, make_recipe, make_source

from batchseg.job.settings import Gate, Scale
from batchseg.models.package import Normalize
from batchseg.predict import remembered
from batchseg.predict.choice import Choice
from batchseg.predict.halo import HaloFigure
from batchseg.predict.remembered import (
    recall_choice,
    recall_halos,
    recall_shapes,
    remember_choice,
    remember_halos,
    remember_shapes,
    size_class,
)

CONFIG = make_config(tile_size=None, halo=None, gate=Gate())
RECIPE = make_recipe()
SHAPES = ((3000, 4000), (3100, 3900))
CHOICE = Choice(
    engine="openvino",
    precision="bf16",
    device="cpu",
    baked=True,
    asked={"engine": "auto", "tile_size": None},
    trials=({"engine": "openvino", "precision": "bf16", "equal": 1.0},),
    compared=True,
    tile_size=1024,
    halo=96,
    seconds_per_tile=0.5,
)
TABLE = (
    HaloFigure(halo=16, pixels=100, changed=3, probability=0.25),
    HaloFigure(halo=17, pixels=100, changed=3, probability=None, lines_up=False),
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))


def remember(config=CONFIG, recipe=RECIPE) -> None:
    remember_choice(config, recipe, SHAPES, 4, CHOICE)


def test_a_choice_serves_the_next_output_of_such_a_job_wherever_the_model_lies() -> None:
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) is None
    remember()
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) == CHOICE
    elsewhere = dataclasses.replace(CONFIG, output="/other", inputs=((None, "/others"),), path="b.yaml")
    package = make_package(path="/elsewhere", network="/elsewhere/model.json")
    moved = dataclasses.replace(RECIPE, model=package)
    assert recall_choice(elsewhere, moved, ((3200, 4000),), 4) == CHOICE


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "paddle"},
        {"precision": "fp32"},
        {"tile_size": 512},
        {"halo": 64},
        {"bake": False},
        {"confidence": True},
        {"gate": Gate(equal_pixels=0.99)},
        {"gate": Gate(tiles=2)},
    ],
    ids=str,
)
def test_a_job_that_asks_for_something_else_is_tried_anew(changes) -> None:
    remember()
    assert recall_choice(dataclasses.replace(CONFIG, **changes), RECIPE, SHAPES, 4) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"model": make_package(digest="1" * 64)},
        {"bands": (3, 2, 1)},
        {"band_names": ("red", "green", "blue")},
        {"scale": Scale(kind="stretch", low=(0.0,), high=(1000.0,))},
        {"normalize": Normalize(mean=(0.4,) * 3, std=(0.5,) * 3)},
        {"fit": "tile"},
        {"device": "gpu"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_model_or_kind_of_data_is_tried_anew(changes) -> None:
    remember()
    other = dataclasses.replace(RECIPE, **changes)
    assert recall_choice(CONFIG, other, SHAPES, 4) is None
    remember_halos(RECIPE, TABLE)
    assert (recall_halos(other) is None) is ("device" not in changes)


@pytest.mark.parametrize("name", ["cpu_class", "cpu_model", "core_count"])
def test_another_machine_is_tried_anew_and_its_halos_are_the_same(name: str, monkeypatch) -> None:
    remember()
    remember_halos(RECIPE, TABLE)
    monkeypatch.setattr(remembered, name, lambda: "another")
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) is None
    assert recall_halos(RECIPE) == TABLE


def test_other_predictors_sizes_or_versions_of_engines_are_tried_anew(monkeypatch) -> None:
    remember()
    assert recall_choice(CONFIG, RECIPE, SHAPES, 5) is None
    assert recall_choice(CONFIG, RECIPE, ((600, 600),), 4) is None

    class Newer:
        def version(self) -> str:
            return "newer"

    monkeypatch.setattr(remembered, "engine", lambda name: Newer())
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) is None


def test_another_onnx_file_beside_the_network_is_tried_anew(tmp_path: Path) -> None:
    """It may be of other weights, or slower."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    recipe = dataclasses.replace(RECIPE, model=make_package(conversion=str(file)))
    remember(recipe=recipe)
    assert recall_choice(CONFIG, recipe, SHAPES, 4) == CHOICE
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) is None
    file.write_bytes(b"another")
    assert recall_choice(CONFIG, recipe, SHAPES, 4) is None


def test_a_quantised_network_that_the_cache_dropped_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(b"network")
    quantized = {"root": str(tmp_path), "path": file.name, "digest": "ab"}
    choice = dataclasses.replace(CHOICE, precision="int8", quantized=quantized)
    remember_choice(CONFIG, RECIPE, SHAPES, 4, choice)
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) == choice
    file.unlink()
    assert recall_choice(CONFIG, RECIPE, SHAPES, 4) is None


def test_encrypted_models_leave_nothing(tmp_path: Path) -> None:
    sealed = dataclasses.replace(RECIPE, model=make_package(encrypted=True))
    remember(recipe=sealed)
    remember_halos(sealed, TABLE)
    assert recall_choice(CONFIG, sealed, SHAPES, 4) is None
    assert recall_halos(sealed) is None
    assert not (tmp_path / "cache").exists()


def test_halos_are_of_all_tiles_and_gates() -> None:
    remember_halos(RECIPE, TABLE)
    assert recall_halos(RECIPE.tiled(64, 8)) == TABLE
    assert recall_halos(dataclasses.replace(RECIPE, engine="openvino", precision="bf16")) == TABLE


def test_shapes_are_of_versions_of_sources() -> None:
    sources = [make_source("a.tif"), make_source("b.tif")]
    assert recall_shapes(sources) is None
    remember_shapes(sources, SHAPES)
    assert recall_shapes(sources) == SHAPES
    assert recall_shapes(sources[:1]) is None
    assert recall_shapes([sources[0], make_source("b.tif", tag="tag-2")]) is None


def test_sources_of_about_one_size_are_of_one_class() -> None:
    assert size_class(((500, 900),)) == size_class(((512, 512), (450, 4000), (900, 800)))
    assert size_class(((512, 512),)) != size_class(((513, 900),))
    assert size_class(((7000, 7000),)) == size_class(((5000, 8192),)) != size_class(((9000, 9000),))
    assert size_class(()) == "0"


def test_a_table_of_fewer_pixels_takes_no_others_place() -> None:
    def table(pixels: int) -> tuple[HaloFigure, ...]:
        return (HaloFigure(halo=16, pixels=pixels, changed=pixels // 2, probability=0.5),)

    assert remember_halos(RECIPE, table(1000)) == 0
    assert remember_halos(RECIPE, table(100)) == 1000
    assert recall_halos(RECIPE) == table(1000)
    assert remember_halos(RECIPE, table(5000)) == 0
    assert recall_halos(RECIPE) == table(5000)
