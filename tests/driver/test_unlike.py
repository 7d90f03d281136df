"""Scenes of another unit: refused where they contradict themselves, else named at the run's end."""

from pathlib import Path

import numpy as np
import rasterio
from conftest import JobWriter, read_mask, reflectance, write_raster
from runs import run

from batchseg.driver.unlike import SceneReaches, Unlike
from batchseg.output.state import load_state
from batchseg.pixels.own_values import VALUES_REFUSED
from batchseg.pixels.usual_values import Reach, Usual


def write_nine(folder: Path, odd: np.ndarray) -> None:
    """Of which the start's samples see the second, the fifth and the eighth."""
    for number in range(9):
        pixels = odd if number == 3 else reflectance(150, 170, seed=number).astype(odd.dtype)
        write_raster(folder / "in" / f"{number}.tif", pixels)


def test_one_scene_of_nine_in_another_unit_is_refused_by_name(tmp_path: Path, write_job: JobWriter) -> None:
    write_nine(tmp_path, (reflectance(150, 170, seed=3) / 10_000).astype(np.float32))
    job = write_job()
    report = run(job)
    assert report.tally.done == 8
    (refused,) = report.refused
    assert (refused.source_id, refused.status) == ("3.tif", "quarantined")
    assert refused.error.startswith(VALUES_REFUSED) and "scale: {divide: 1}" in refused.error
    assert run(job).still_quarantined == 1
    # The remedy is true: the network tells its classes apart.
    run(write_job(inputs="in/3.tif", scale={"divide": 1}, output="other"))
    assert len(np.unique(read_mask(tmp_path / "other", "3.tif"))) > 2
    meant = run(write_job(check_values=False))
    assert (meant.tally.done, meant.skipped) == (1, 8)


def test_what_was_predicted_before_the_refusal_is_kept(tmp_path: Path, write_job: JobWriter) -> None:
    """A scene of which the upper part holds 0..10000, and the lower 0..1."""
    pixels = reflectance(1200, 170).astype(np.float32)
    pixels[:, 560:] /= 10_000
    path = write_raster(tmp_path / "in" / "a.tif", pixels)
    report = run(write_job(shard_tiles=1, scale={"divide": 10000}))
    assert [record.status for record in report.refused] == ["quarantined"]
    recorded = report.tally.shards
    meant = run(write_job(shard_tiles=1, check_values=False))
    assert meant.tally.done == 1
    with rasterio.open(path) as dataset:
        shards = -(-dataset.height // 48) * -(-dataset.width // 48)
    assert recorded and meant.tally.shards == shards - recorded


def test_a_scene_of_other_bits_is_named(tmp_path: Path, write_job: JobWriter) -> None:
    for number in range(3):
        write_raster(tmp_path / "in" / f"{number}.tif", reflectance(150, 170, seed=number) * np.uint16(12))
    job = write_job(scale={"divide": 65535})
    assert run(job).warnings == ()
    assert [one.dtype for one in load_state(str(tmp_path / "out")).usual] == ["uint16"]
    few = (reflectance(150, 170, seed=8) // 3).clip(0, 1023)
    write_raster(tmp_path / "in" / "8.tif", few)
    (warning,) = run(job).warnings
    assert "1 scene may be of another unit" in warning and "8.tif: " in warning


def test_some_are_named_and_all_are_counted() -> None:
    found = Unlike("photograph")
    assert found.warnings == ()
    found.add((f"{number}.png", "dark") for number in range(7))
    (line,) = found.warnings
    assert line.startswith("7 photographs may be") and "2.png: dark; and 4 more" in line


def test_leases_of_one_scene_are_compared_together() -> None:
    reaches = SceneReaches([Usual(dtype="float32", end=10000.0, top=9000.0)])
    part = Reach(dtype="float32", top=1.0, has_fractions=True, has_contrast=True)
    for source_id in ("a", "b"):
        reaches.add(source_id, part)
    reaches.add("b", Reach(dtype="float32", top=9000.0, has_fractions=False, has_contrast=True))
    reaches.add("c", None)
    for source_id in ("a", "b", "c"):
        reaches.end(source_id)
    (line,) = reaches.unlike.warnings
    assert line.startswith("1 scene ") and "a: its values end at 1" in line
