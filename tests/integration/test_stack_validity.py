"""Scenes of several files, of which each says itself where it holds data; rasterio's masks say the same."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from stacks import GRIDS

HEIGHT, WIDTH = 120, 160
HOLES = {"rg": np.s_[:, :24], "b": np.s_[40:60, :], "nir": np.s_[80:96, 96:140]}
"""Where a file holds no data: of `nir` pixels of the finest grid."""


def mark(
    path: Path, pixels: NDArray[np.uint16], hole: tuple[slice, ...], how: str, **profile: object
) -> Path:
    """A file that says by its nodata value, by a mask or by alpha where it has a hole."""
    pixels = pixels.copy()
    pixels[:, *hole] = 0 if how == "nodata" else 5000
    if how == "alpha":
        opaque = np.full_like(pixels[:1], 65535)
        opaque[:, *hole] = 0
        pixels = np.concatenate([pixels, opaque])
    write_raster(path, pixels, **profile, **({"nodata": 0} if how == "nodata" else {}))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "mask"), rasterio.open(path, "r+") as dataset:
        if how == "alpha":
            dataset.colorinterp = (*[ColorInterp.gray] * (len(pixels) - 1), ColorInterp.alpha)
        elif "mask" in how:
            held = np.ones(pixels.shape[1:], bool)
            held[hole] = False
            dataset.write_mask(held)
    return path


def own_mask(path: Path) -> NDArray[np.bool_]:
    """What rasterio says of a file, on the finest grid."""
    with rasterio.open(path) as dataset:
        if ColorInterp.alpha in dataset.colorinterp:  # which GDAL takes for a mask of 2 and 4 bands alone
            held = dataset.read(dataset.count) != 0
        else:
            held = dataset.dataset_mask() != 0
    return held.repeat(HEIGHT // held.shape[0], axis=0).repeat(WIDTH // held.shape[1], axis=1)


@pytest.mark.parametrize("coarse", [False, True], ids=["one grid", "two grids"])
@pytest.mark.parametrize(
    "how",
    [
        {"rg": "nodata"},
        {"b": "nodata"},
        {"nir": "nodata"},
        {"rg": "nodata", "b": "nodata", "nir": "nodata"},
        {"rg": "nodata", "b": "mask", "nir": "alpha"},
        {"rg": "alpha", "b": "nodata", "nir": "mask beside it"},
        {"rg": "mask", "b": "alpha", "nir": "nodata"},
        {"b": "alpha"},
        {},
    ],
    ids=lambda how: ", ".join(map("=".join, how.items())) or "nothing",
)
def test_a_pixel_has_data_only_where_every_file_says_so(
    tmp_path: Path, write_job: JobWriter, command: Command, how: dict[str, str], coarse: bool
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    if coarse:
        whole[3] = whole[3, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    parts = {"rg": whole[:2], "b": whole[2:3], "nir": whole[3:, ::2, ::2] if coarse else whole[3:]}
    whole[0, 100:110, 30:40] = 0  # one band of a file is no data where the other holds some
    paths = {}
    for name, part in parts.items():
        hole = HOLES[name]
        profile = {}
        if coarse and name == "nir":
            hole, profile = np.s_[40:48, 48:70], {"transform": GRIDS["twice"]}
        kind = how.get(name, "")
        path = tmp_path / "in" / f"x_{name}.tif"
        paths[name] = mark(path, part, hole, kind, **profile) if kind else write_raster(path, part, **profile)
    (tmp_path / "list.csv").write_text("id,rg,b,nir\nx,in/x_rg.tif,in/x_b.tif,in/x_nir.tif\n")
    inputs = {"manifest": "list.csv", "columns": ["rg", "b", "nir"], "id": "id", "resampling": "nearest"}
    rg, b = 2 + (how.get("rg") == "alpha"), 1 + (how.get("b") == "alpha")
    done = command("run", write_job(inputs=inputs, bands=[1, 2, rg + 1, rg + b + 1]), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    valid = np.logical_and.reduce([own_mask(path) for path in paths.values()])
    for name, hole in HOLES.items():
        assert not valid[hole].any() if name in how else valid.any()
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x"), spectral_mask(whole, 10_000, valid))


def test_files_that_no_band_is_read_from_say_nothing(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    write_raster(tmp_path / "in" / "x_a.tif", whole)
    mark(tmp_path / "in" / "x_b.tif", whole[:1], HOLES["b"], "nodata")
    patterns = {name: f"in/{{scene}}_{name}.tif" for name in "ab"}
    done = command("run", write_job(inputs={"bands": patterns}), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x"), spectral_mask(whole, 10_000))


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic", "average"])
@pytest.mark.parametrize("empty", [("rg",), ("nir",), ("b", "nir"), ("rg", "b", "nir")], ids=str)
def test_the_jobs_nodata_is_that_of_files_that_have_none(
    tmp_path: Path, write_job: JobWriter, command: Command, how: str, empty: tuple[str, ...]
) -> None:
    """The same masks as of files that say it themselves, and nothing blended at their edges."""
    whole = reflectance(HEIGHT, WIDTH)
    whole[3] = 4000
    parts = {"rg": whole[:2], "b": whole[2:3], "nir": whole[3:, ::2, ::2]}
    valid = np.ones((HEIGHT, WIDTH), bool)
    masks = []
    for nodata in (None, 0):
        for name, part in parts.items():
            held, hole = part.copy(), HOLES[name]
            if name == "nir":
                hole = np.s_[40:48, 48:70]
                profile = {"transform": GRIDS["twice"]}
            else:
                profile = {}
            if name in empty:
                held[:, *hole] = 0
                valid[HOLES[name]] = False
            write_raster(tmp_path / "in" / f"x_{name}.tif", held, nodata=nodata, **profile)
        patterns = {name: f"in/{{scene}}_{name}.tif" for name in parts}
        job = write_job(
            inputs={"bands": patterns, "resampling": how},
            output=f"out{nodata}",
            nodata=0 if nodata is None else "source",
        )
        done = command("run", job, "--executor", "inline")
        assert done.returncode == 0, done.stderr
        masks.append(read_mask(tmp_path / f"out{nodata}", "x"))
    np.testing.assert_array_equal(*masks)
    np.testing.assert_array_equal(masks[0], spectral_mask(whole, 10_000, valid))


@pytest.mark.parametrize("how", ["mask", "mask beside it", "alpha"])
@pytest.mark.parametrize("coarse", [False, True], ids=["one grid", "two grids"])
def test_the_jobs_nodata_counts_beside_a_files_mask_and_alpha(
    tmp_path: Path, write_job: JobWriter, command: Command, how: str, coarse: bool
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    whole[3, ::2, ::2] = np.maximum(whole[3, ::2, ::2], 1)
    whole[3] = whole[3, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    nir, hole, fill = whole[3:], HOLES["nir"], np.s_[10:20, 50:62]
    profile = {}
    if coarse:
        nir, hole, fill = nir[:, ::2, ::2], np.s_[40:48, 48:70], np.s_[5:10, 25:31]
        profile = {"transform": GRIDS["twice"]}
    nir = nir.copy()
    nir[:, *fill] = 0
    write_raster(tmp_path / "in" / "x_rgb.tif", whole[:3])
    mark(tmp_path / "in" / "x_nir.tif", nir, hole, how, **profile)
    patterns = {name: f"in/{{scene}}_{name}.tif" for name in ("rgb", "nir")}
    inputs = {"bands": patterns, "resampling": "nearest"}
    done = command("run", write_job(inputs=inputs, nodata=0), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[HOLES["nir"]] = valid[10:20, 50:62] = False
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x"), spectral_mask(whole, 10_000, valid))
