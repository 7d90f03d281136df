"""The magnetic-tile model of this repository, its card, its job and the scripts that made and measure it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import defect_accuracy
import magnetic_tile
import numpy as np
import paddle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import train_magnetic_tile
import training
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


@with_data
def test_an_image_is_defective_from_half_the_smallest_region_of_the_training_side_on() -> None:
    photographs = load_job(JOB, [f"inputs={DATA}", "output=out"]).photographs
    assert photographs is not None
    assert [(rule.name, rule.classes, rule.then) for rule in photographs.rules] == [
        (name, (name,), "FAIL") for name in CLASSES[1:]
    ]
    known = [e for e in tiles(held=False) if e.folder and e.labelled]
    for number, name in enumerate(CLASSES[1:], 1):
        largest = [
            cv2.connectedComponentsWithStats(e.label, connectivity=4)[2][1:, cv2.CC_STAT_AREA].max()
            for e in known
            if e.folder == number
        ]
        rule = photographs.rules[number - 1]
        assert (rule.name, rule.min_area, rule.count) == (name, min(largest) // 2, 1)


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


def known_examples() -> list[Example]:
    """A bright defect of each class on dark images of several sizes, a clean one, one that lost its mask."""
    rng = np.random.default_rng(5)
    found = []
    for number, shape in enumerate([(120, 290), (600, 240), (105, 227), (300, 350), (512, 380), (250, 370)]):
        label = np.zeros(shape, np.uint8)
        if number:
            row, col = rng.integers(0, 60, 2)
            label[row : row + 25, col : col + 40] = number
        image = np.where(label, 200, 40).astype(np.uint8)
        found.append(Example(name=f"{FOLDERS[number]}/Imgs/a.jpg", image=image, label=label))
    lost = np.zeros((200, 100), np.uint8)
    return [*found, Example(name="MT_Uneven/Imgs/lost.jpg", image=lost, label=lost)]


def test_crops_move_image_and_label_together_and_hold_what_they_were_drawn_for() -> None:
    crops = train_magnetic_tile.Crops(known_examples(), seed=3)
    assert len(crops.known) == 6
    drawn = [crops.one() for _ in range(60)]
    for image, label in drawn:
        assert (image.shape, label.shape) == ((3, 160, 160), (160, 160))
        assert (image[0] == image[1]).all()
        assert (image[0] == image[2]).all()
        if 0 < np.count_nonzero(label) < label.size:
            low, high = (np.median(image[0][label > 0 if inside else label == 0]) for inside in (False, True))
            assert np.mean((image[0] > (low + high) / 2) == (label > 0)) > 0.97
    share = np.mean([label.any() for _, label in drawn])
    assert share > 0.6
    assert set(np.unique([label for _, label in drawn])) == set(range(6))


@pytest.mark.parametrize("shape_hw", [(120, 290), (612, 240), (403, 227)])
def test_crops_reach_no_further_over_the_border_than_tiles_do(shape_hw: tuple[int, int]) -> None:
    crops = train_magnetic_tile.Crops(known_examples(), seed=1)
    crop, halo = train_magnetic_tile.CROP, train_magnetic_tile.HALO
    job = load_job(JOB, [f"inputs={DATA}", "output=out"])
    assert crop <= job.tile_size
    assert halo >= job.halo
    middles = []
    for _ in range(200):
        row, col = (float(crops.rng.uniform(0, size)) for size in shape_hw)
        to_image = crops._placement(shape_hw, row, col)
        x, y = to_image @ np.array([(crop - 1) / 2, (crop - 1) / 2, 1])
        inside = np.linalg.solve(to_image[:, :2], np.array([col, row]) - to_image[:, 2])
        assert (inside > -crop * 0.15).all()
        assert (inside < crop * 1.15).all()
        assert 0.4 < abs(np.linalg.det(to_image[:, :2])) < 2.5
        middles.append((y, x))
    for axis, size in enumerate(shape_hw):
        middle = np.array(middles)[:, axis]
        assert middle.min() > min(size / 2, crop / 2) - crop / 2 - halo
        assert middle.max() < size + crop / 2


class Tiny(paddle.nn.Layer):  # type: ignore[misc]
    """One convolution that gives its logits as PaddleSeg's networks do: a list."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = paddle.nn.Conv2D(3, 2, 1)

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        return [self.convolution(x)]


def bright(step: int) -> Iterator[training.Batch]:
    """Batches whose class 1 is where the image is above zero."""
    rng = np.random.default_rng(step)

    def make() -> training.Batch:
        images = rng.normal(size=(2, 3, 8, 12)).astype(np.float32)
        return images, (images[:, 0] > 0).astype(np.int64)

    return training.ahead(make)


def learn(net: Tiny, folder: Path, minutes: float) -> int:
    return training.train(
        net,
        lambda outputs, label: training.entropy(outputs[0], label),
        bright,
        minutes=minutes,
        checkpoint=folder / "checkpoint.pdparams",
    )


@pytest.mark.slow
def test_training_learns_ends_by_the_clock_resumes_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(training, "LEARNING_RATE", 0.1)
    paddle.seed(1)
    net = Tiny()
    images, labels = next(bright(99))
    before = float(training.entropy(net(paddle.to_tensor(images))[0], paddle.to_tensor(labels)))
    steps = learn(net, tmp_path, 1 / 60)
    after = float(training.entropy(net(paddle.to_tensor(images))[0], paddle.to_tensor(labels)))
    assert steps > 10
    assert after < before / 2

    again = Tiny()
    assert learn(again, tmp_path, 0.0) == steps
    assert np.array_equal(again.convolution.weight.numpy(), net.convolution.weight.numpy())

    training.export(net, tmp_path)
    model = read_model(str(tmp_path))
    assert (model.bands, model.normalize) == (3, Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def test_the_rate_rises_and_falls_to_zero() -> None:
    rates = [training.rate(share) for share in np.linspace(0, 1, 201)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert max(rates) == pytest.approx(training.LEARNING_RATE, rel=0.01)
    assert np.argmax(rates) == 6


def test_dice_is_zero_for_the_truth_and_counts_only_classes_that_are_there() -> None:
    label = paddle.to_tensor(np.array([[[0, 3], [3, 0]]]))
    truth = paddle.nn.functional.one_hot(label, 6).transpose([0, 3, 1, 2])
    assert float(train_magnetic_tile.overlap(truth * 1000, label)) == pytest.approx(0, abs=1e-6)
    other = paddle.to_tensor(np.zeros((1, 6, 2, 2), np.float32))
    other[:, 5] = 1000.0
    assert float(train_magnetic_tile.overlap(other, label)) == pytest.approx(1 - 1 / 3, abs=1e-6)


def test_exposure_and_contrast_do_not_reach_the_network() -> None:
    rng = np.random.default_rng(2)
    grey = rng.normal(0, 0.3, (1, 1, 45, 70)).astype(np.float32)
    dark, light = (np.repeat(grey * gain + shift, 3, axis=1) for gain, shift in ((0.5, -0.6), (1.5, 0.2)))
    views = [train_magnetic_tile.Contrast()(paddle.to_tensor(image)).numpy() for image in (dark, light)]
    assert views[0].shape == (1, 3, 45, 70)
    assert np.abs(views[0] - views[1]).max() < 0.03
    assert views[1][0, 0].std() == pytest.approx(1, abs=0.01)
    assert np.abs(views[1][0, 0] - views[1][0, 1]).max() > 0.5


def test_the_export_is_whole_small_and_says_how_to_normalise() -> None:
    model = read_model(str(MODEL))
    assert model.normalize == Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert model.bands == 3
    assert model.params is not None
    assert sum(Path(path).stat().st_size for path in (model.network, model.params)) <= 8_000_000
    files = {"README.md", "deploy.yaml", "model.json", "model.pdiparams"}
    assert {path.name for path in MODEL.iterdir()} == files


def test_the_card_and_the_job_name_the_classes_in_the_order_of_training() -> None:
    job = load_job(JOB, [f"inputs={DATA}", "output=out"])
    card = (MODEL / "README.md").read_text()
    rows = re.findall(r"^\| (\d) \| (\w+) \| 0\.\d+ ", card, flags=re.MULTILINE)
    assert rows == [(str(number), name) for number, name in enumerate(CLASSES)]
    assert [known.name for known in job.classes] == list(CLASSES)
    assert Path(job.model.path).resolve() == MODEL


def test_the_weights_of_the_classes_are_taken_off_the_probabilities() -> None:
    logits = np.random.default_rng(4).normal(size=(1, 6, 3, 5)).astype(np.float32)
    odds = np.exp(train_magnetic_tile.Unweighted()([paddle.to_tensor(logits)]).numpy() - logits)
    expected = 1 / np.array(train_magnetic_tile.WEIGHTS)[None, :, None, None]
    np.testing.assert_allclose(odds, np.broadcast_to(expected, odds.shape), rtol=1e-5)


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
