"""Nights over Landsat's products of two generations, whose bands have other numbers."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster

from batchseg.pixels.landsat import roles

OLD = "LT05_L2SP_038031_20110901_20200820_02_T1"
NEW = "LC08_L2SP_038031_20180901_20200820_02_T1"
COLORS = ["red", "green", "blue", "nir"]
NUMBERS = {OLD: (3, 2, 1, 4), NEW: (4, 3, 2, 5)}
"""Of these colours."""


@pytest.fixture
def archive(tmp_path: Path) -> np.ndarray:
    """Both scenes with a file per band, 1 to 5, and what is red, green, blue and near infrared in both."""
    whole = reflectance(70, 90)
    for product, numbers in NUMBERS.items():
        others = iter({1, 2, 3, 4, 5} - set(numbers))
        for number, band in [*zip(numbers, whole, strict=True), (next(others), whole[0] // 3 + 17)]:
            write_raster(tmp_path / "in" / product / f"{product}_SR_B{number}.TIF", band[None])
    return whole


def patterns(numbers: tuple[int, ...], names: list[str], scene: str = "{scene}") -> dict[str, dict[str, str]]:
    pairs = zip(names, numbers, strict=True)
    return {"bands": {name: f"in/{scene}/{scene}_SR_B{number}.TIF" for name, number in pairs}}


def errors(output: Path) -> dict[str, str]:
    rows = pq.read_table(output / "items" / "items.parquet").to_pylist()
    return {row["source_id"]: row["error"] or "" for row in rows}


@pytest.mark.parametrize(("right", "wrong"), [(NEW, OLD), (OLD, NEW)])
def test_colours_that_another_generations_numbers_have_are_refused(
    tmp_path: Path, write_job: JobWriter, command: Command, archive: np.ndarray, right: str, wrong: str
) -> None:
    for bands in (COLORS, [1, 2, 3, 4]):
        job = write_job(inputs=patterns(NUMBERS[right], COLORS), bands=bands, output=f"out{len(str(bands))}")
        done = command("run", job, "--executor", "inline")
        assert done.returncode == 3
        other = (
            "near infrared as band 1 (red), by its product of Landsat 5"
            if wrong == OLD
            else "green as band 1"
        )
        output = tmp_path / f"out{len(str(bands))}"
        assert other in errors(output)[wrong]
        np.testing.assert_array_equal(read_mask(output, right), spectral_mask(archive, 10_000))
        assert not (output / "masks" / f"{wrong}.tif").exists()


def test_each_generation_with_an_input_of_its_own_is_done(
    tmp_path: Path, write_job: JobWriter, command: Command, archive: np.ndarray
) -> None:
    inputs = {
        kind: patterns(NUMBERS[product], COLORS, product[:4] + "{scene}")
        for kind, product in (("tm", OLD), ("oli", NEW))
    }
    done = command("run", write_job(inputs=inputs, bands=COLORS), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "bands" not in done.stderr
    for kind, product in (("tm", OLD), ("oli", NEW)):
        mask = read_mask(tmp_path / "out", f"{kind}/{product[4:]}")
        np.testing.assert_array_equal(mask, spectral_mask(archive, 10_000))


@pytest.mark.parametrize("mtl", [False, True], ids=["by the id", "by the MTL file"])
def test_colours_are_found_by_each_spacecrafts_own_numbers(
    tmp_path: Path, write_job: JobWriter, command: Command, archive: np.ndarray, mtl: bool
) -> None:
    scenes = {OLD: OLD, NEW: NEW}
    if mtl:
        crafts = {OLD: ("LANDSAT_5", "TM"), NEW: ("LANDSAT_8", "OLI_TIRS")}
        for number, (product, (craft, sensor)) in enumerate(crafts.items()):
            scenes[product] = name = f"s{number}"
            folder = (tmp_path / "in" / product).rename(tmp_path / "in" / name)
            for path in list(folder.iterdir()):
                path.rename(path.with_name(path.name.replace(product, name)))
            said = {"SPACECRAFT_ID": craft, "SENSOR_ID": sensor}
            (folder / f"{name}_MTL.json").write_text(
                json.dumps({"LANDSAT_METADATA_FILE": {"IMAGE_ATTRIBUTES": said}})
            )
    numbers = tuple(range(1, 6))
    inputs = patterns(numbers, [f"SR_B{number}" for number in numbers])
    done = command("run", write_job(inputs=inputs, bands=COLORS), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    for name in scenes.values():
        np.testing.assert_array_equal(read_mask(tmp_path / "out", name), spectral_mask(archive, 10_000))
    done = command("plan", write_job(inputs=inputs, bands=[4, 3, 2, 5], output="other"))
    assert "the network gets" in done.stdout + done.stderr
    assert "another order of 1 scene" in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "right"), [("LE07_038031_20010901", False), ("LC08_038031_20180901", True)])
def test_descriptions_are_read_by_the_id_in_the_files_name(
    tmp_path: Path, write_job: JobWriter, command: Command, name: str, right: bool
) -> None:
    """Of four bands that are described as SR_B4, SR_B3, SR_B2, SR_B5, as Earth Engine exports them."""
    whole = reflectance(70, 90)
    path = write_raster(tmp_path / "in" / f"{name}.tif", whole)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("SR_B4", "SR_B3", "SR_B2", "SR_B5")
    done = command("run", write_job(bands=COLORS), "--executor", "inline")
    if right:
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(
            read_mask(tmp_path / "out", f"{name}.tif"), spectral_mask(whole, 10_000)
        )
    else:
        assert done.returncode == 2
        assert (
            "has no band called 'blue'; it has 1 SR_B4 (nir), 2 SR_B3 (red), 3 SR_B2 (green)" in done.stderr
        )


@pytest.mark.parametrize(
    "scene",
    [
        "LT05_L1TP_038031_20110901_20160830_01_T1",
        "LT050380312011090101T1-SC20201103094523",
        "LT50380312011244PAC01",
    ],
)
@pytest.mark.parametrize("kind", ["sr", "toa"])
def test_espas_names_are_band_numbers(
    tmp_path: Path, write_job: JobWriter, command: Command, archive: np.ndarray, scene: str, kind: str
) -> None:
    for number in range(1, 6):
        path = tmp_path / "in" / OLD / f"{OLD}_SR_B{number}.TIF"
        path.rename(tmp_path / "in" / f"{scene}_{kind}_band{number}.tif")

    def files(names: list[str], numbers: tuple[int, ...]) -> dict[str, dict[str, str]]:
        pairs = zip(names, numbers, strict=True)
        return {"bands": {name: f"in/{{scene}}_{kind}_band{number}.tif" for name, number in pairs}}

    right = write_job(inputs=files(COLORS, NUMBERS[OLD]))
    assert command("run", right, "--executor", "inline").returncode == 0
    np.testing.assert_array_equal(read_mask(tmp_path / "out", scene), spectral_mask(archive, 10_000))
    wrong = write_job(inputs=files(COLORS, NUMBERS[NEW]), output="wrong")
    done = command("run", wrong, "--executor", "inline")
    assert done.returncode == 2
    assert "near infrared as band 1 (red), by its product of Landsat 5" in done.stderr
    by_number = files([f"band{number}" for number in range(1, 6)], (1, 2, 3, 4, 5))
    done = command("run", write_job(inputs=by_number, bands=COLORS, output="named"), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "named", scene), spectral_mask(archive, 10_000))


def test_espas_descriptions_are_band_numbers_beside_a_products_id_alone() -> None:
    names = ["sr_band3", "sr_band2", "sr_band1", "sr_band4"]
    colors = ("red", "green", "blue", "nir")
    assert roles(f"/a/{OLD}.tif", names) == (colors, "Landsat 5")
    assert roles("/a/scene.tif", names) == (("",) * 4, "")
    places = [f"Band {number}" for number in range(1, 5)]
    assert roles(f"/a/{OLD}.tif", places) == (("",) * 4, "")
