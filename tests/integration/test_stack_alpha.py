"""Scenes of several files of which some carry alpha: it is no band, wherever it lies in the stack."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

HEIGHT, WIDTH = 70, 90
NAMES = ("red", "green", "blue", "nir")
HOLE = np.s_[20:33, 40:71]


def write(
    folder: Path, pixels: Sequence[NDArray[np.uint16]], name: str, *, alpha: bool, tagged: int = 0
) -> None:
    """Bands of a scene as one file; with alpha behind them, which is 0 in `HOLE`."""
    bands = list(pixels)
    if alpha:
        opaque = np.full((HEIGHT, WIDTH), 65535, np.uint16)
        opaque[HOLE] = 0
        bands.append(opaque)
    path = write_raster(folder / f"x_{name}.tif", np.stack(bands))
    if tagged := tagged or (len(bands) if alpha else 0):
        with rasterio.open(path, "r+") as dataset:
            tags = [ColorInterp.gray] * len(bands)
            tags[tagged - 1] = ColorInterp.alpha
            dataset.colorinterp = tags


def patterns(names: Sequence[str]) -> dict[str, dict[str, str]]:
    return {"bands": {name: f"in/{{scene}}_{name}.tif" for name in names}}


@pytest.mark.parametrize("bands", [None, list(NAMES), ["red 1", "green", "blue", "nir"]], ids=str)
@pytest.mark.parametrize("opaque", [("red",), ("blue", "nir"), NAMES], ids=str)
def test_alpha_is_no_band_and_says_where_data_is(
    tmp_path: Path, write_job: JobWriter, command: Command, opaque: tuple[str, ...], bands: list[str] | None
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    for name, band in zip(NAMES, whole, strict=True):
        write(tmp_path / "in", [band], name, alpha=name in opaque)
    done = command("run", write_job(inputs=patterns(NAMES), bands=bands), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "alpha" not in done.stderr
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[HOLE] = False
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x"), spectral_mask(whole, 10_000, valid))


def test_numbers_that_name_an_alpha_are_told(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    for name, band in zip(NAMES, whole, strict=True):
        write(tmp_path / "in", [band], name, alpha=name == "red")
    done = command("run", write_job(inputs=patterns(NAMES), bands=[1, 2, 3, 4]), "--executor", "inline")
    assert done.returncode == 0
    assert "band 2 (red 2) of 1 scene (x) is tagged as alpha, and the network gets it" in done.stderr
    right = write_job(inputs=patterns(NAMES), bands=[1, 3, 4, 5], output="right")
    done = command("run", right, "--executor", "inline")
    assert done.returncode == 0
    assert "alpha" not in done.stderr


@pytest.mark.parametrize("bands", [[1, 2, 3, 4], ["rgbn 1", "rgbn 2", "rgbn 3", "rgbn 4"]], ids=str)
def test_near_infrared_that_gdal_calls_alpha_is_data_where_the_job_names_it(
    tmp_path: Path, write_job: JobWriter, command: Command, bands: list[int | str]
) -> None:
    pixels = (reflectance(HEIGHT, WIDTH) // 40).astype(np.uint8)
    path = write_raster(tmp_path / "in" / "x_rgbn.tif", pixels, photometric="RGB", alpha="yes")
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    write_raster(tmp_path / "in" / "x_dem.tif", pixels[:1])
    job = write_job(inputs=patterns(["rgbn", "dem"]), bands=bands, scale={"divide": 250})
    done = command("run", job, "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "alpha" not in done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x"), spectral_mask(pixels, 250))


@pytest.mark.parametrize("tagged", [1, 2, 5])
def test_alpha_of_one_file_is_no_band_wherever_it_lies(
    tmp_path: Path, write_job: JobWriter, command: Command, tagged: int
) -> None:
    whole = reflectance(HEIGHT, WIDTH)
    opaque = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    opaque[HOLE] = 0
    bands = list(whole)
    bands.insert(tagged - 1, opaque)
    write(tmp_path / "in", bands, "a", alpha=False, tagged=tagged)
    done = command("run", write_job(bands=None), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    valid = opaque != 0
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "x_a.tif"), spectral_mask(whole, 10_000, valid))
