"""benchmarks.without_knobs: jobs that name everything and nothing, the best of them, and what was refused."""

import doctest
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchseg.job.file import load_job
from benchmarks import without_knobs
from benchmarks.options import Options
from benchmarks.rows import PPOCR_FOLDER
from benchmarks.runs import EndedError

KNOBS = ("engine", "precision", "tile_size", "halo")

SUBJECTS = {subject.name: subject for subject in without_knobs.SUBJECTS}


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / PPOCR_FOLDER).mkdir(parents=True)
    said: list[str] = []
    scene = tmp_path / "scene.tif"
    return Options(work=tmp_path, data=tmp_path, scene=scene, rounds=2, only=("landcover",), say=said.append)


@pytest.mark.parametrize("name", ["landcover", "ppocr"])
def test_jobs_name_all_four_or_none(name: str, options: Options) -> None:
    jobs = without_knobs.jobs_of(SUBJECTS[name], options)
    assert set(jobs) == {"default", *without_knobs.GRID}
    assert len(set(jobs.values())) == 13
    words = {name: path.read_text() for name, path in jobs.items()}
    assert not any(f"{knob}:" in words["default"] for knob in KNOBS)
    assert all(f"\n{knob}:" in words[name] for name in without_knobs.GRID for knob in KNOBS)
    wide = load_job(jobs["openvino bf16, 2048"])
    assert (wide.engine, wide.precision, wide.tile_size, wide.halo) == ("openvino", "bf16", 2048, 64)
    assert (wide.gate.equal_pixels, wide.gate.iou) == (0, 0)


def test_the_best_of_the_grid_runs_beside_the_default_and_the_old_one(options, monkeypatch) -> None:
    """The runs are invented: megapixels per second by the job's name."""
    asked = []
    speeds = {"default": 19, "openvino-bf16-512": 20, "openvino-fp32-1024": 12, "paddle-fp32-512": 10}

    def run(job: Path, *, noted: bool, environment: dict[str, str]) -> SimpleNamespace:
        name = job.stem.removeprefix("landcover-")
        asked.append(name)
        assert not noted
        assert environment["BATCHSEG_MODEL_CACHE"].endswith("j/cache")
        if name == "onnxruntime-fp32-2048":
            raise EndedError(["batchseg"], 4)
        summary = {"pixels": 1e6 * speeds.get(name, 5), "engine": name}
        return SimpleNamespace(summary=summary, work_seconds=1.0, seconds=2.0)

    monkeypatch.setattr(without_knobs, "run_afresh", run)
    monkeypatch.setattr(without_knobs, "cpu_class", lambda: "avx512_bf16")
    figures, extra = without_knobs.measure(options)
    assert asked[0] == "default"
    assert asked[13:] == [*speeds, *reversed(speeds)]
    by_hand, exact, old = figures
    assert (by_hand.value, by_hand.at_least, by_hand.is_reached) == (0.95, 0.95, True)
    assert "the best of 11 set by hand (openvino bf16, 512)" in by_hand.what
    assert (exact.value, exact.at_least) == (19 / 12, None)
    assert (old.value, old.at_least) == (1.9, 1.8)
    assert extra["left_out"] == ["landcover, onnxruntime fp32, 2048 left out: refused, exit code 4"]
    assert extra["landcover"]["chosen"] == "default"
    monkeypatch.setattr(without_knobs, "cpu_class", lambda: "amx_bf16")
    assert without_knobs.measure(options)[0][-1].at_least == 3


def test_a_run_that_fails_otherwise_is_no_refusal(options, monkeypatch) -> None:
    def run(job: Path, **more: object) -> SimpleNamespace:
        if "default" not in job.stem:
            raise EndedError(["batchseg"], 1)
        return SimpleNamespace(summary={"pixels": 1e6, "engine": ""}, work_seconds=1.0, seconds=2.0)

    monkeypatch.setattr(without_knobs, "run_afresh", run)
    with pytest.raises(EndedError, match="ended with 1"):
        without_knobs.measure(options)


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(without_knobs).attempted
    assert not doctest.testmod(without_knobs).failed
