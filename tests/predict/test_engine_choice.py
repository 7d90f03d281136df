"""Engines, tiles and halos chosen by a run, kept by the next ones."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from factories import find_sources, make_config, make_facts, make_package, make_source
from probed import RAW, write_conv

from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Gate, JobConfig
from batchseg.models.reading import read_model
from batchseg.predict import course as course_module
from batchseg.predict import engine_choice as choice_module
from batchseg.predict.choice import Choice
from batchseg.predict.engine_choice import asked_for, choose, is_open, try_engines
from batchseg.predict.halo import HaloFigure
from batchseg.predict.remembered import recall_choice, remember_halos
from batchseg.predict.trial import Occasion

KEPT = Choice(
    engine="onnxruntime",
    precision="fp32",
    device="cpu",
    baked=True,
    asked={"engine": "auto", "precision": "auto", "bake": True, "tile_size": None, "halo": None},
    trials=({"engine": "onnxruntime", "precision": "fp32", "tiles_per_second": 9.0},),
    notes=("not baked: ...",),
    tile_size=1024,
    halo=96,
)
NOWHERE = Occasion(sources=(), count=0, workers=1)


def never(line: str) -> None:
    raise AssertionError(line)


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("job", "kept", "expected"),
    [
        ({}, None, True),
        ({"precision": "fp32"}, None, True),
        ({"precision": "fp32", "engine": "paddle"}, None, False),
        ({"precision": "fp32", "engine": "paddle", "tile_size": None}, None, True),
        ({"precision": "fp32", "engine": "paddle", "halo": None}, None, True),
        ({}, KEPT, False),
        ({"precision": "bf16", "halo": None}, KEPT, False),
    ],
)
def test_trials_are_made_where_the_job_leaves_something_open_and_no_run_has_chosen(job, kept, expected):
    assert is_open(make_config(**job), kept) is expected


def test_a_kept_choice_is_taken_without_looking_at_any_source() -> None:
    config = make_config(tile_size=None, halo=None, gate=Gate())
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    assert asked_for(config) == KEPT.asked
    chosen, choice = choose(config, recipe, KEPT, NOWHERE, say=never)
    assert (chosen.engine, chosen.precision) == ("onnxruntime", "fp32")
    assert (chosen.tile_size, chosen.halo) == (1024, 96)
    assert chosen.bake is not None
    assert chosen.bake.margin == 96
    assert choice == KEPT


def test_what_the_job_names_goes_before_what_was_kept() -> None:
    config = make_config(engine="paddle", precision="fp32", tile_size=512, halo=None)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    chosen, _ = choose(config, recipe, KEPT, NOWHERE, say=never)
    assert (chosen.engine, chosen.tile_size, chosen.halo) == ("paddle", 512, 96)


def test_a_kept_engine_that_this_machine_lacks_is_refused_with_a_way_out() -> None:
    config = make_config(tile_size=64)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    kept = Choice(
        engine="paddle-tensorrt", precision="fp16", device="gpu", baked=False, asked=asked_for(config)
    )
    with pytest.raises(
        ModelError, match=r"masks were made by paddle-tensorrt in fp16 on gpu\. Use another output"
    ):
        choose(config, recipe, kept, NOWHERE, say=never)


@pytest.mark.parametrize(
    ("job", "word"),
    [
        ({"engine": "onnxruntime", "precision": "int8"}, "not quantised"),
        ({"engine": "paddle", "precision": "fp16"}, "fp16 is for GPUs"),
        ({"engine": "paddle-tensorrt", "precision": "fp32"}, "TensorRT needs a GPU"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_name(job, word) -> None:
    config = make_config(tile_size=64, halo=8, normalize="none", bake=False, **job)
    recipe = recipe_of(config, make_package(), make_facts(), "cpu")
    with pytest.raises(ModelError, match=word):
        choose(config, recipe, None, NOWHERE, say=quiet)


NAMED = {"engine": "onnxruntime", "precision": "fp32", "tile_size": 64, "halo": 16}


def job_of(folder: Path, *, radius: int = 3, side: int = 700, **job) -> tuple[JobConfig, Recipe, Occasion]:
    """An ONNX network that sees `radius` pixels far, and one scene."""
    if not (folder / "in").exists():
        pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
        write_raster(folder / "in" / "a.tif", pixels)
        write_conv(folder / "a.onnx", radius, gain=8.0)
    config = make_config(
        **{
            "inputs": ((None, f"{folder}/in/*.tif"),),
            "normalize": "none",
            "gate": Gate(tiles=2, seconds=0.1, budget=60),
            "num_classes": 3,
            "scale": RAW,
            **NAMED,
            **job,
        }
    )
    facts = make_facts(stride=1, class_count=None, seconds_per_tile=0.001)
    recipe = recipe_of(config, read_model(str(folder / "a.onnx")), facts, "cpu")
    sources = find_sources(config, {})[0]
    return config, recipe, Occasion(sources=sources, count=len(sources), workers=1)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which nothing is remembered of the networks of other tests."""
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_named_is_taken_as_it_is_without_trials(tmp_path: Path, own_cache: Path, monkeypatch) -> None:
    monkeypatch.delattr(choice_module, "bench")
    config, recipe, occasion = job_of(tmp_path)
    chosen, choice = choose(config, recipe, None, occasion, say=never)
    assert chosen == recipe
    assert choice is not None
    assert (choice.engine, choice.precision, choice.tile_size, choice.halo) == tuple(NAMED.values())
    assert (choice.trials, choice.compared, choice.narrow, choice.seams) == ((), True, False, "")


def test_what_is_left_open_is_tried_and_the_rest_stays_named(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, precision="auto", engine="auto")
    config = dataclasses.replace(config, precision="fp32")
    said: list[str] = []
    chosen, choice = choose(config, recipe, None, occasion, say=said.append)
    assert choice is not None
    tried = {(trial["engine"], trial["precision"]) for trial in choice.trials if trial["tiles_per_second"]}
    assert tried == {("onnxruntime", "fp32"), ("openvino", "fp32")}
    assert (chosen.tile_size, chosen.halo, choice.sides) == (64, 16, ())
    assert "reference: onnxruntime fp32, 2 tiles" in said
    assert said[-1] == f"chosen: {choice.summary}"
    # The next output asks nothing, and is made alike: by a run, and in a plan.
    for tries in (True, False):
        lines: list[str] = []
        again = dataclasses.replace(occasion, tries=tries)
        same, remembered = choose(config, recipe, None, again, say=lines.append)
        assert same == chosen
        assert remembered is not None
        assert remembered.remembered
        assert lines == ["as trials of an earlier output chose on this machine", said[-1]]


def test_a_plan_before_the_first_run_leaves_it_undecided(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, engine="auto", precision="auto")
    plan = dataclasses.replace(occasion, tries=False)
    assert choose(config, recipe, None, plan, say=never) == (recipe, None)


def test_without_a_budget_the_models_own_engine_tile_and_halo_are_taken(tmp_path: Path, own_cache) -> None:
    config, recipe, occasion = job_of(
        tmp_path, engine="auto", precision="auto", tile_size=None, halo=None, gate=Gate(budget=0)
    )
    for tries in (True, False):
        again = dataclasses.replace(occasion, tries=tries)
        chosen, choice = choose(config, recipe, None, again, say=never)
        assert (chosen.engine, chosen.precision) == ("onnxruntime", "fp32")
        assert (chosen.tile_size, chosen.halo) == (512, 64)
        assert choice is not None
        assert (choice.trials, choice.compared, choice.halos) == ((), True, ())


def test_trials_that_would_take_longer_than_they_may_are_not_made_and_it_is_said(tmp_path, own_cache) -> None:
    gate = Gate(budget=5)
    config, recipe, occasion = job_of(tmp_path, side=200, engine="auto", precision="auto", gate=gate)
    recipe = dataclasses.replace(recipe, facts=dataclasses.replace(recipe.facts, seconds_per_tile=3.0))
    said: list[str] = []
    chosen, choice = choose(config, recipe, None, occasion, say=said.append)
    assert re.match(
        r"no trials: they would take 102 s or more, 7 s may be .* about 147 s.*; what the job leaves open is",
        said[1],
    )
    assert said[0].startswith("what a halo of 16 leaves of seams is not known: to measure it takes 2218 s")
    assert chosen == recipe
    assert choice is not None
    assert choice.notes == (said[0], said[1].removeprefix("no trials: "))


def test_a_job_with_much_work_may_try_for_a_twentieth_of_it(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, gate=Gate(budget=5, tiles=2))
    shapes = ((1000, 1000),)
    needed = 6 + 4 * 2 * 0.001  # what starts take, and four passes
    assert choice_module._budget(config, recipe, shapes, occasion)[1].startswith(
        "they would take 6 s or more"
    )
    tiles = 32**2  # of one source, with cores of 32
    enough = int(20 * needed / 0.001 / tiles) + 2
    many = dataclasses.replace(occasion, count=enough)
    seconds, why = choice_module._budget(config, recipe, shapes, many)
    assert why == ""
    assert seconds == pytest.approx(0.05 * enough * tiles * 0.001, rel=0.01)


NARROW = r"^warning: a halo of 8 is narrow for this network: 16 is enough$"


def test_a_halo_that_is_too_small_is_told_by_runs_and_plans(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, radius=9, halo=8, tile_size=64)
    said: list[str] = []
    chosen, choice = choose(config, recipe, None, dataclasses.replace(occasion, tries=False), say=said.append)
    assert re.match(NARROW, said[0])
    assert choice is not None
    assert choice.narrow
    assert f"warning: {choice.seams}" == said[0]
    assert chosen.halo == 8  # as it is named
    assert choose(config, recipe, None, occasion, say=said.append)[1] == choice
    assert said[1] == said[0]


def test_where_every_source_is_one_tile_no_halo_matters(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, radius=15, halo=8, tile_size=716)
    choose(config, recipe, None, occasion, say=never)


def test_a_network_that_no_halo_serves_has_seams_and_no_warning(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, tile_size=256)
    table = (HaloFigure(halo=16, pixels=10_000, changed=300, probability=0.4),)
    remember_halos(recipe, table)
    said: list[str] = []
    _, choice = choose(config, recipe, None, occasion, say=said.append)
    assert choice is not None
    assert not choice.narrow
    assert said == [choice.seams]
    assert said[0].startswith("about 3.0 % of the pixels depend on where tiles lie, as 0.01 Mpx of the")


def test_where_no_source_gives_a_tile_the_run_says_why_and_not_the_trials(tmp_path: Path, own_cache) -> None:
    config, recipe, _ = job_of(tmp_path, engine="auto", precision="auto")
    (tmp_path / "in" / "a.tif").write_text("no raster")
    occasion = Occasion(sources=find_sources(config, {})[0], count=1, workers=1)
    said: list[str] = []
    chosen, choice = choose(config, recipe, None, occasion, say=said.append)
    assert said == ["no trials: no source gave a tile to try engines with"]
    assert chosen == recipe
    assert choice is not None
    assert recall_choice(config, recipe, (), 1) is None


def test_a_choice_that_compared_nothing_is_made_anew_where_there_is_a_source(monkeypatch) -> None:
    config = make_config(**NAMED)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    kept = dataclasses.replace(KEPT, compared=False)
    asked = []

    def named(config, recipe, occasion, say):
        asked.append(occasion)
        return recipe, (), True

    monkeypatch.setattr(choice_module, "as_named", named)
    monkeypatch.setattr(choice_module, "bakeable", lambda recipe: (recipe, ()))
    assert choose(config, recipe, kept, NOWHERE, say=never)[1] == kept
    assert asked == []
    occasion = Occasion(sources=[make_source()], count=1, workers=1)
    _, choice = choose(config, recipe, kept, occasion, say=never)
    assert asked == [occasion]
    assert choice is not None
    assert choice.compared


def test_an_output_that_trusted_a_named_engine_goes_on_and_says_so() -> None:
    config = make_config(engine="onnxruntime", precision="fp32", tile_size=64, halo=8)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    kept = Choice(engine="onnxruntime", precision="fp32", device="cpu", baked=False, asked=asked_for(config))
    said: list[str] = []
    occasion = Occasion(sources=[make_source()], count=1, workers=1)
    _, choice = choose(config, recipe, kept, occasion, say=said.append)
    assert choice == kept
    assert "never compared with paddle, the model's own engine: `batchseg model bench" in said[0]


@pytest.mark.parametrize(
    ("job", "seconds", "enough", "expected"),
    [
        # Three sides cover 1,536 pixels each, in tiles of 64 with cores of 32, of a millisecond.
        ({}, 14.0, False, (True, True)),
        ({}, 13.5, False, (True, False)),
        ({}, 1.0, True, (True, True)),  # a halo that is enough leaves nothing to compare
        ({"tile_size": 64}, 1.0, False, (False, True)),
    ],
)
def test_sides_are_compared_where_half_of_the_time_is_enough(
    job, seconds, enough, expected, tmp_path, own_cache
):
    config, recipe, occasion = job_of(tmp_path, **{"tile_size": None, "halo": None, "engine": "auto", **job})
    recipe = recipe.tiled(64, 16)
    table = (HaloFigure(halo=16, pixels=10_000, changed=0 if enough else 100, probability=0.0),)
    found = choice_module.scope_of(config, recipe, occasion, table, seconds=seconds)
    assert (found.open_tile, found.compares) == expected


def test_a_halo_that_is_known_by_now_makes_an_earlier_choice_anew(tmp_path: Path, own_cache: Path) -> None:
    """The first output had no time to look for one."""
    config, recipe, occasion = job_of(tmp_path, halo=None)
    slow = dataclasses.replace(recipe, facts=dataclasses.replace(recipe.facts, seconds_per_tile=0.5))
    _, first = choose(config, slow, None, occasion, say=quiet)
    assert first is not None
    assert (first.halo, first.halos) == (16, ())
    assert first.notes[0].startswith("what a halo of 16 leaves of seams is not known: to measure it takes")
    said: list[str] = []
    _, again = choose(config, slow, None, occasion, say=said.append)
    assert again is not None
    assert again.remembered
    remember_halos(recipe, (HaloFigure(halo=8, pixels=100_000, changed=0, probability=0.0),))
    _, third = choose(config, slow, None, occasion, say=quiet)
    assert third is not None
    assert (third.halo, third.remembered) == (8, False)
    _, last = choose(config, slow, None, occasion, say=quiet)
    assert last is not None
    assert last.remembered


def test_where_the_models_own_engine_fails_on_tiles_the_run_goes_on_without_trials(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        msg = "std::exception"
        raise RuntimeError(msg)

    monkeypatch.setattr(course_module, "together", fails)
    config, recipe, occasion = job_of(tmp_path, engine="auto")
    said: list[str] = []
    chosen, choice = choose(config, recipe, None, occasion, say=said.append)
    assert said[-1] == (
        "no trials: onnxruntime cannot predict tiles of the job as the reference: std::exception"
    )
    assert chosen == recipe
    assert choice is not None
    assert choice.trials == ()


def test_a_plan_warns_of_a_small_tile_that_is_named_where_halos_are_known(
    tmp_path: Path, own_cache: Path
) -> None:
    config, recipe, occasion = job_of(tmp_path, engine="auto", halo=None)
    plan = dataclasses.replace(occasion, tries=False)
    assert choose(config, recipe, None, plan, say=never) == (recipe, None)
    remember_halos(recipe, (HaloFigure(halo=16, pixels=10_000, changed=300, probability=0.4),))
    said: list[str] = []
    choose(config, recipe, None, plan, say=said.append)
    assert said[0].startswith("warning: about 3.0 % of the pixels depend on where tiles lie")
    assert said[0].endswith("tiles of 64 show it less than usual ones: more than that may be wrong")


@pytest.mark.slow
def test_a_bench_may_take_the_place_of_what_was_chosen_before(tmp_path: Path, own_cache: Path) -> None:
    config, recipe, occasion = job_of(tmp_path, engine="auto")
    config = dataclasses.replace(config, gate=Gate(tiles=2, seconds=0.1, budget=0.5))
    assert recall_choice(config, recipe, ((700, 700),), 1) is None
    found = try_engines(config, recipe, occasion, say=quiet, remember=True)
    choice = recall_choice(config, recipe, ((700, 700),), 1)
    assert choice is not None
    assert (choice.engine, choice.precision) == (found.chosen.engine, found.chosen.precision)
    said: list[str] = []
    choose(config, recipe, None, occasion, say=said.append)
    assert said[0] == "as trials of an earlier output chose on this machine"
