"""Anomaly networks as anomalib exports them: good and bad photographs get the right verdicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import rasterio
import yaml
from anomaly_models import OUTPUTS, SIDE, tile, write_padim
from conftest import batchseg
from photo_runs import items, save
from runs import run

from batchseg.errors import ConfigError, ModelError
from batchseg.output.state import load_state
from batchseg.tools.verify import verify

SHAPE_HW = (384, 512)
BAD = (102, 105, 108)

Job = Callable[..., Path]


@pytest.fixture(scope="module")
def padim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_padim(tmp_path_factory.mktemp("padim") / "model.onnx", [tile(seed) for seed in range(8)])


@pytest.fixture
def job(tmp_path: Path, padim: Path) -> Job:
    for seed in range(100, 110):
        image = tile(seed, scratch=seed in BAD, shape_hw=SHAPE_HW)
        save(tmp_path / "in" / f"{seed}.png", image)
    for seed in range(200, 206):
        save(tmp_path / "good" / f"{seed}.png", tile(seed, shape_hw=SHAPE_HW))

    def write(**keys: Any) -> Path:
        plain = {
            "inputs": "in",
            "model": str(padim),
            "output": "out",
            "fit": "resize",
            "result": "values",
            "values": {"threshold": {"percentile": 100, "of": "good"}},
            "normalize": {"mean": [0, 0, 0], "std": [1, 1, 1]},
            "rules": [{"name": "anomaly", "min_area": 20}],
            "gate": {"budget": 0},
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (plain | keys).items() if v is not None}))
        return path

    return write


def verdicts(output: Path) -> dict[str, str]:
    return {name: row["verdict"] for name, row in items(output).items()}


def right() -> dict[str, str]:
    return {f"{seed}.png": "FAIL" if seed in BAD else "PASS" for seed in range(100, 110)}


def answers(padim: Path, images: list[np.ndarray]) -> np.ndarray:
    """Anomaly maps (N, H, W) of the images' own sizes, by ONNX Runtime and OpenCV alone."""
    session = onnxruntime.InferenceSession(str(padim), providers=["CPUExecutionProvider"])
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS
    small = [cv2.resize(image, (SIDE, SIDE)).transpose(2, 0, 1) for image in images]
    (maps,) = session.run(["anomaly_map"], {"input": np.stack(small).astype(np.float32) / 255})
    return np.stack([cv2.resize(one[0], SHAPE_HW[::-1]) for one in maps])


def test_a_threshold_by_good_images_gives_the_right_verdicts(tmp_path: Path, job: Job, padim: Path) -> None:
    assert run(job()).tally.done == 10
    assert verdicts(tmp_path / "out") == right()
    rows = items(tmp_path / "out")
    expected = answers(
        padim, [tile(seed, scratch=seed in BAD, shape_hw=SHAPE_HW) for seed in range(100, 110)]
    )
    for number, seed in enumerate(range(100, 110)):
        with rasterio.open(tmp_path / "out" / rows[f"{seed}.png"]["values"]) as values:
            np.testing.assert_allclose(values.read(1), expected[number], atol=1e-4)
            assert values.dtypes == ("float32",)
        assert rows[f"{seed}.png"]["value_max"] == pytest.approx(expected[number].max(), abs=1e-4)
    reached = answers(padim, [tile(seed, shape_hw=SHAPE_HW) for seed in range(200, 206)]).max(axis=(1, 2))
    state = load_state(str(tmp_path / "out"))
    assert state is not None
    assert state.pixel["values: threshold"] == pytest.approx(float(reached.max()), abs=1e-5)
    found = verify(str(tmp_path / "out"), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())


def test_a_threshold_is_kept_when_the_good_images_are_gone(tmp_path: Path, job: Job) -> None:
    run(job())
    for path in (tmp_path / "good").iterdir():
        path.unlink()
    save(tmp_path / "in" / "111.png", tile(111, scratch=True, shape_hw=SHAPE_HW))
    report = run(job())
    assert (report.tally.done, report.skipped) == (1, 10)
    assert verdicts(tmp_path / "out") == right() | {"111.png": "FAIL"}
    with pytest.raises(ConfigError, match=r"values: threshold: percentile: 100.0 -> 50.0"):
        run(job(values={"threshold": {"percentile": 50, "of": "good"}}))
    with pytest.raises(ConfigError, match=r"good"):
        run(job(), "output=other")


def test_good_images_that_reach_where_the_numbers_end_are_refused(tmp_path: Path, job: Job) -> None:
    """Nothing is above that: all photographs would pass. The remedies work."""
    for seed in (200, 201):
        save(tmp_path / "good" / f"{seed}.png", tile(seed, scratch=True, shape_hw=SHAPE_HW))
    with pytest.raises(ConfigError, match=r"2 of 6 good images reach exactly 1, .* no image could be above"):
        run(job())
    assert run(job(values={"threshold": {"percentile": 50, "of": "good"}})).tally.done == 10
    assert verdicts(tmp_path / "out") == right()
    run(job(values={"threshold": 0.9}, output="number"))
    assert verdicts(tmp_path / "number") == right()


@pytest.mark.slow
def test_good_images_that_cannot_be_read_are_told(tmp_path: Path, job: Job) -> None:
    (tmp_path / "good" / "broken.png").write_bytes(b"no image")
    ended = batchseg("run", job(executor="inline"))
    assert ended.returncode == 0, ended.stderr
    assert "of 6 good images" in ended.stderr
    assert "1 could not be used, the first: broken.png" in ended.stderr
    for path in (tmp_path / "good").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ConfigError, match="of 7 images none can be used"):
        run(job(output="other"))


def test_other_rules_and_formats_follow_from_what_is_stored(tmp_path: Path, job: Job) -> None:
    run(job())
    report = run(job(rules=[{"name": "anomaly", "min_area": 10_000_000}]))
    assert (report.tally.done, report.tally.predicted) == (0, 0)
    assert set(verdicts(tmp_path / "out").values()) == {"PASS"}
    assert run(job(mask_format="tif")).tally.predicted == 0
    assert verdicts(tmp_path / "out") == right()
    assert all(row["mask"].endswith(".tif") for row in items(tmp_path / "out").values())


@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_photographs_of_numbers_alone(tmp_path: Path, job: Job, fit: str) -> None:
    keys = {"fit": fit, "rules": None, "values": {"dtype": "uint16", "scale": 1e-5}}
    assert run(job(**keys)).tally.done == 10
    assert run(job(**keys)).tally.done == 0
    for row in items(tmp_path / "out").values():
        assert (row["mask"], row["verdict"]) == (None, None)
        with rasterio.open(tmp_path / "out" / row["values"]) as values:
            assert (values.scales, values.nodata) == ((1e-5,), 65535)
            assert values.read(1).max() * 1e-5 == pytest.approx(row["value_max"])
    assert not (tmp_path / "out" / "masks").exists()
    # What lies beyond 0.65534 was clipped, in the three bad ones.
    assert {n for n, row in items(tmp_path / "out").items() if row["clipped_pixels"]} == {
        f"{seed}.png" for seed in BAD
    }


def test_the_masks_of_good_ones_need_not_be_kept(tmp_path: Path, job: Job) -> None:
    run(job(masks="failed"))
    kept = {name for name, row in items(tmp_path / "out").items() if row["values"] is not None}
    assert kept == {f"{seed}.png" for seed in BAD}
    assert {path.stem for path in (tmp_path / "out" / "values").iterdir()} == kept
    assert all(row["value_max"] is not None for row in items(tmp_path / "out").values())


def test_what_is_no_number_is_no_pass(tmp_path: Path, job: Job) -> None:
    picture = np.dstack([tile(100, shape_hw=SHAPE_HW), np.full(SHAPE_HW, 255, np.uint8)])
    picture[100:140, 100:140, 3] = 0
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    save(tmp_path / "in" / "holed.png", picture)
    run(job(values={"threshold": 2}))  # what is filled in there looks odd to the network
    (row,) = items(tmp_path / "out").values()
    assert (row["verdict"], row["rule"]) == ("REVIEW", "min_valid")
    with rasterio.open(tmp_path / "out" / row["values"]) as values:
        assert np.isnan(values.read(1)[100:140, 100:140]).all()


def test_another_output_can_be_named_and_one_that_is_not_there_is_told(job: Job, padim: Path) -> None:
    path = str(padim)
    assert run(job(model={"path": path, "output_name": "anomaly_map"})).tally.done == 10
    with pytest.raises(ModelError, match="has no output 'anomaly'; it has pred_score, pred_label"):
        run(job(model={"path": path, "output_name": "anomaly"}))
    with pytest.raises(ModelError, match="one answer per image"):
        run(job(model={"path": path, "output_name": "pred_score"}))


@pytest.mark.slow
def test_openvino_answers_alike_from_its_own_files_too(tmp_path: Path, job: Job, padim: Path) -> None:
    openvino = pytest.importorskip("openvino")
    assert run(job(), "engine=openvino", "precision=fp32").tally.done == 10
    assert verdicts(tmp_path / "out") == right()
    target = tmp_path / "ir" / "model.xml"
    openvino.save_model(openvino.convert_model(str(padim)), str(target))
    assert run(job(model=str(target.parent), output="own")).tally.done == 10
    assert verdicts(tmp_path / "own") == right()
    scores = [items(tmp_path / name)["101.png"]["value_max"] for name in ("out", "own")]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)  # `save_model` keeps weights in fp16
