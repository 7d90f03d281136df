"""Whole runs whose tiles are blended or seen several times."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import Command, JobWriter, reflectance, write_raster
from graphs import write_nchw
from PIL import Image
from runs import conv_job, mask_bytes, run

SHAPE_HW = (7 * 32 - 5, 9 * 32 + 11)


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter) -> Path:
    """One scene with holes for the spectral model, cores of 32 pixels that share 16 with each neighbour."""
    pixels = reflectance(*SHAPE_HW)
    pixels[:, 40:105, 60:200] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    return write_job(tile_size=64, halo=8, blend="hann", overlap=16, confidence=True, probabilities=True)


def layers(output: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(output.glob("*/scene.tif")):
        with rasterio.open(path) as raster:
            found[path.parent.name] = raster.read()
    return found


def test_bytes_do_not_depend_on_shards_leases_and_processes(job: Path) -> None:
    """Shards of one scene are stored as fragments by two processes, and are in memory of one."""
    run(job, "shard_tiles=3", "output=one")
    run(job, "shard_tiles=1", "output=other")
    run(job, "shard_tiles=2", "executor=processes", "workers=2", "output=apart")
    one, other, apart = (mask_bytes(job.parent / name) for name in ("one", "other", "apart"))
    assert one == other == apart
    assert sorted(layers(job.parent / "one")) == ["confidence", "masks", "probabilities"]


def test_a_network_that_sees_one_pixel_gives_what_it_gives_without(job: Path) -> None:
    """Every tile says the same of a pixel then: nothing is attenuated at borders, at holes or at sides."""
    run(job, "output=blended")
    run(job, "output=alone", "blend=none", "overlap=null")
    blended, alone = layers(job.parent / "blended"), layers(job.parent / "alone")
    hole = alone["masks"][0] == 255
    assert hole.any()
    for name in ("confidence", "probabilities"):
        assert np.array_equal(blended[name], alone[name]), name
    differs = blended["masks"][0] != alone["masks"][0]
    second, first = np.sort(alone["probabilities"], axis=0)[-2:]
    assert (first == second)[differs].all()  # ties of bytes, where the graph compares floats
    assert differs.mean() < 0.002
    assert not blended["confidence"][0][hole].any()
    assert not blended["probabilities"][:, hole].any()
    assert (blended["probabilities"][:, ~hole] >= 1).all()


def test_each_class_has_a_band_with_its_name_and_the_winner_is_the_confidence(job: Path) -> None:
    run(job, "probabilities=[vegetation, soil]", "output=two")
    with rasterio.open(job.parent / "two" / "probabilities" / "scene.tif") as raster:
        assert raster.count == 2
        assert raster.descriptions == (
            "probability of soil, 255 = 1",
            "probability of vegetation, 255 = 1",
        )
        assert raster.nodata == 0
        shares = raster.read()
    found = layers(job.parent / "two")
    for band, class_id in zip(shares, (0, 2), strict=True):
        won = found["masks"][0] == class_id
        assert won.any()
        assert np.array_equal(band[won], found["confidence"][0][won])


def test_thresholds_move_pixels_to_the_next_class_or_to_unknown(job: Path) -> None:
    alone = "blend=none", "overlap=null"
    run(job, *alone, "output=plain")
    run(job, *alone, "threshold.water=0.9", "output=strict")
    run(job, *alone, "ignore_below=0.9", "output=sure")
    plain, strict, sure = (layers(job.parent / name) for name in ("plain", "strict", "sure"))
    shares, valid = plain["probabilities"], plain["masks"][0] != 255
    without = np.where(np.arange(4)[:, None, None] == 1, np.where(shares >= 230, shares, 0), shares)
    assert np.array_equal(strict["masks"][0][valid], without.argmax(axis=0)[valid])
    assert (plain["masks"][0] == 1).sum() > (strict["masks"][0] == 1).sum() > 0
    is_unknown = valid & (shares.max(axis=0) < np.ceil(0.9 * 255))
    assert is_unknown.any()
    assert np.array_equal(sure["masks"][0] == 4, is_unknown)
    with rasterio.open(job.parent / "sure" / "masks" / "scene.tif") as raster:
        assert raster.tags()["CLASS_4"] == "unknown"


def test_every_view_of_a_network_that_sees_one_pixel_says_the_same(tmp_path: Path, job: Path) -> None:
    run(job, "output=once", "blend=none", "overlap=null")
    run(job, "output=often", "blend=none", "overlap=null", "tta=d4")
    once, often = layers(job.parent / "once"), layers(job.parent / "often")
    assert np.array_equal(once["probabilities"], often["probabilities"])
    second, first = np.sort(once["probabilities"], axis=0)[-2:]
    assert (first == second)[once["masks"][0] != often["masks"][0]].all()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["overlap=26"], "overlap: 26 px does not fit a tile of 64 .* set overlap: (\\d+)"),
        (["overlap=7"], "overlap: 7 px does not fit a tile of 64 .* set overlap: (\\d+)"),
        (["overlap=0.49"], "overlap: 0.49 does not fit a tile of 64 .* set overlap: (\\d+)"),
        (["overlap=0.5"], "overlap: expected pixels such as 64, or a share .*found 0.5"),
        (["probabilities=water"], "probabilities: expected true, or a list of classes such as \\[water\\]"),
        (["probabilities=[]"], "probabilities: expected true, or a list of classes"),
        (["merge={wet: [water]}"], "merge: expected names of two or more classes"),
        (
            ["ignore_below=0.5", "classes=[unknown, water, vegetation, bright]"],
            "give the model's class another",
        ),
        (["fit=tile"], "probabilities: a photograph keeps the winner's alone .*; leave it out"),
        (["blend=none"], "overlap: .* set blend: hann"),
        (["threshold.watr=0.5"], "'watr' is not among the job's classes .*Perhaps you meant 'water'"),
        (["probabilities=[sea]"], "'sea' is not among the job's classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(job: Path, command: Command, keys, words) -> None:
    arguments = [word for key in keys for word in ("--set", key)]
    done = command("plan", job, *arguments)
    assert done.returncode == 2
    found = re.search(words, done.stderr)
    assert found, done.stderr
    if found.groups():
        assert command("plan", job, "--set", f"overlap={found[1]}").returncode == 0


def test_a_plan_says_what_becomes_of_pixels_without_a_class(job: Path, command: Command) -> None:
    thresholds = "threshold={soil: 0.9, water: 0.9, vegetation: 0.9, bright: 0.9}"
    done = command("plan", job, "--set", thresholds)
    assert "pixels of which no class is told become class 4" in done.stdout, done.stderr
    assert "no class is told" not in command("plan", job, "--set", "threshold={soil: 0.9}").stdout


@pytest.mark.parametrize("key", ["blend=hann", "tta=flips", "probabilities=true", "ignore_below=0.5"])
def test_a_network_without_scores_is_refused(
    tmp_path: Path, write_job: JobWriter, command: Command, models: Path, key: str
) -> None:
    write_raster(tmp_path / "in" / "scene.tif", reflectance(50, 60)[:1])
    job = write_job(model=str(models / "ids"), bands=[1], classes=None)
    done = command("plan", job, "--set", key)
    assert done.returncode == 4
    assert f"{key.partition('=')[0]}: " in done.stderr
    assert "gives no scores" in done.stderr


def test_networks_outside_the_graph_are_blended_too(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "scene.tif", reflectance(150, 170)[:3])
    job = write_job(
        model=str(write_nchw(tmp_path / "net.onnx")),
        bands=[1, 2, 3],
        classes=None,
        normalize="none",
        blend="linear",
        overlap=16,
        bake=False,
        confidence=True,
    )
    run(job, "output=bare")
    run(job, "bake=true", "output=baked")
    bare, baked = layers(job.parent / "bare"), layers(job.parent / "baked")
    assert np.mean(bare["masks"] != baked["masks"]) < 0.001
    assert np.abs(bare["confidence"].astype(int) - baked["confidence"]).max() <= 1


@pytest.mark.parametrize("key", [("blend=hann", "overlap=16"), ("tta=d4",)])
def test_a_photograph_is_averaged_as_a_scene_is(
    tmp_path: Path, write_job: JobWriter, models: Path, key: tuple[str, ...]
) -> None:
    job = conv_job(tmp_path, write_job, models, inputs="in/*.png", tile_size=64, halo=8, confidence=True)
    pixels = np.random.default_rng(5).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    run(job, *key, "output=scene")
    run(job, *key, "fit=tile", "mask_format=tif", "output=photo")
    run(job, "output=neither")
    found = {}
    for name in ("scene", "photo", "neither"):
        (mask,) = (tmp_path / name / "masks").rglob("*.tif")
        with rasterio.open(mask) as raster:
            found[name] = raster.read(1)
    assert np.array_equal(found["scene"], found["photo"])
    assert np.array_equal(found["scene"], found["neither"]) == ("blend=hann" in key)  # it sees two pixels
