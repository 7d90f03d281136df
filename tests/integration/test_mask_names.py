"""Masks' names from night to night: an output keeps those that it began with, new ones have the sources'."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from photo_runs import JobMaker, check, night, photograph, save
from runs import BANDS, run, split

from batchseg.errors import ConfigError
from batchseg.tools.verify import verify

COLORS = [{"name": name, "color": "#102030"} for name in ("soil", "water", "plants", "bright")]


def state_file(output: Path) -> Path:
    return output / "_batchseg" / "output.json"


def begin_as_earlier(job: Path, output: Path) -> None:
    """An empty night of an earlier version, which said nothing of names in output.json."""
    (job.parent / "in").mkdir(exist_ok=True)
    run(job)
    document = json.loads(state_file(output).read_text())
    assert document.pop("mask_names") == "kept"
    state_file(output).write_text(json.dumps(document))


def masks(output: Path) -> set[str]:
    files = [path for path in (output / "masks").rglob("*") if path.suffix in (".tif", ".png")]
    return {str(path.relative_to(output / "masks")) for path in files}


def sound(output: Path) -> None:
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())


def scene(folder: Path, name: str, seed: int = 0) -> np.ndarray:
    pixels = reflectance(70, 90, seed)
    write_raster(folder / "in" / name, pixels)
    return spectral_mask(pixels, 10_000)


def test_an_earlier_output_keeps_its_names(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    output, keys = tmp_path / "out", {"allow_empty": True, "confidence": True}
    job = write_job(**keys)
    begin_as_earlier(job, output)
    for name in ("a.tif", "b.tif", "goes.tif"):
        scene(tmp_path, name)
    assert run(job).tally.done == 3
    assert masks(output) == {"a.tif.tif", "b.tif.tif", "goes.tif.tif"}
    assert (output / "confidence" / "a.tif.tif").exists()
    (tmp_path / "in" / "goes.tif").unlink()
    changed, new = scene(tmp_path, "b.tif", 1), scene(tmp_path, "c.tif", 2)
    assert run(job).tally.done == 2
    for name, expected in (("b.tif", changed), ("c.tif", new)):
        np.testing.assert_array_equal(read_mask(output, name), expected)
    sound(output)
    # Encoded again, predicted again, pruned, exported.
    report = run(write_job(**keys, classes=COLORS))
    assert (report.tally.done, report.tally.predicted) == (3, 0)
    assert run(write_job(**keys, classes=COLORS, halo=16), replace=True).tally.predicted
    assert command("prune", output).returncode == 0
    assert masks(output) == {"a.tif.tif", "b.tif.tif", "c.tif.tif"}
    sound(output)
    assert command("export", output, tmp_path / "regions.gpkg").returncode == 0
    assert command("summary", output).returncode == 0
    assert json.loads(state_file(output).read_text())["mask_names"] == "added"


def test_names_are_told_by_what_is_recorded_where_the_output_forgot(
    tmp_path: Path, write_job: JobWriter
) -> None:
    for output, earlier in ((tmp_path / "old", True), (tmp_path / "new", False)):
        job = write_job(allow_empty=True, output=output.name)
        if earlier:
            begin_as_earlier(job, output)
        scene(tmp_path, "a.tif")
        run(job)
        before = masks(output)
        state_file(output).unlink()
        scene(tmp_path, "b.tif")
        assert run(job).tally.done == 1
        assert masks(output) == {*before, "b.tif.tif" if earlier else "b.tif"}
        sound(output)
        (tmp_path / "in" / "a.tif").unlink()
        (tmp_path / "in" / "b.tif").unlink()


def test_masks_of_a_new_output_are_called_as_their_sources(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    output = tmp_path / "out"
    names = {
        "n/a.tif": "n/a.tif",
        "n/a.tif.tif": "n/a.tif.tif.tif",
        "n/a": "n/a.mask.tif",
        "n/a.mask.tif": "n/a.mask.tif.tif",
        "n/a.TIF": "n/a.TIF.tif",
        "b.tif/a.tiff": "b.tif_/a.tiff.tif",
    }
    expected = {name: scene(tmp_path, name, seed) for seed, name in enumerate(names)}
    job = write_job(inputs="in/**/*")
    assert run(job).tally.done == len(names)
    assert masks(output) == set(names.values())
    for name, pixels in expected.items():
        np.testing.assert_array_equal(read_mask(output, name), pixels)
    sound(output)
    assert run(write_job(inputs="in/**/*", classes=COLORS)).tally.predicted == 0
    assert masks(output) == set(names.values())
    (tmp_path / "in" / "n" / "a").unlink()
    run(job)
    assert command("prune", output).returncode == 0
    assert masks(output) == set(names.values()) - {"n/a.mask.tif"}
    sound(output)


def test_scenes_of_several_files_have_their_names_with_a_suffix(tmp_path: Path, write_job: JobWriter) -> None:
    split(write_raster(tmp_path / "stack.tif", reflectance(70, 90)), tmp_path / "bands")
    bands = {"bands": {name: f"bands/{{scene}}_{name}.tif" for name in BANDS}}
    run(write_job(inputs=bands))
    assert masks(tmp_path / "out") == {"stack.tif"}
    scene(tmp_path, "a.tif")  # an input more, on a later night
    run(write_job(inputs=[bands, "in/*.tif"]))
    assert masks(tmp_path / "out") == {"stack.tif", "in/a.tif.tif"}
    run(write_job(inputs=[bands, "in/*.tif"], output="both"))
    assert masks(tmp_path / "both") == {"bands/stack.mask.tif", "in/a.tif"}


def test_photographs_too(tmp_path: Path, photo_job: JobMaker) -> None:
    output = tmp_path / "out"
    begin_as_earlier(photo_job(allow_empty=True), output)
    images = night(tmp_path, 6)
    run(photo_job())
    check(output, images)
    assert all(name.endswith(".png.png") for name in masks(output))
    run(photo_job(masks="all"))
    assert masks(output) == {f"{name}.png" for name in images}
    run(photo_job(masks="all", output="new"))
    assert masks(tmp_path / "new") == set(images)
    # Another format has names of its own, and leaves none of the first one's.
    save(tmp_path / "in" / "x.tif", photograph(70))
    run(photo_job(masks="all", output="new", mask_format="tif"))
    assert masks(tmp_path / "new") == {"x.tif", *(f"{name}.tif" for name in images)}
    sound(tmp_path / "new")


def test_a_mask_never_takes_its_sources_place(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    pixels = reflectance(70, 90)
    source = write_raster(tmp_path / "out" / "masks" / "a.tif", pixels)
    data = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    job = write_job(inputs="link/masks/*.tif")
    with pytest.raises(ConfigError, match="by another name"):
        run(job)
    assert "by another name" in command("plan", job).stderr
    assert source.read_bytes() == data
