"""Accuracy against images of which the classes are known."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from factories import make_config, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_runs import photograph, save
from photo_runs import truth as spots_of
from rasterio.transform import Affine

from batchseg.errors import ConfigError
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.job.settings import Gate, Photographs, Truth
from batchseg.predict import truth as truth_module
from batchseg.predict.truth import LEAST_PIXELS, Accuracy, accuracy, known_crops, list_pairs, loss

SHAPES = ((40, 61), (53, 38), (31, 97))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 3, 5]),
    st.sampled_from([0.0, 0.1, 0.7]),
    st.sampled_from([0, 255, 65535]),
)
def test_accuracy_is_the_iou_of_the_pixels_whose_class_is_known(seed, count, wrong, unknown):
    random = np.random.default_rng(seed)
    pairs = []
    for shape in SHAPES:
        right = random.choice(3, shape, p=[0.6, 0.3, 0.1]).astype(np.uint16)
        said = np.where(random.random(shape) < wrong, random.integers(0, 3, shape), right).astype(np.uint8)
        if unknown:
            right[random.random(shape) < 0.1] = unknown
        pairs.append((said, right))
    found = accuracy(pairs, count)
    ids, expected = [], []
    for class_id in range(3):
        known = sum(int((right == class_id).sum()) for _, right in pairs)
        meet = join = 0
        for said, right in pairs:
            for a, b in zip(said.ravel().tolist(), right.ravel().tolist(), strict=True):
                if b < 3:
                    meet += a == b == class_id
                    join += class_id in (a, b)
        if known >= LEAST_PIXELS:
            ids.append(class_id)
            expected.append(meet / join)
    assert [class_id for class_id, _ in found.iou] == ids
    assert [value for _, value in found.iou] == pytest.approx(expected)
    assert found.mean_iou == pytest.approx(np.mean(expected))


def test_a_class_that_the_truth_hardly_shows_is_not_judged() -> None:
    right = np.zeros((100, 100), np.uint16)
    right.flat[: LEAST_PIXELS - 1] = 1
    assert accuracy([(np.zeros((100, 100), np.uint8), right)], 2).iou == ((0, 0.9001),)
    assert accuracy([], 2).mean_iou == 0


def test_an_engine_may_lose_what_the_job_allows_and_may_be_better() -> None:
    reference = Accuracy(iou=((0, 0.9), (1, 0.7)))
    gate = Gate(miou_drop=0.01)
    assert loss(Accuracy(iou=((0, 0.9), (1, 0.69))), reference, gate) is None
    assert loss(Accuracy(iou=((0, 1.0), (1, 1.0))), reference, gate) is None
    assert loss(Accuracy(iou=((0, 0.9), (1, 0.67))), reference, gate) == (
        "mean IoU against the truth falls from 0.8000 to 0.7850, by 0.01 it may"
    )


def config_of(folder: Path, **changes):
    truth = Truth(images=str(folder / "images"), labels=str(folder / "labels"))
    return make_config(gate=Gate(truth=truth), **changes), truth


def test_images_and_labels_are_paired_by_name_whatever_the_ending(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels, classes = {}, {}
    for name, height in (("a", 40), ("b", 56)):
        pixels[name] = random.integers(1, 256, (3, height, 70), dtype=np.uint8)
        classes[name] = random.integers(0, 4, (1, height, 70), dtype=np.uint8)
        write_raster(tmp_path / "images" / f"{name}.tif", pixels[name])
        write_raster(tmp_path / "labels" / f"{name}.png", classes[name], driver="PNG")
    write_raster(tmp_path / "images" / "lonely.tif", pixels["a"])
    config, truth = config_of(tmp_path)
    found = known_crops(config, make_recipe(), truth)
    assert len(found) == 2
    for known, name in zip(found, ("a", "b"), strict=True):
        np.testing.assert_array_equal(known.sample.pixels, pixels[name])
        np.testing.assert_array_equal(known.classes, classes[name][0])


def test_labels_are_of_the_pixels_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 150, 170), dtype=np.uint8)
    write_raster(tmp_path / "images" / "a.tif", pixels)
    write_raster(tmp_path / "labels" / "a.tif", (pixels[:1] > 127).astype(np.uint8))
    config, truth = config_of(tmp_path)
    monkeypatch.setattr(truth_module, "each_in_fresh_process", here)
    monkeypatch.setattr(truth_module, "CROP_SIDE", 64)
    (known,) = known_crops(config, make_recipe(), truth)
    assert known.classes.shape == known.sample.pixels.shape[1:] == (64, 64)
    np.testing.assert_array_equal(known.sample.pixels[0] > 127, known.classes)


def test_labels_of_a_scene_that_is_read_coarser_are_those_under_the_centres(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(1, 256, (3, 50, 60), dtype=np.uint8)
    pixels = np.kron(blocks, np.ones((1, 4, 4), np.uint8))
    quarter = Affine(0.25, 0.0, 500_000.0, 0.0, -0.25, 4_600_000.0)
    write_raster(tmp_path / "images" / "a.tif", pixels, transform=quarter)
    write_raster(tmp_path / "labels" / "a.tif", (pixels[:1] > 127).astype(np.uint8))
    config, truth = config_of(tmp_path)
    recipe = make_recipe(model_grid=ModelGrid(resolution=Resolution(1.0)))
    (known,) = known_crops(config, recipe, truth)
    np.testing.assert_array_equal(known.sample.pixels, blocks)
    np.testing.assert_array_equal(known.classes, blocks[0] > 127)


def here(function, items, *arguments, timeout):
    return (function(item, *arguments) for item in items)


def test_photographs_have_labels_too(tmp_path: Path) -> None:
    image = photograph(1, red=2)
    save(tmp_path / "images" / "1.png", image)
    write_raster(tmp_path / "labels" / "1.png", spots_of(image)[None], driver="PNG")
    config, truth = config_of(tmp_path, photographs=Photographs(fit="tile"))
    (known,) = known_crops(config, make_recipe(fit="tile"), truth)
    np.testing.assert_array_equal(known.sample.pixels, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(known.classes, spots_of(image))


def test_labels_of_images_that_are_resized_are_resized_with_them(tmp_path: Path) -> None:
    image = np.zeros((80, 120, 3), np.uint8)
    image[:40, 60:] = 200
    save(tmp_path / "images" / "1.png", image)
    write_raster(tmp_path / "labels" / "1.png", (image[None, ..., 0] > 0).astype(np.uint8), driver="PNG")
    config, truth = config_of(tmp_path, photographs=Photographs(fit="resize"))
    (known,) = known_crops(config, make_recipe(fit="resize", halo=0, tile_size=64), truth)
    assert known.classes.shape == known.sample.pixels.shape[1:] == (64, 64)
    np.testing.assert_array_equal(known.sample.pixels[0] > 100, known.classes)


def test_labels_that_are_no_class_ids_are_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", np.ones((3, 60, 50), np.uint8))
    write_raster(tmp_path / "labels" / "a.tif", np.full((1, 60, 50), 200, np.uint8))
    config, truth = config_of(tmp_path)
    with pytest.raises(ConfigError, match=r"no class has 1,000 pixels in 1 labels .* must hold class ids"):
        known_crops(config, make_recipe(), truth)


def test_sizes_that_differ_are_said(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", np.ones((3, 40, 50), np.uint8))
    write_raster(tmp_path / "labels" / "a.tif", np.ones((1, 40, 49), np.uint8))
    config, truth = config_of(tmp_path)
    with pytest.raises(ConfigError, match=r"of 1 pairs none .*a\.tif, because its labels have 40 x 49"):
        known_crops(config, make_recipe(), truth)


def test_what_counts_for_nothing_is_said_once_with_the_first_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        write_raster(tmp_path / "images" / f"{name}.tif", np.ones((3, 40, 50), np.uint8))
        write_raster(tmp_path / "labels" / f"{name}.tif", np.ones((1, 40, 50 - (name == "c")), np.uint8))
    (tmp_path / "images" / "d.tif").write_text("no raster")
    config, truth = config_of(tmp_path)
    said: list[str] = []
    assert len(known_crops(config, make_recipe(), truth, said.append)) == 2
    (tmp_path / "labels" / "b.tif").unlink()
    assert len(known_crops(config, make_recipe(), truth, said.append)) == 1
    monkeypatch.setattr(truth_module, "PAIRS", 2)
    assert len(known_crops(config, make_recipe(), truth, said.append)) == 1
    assert said == [
        "gate: truth: 2 of 4 images count; first left out: c.tif, because its labels have 40 x 49 pixels, "
        "and it has 40 x 50",
        "gate: truth: 1 of 4 images count; first left out: b.tif, because it has no labels of that name",
        "gate: truth: 1 of 4 images count (2 pairs are looked at); first left out: b.tif, because it has no "
        "labels of that name",
    ]
    write_raster(tmp_path / "images" / "d.tif", np.ones((3, 40, 50), np.uint8))
    for name in "bc":
        (tmp_path / "images" / f"{name}.tif").unlink()
    assert len(known_crops(config, make_recipe(), truth, said.append)) == 2
    assert len(said) == 3


def test_folders_that_are_not_there_are_named_with_their_key(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", np.ones((3, 40, 50), np.uint8))
    config, truth = config_of(tmp_path)
    with pytest.raises(ConfigError, match=r"gate: truth: labels: .*/labels matches no file; check the path$"):
        list_pairs(config, truth)
    listed = Truth(images=str(tmp_path / "images.csv"), labels=truth.labels)
    with pytest.raises(ConfigError, match=r"gate: truth: images: cannot .*images\.csv"):
        list_pairs(config, listed)


def test_a_truth_without_a_pair_is_refused_with_how_names_pair(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", np.ones((3, 40, 50), np.uint8))
    write_raster(tmp_path / "labels" / "b.tif", np.ones((1, 40, 50), np.uint8))
    config, truth = config_of(tmp_path)
    with pytest.raises(ConfigError, match=r"of 1 images .* none has labels .* images/7\.tif and labels/7\.p"):
        known_crops(config, make_recipe(), truth)
