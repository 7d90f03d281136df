"""What a run decides before it plans: which of an output's earlier decisions still hold."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import JobWriter, read_mask, reflectance, write_raster
from factories import make_config, make_facts, make_package, make_recipe
from fixed_graphs import declare_open, write_fixed
from runs import run

from batchseg.driver import prepare as prepare_module
from batchseg.driver.dry_run import dry_run
from batchseg.driver.prepare import check_tiles, kept_choice
from batchseg.errors import ConfigError, ModelError
from batchseg.job.file import load_job
from batchseg.output.state import OutputState
from batchseg.predict.choice import Choice
from batchseg.system.machine import cpu_class

CHOICE = Choice(engine="paddle", precision="fp32", device="cpu", baked=False, asked={})


def state_of(**changes):
    recipe = make_recipe()
    state = OutputState(
        pixel=recipe.settings(),
        device="cpu",
        facts=make_facts(),
        roots={},
        choice=CHOICE,
        classes=(),
        colors=(),
        vanished=(),
    )
    return dataclasses.replace(state, **changes)


def test_a_choice_of_an_engine_is_kept_for_the_same_model_alone():
    model, state = make_recipe().model, state_of()
    # By a version that knew tiles as pixel settings alone: those are what it is run with.
    assert kept_choice(model, state) == dataclasses.replace(CHOICE, tile_size=16, halo=3)
    assert kept_choice(model, None) is None
    assert kept_choice(dataclasses.replace(model, digest="another"), state) is None


def test_a_second_run_probes_no_model(
    tmp_path: Path, write_job: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    job = write_job()
    run(job)

    def probe(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(prepare_module, "probe_model", probe)
    assert run(job).skipped == 1
    with pytest.raises(AssertionError):
        run(job, "tile_size=48")


def test_an_engine_that_this_machine_lacks_is_refused_before_the_model_is_tried(
    tmp_path: Path, write_job: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    job, probed = write_job(tile_size=None, halo=None), []

    def probe(*_: object) -> tuple[object, str]:
        probed.append("once")
        return make_facts(channels=4, class_count=4), "gpu"

    monkeypatch.setattr(prepare_module, "probe_model", probe)
    monkeypatch.setattr(prepare_module, "has_gpu_nodes", lambda: False)
    words = ("engine=paddle-tensorrt", "gate.budget=20")
    for do in (lambda: run(job, *words), lambda: dry_run(load_job(job, words), lambda line: None)):
        with pytest.raises(ModelError, match=r"^model: paddle-tensorrt on cpu: TensorRT needs a GPU$"):
            do()
    assert probed == []
    # Where there may be a GPU, the probe tells whether the job gets it.
    monkeypatch.setattr(prepare_module, "has_gpu_nodes", lambda: True)
    with pytest.raises(ModelError, match=r"^model: paddle-tensorrt on gpu: "):
        run(job, *words)
    assert probed == ["once"]


@pytest.mark.slow
def test_a_truth_is_looked_for_by_plans_too_and_said_to_be_idle_where_it_is(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    words, said = [f"gate.truth={{images: {tmp_path}/in, labels: {tmp_path}/labels}}"], list[str]()
    job = write_job()
    with pytest.raises(ConfigError, match=r"gate: truth: labels: .*/labels matches no file; check the path$"):
        dry_run(load_job(job, words), said.append)
    write_raster(tmp_path / "labels" / "a.tif", reflectance(70, 90)[:1])
    dry_run(load_job(job, words), said.append)
    idle = "gate: truth is not looked at: there are no trials, and the model's own engine needs no proof"
    assert said.count(idle) == 1
    said.clear()
    dry_run(load_job(job, [*words, "gate.budget=20"]), said.append)  # its first run will look
    dry_run(load_job(job, [*words, "engine=onnxruntime"]), said.append)
    assert idle not in said


def test_tiles_that_do_not_line_up_are_refused_for_what_is_new_and_finished_where_begun() -> None:
    recipe = make_recipe(facts=make_facts(stride=4), tile_size=64, halo=6)
    config, said = make_config(tile_size=64, halo=6), []
    begun = state_of(pixel=recipe.settings())
    check_tiles(config, recipe, begun, said.append)
    assert re.search(
        r"This output is finished as it was begun; .* another `output`, and set halo: 8", said[0]
    )
    for state in (None, state_of(pixel={**recipe.settings(), "halo": 8})):
        with pytest.raises(ConfigError, match="Set halo: 8"):
            check_tiles(config, recipe, state, said.append)
    check_tiles(config, make_recipe(facts=make_facts(stride=4), tile_size=64, halo=8), None, said.append)
    assert len(said) == 1


def test_a_network_of_one_odd_size_runs_and_says_what_its_masks_are() -> None:
    model = make_package(size_hw=(62, 62))
    recipe = make_recipe(model=model, facts=make_facts(stride=4), tile_size=62, halo=8)
    said: list[str] = []
    check_tiles(make_config(), recipe, None, said.append)
    assert re.search(r"a core of 46 pixels .* takes 62 pixels: no halo mends it", said[0])


def test_a_run_refuses_tiles_that_do_not_line_up_and_its_remedy_is_right(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 150, 190), dtype=np.uint8)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    keys = {
        "model": str(models / "coarse"),
        "bands": None,
        "classes": ["a", "b", "c"],
        "scale": {"divide": 1},
    }
    job = write_job(**keys, halo=6)
    with pytest.raises(ConfigError, match=r"network's stride is 4\. .* Set halo: 8$"):
        run(job)
    assert not (tmp_path / "out" / "_batchseg" / "output.json").exists()
    assert run(job, "halo=8").tally.done == 1
    # Cells of 4 x 4 pixels, whichever tile saw them: no border of a tile shows.
    cells = pixels[:, :148, :188].astype(np.float32).reshape(3, 37, 4, 47, 4).mean(axis=(2, 4))
    expected = cells.argmax(axis=0).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif")[:148, :188], expected)


@pytest.mark.parametrize("halo", [None, 8])
def test_a_tile_that_the_network_does_not_take_for_its_stride_is_refused_with_the_next(
    tmp_path: Path, write_job: JobWriter, halo: int | None
) -> None:
    write_raster(tmp_path / "in" / "a.tif", np.ones((3, 70, 90), np.uint8))
    keys = {"bands": None, "classes": None, "scale": None, "normalize": "none", "halo": halo}
    job = write_job(**keys, model=str(write_fixed(tmp_path / "a.onnx", side=None)))
    for do in (lambda: run(job, "tile_size=63"), lambda: dry_run(load_job(job, ["tile_size=63"]), str)):
        with pytest.raises(
            ConfigError, match=r"network's stride is 2\. .* Set tile_size: 64( and halo: \d+)?$"
        ):
            do()


def test_a_network_that_fails_on_a_tile_for_another_reason_says_its_own(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "a.tif", np.ones((3, 70, 90), np.uint8))
    model = str(declare_open(write_fixed(tmp_path / "a.onnx", "positions")))
    keys = {"bands": None, "classes": None, "scale": None, "normalize": "none", "halo": 8}
    for size in (80, 81):  # of no size but its own; nothing tells the stride, either
        with pytest.raises(ModelError, match=f"fails on one tile of 3 bands and {size} pixels"):
            run(write_job(**keys, model=model, tile_size=size))


def test_facts_of_a_version_that_did_not_look_for_the_stride_are_asked_for_again() -> None:
    config = make_config()
    model = make_recipe().model
    for stride, known in ((None, False), (0, True), (4, True)):
        state = state_of(facts=make_facts(stride=stride, cpu_class=cpu_class()))
        assert prepare_module._same_model(config, model, state) is known
