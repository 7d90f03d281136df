"""Engines tried on real tiles: who agrees, who lies, who crashes."""

import dataclasses
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from factories import make_config, make_facts
from liars import BLUE, write_liar
from models import RADIUS
from probed import bare, write_conv

from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Gate
from batchseg.models.reading import read_model
from batchseg.predict import course as course_module
from batchseg.predict import engine_trials as trials_module
from batchseg.predict.course import Course, saved, surveyed
from batchseg.predict.engine_trials import bench, candidates, compare
from batchseg.predict.gate import Agreement
from batchseg.predict.predictor import with_engine
from batchseg.predict.samples import Sample, Samples
from batchseg.predict.trial import Bench, Scope, Trial
from batchseg.predict.truth import Known

GATE = Gate(seconds=0.1)


def recipe_for(models: Path, name: str = "conv", classes: int = 3, **job) -> Recipe:
    config = make_config(**{"tile_size": 64, "halo": 8, "normalize": "none", **job})
    facts = make_facts(class_count=classes, stride=1, seconds_per_tile=0.001)
    return recipe_of(config, read_model(str(models / name)), facts, "cpu")


def noise(recipe: Recipe, count: int = 2, side: int = 96) -> Samples:
    crops = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return samples_of(recipe, *crops)


def samples_of(recipe: Recipe, *crops: np.ndarray) -> Samples:
    return Samples(
        crops=tuple(Sample(pixels=crop, scale=recipe.scale) for crop in crops),
        shapes_hw=tuple(crop.shape[1:] for crop in crops),
    )


def scope_of(**changes) -> Scope:
    usual = {"engines": ("paddle", "onnxruntime"), "precisions": ("fp32",), "workers": 1, "gate": GATE}
    return Scope(**(usual | changes))


def field(*, blue: bool) -> np.ndarray:
    """Dark, with red and green squares; some blue in one corner of it, where it is asked for."""
    pixels = np.random.default_rng(0).integers(20, 120, (3, 256, 256), dtype=np.uint8)
    for band in (0, 1):
        pixels[band, 20 + 90 * band : 100 + 90 * band, 30:200] = 220
    if blue:
        pixels[2, 200:240, 200:240] = 220
    return pixels


@pytest.fixture(scope="module")
def spots(models: Path) -> Iterator[Course]:
    """What the network `spots` says of two of 75 tiles: one crop of three shows blue, in a few tiles."""
    recipe = recipe_for(models, "spots", 4)
    samples = samples_of(recipe, field(blue=False), field(blue=True), field(blue=False))
    scope = scope_of(gate=dataclasses.replace(GATE, tiles=2, seconds=6.0))
    with saved(samples, scope) as folder:
        yield surveyed(recipe, samples, scope, folder, lambda line: None)


def trial_of(course: Course, folder: Path, how: str, precision: str = "fp32", engine: str = "onnxruntime"):
    """What is said of an ONNX file beside the network that answers in some way."""
    model = dataclasses.replace(course.recipe.model, conversion=str(write_liar(folder / "a.onnx", how)))
    recipe = with_engine(dataclasses.replace(course.recipe, model=model), engine, precision)
    return course.run(recipe, Trial(engine=engine, precision=precision), timed=False)


def test_tiles_that_show_a_rare_class_are_chosen(spots: Course) -> None:
    chosen = spots.found.answered
    assert len(chosen) == 2
    assert any((one.labels.classes == BLUE).any() for one in chosen)
    assert {1, 2} <= {k for one in chosen for k in np.unique(one.labels.classes).tolist()}


def test_an_honest_engine_passes(spots: Course, tmp_path: Path) -> None:
    trial = trial_of(spots, tmp_path, "honest")
    assert trial.reason is None
    assert trial.agreement is not None
    assert trial.agreement.sure_share == 1
    assert trial.tiles_per_second is None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("other weights", r"% of the pixels of which the reference is sure .* are of another class"),
        ("classes shifted", r"100\.0000% of the pixels of which the reference is sure"),
        # Right of every tile but those few, and of most pixels there.
        ("blue never predicted", r"% of the pixels of which the reference is sure .* 0\.0100% may be"),
        ("other confidences", r"confidences differ by up to 0\.\d+, those of one network in fp32 by 0\.02"),
    ],
)
def test_an_engine_that_lies_is_out_and_its_reason_is_said(how: str, words: str, spots: Course, tmp_path):
    trial = trial_of(spots, tmp_path, how)
    assert re.search(words, trial.reason or "")


def test_a_class_that_is_never_predicted_shows_by_its_iou_in_any_gate(spots: Course, tmp_path) -> None:
    loose = dataclasses.replace(spots.scope, gate=Gate(equal_pixels=0.5, iou=0.1))
    trial = trial_of(dataclasses.replace(spots, scope=loose), tmp_path, "blue never predicted")
    assert trial.reason == "IoU of class 3 is 0.0000 where the reference is sure, 0.1 is asked for"


def test_in_bf16_another_network_that_sees_one_class_alone_shows_by_its_confidences(models, tmp_path):
    recipe = recipe_for(models, "spots", 4)
    samples = samples_of(recipe, np.random.default_rng(0).integers(60, 140, (3, 96, 96), dtype=np.uint8))
    scope = scope_of()
    with saved(samples, scope) as folder:
        course = surveyed(recipe, samples, scope, folder, lambda line: None)
        liar = trial_of(course, tmp_path, "other confidences", "bf16", "openvino")
        honest = trial_of(course, tmp_path, "honest", "bf16", "openvino")
    assert liar.agreement is not None
    assert liar.agreement.equal_share == 1
    assert re.search(r"confidences differ by 0\.\d+ on average", liar.reason or "")
    assert honest.reason is None


def test_with_a_truth_accuracy_decides(models: Path, tmp_path: Path) -> None:
    """Other confidences do no harm to it; a class that is never predicted does."""
    recipe = recipe_for(models, "spots", 4)
    pixels = field(blue=True)
    right = np.where(pixels.max(axis=0) > 150, pixels.argmax(axis=0) + 1, 0).astype(np.uint16)
    right[:20] = 255  # what nobody knows
    known = Known(sample=Sample(pixels=pixels, scale=recipe.scale), classes=right)
    samples, scope = samples_of(recipe, field(blue=False)), scope_of(known=(known,))
    with saved(samples, scope) as folder:
        course = surveyed(recipe, samples, scope, folder, lambda line: None)
        reference = course.reference()
        assert reference.accuracy is not None
        assert reference.accuracy.mean_iou == 1
        assert [class_id for class_id, _ in reference.accuracy.iou] == [0, 1, 2, BLUE]
        assert trial_of(course, tmp_path, "other confidences").reason is None
        lacking = trial_of(course, tmp_path, "blue never predicted")
    assert lacking.accuracy is not None
    assert lacking.accuracy.mean_iou == pytest.approx(0.75, abs=0.02)
    assert "mean IoU against the truth falls from 1.0000 to 0.7" in (lacking.reason or "")


@pytest.mark.slow
def test_tile_and_engine_are_found_together(models: Path) -> None:
    recipe = recipe_for(models, halo=16)
    lines: list[str] = []
    scope = scope_of(workers=2, open_tile=True, sources=1000, compares=True)
    found = bench(recipe, noise(recipe, 2, 700), scope, say=lines.append)
    assert [trial.name for trial in found.trials] == ["paddle fp32", "onnxruntime fp32", "paddle fp32"]
    assert [trial.bare for trial in found.trials] == [True, False, False]
    assert lines[0] == "reference: paddle fp32, 8 tiles"
    assert lines[-1] == "trying paddle fp32"
    for trial in found.trials:
        assert trial.reason is None
        assert trial.tiles_per_second is not None
        assert trial.megapixels_per_second is not None
    assert found.chosen in found.trials[1:]
    assert found.halo == 16 > RADIUS
    assert found.sides[0].tile_size == 64
    assert found.tile_size in {side.tile_size for side in found.sides}
    assert found.tile_size >= 128  # of 64 a halo of 16 leaves a quarter
    assert {trial.tile_size for trial in found.trials} == {found.tile_size}
    assert found.scene_megapixels == pytest.approx(490)


@pytest.mark.parametrize("what", ["dies", "crawls"])
def test_an_engine_that_dies_or_crawls_is_out_and_not_the_run(what, tmp_path, monkeypatch):
    recipe = bare(write_conv(tmp_path / "a.onnx", 3, gain=8.0))
    monkeypatch.setattr(course_module, "START_SECONDS", 2.0)
    monkeypatch.setattr(course_module, "PATIENCE", 0.0)
    monkeypatch.setattr(course_module, "attempt", {"dies": dies, "crawls": crawls}[what])
    found = bench(recipe, noise(recipe, 1), scope_of(engines=("onnxruntime",)))
    assert re.search("was ended by SIGABRT|gave no answer", found.trials[1].reason or "")
    assert (found.chosen.name, found.chosen.bare) == ("onnxruntime fp32", True)
    assert [one.name for one in found.trials if one.offered] == 2 * ["onnxruntime fp32"]


def dies(*args: object) -> None:
    os.abort()


def crawls(*args: object) -> None:
    time.sleep(600)


def trial(name: str, speed: float | None, reason: str | None = None, **more) -> Trial:
    engine, precision = name.split()
    return Trial(engine=engine, precision=precision, tiles_per_second=speed, reason=reason, **more)


BASE = trial("paddle fp32", 9, bare=True)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([trial("openvino bf16", 20), trial("paddle fp32", 10)], "openvino bf16"),
        ([trial("openvino bf16", 20, "lies"), trial("paddle fp32", 10)], "paddle fp32"),
        ([trial("openvino fp32", 10.4), trial("paddle fp32", 10)], "paddle fp32"),
        ([trial("openvino fp32", 10.6), trial("paddle fp32", 10)], "openvino fp32"),
        ([trial("openvino fp32", 2), trial("paddle fp32", 10, "lies")], "paddle fp32"),
        ([trial("openvino fp32", 20), trial("paddle fp32", 10, "lies")], "openvino fp32"),
        ([trial("openvino fp32", 20, "lies"), trial("paddle fp32", 10, "lies")], "paddle fp32"),
    ],
)
def test_the_fastest_that_passed_is_chosen_unless_it_is_only_noise(trials, chosen):
    found = trials_module._choose(trials, BASE)
    assert found.name == chosen
    assert found.bare is (found == BASE)
    assert found in (*trials, BASE)
    assert found.reason is None


def test_where_none_passes_of_what_was_asked_for_every_reason_is_said() -> None:
    with pytest.raises(ModelError, match=r"openvino fp32: lies\n  openvino bf16: crawls"):
        trials_module._choose(
            [trial("openvino fp32", 10, "lies"), trial("openvino bf16", None, "crawls")], None
        )


@pytest.mark.slow
def test_where_nothing_agrees_the_bare_network_itself_is_taken(models: Path) -> None:
    recipe = recipe_for(models)
    never = Gate(equal_pixels=1.1, seconds=0.1)
    found = bench(recipe, noise(recipe, 1), scope_of(engines=("paddle",), gate=never))
    assert (found.chosen.name, found.chosen.bare) == ("paddle fp32", True)
    assert "of the pixels of which the reference is sure" in (found.trials[1].reason or "")


def test_an_engine_is_compared_without_being_timed(tmp_path: Path) -> None:
    recipe = with_engine(bare(write_conv(tmp_path / "a.onnx", 3, gain=8.0)), "openvino", "fp32")
    (trial,) = compare(recipe, noise(recipe, 1), scope_of(engines=("openvino",))).trials
    assert (trial.name, trial.reason, trial.tiles_per_second) == ("openvino fp32", None, None)
    assert trial.agreement is not None
    assert trial.agreement.equal_share >= 0.999


def test_likely_engines_are_tried_first_and_the_models_own_last(models: Path) -> None:
    recipe = recipe_for(models)
    everything = scope_of(
        engines=("paddle", "onnxruntime", "openvino"), precisions=("fp32", "bf16", "fp16", "int8"), int8=True
    )
    found = [(one.engine, one.precision) for one, _ in candidates(recipe, everything)]
    assert found[0] == ("openvino", "int8")
    assert found[-1] == ("paddle", "fp32")
    assert found.index(("openvino", "bf16")) < found.index(("openvino", "fp32"))
    assert all(
        recipe_.engine == "onnxruntime"
        for recipe_, _ in candidates(recipe, scope_of(engines=("onnxruntime",)))
    )


def tried(monkeypatch, speeds: dict[str, float | None], *, until: float = float("inf"), **scope):
    """A course whose candidates run at these speeds, in their order; one without one lies; reference: 10."""
    names = [Trial(engine=name.split()[0], precision=name.split()[1]) for name in speeds]

    def run(recipe: Recipe, trial: Trial) -> Trial:
        near = Agreement(pixels=1, equal=1)
        speed = speeds[trial.name]
        return dataclasses.replace(
            trial, tiles_per_second=speed, agreement=near, reason=None if speed else "lies"
        )

    class Fake:
        recipe = None

        def reference(self) -> Trial:
            return dataclasses.replace(BASE, tiles_per_second=10)

        def bench(self, trials, chosen, quantized):
            return Bench(
                trials=trials,
                chosen=chosen,
                tiles=1,
                workers=1,
                class_count=None,
                classes_seen=0,
                tile_size=64,
                halo=8,
            )

    monkeypatch.setattr(trials_module, "candidates", lambda recipe, scope: [(one, None) for one in names])
    monkeypatch.setattr(trials_module, "_trial_of", lambda one: one)
    monkeypatch.setattr(trials_module, "_is_own", lambda one, recipe: one.name == "paddle fp32")
    monkeypatch.setattr(trials_module, "_tried", lambda course, one, trial: (run(one, trial), None))
    found = trials_module._try_all(Fake(), scope_of(**scope), until, lambda line: None)
    return found.chosen, [one.name for one in found.trials[1:]], list(found.untried)


def test_once_a_lower_precision_has_passed_and_is_faster_nothing_else_is_tried(monkeypatch) -> None:
    speeds = {"openvino bf16": 30.0, "paddle bf16": 20.0, "paddle fp32": 11.0}
    chosen, names, untried = tried(monkeypatch, speeds)
    assert (chosen.name, names) == ("openvino bf16", ["openvino bf16"])
    assert untried == ["paddle bf16", "paddle fp32"]
    chosen, names, untried = tried(monkeypatch, speeds, everything=True)
    assert (chosen.name, names, untried) == ("openvino bf16", list(speeds), [])


def test_a_lower_precision_that_is_no_faster_ends_no_trials(monkeypatch) -> None:
    speeds = {"openvino bf16": 5.0, "openvino fp32": 20.0, "paddle fp32": 11.0}
    chosen, names, untried = tried(monkeypatch, speeds)
    assert (chosen.name, names, untried) == ("openvino fp32", list(speeds), [])


def test_when_the_time_is_up_one_was_tried_and_the_others_are_named(monkeypatch) -> None:
    speeds = {"openvino fp32": 20.0, "onnxruntime fp32": 30.0, "paddle fp32": 11.0}
    chosen, names, untried = tried(monkeypatch, speeds, until=time.monotonic())
    assert (chosen.name, names) == ("openvino fp32", ["openvino fp32"])
    assert untried == ["onnxruntime fp32", "paddle fp32"]


@pytest.mark.parametrize("first", [{"openvino bf16": 10.4}, {"openvino bf16": None}])
def test_when_the_time_is_up_the_models_own_engine_runs_as_without_trials(first, monkeypatch) -> None:
    """What was tried lies, or is faster than the bare network by noise alone."""
    speeds = {**first, "openvino fp32": 30.0, "paddle fp32": 11.0}
    chosen, names, untried = tried(monkeypatch, speeds, until=time.monotonic())
    assert (names, untried) == (["openvino bf16"], ["openvino fp32", "paddle fp32"])
    assert (chosen.name, chosen.bare, chosen.tiles_per_second) == ("paddle fp32", False, None)


def test_where_the_models_own_engine_is_not_asked_for_trials_go_on_until_one_passes(monkeypatch) -> None:
    speeds = {"openvino bf16": None, "openvino fp32": 3.0, "onnxruntime fp32": 30.0}
    asked = {"engines": ("openvino", "onnxruntime"), "precisions": ("bf16", "fp32")}
    chosen, names, untried = tried(monkeypatch, speeds, until=time.monotonic(), **asked)
    assert (chosen.name, names) == ("openvino fp32", ["openvino bf16", "openvino fp32"])
    assert untried == ["onnxruntime fp32"]
