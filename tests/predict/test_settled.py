"""What a machine, a graph and an output's earlier runs leave no choice about."""

import dataclasses
from pathlib import Path

import pytest
from factories import make_config, make_facts, make_package
from packages import paddle_package

from batchseg.engines.base import Offer
from batchseg.errors import ModelError
from batchseg.job.recipe import Quantized
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.predict import settled as settled_module
from batchseg.predict.choice import Choice
from batchseg.predict.settled import (
    as_before,
    bakeable,
    check_asked,
    check_offer,
    is_own,
    is_quantised_here,
)

KEPT = Choice(
    engine="onnxruntime",
    precision="fp32",
    device="cpu",
    baked=True,
    asked={"bake": True},
    tile_size=1024,
    halo=96,
)


def job(**changes):
    config = make_config(**{"tile_size": None, "halo": None, **changes})
    return config, recipe_of(config, make_package(), make_facts(class_count=4), "cpu")


def test_what_is_open_is_as_the_masks_were_made() -> None:
    chosen = as_before(*job(), KEPT)
    assert (chosen.engine, chosen.precision, chosen.tile_size, chosen.halo) == (
        "onnxruntime",
        "fp32",
        1024,
        96,
    )
    assert chosen.bake is not None
    assert as_before(*job(), dataclasses.replace(KEPT, baked=False)).bake is None


@pytest.mark.parametrize(
    ("named", "expected"),
    [({"tile_size": 640}, (640, 96)), ({"halo": 32}, (1024, 32)), ({"tile_size": 640, "halo": 0}, (640, 0))],
)
def test_what_is_named_stays(named, expected) -> None:
    chosen = as_before(*job(**named), KEPT)
    assert (chosen.tile_size, chosen.halo) == expected
    assert chosen.bake is not None
    assert chosen.bake.margin == expected[1]


def test_a_choice_of_an_earlier_version_says_nothing_of_tiles() -> None:
    config, recipe = job()
    chosen = as_before(config, recipe, dataclasses.replace(KEPT, tile_size=None, halo=None))
    assert (chosen.tile_size, chosen.halo) == (recipe.tile_size, recipe.halo)


def test_a_quantised_network_lies_in_the_output_wherever_that_is(monkeypatch) -> None:
    monkeypatch.setattr(settled_module, "check_offer", lambda recipe, remedy="": None)
    kept = dataclasses.replace(
        KEPT,
        engine="openvino",
        precision="int8",
        quantized={"root": "", "path": "_batchseg/networks/ab.zip", "digest": "ab"},
    )
    config, recipe = job(output="/moved")
    expected = Quantized(root="/moved", path="_batchseg/networks/ab.zip", digest="ab")
    assert as_before(config, recipe, kept).quantized == expected
    other, recipe = job(precision="fp32")
    assert as_before(other, recipe, kept).quantized is None


def test_an_engine_without_the_precision_is_refused_with_what_to_do() -> None:
    _, recipe = job(engine="paddle", precision="fp16")
    with pytest.raises(ModelError, match=r"^model: paddle in fp16 on cpu: fp16 is for GPUs; do that$"):
        check_offer(recipe, "; do that")
    _, recipe = job(engine="paddle", precision="fp32")
    check_offer(recipe)


@pytest.mark.parametrize(
    ("named", "model", "said"),
    [
        ({"engine": "paddle", "precision": "fp16"}, {}, "paddle in fp16 on cpu: fp16 is for GPUs"),
        ({"engine": "paddle-tensorrt"}, {}, "paddle-tensorrt on cpu: TensorRT needs a GPU"),
        ({"engine": "paddle"}, {"format": "onnx"}, "paddle on cpu: Paddle does not run ONNX files"),
        (
            {"engine": "paddle-tensorrt", "precision": "fp16"},
            {},
            "paddle-tensorrt in fp16 on cpu: TensorRT needs a GPU",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_the_jobs_words_alone(named, model, said: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_asked(make_config(**named), make_package(**model), "cpu")
    assert str(refused.value) == f"model: {said}"


def test_a_precision_that_no_engine_has_is_refused_with_what_each_says() -> None:
    with pytest.raises(ModelError) as refused:
        check_asked(make_config(precision="fp16"), make_package(), "cpu")
    assert refused.value.lines[0] == "model: no engine runs it here as the job asks:"
    assert "  openvino fp16: fp16 is for GPUs" in refused.value.lines
    assert len(refused.value.lines) == 6


def test_what_may_run_is_left_to_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ({}, {"engine": "onnxruntime"}, {"precision": "fp32"}, {"engine": "openvino"}):
        check_asked(make_config(**named), make_package(), "cpu")
    # Quantised by batchseg, where that is possible.
    can = Offer(engine="openvino", precision="int8", device="cpu")
    monkeypatch.setattr(settled_module, "int8_offer", lambda model, device: can)
    check_asked(make_config(precision="int8"), make_package(), "cpu")
    cannot = dataclasses.replace(can, reason="this CPU has no VNNI")
    monkeypatch.setattr(settled_module, "int8_offer", lambda model, device: cannot)
    with pytest.raises(ModelError, match=r"openvino in int8 on cpu: this CPU has no VNNI$"):
        check_asked(make_config(engine="openvino", precision="int8"), make_package(), "cpu")


def test_a_float_network_in_int8_is_quantised_here_and_is_no_own_engine() -> None:
    _, recipe = job(precision="int8")
    assert recipe.engine == "openvino"
    assert is_quantised_here(recipe)
    assert not is_own(recipe)
    ready = dataclasses.replace(recipe, model=make_package(quantized=True))
    assert not is_quantised_here(ready)


def test_a_graph_that_takes_no_bake_runs_bare_and_it_is_said(models: Path, monkeypatch) -> None:
    config = make_config(tile_size=64, halo=8, normalize="none")
    recipe = recipe_of(config, paddle_package(models / "conv"), make_facts(class_count=3), "cpu")
    assert recipe.bake is not None
    assert bakeable(recipe) == (recipe, ())

    def refuse(recipe: object) -> None:
        msg = "model: no room in it"
        raise ModelError(msg)

    monkeypatch.setattr(settled_module, "network_for", refuse)
    bare, notes = bakeable(recipe)
    assert bare == dataclasses.replace(recipe, bake=None)
    assert notes == ("normalisation and classes stay outside the network: no room in it",)
    assert bakeable(bare) == (bare, ())
