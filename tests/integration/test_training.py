"""The training scripts' loop, losses, crops and calibration, where PyTorch is installed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import train_landcover  # noqa: E402
import train_magnetic_tile  # noqa: E402
import training  # noqa: E402
from dubai import CLASSES, IGNORED, Example  # noqa: E402
from magnetic_tile import FOLDERS  # noqa: E402
from magnetic_tile import Example as Tile  # noqa: E402
from naip_water import NOT_WATER, WATER  # noqa: E402


class Tiny(torch.nn.Module):
    """One convolution that gives its logits as the networks do: a list."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Identity()
        self.convolution = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return [self.convolution(x)]


def bright(step: int) -> Iterator[training.Batch]:
    """Batches whose class 1 is where the image is above zero."""
    rng = np.random.default_rng(step)

    def make() -> training.Batch:
        images = rng.normal(size=(2, 3, 8, 12)).astype(np.float32)
        return images, (images[:, 0] > 0).astype(np.int64)

    return training.ahead(make)


def entropy(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs[0], labels)


def score(net) -> dict[str, float]:
    images, labels = next(bright(99))
    return {"score": float((net(torch.from_numpy(images))[0].argmax(1).numpy() == labels).mean())}


def test_training_learns_ends_by_the_clock_and_resumes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(training, "VALIDATE_EVERY_S", 0.1)
    monkeypatch.setattr(training, "LEARNING_RATE", 0.1)
    torch.manual_seed(1)
    net = Tiny()
    before = score(net)["score"]
    steps = training.train(net, entropy, bright, score, minutes=1 / 60, folder=tmp_path)
    assert steps > 10
    assert score(net)["score"] > max(0.8, before)
    again = Tiny()
    assert training.train(again, entropy, bright, score, minutes=0.0, folder=tmp_path) == steps
    assert torch.equal(again.convolution.weight, net.convolution.weight)
    kept = np.load(tmp_path / "best.npz")
    assert np.array_equal(kept["convolution.weight"], net.convolution.weight.detach().numpy())


def test_training_ends_early_without_a_gain(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "VALIDATE_EVERY_S", 0.0)
    scores = iter([0.5, 0.9, 0.8, 0.7, 0.6])
    ends = training.train(
        Tiny(), entropy, bright, lambda net: {"score": next(scores)}, minutes=5, folder=tmp_path, patience=2
    )
    assert ends == 5


def test_the_rate_rises_and_falls_to_zero() -> None:
    rates = [training.rate(share) for share in np.linspace(0, 1, 201)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert max(rates) == pytest.approx(training.LEARNING_RATE, rel=0.01)
    assert np.argmax(rates) == 6


def test_lovasz_is_one_minus_iou_for_sure_answers() -> None:
    labels = torch.tensor([[[0, 1, 1, 255]]])
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, :, 0, 0] = torch.tensor([50.0, 0.0])
    logits[0, :, 0, 1] = torch.tensor([0.0, 50.0])
    logits[0, :, 0, 2] = torch.tensor([50.0, 0.0])  # Wrong: IoU is 1 / 2 of both classes.
    assert float(training.lovasz(logits, labels)) == pytest.approx(0.5, abs=1e-5)
    logits[0, :, 0, 2] = torch.tensor([0.0, 50.0])
    assert float(training.lovasz(logits, labels)) == pytest.approx(0, abs=1e-5)
    assert float(training.lovasz(logits, torch.full((1, 1, 4), 255))) == 0


def test_what_is_not_water_may_be_anything_else() -> None:
    logits = torch.zeros(1, len(CLASSES), 1, 2)
    logits[0, 1] = 40.0
    dry = torch.full((1, 1, 2), NOT_WATER)
    assert float(train_landcover.entropy(logits, dry)) == pytest.approx(0, abs=1e-4)
    logits[0, WATER] = 80.0
    assert float(train_landcover.entropy(logits, dry)) == pytest.approx(40, abs=0.1)
    assert float(train_landcover.entropy(logits, torch.full((1, 1, 2), IGNORED))) == 0


def test_the_temperature_makes_confidence_mean_what_it_says() -> None:
    rng = np.random.default_rng(4)
    logits = torch.from_numpy(rng.normal(0, 1.5, (20_000, 3)))
    shares = torch.softmax(logits, dim=1)
    labels = torch.multinomial(shares, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    found = training.temperature(logits * 3, labels)
    assert found == pytest.approx(3, rel=0.1)
    before, rows = training.reliability(logits * 3, labels)
    after, _ = training.reliability(logits * 3 / found, labels)
    assert after < 0.02 < before
    assert sum(share for *_, share in rows) == pytest.approx(1)


def test_whole_images_are_padded_to_the_stride() -> None:
    grey = np.full((20, 33), 255, np.uint8)
    assert training.padded(grey).shape == (1, 3, 32, 48)
    assert (training.padded(grey) == 1).all()


def test_land_cover_crops_hold_what_they_were_drawn_for() -> None:
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(5, dtype=np.uint8)[:, None], 100, axis=0) * np.ones((1, 400), np.uint8)
    image = np.repeat((label * 50)[:, :, None], 3, axis=2)
    lake = Example(name="lake", image=rng.integers(0, 255, (300, 300, 3), np.uint8), label=label[:300, :300])
    crops = train_landcover.Crops([Example(name="a", image=image, label=label)], [lake], seed=3)
    images, labels = crops.batch()
    edge = train_landcover.CROP
    assert images.shape == (train_landcover.BATCH, 3, edge, edge)
    assert labels.shape == (train_landcover.BATCH, edge, edge)
    assert (images.min() >= -1) & (images.max() <= 1)
    seen = {int(k) for _ in range(12) for k in np.unique(crops.one()[1])}
    assert seen == set(range(5))


def tiles() -> list[Tile]:
    """A bright defect of each class on dark images of several sizes, a clean one, one that lost its mask."""
    rng = np.random.default_rng(5)
    found = []
    for number, shape in enumerate([(120, 290), (600, 240), (105, 227), (300, 350), (512, 380), (250, 370)]):
        label = np.zeros(shape, np.uint8)
        if number:
            row, col = rng.integers(0, 60, 2)
            label[row : row + 25, col : col + 40] = number
        image = np.where(label, 200, 40).astype(np.uint8)
        found.append(Tile(name=f"{FOLDERS[number]}/Imgs/a.jpg", image=image, label=label))
    lost = np.zeros((200, 100), np.uint8)
    return [*found, Tile(name="MT_Uneven/Imgs/lost.jpg", image=lost, label=lost)]


def test_crops_move_image_and_label_together_and_hold_what_they_were_drawn_for() -> None:
    crops = train_magnetic_tile.Crops(tiles(), seed=3)
    assert len(crops.known) == 6
    edge = train_magnetic_tile.CROP
    drawn = [crops.one() for _ in range(60)]
    for image, label in drawn:
        assert (image.shape, label.shape) == ((3, edge, edge), (edge, edge))
        assert (image[0] == image[1]).all()
        if 0 < np.count_nonzero(label) < label.size:
            low, high = (np.median(image[0][label > 0 if inside else label == 0]) for inside in (False, True))
            assert np.mean((image[0] > (low + high) / 2) == (label > 0)) > 0.97
    assert np.mean([label.any() for _, label in drawn]) > 0.5
    assert set(np.unique([label for _, label in drawn])) == set(range(6))
