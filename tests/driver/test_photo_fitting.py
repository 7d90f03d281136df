"""Every photograph is judged by its own pixels, and compared with its output's first ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from conftest import Command
from factories import make_package, make_recipe
from photo_runs import JobMaker, items, photograph, save
from rasterio.enums import ColorInterp
from runs import run

from batchseg.driver.photo_fitting import fit_photo
from batchseg.errors import MismatchError
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.output.state import load_state
from batchseg.pixels.own_values import VALUES_REFUSED
from batchseg.pixels.photo.picture import Picture
from batchseg.pixels.usual_values import Usual

SIXTEEN = {"scale": {"divide": 65535}, "normalize": {"mean": [0.3] * 3, "std": [0.2] * 3}}
USUAL = (Usual(dtype="uint16", end=65535.0, top=6e4),)


def write(folder: Path, name: str, seed: int, factor: int) -> None:
    folder.mkdir(exist_ok=True)
    image = photograph(seed)[..., ::-1].astype(np.uint16) * 2
    cv2.imwrite(str(folder / name), (image * factor).astype(np.uint8 if factor == 0 else np.uint16))


def test_a_camera_that_changes_its_bits_passes_nothing(tmp_path: Path, photo_job: JobMaker) -> None:
    for number in range(3):
        write(tmp_path / "in", f"1-{number}.png", number, 256)
    job = photo_job(**SIXTEEN)
    assert run(job).verdicts == {"PASS": 3}
    (usual,) = load_state(str(tmp_path / "out")).usual
    assert (usual.dtype, usual.end) == ("uint16", 65535)
    for number in range(3):
        write(tmp_path / "in", f"2-{number}.png", number, 16)
    write(tmp_path / "in", "2-3.png", 8, 256)
    report = run(job)
    assert report.verdicts == {"PASS": 4, "REVIEW": 3}
    assert (report.unlike, report.uninspected) == (3, 0)
    assert "3 photographs may be of another unit" in report.warnings[0]
    row = items(tmp_path / "out")["2-0.png"]
    assert (row["verdict"], row["rule"]) == ("REVIEW", "check_values")
    assert "of this output's first sources at" in row["review_reason"]
    # Other rules keep the reason; a job that means its values lets them pass, and the next asks again.
    rules = [{"name": "red", "class": "red", "min_area": 50}]
    assert run(photo_job(**SIXTEEN, rules=rules)).verdicts == {"PASS": 4, "REVIEW": 3}
    meant = run(photo_job(**SIXTEEN, rules=rules, check_values=False))
    assert (meant.verdicts, meant.tally.done, meant.rejudged) == ({"PASS": 7}, 0, 3)
    assert run(photo_job(**SIXTEEN, rules=rules)).verdicts == {"PASS": 4, "REVIEW": 3}


def test_fill_and_signed_types_pass_on_no_later_night(tmp_path: Path, photo_job: JobMaker) -> None:
    """What the reason says of fill mends it."""

    def tiff(name: str, seed: int, dtype: str, *, offset: int = 0, fill: float | None = None) -> Path:
        image = np.moveaxis(photograph(seed), 2, 0).astype("float64") * 256 + offset
        if fill is not None:
            image[:, :, :60] = fill
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        size = {"height": image.shape[1], "width": image.shape[2], "count": 3, "dtype": dtype}
        with rasterio.open(path, "w", driver="GTiff", **size) as dataset:
            dataset.write(image.astype(dtype))
        return path

    for number in range(3):
        tiff(f"1-{number}.tif", number, "float32")
    job = photo_job(**SIXTEEN)
    assert run(job).verdicts == {"PASS": 3}
    filled = tiff("2-fill.tif", 4, "float32", fill=-9999)
    tiff("2-signed.tif", 5, "int16", offset=-32768)
    tiff("2-noise.tif", 6, "float32", fill=-90)
    assert run(job).verdicts == {"PASS": 4, "REVIEW": 2}
    rows = items(tmp_path / "out")
    assert rows["2-noise.tif"]["verdict"] == "PASS"
    reasons = [rows[f"2-{name}.tif"]["review_reason"] for name in ("fill", "signed")]
    assert {rows[f"2-{name}.tif"]["rule"] for name in ("fill", "signed")} == {"check_values"}
    assert "down to -9999" in reasons[0] and "gdal_translate -a_nodata -9999" in reasons[0]
    assert "of a signed type" in reasons[1]
    with rasterio.open(filled, "r+") as dataset:
        dataset.nodata = -9999
    run(job)
    assert items(tmp_path / "out")["2-fill.tif"]["rule"] == "min_valid"


def write_tiff(
    path: Path, seed: int, order: str, *, names: bool = True, tags: bool = False, alpha: bool = False
) -> None:
    """An image with a red square, its bands in an order such as `bgr`, and what says so."""
    path.parent.mkdir(exist_ok=True)
    image = np.moveaxis(photograph(seed, red=1), 2, 0)["rgb".index(order[0]) :: 1 if order == "rgb" else -1]
    bands = [*image, *([np.full_like(image[0], 255)] if alpha else [])]
    keys = {"driver": "GTiff", "count": len(bands), "dtype": "uint8"}
    with rasterio.open(path, "w", height=image.shape[1], width=image.shape[2], **keys) as dataset:
        dataset.write(np.stack(bands))
        if names:
            dataset.descriptions = (*order, "A") if alpha else tuple(order)
        colors = {"r": ColorInterp.red, "g": ColorInterp.green, "b": ColorInterp.blue}
        if tags:
            dataset.colorinterp = [*(colors[c] for c in order), *([ColorInterp.alpha] if alpha else [])]


@pytest.mark.parametrize("alpha", [False, True], ids=["three bands", "with alpha"])
@pytest.mark.parametrize("names", [True, False], ids=["by name", "by colour interpretation"])
def test_photographs_of_another_order_pass_on_no_night(
    tmp_path: Path, photo_job: JobMaker, command: Command, names: bool, alpha: bool
) -> None:
    """Those of an archive that holds both: what is said to mend it holds for each kind."""
    for number in range(3):
        write_tiff(tmp_path / "in" / f"1-{number}.tif", number, "rgb", names=False)
    job = photo_job()
    assert run(job).verdicts == {"FAIL": 3}
    said = {"names": names, "tags": not names, "alpha": alpha}
    for number in range(5):
        write_tiff(tmp_path / "in" / f"2-{number}.tif", number, "bgr", **said)
    write_tiff(tmp_path / "in" / "2-5.tif", 5, "rgb", **said)
    told = command("run", job, "--set", "executor=inline")
    assert told.returncode == 0
    assert "5 of these are REVIEW for their values or bands (check_values)" in told.stdout
    assert "warning: 5 photographs may have their bands in another order than the job reads" in told.stdout
    assert "and 2 more" in told.stdout and "of another unit" not in told.stdout
    rows = items(tmp_path / "out")
    assert {key: row["verdict"] for key, row in rows.items() if key.startswith("2")} == {
        **{f"2-{number}.tif": "REVIEW" for number in range(5)},
        "2-5.tif": "FAIL",
    }
    row = rows["2-0.tif"]
    assert row["rule"] == "check_values"
    assert row["review_reason"].startswith("its bands are blue, green, red, as it says itself")
    # The remedy is true, of those that it names and of no others.
    own = photo_job(inputs="in/2-*.tif", output="own", bands=[3, 2, 1])
    # That bands are red, green, blue is what a driver says by itself where nobody said anything.
    assert run(own).verdicts == {"FAIL": 5, ("REVIEW" if names else "PASS"): 1}
    reason = items(tmp_path / "own")["2-5.tif"]["review_reason"] or ""
    assert reason.startswith("its bands are red, green, blue,") == names
    meant = run(photo_job(check_values=False))
    assert (meant.verdicts, meant.rejudged, meant.warnings) == ({"FAIL": 4, "PASS": 5}, 5, ())


def test_the_first_night_lets_none_of_another_order_pass(tmp_path: Path, photo_job: JobMaker) -> None:
    for number in range(3):
        write_tiff(tmp_path / "in" / f"{number}.tif", number, "bgr")
    assert run(photo_job()).verdicts == {"REVIEW": 3}


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        (("blue", None, None), None),
        ((None, None, "red"), None),
        (("blue", "blue", "red"), None),
        (None, (ColorInterp.blue, ColorInterp.undefined, ColorInterp.undefined)),
    ],
)
def test_one_band_that_says_it_is_enough(
    tmp_path: Path, photo_job: JobMaker, names: tuple | None, colors: tuple | None
) -> None:
    (tmp_path / "in").mkdir()
    image = np.moveaxis(photograph(1), 2, 0)[::-1]
    photometric = "RGB" if names else "MINISBLACK"
    keys = {"count": 3, "dtype": "uint8", "photometric": photometric}
    with rasterio.open(
        tmp_path / "in" / "1.tif", "w", "GTiff", image.shape[2], image.shape[1], **keys
    ) as dataset:
        if colors:
            dataset.colorinterp = colors
        dataset.write(image)
        if names:
            dataset.descriptions = names
    report = run(photo_job())
    assert (report.verdicts, report.unlike) == ({"REVIEW": 1}, 1)
    assert "in another order" in report.warnings[0]


def test_what_a_driver_says_by_itself_is_no_order(tmp_path: Path, photo_job: JobMaker) -> None:
    """A network trained on blue, green, red has its job turn all files."""
    for number in range(2):
        write_tiff(tmp_path / "in" / f"{number}.tif", number, "rgb", names=False)
    save(tmp_path / "in" / "2.png", photograph(2))
    report = run(photo_job(bands=[3, 2, 1]))
    assert report.unlike == 0
    assert set(report.verdicts) <= {"PASS", "FAIL", "REVIEW"} and report.uninspected == 0


def test_what_was_meant_for_a_night_is_asked_for_again(tmp_path: Path, photo_job: JobMaker) -> None:
    """Values, those that contradict themselves, and bands: nothing is predicted for it."""
    write(tmp_path / "in", "1.tif", 1, 256)
    assert run(photo_job(**SIXTEEN)).verdicts == {"PASS": 1}
    write(tmp_path / "in", "2.tif", 2, 16)
    cv2.imwrite(str(tmp_path / "in" / "3.tif"), photograph(3).astype(np.float32) / 255)
    image = photograph(4).astype(np.uint16) * 512
    with rasterio.open(
        tmp_path / "in" / "4.tif", "w", "GTiff", image.shape[1], image.shape[0], 3, dtype="uint16"
    ) as dataset:
        dataset.write(np.moveaxis(image, 2, 0))
        dataset.descriptions = ("blue", "green", "red")
    meant = run(photo_job(**SIXTEEN, check_values=False))
    assert (meant.verdicts, meant.unlike, meant.warnings) == ({"PASS": 4}, 0, ())
    asked = run(photo_job(**SIXTEEN))
    assert (asked.verdicts, asked.rejudged, asked.tally.predicted) == ({"PASS": 1, "REVIEW": 3}, 3, 0)
    reasons = {key: row["review_reason"] for key, row in items(tmp_path / "out").items()}
    assert "of this output's first sources at" in reasons["2.tif"]
    assert reasons["3.tif"].startswith(VALUES_REFUSED)
    assert reasons["4.tif"].startswith("its bands are blue, green, red")


def test_without_rules_the_report_names_them(tmp_path: Path, photo_job: JobMaker) -> None:
    write(tmp_path / "in", "1.png", 1, 256)
    job = photo_job(**SIXTEEN, rules=None, masks=None)
    assert run(job).warnings == ()
    write(tmp_path / "in", "2.png", 1, 16)
    (warning,) = run(job).warnings
    assert warning.startswith("1 photograph may be of another unit") and "2.png: its values end at" in warning


def test_one_that_contradicts_itself_is_quarantined_and_done_if_it_is_meant(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    write(tmp_path / "in", "1.tif", 1, 256)
    job = photo_job(**SIXTEEN)
    run(job)
    image = photograph(2).astype(np.float32) / 255
    cv2.imwrite(str(tmp_path / "in" / "2.tif"), image)
    report = run(job)
    assert report.verdicts == {"PASS": 1}
    (refused,) = report.refused
    assert refused.status == "quarantined" and refused.error.startswith(VALUES_REFUSED)
    assert "scale: {divide: 1}" in refused.error
    assert run(job).still_quarantined == 1
    meant = run(photo_job(**SIXTEEN, check_values=False))
    assert (meant.tally.done, meant.skipped, meant.still_quarantined) == (1, 1, 0)


def picture(pixels: np.ndarray) -> Picture:
    return Picture(pixels=pixels, valid=None, kind="RGB")


@pytest.mark.parametrize(
    ("usual", "words"),
    [
        (USUAL, "first photographs of this output are uint16: if the camera changed"),
        ((), "set scale: {divide: 255}"),
    ],
)
def test_a_type_that_does_not_fit_is_told_what_its_own_pixels_need(usual: tuple, words: str) -> None:
    recipe = make_recipe(
        scale=Scale(kind="divide", low=(0.0,), high=(65535.0,)),
        normalize=Normalize(mean=(0.3,) * 3, std=(0.2,) * 3),
        fit="tile",
        model=make_package(declares_transforms=False, normalize=None),
    )
    with pytest.raises(MismatchError, match=r"has uint8 pixels .0[.][.]255., scale reaches") as refused:
        fit_photo("a.png", picture(photograph(1)), recipe, usual)
    assert words in str(refused.value)


def test_twelve_bits_are_told_by_their_own_pixels_and_no_photograph_is_reflectance() -> None:
    recipe = make_recipe(scale=Scale(kind="transforms", low=(0.0,), high=(255.0,)), fit="tile")
    pixels = (photograph(1).astype(np.uint16) * 16 + 2000).clip(0, 4095)
    with pytest.raises(MismatchError, match="has uint16 pixels") as refused:
        fit_photo("a.png", picture(pixels), recipe)
    assert "set scale: {divide: 4095}" in str(refused.value)
    assert "10000" not in str(refused.value)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_type_that_is_refused_is_called_as_the_file_has_it(
    tmp_path: Path, photo_job: JobMaker, dtype: str
) -> None:
    save(tmp_path / "in" / "1.png", photograph(1))
    image = np.moveaxis(photograph(2) // 2, 2, 0).astype(dtype)
    with rasterio.open(
        tmp_path / "in" / "2.tif", "w", "GTiff", image.shape[2], image.shape[1], 3, dtype=dtype
    ) as dataset:
        dataset.write(image)
    (refused,) = run(photo_job()).refused
    assert refused.error.startswith(f"has {dtype} pixels, the model's transforms expect uint8")


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.webp", "1.tif"])
def test_a_job_that_turns_red_green_blue_is_told_so_once(
    tmp_path: Path, photo_job: JobMaker, command: Command, name: str
) -> None:
    save(tmp_path / "in" / name, photograph(1))
    job = photo_job(bands=[3, 2, 1])
    words = (
        "the network gets blue, green, red of photographs that are red, green, blue by their format, "
        f"such as {name}"
    )
    assert command("plan", job).stdout.count(words) == 1
    told = command("run", job, "--set", "executor=inline")
    assert (told.returncode, (told.stdout + told.stderr).count(words)) == (0, 1)
    assert run(photo_job(bands=[3, 2, 1])).warnings == ()  # it did nothing
    assert items(tmp_path / "out")[name]["rule"] != "check_values"
    (warning,) = run(photo_job(bands=[3, 2, 1], output="2")).warnings
    assert words in warning
    assert run(photo_job(bands=[1, 2, 3], output="3")).warnings == ()
    assert run(photo_job(bands=[3, 2, 1], output="4", check_values=False)).warnings == ()


def test_bands_of_no_known_colour_are_turned_without_a_word(tmp_path: Path, photo_job: JobMaker) -> None:
    (tmp_path / "in").mkdir()
    image = np.moveaxis(photograph(1), 2, 0)
    keys = {"count": 3, "dtype": "uint8", "photometric": "MINISBLACK"}
    with rasterio.open(
        tmp_path / "in" / "1.tif", "w", "GTiff", image.shape[2], image.shape[1], **keys
    ) as dataset:
        dataset.write(image)
    assert run(photo_job(bands=[3, 2, 1])).warnings == ()
