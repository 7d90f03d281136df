"""Scenes of several files that do not lie at one place."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import UTM, Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from rasterio.transform import Affine

HEIGHT, WIDTH = 70, 90
PATTERNS = {name: f"in/{{scene}}_{name}.tif" for name in ("rgb", "nir", "dem")}
HALF = Affine(20.0, 0.0, UTM.c, 0.0, -20.0, UTM.f)


def moved(transform: Affine, across: float, down: float) -> Affine:
    """By metres to the right and down."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return Affine(a, b, c + across, d, e, f - down)


def write_scene(folder: Path, name: str, nir: Affine, dem: Affine = UTM) -> np.ndarray:
    whole = reflectance(HEIGHT, WIDTH)
    write_raster(folder / f"{name}_rgb.tif", whole[:3])
    write_raster(folder / f"{name}_nir.tif", whole[3:, ::2, ::2], transform=nir)
    write_raster(folder / f"{name}_dem.tif", whole[:1], transform=dem)
    return whole


def errors(output: Path) -> dict[str, str]:
    rows = pq.read_table(output / "items" / "items.parquet").to_pylist()
    return {row["source_id"]: row["error"] or "" for row in rows}


APART = {
    "far away": moved(HALF, 100_000, 0),
    "beside it": moved(HALF, WIDTH * 10, 0),
    "above it": moved(HALF, 0, -HEIGHT * 10),
    "less than half a pixel in it": moved(HALF, WIDTH * 10 - 4, 0),
}


@pytest.mark.parametrize("where", APART)
def test_files_that_share_no_pixel_are_quarantined_with_both_boxes(
    tmp_path: Path, write_job: JobWriter, command: Command, where: str
) -> None:
    write_scene(tmp_path / "in", "apart", APART[where])
    write_scene(tmp_path / "in", "sound", HALF)
    done = command(
        "run", write_job(inputs={"bands": PATTERNS, "resampling": "nearest"}), "--executor", "inline"
    )
    assert done.returncode == 3, done.stderr
    left, top = APART[where].c, APART[where].f
    for box in (
        f"band 1 (rgb 1) lies at {UTM.c:.10g}..{UTM.c + 900:.10g}, {UTM.f - 700:.10g}..{UTM.f:.10g}",
        f"band 4 (nir) at {left:.10g}..{left + 900:.10g}, {top - 700:.10g}..{top:.10g} in the CRS",
    ):
        assert box in errors(tmp_path / "out")["apart"]
    assert not errors(tmp_path / "out")["sound"]
    assert not (tmp_path / "out" / "masks" / "apart.tif").exists()


@pytest.mark.parametrize(
    ("nir", "dem"),
    [(HALF, moved(UTM, 100_000, 0)), (moved(HALF, WIDTH * 10 - 6, 0), UTM)],
    ids=["a file that is not asked for", "one column in common"],
)
def test_files_that_share_a_pixel_are_a_scene(
    tmp_path: Path, write_job: JobWriter, command: Command, nir: Affine, dem: Affine
) -> None:
    whole = write_scene(tmp_path / "in", "x", nir, dem)
    done = command(
        "run", write_job(inputs={"bands": PATTERNS, "resampling": "nearest"}), "--executor", "inline"
    )
    assert done.returncode == 0, done.stderr
    mask = read_mask(tmp_path / "out", "x")
    if nir == HALF:
        whole[3] = whole[3, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(mask, spectral_mask(whole, 10_000))
    else:
        assert (mask[:, :-1] == 255).all()
        assert (mask[:, -1] != 255).all()


def test_all_files_away_from_the_finest_are_told(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    write_raster(tmp_path / "in" / "x_all.tif", whole, transform=moved(HALF, 100_000, 0))
    write_raster(tmp_path / "in" / "x_dem.tif", whole[:1])
    patterns = {name: f"in/{{scene}}_{name}.tif" for name in ("all", "dem")}
    done = command(
        "run", write_job(inputs={"bands": patterns, "resampling": "nearest"}), "--executor", "inline"
    )
    assert done.returncode == 2
    assert "the finest file, whose grid is the scene's, lies at" in done.stderr
    assert "band 1 (all 1) at " in done.stderr


def test_a_file_without_a_place_beside_others_is_quarantined(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    places = {"sound": {}, "lost": {"crs": None, "transform": None}, "unplaced": {"transform": None}}
    for name, profile in places.items():
        write_raster(tmp_path / "in" / f"{name}_rgb.tif", whole[:3])
        write_raster(tmp_path / "in" / f"{name}_nir.tif", whole[3:], **profile)
    for name in ("rgb", "nir"):  # pictures that lie nowhere
        bands = whole[:3] if name == "rgb" else whole[3:]
        write_raster(tmp_path / "in" / f"nowhere_{name}.tif", bands, crs=None, transform=None)
    patterns = {name: f"in/{{scene}}_{name}.tif" for name in ("rgb", "nir")}
    done = command("run", write_job(inputs={"bands": patterns}), "--executor", "inline")
    assert done.returncode == 3, done.stderr
    said = errors(tmp_path / "out")
    for name in ("lost", "unplaced"):
        assert f"{name}_nir.tif has no geotransform that says how they lie" in said[name]
    for name in ("sound", "nowhere"):
        np.testing.assert_array_equal(read_mask(tmp_path / "out", name), spectral_mask(whole, 10_000))
