"""The magnetic-tile model of this repository, its card, its job and the scripts that made and measure it."""

import re
from functools import cache
from pathlib import Path

import cv2
import defect_accuracy
import defect_rules
import magnetic_tile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, SHARED
from magnetic_tile import CLASSES, FOLDERS, Example
from numpy.typing import NDArray
from runs import run

from batchseg.job.file import load_job
from batchseg.models.package import Normalize
from batchseg.models.reading import read_model

MODEL = REPOSITORY / "models" / "magnetic-tile"
JOB = REPOSITORY / "configs" / "magnetic-tile.yaml"
DATA = SHARED / "magnetic-tile"
HELD = "exp1_num_51674"
TRAINED_ON = "exp1_num_3191"

with_data = pytest.mark.skipif(not DATA.is_dir(), reason="no magnetic tiles: set BATCHSEG_DATA")


def photograph(data: Path, folder: int, label: NDArray[np.bool_], stem: str = HELD) -> str:
    """Write a photograph and its mask; its name."""
    place = data / FOLDERS[folder] / "Imgs"
    place.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(place / f"{stem}.jpg"), np.full(label.shape, 90, np.uint8))
    cv2.imwrite(str(place / f"{stem}.png"), np.where(label, 250, 5).astype(np.uint8))
    return f"{FOLDERS[folder]}/Imgs/{stem}.jpg"


def box(rows: int, cols: int, shape: tuple[int, int] = (60, 110)) -> NDArray[np.bool_]:
    """A rectangle of ones at (3, 5)."""
    mask = np.zeros(shape, bool)
    mask[3 : 3 + rows, 5 : 5 + cols] = True
    return mask


def write_item(results: Path, name: str, mask: NDArray[np.uint8], rule: str | None) -> dict[str, str | None]:
    """Write a mask; its row of the items table."""
    path = results / "masks" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask)
    verdict = "FAIL" if rule else "PASS"
    return {"source_id": name, "verdict": verdict, "rule": rule, "mask": f"masks/{name}.png"}


def write_items(results: Path, rows: list[dict[str, str | None]]) -> None:
    (results / "items").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), results / "items" / "items.parquet")


@cache
def tiles(*, held: bool) -> list[Example]:
    """One side of the split, read once."""
    return magnetic_tile.examples(DATA, held=held)


def test_whole_blocks_of_numbers_are_held_out_whatever_the_lights() -> None:
    blocks = {
        number // magnetic_tile.BLOCK
        for number in range(0, 360_000, 500)
        for lights in (0, 6)
        if magnetic_tile.held_out(f"exp{lights}_num_{number}")
    }
    assert blocks == {2, 5, 9, 11, 12}
    assert all(magnetic_tile.held_out(f"exp1_num_{number}") for number in (40_000, 59_999, 100_000))
    assert not any(magnetic_tile.held_out(f"exp1_num_{number}") for number in (39_999, 60_000))


@with_data
def test_each_class_is_on_both_sides_and_no_number_on_two() -> None:
    held, known = tiles(held=True), tiles(held=False)
    assert (len(held), len(known)) == (96, 336)
    counts = np.array([[sum(e.folder == k for e in side) for k in range(6)] for side in (held, known)])
    assert counts[0].tolist() == [13, 26, 22, 11, 6, 18]
    assert (counts[1] > counts[0]).all()
    blocks = [{int(Path(e.name).stem.rsplit("_", 1)[1]) // 20_000 for e in side} for side in (held, known)]
    assert blocks[0].isdisjoint(blocks[1])
    assert sum(not e.labelled for e in held) == 2
    assert all(set(np.unique(e.label)) <= {0, e.folder} for e in held)


def test_each_defect_has_a_rule_of_the_table_that_was_searched() -> None:
    photographs = load_job(JOB, [f"inputs={DATA}", "output=out"]).photographs
    assert photographs is not None
    assert [(rule.name, rule.classes, rule.then) for rule in photographs.rules] == [
        (name, (name,), "FAIL") for name in CLASSES[1:]
    ]
    assert all(rule.min_area in defect_rules.AREAS for rule in photographs.rules)
    assert all(rule.min_confidence in defect_rules.CERTAINTIES for rule in photographs.rules)


def test_rules_fail_what_must_fail_with_the_largest_area_and_certainty_that_do() -> None:
    def image(defective: bool, *regions: tuple[int, int, float]) -> defect_rules.Image:
        return defect_rules.Image(defective=defective, weight=1.0, regions=list(regions))

    images = [
        image(True, (3, 200, 0.95), (1, 15, 0.4)),
        image(True, (5, 900, 0.72)),
        image(False, (3, 90, 0.99), (5, 4000, 0.58)),
        image(False, (1, 60, 0.5)),
    ]
    rules = defect_rules.chosen(images)
    assert [found.fails(rules) for found in images] == [True, True, False, False]
    assert rules[3] == (200, 0.9)
    assert rules[5] == (800, 0.7)
    assert defect_rules.cost(images, rules) == 0
    assert defect_rules.cost(images, {3: (40, 0.0)}) == 0.5 + 10 * (0.5 - 0.015) + 0.25


def test_good_tiles_are_halved_by_their_bytes_and_held_out_blocks_are_not_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    numbers = range(39_000, 42_000, 100)
    for number in numbers:
        cv2.imwrite(str(tmp_path / f"exp1_num_{number}.jpg"), rng.integers(0, 255, (40, 50), np.uint8))
    counted, trained = (magnetic_tile.good_tiles(tmp_path, figure=figure) for figure in (True, False))
    names = {Path(e.name).stem for e in counted} & {Path(e.name).stem for e in trained}
    assert not names
    assert not any(magnetic_tile.held_out(Path(e.name).stem) for e in trained)
    assert any(magnetic_tile.held_out(Path(e.name).stem) for e in counted)
    assert all(not e.folder and e.labelled and not e.label.any() for e in counted + trained)
    lost = sum(magnetic_tile.held_out(f"exp1_num_{number}") for number in numbers)
    assert len(numbers) - lost <= len(counted) + len(trained) < len(numbers)
    with pytest.raises(ValueError, match="expected good tiles"):
        magnetic_tile.good_tiles(tmp_path / "none", figure=True)


@with_data
def test_every_class_validates_and_no_block_does_and_trains() -> None:
    known = tiles(held=False)
    kept = [e for e in known if magnetic_tile.validates(Path(e.name).stem)]
    counts = [sum(e.folder == k for e in kept) for k in range(1, 6)]
    assert counts == [12, 18, 7, 5, 18]
    assert all(not magnetic_tile.held_out(f"exp1_num_{block * 20_000}") for block in magnetic_tile.VALIDATION)


def test_masks_are_read_from_above_the_grey_of_their_borders(tmp_path: Path) -> None:
    name = photograph(tmp_path, 3, box(4, 30))
    grey = np.where(box(4, 30), 128, 127).astype(np.uint8)
    cv2.imwrite(str(tmp_path / name.replace(".jpg", ".png")), grey)
    (example,) = magnetic_tile.examples(tmp_path, held=True)
    assert example.name == name
    assert np.array_equal(example.label, box(4, 30) * np.uint8(3))


def test_an_image_and_a_mask_of_another_size_are_refused(tmp_path: Path) -> None:
    name = photograph(tmp_path, 1, box(4, 4))
    cv2.imwrite(str(tmp_path / name.replace(".jpg", ".png")), np.zeros((110, 60), np.uint8))
    with pytest.raises(ValueError, match=r"has \(60, 110\) rows and columns, its mask \(110, 60\)"):
        magnetic_tile.examples(tmp_path, held=True)
    with pytest.raises(ValueError, match="expected the folders MT_Free/Imgs"):
        magnetic_tile.examples(tmp_path, held=False)


@pytest.fixture
def compared(tmp_path: Path) -> tuple[Path, Path]:
    """Results and data: a good image, a crack, an alarm, a miss, one that lost its mask, one of training."""
    data, results = tmp_path / "data", tmp_path / "results"
    crack, none = box(4, 30), box(0, 0)
    rows = []
    for folder, label, mask, rule, stem in (
        (0, none, none * 0, None, HELD),
        (3, crack, crack * 3, "crack", HELD),
        (0, none, crack * 3, "crack", "exp1_num_40001"),
        (1, box(6, 6), crack * 3, None, HELD),  # The verdict counts, not what the mask shows.
        (5, none, crack * 3, "crack", HELD),
    ):
        name = photograph(data, folder, label, stem)
        rows.append(write_item(results, name, mask.astype(np.uint8), rule))
    photograph(data, 2, crack, TRAINED_ON)
    write_items(results, rows)
    return results, data


def test_figures_of_pixels_and_images_are_those_counted_by_hand(
    compared: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, judged = defect_accuracy.held_out(*compared)
    assert pixels.confusion.sum() == 4 * 60 * 110  # Not the image that lost its mask.
    assert pixels.iou[3] == 120 / 360
    assert pixels.iou[1] == 0
    assert [(image.truth, image.called) for image in judged] == [(0, 3), (0, 0), (1, 0), (3, 3), (5, 3)]
    monkeypatch.setattr("sys.argv", ["defect_accuracy", *map(str, compared)])
    defect_accuracy.main()
    printed = capsys.readouterr().out
    assert "image-level recall     0.6667" in printed
    assert "image-level precision  0.6667" in printed
    assert "missed: MT_Blowhole/Imgs/exp1_num_51674.jpg" in printed
    assert "false alarm: MT_Free/Imgs/exp1_num_40001.jpg, crack" in printed
    assert re.search(r"^uneven +1 +1 +0$", printed, flags=re.MULTILINE)


def test_false_alarms_are_counted_on_the_half_that_counts(
    compared: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    good, results = tmp_path / "good", tmp_path / "of_good"
    good.mkdir()
    results.mkdir()
    rng = np.random.default_rng(4)
    for number in range(39_000, 42_000, 100):
        cv2.imwrite(str(good / f"exp1_num_{number}.jpg"), rng.integers(0, 255, (40, 50), np.uint8))
    names = [Path(e.name).name for e in magnetic_tile.good_tiles(good, figure=True)]
    rows = [{"source_id": name, "verdict": "PASS", "rule": None, "mask": None} for name in names]
    rows[0] |= {"verdict": "FAIL", "rule": "uneven"}
    write_items(results, rows)
    judged, strict = defect_accuracy.good_tiles(results, good)
    assert [image.called for image in judged] == [5] + [0] * (len(names) - 1)
    assert 0 < len(strict) < len(judged)
    monkeypatch.setattr("sys.argv", ["x", *map(str, compared), "--good", str(results), str(good)])
    defect_accuracy.main()
    assert f"further good         1 of {len(names)} fail" in capsys.readouterr().out
    write_items(results, rows[1:])
    with pytest.raises(ValueError, match=f"no row of {names[0]}"):
        defect_accuracy.good_tiles(results, good)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": None}, f"no mask of MT_Crack/Imgs/{HELD}.jpg"),
        ({"source_id": "MT_Crack/other.jpg"}, f"no mask of MT_Crack/Imgs/{HELD}.jpg"),
        ({"verdict": None, "rule": None}, "verdict None by rule None; expected PASS"),
        ({"rule": "doubtful"}, "by rule doubtful; expected PASS, or FAIL by one of blowhole, break, crack"),
        ({"verdict": "REVIEW"}, "verdict REVIEW by rule crack"),
    ],
)
def test_a_run_that_is_of_another_job_is_refused(
    compared: tuple[Path, Path], changes: dict[str, str | None], message: str
) -> None:
    results, data = compared
    rows = list(defect_accuracy.read_items(results).values())
    write_items(results, [row | changes if row["source_id"].startswith("MT_Crack") else row for row in rows])
    with pytest.raises(ValueError, match=message):
        defect_accuracy.held_out(results, data)


def test_the_export_is_whole_small_and_says_how_to_normalise() -> None:
    model = read_model(str(MODEL))
    assert model.normalize == Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert model.bands == 3
    assert model.params is not None
    assert sum(Path(path).stat().st_size for path in (model.network, model.params)) <= 16_000_000
    pictures = {"curve.png", "examples.png"}
    files = {"README.md", "deploy.yaml", "model.json", "model.pdiparams"} | pictures
    assert {path.name for path in MODEL.iterdir()} == files
    assert all((MODEL / name).stat().st_size < 300_000 for name in pictures)


def test_the_card_and_the_job_name_the_classes_in_the_order_of_training() -> None:
    job = load_job(JOB, [f"inputs={DATA}", "output=out"])
    card = (MODEL / "README.md").read_text()
    rows = re.findall(r"^\| (\d) \| (\w+) \| 0\.\d+ ", card, flags=re.MULTILINE)
    assert rows == [(str(number), name) for number, name in enumerate(CLASSES)]
    assert [known.name for known in job.classes] == list(CLASSES)
    assert Path(job.model.path).resolve() == MODEL


@with_data
def test_the_job_outlines_and_fails_a_held_out_blowhole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "MT_Blowhole/Imgs/exp2_num_40424.jpg"
    for path in (Path(name), Path(name).with_suffix(".png")):
        copy = tmp_path / "tiles" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((DATA / path).read_bytes())
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "tiles"))
    monkeypatch.setenv("RESULTS", str(tmp_path))
    run(JOB, "bake=false")
    pixels, judged = defect_accuracy.held_out(tmp_path / "magnetic-tile", tmp_path / "tiles")
    assert len(judged) == 1
    assert judged[0].called
    blowhole = CLASSES.index("blowhole")
    assert pixels.confusion[blowhole, blowhole] > 0.5 * pixels.confusion[blowhole].sum() > 0
    assert pixels.confusion[0, 0] > 0.9 * pixels.confusion[0].sum()
