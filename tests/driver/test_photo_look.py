"""Photographs whose values cannot be meant end the run before anything is judged."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from photo_runs import JobMaker, photograph, save
from runs import run

from batchseg.driver.dry_run import plan_photographs
from batchseg.errors import ConfigError
from batchseg.job.file import load_job

IN_BYTES = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def write_photographs(folder: Path, factor: int = 1) -> None:
    for number in range(3):
        image = photograph(number, red=1)
        path = folder / "in" / f"{number}.png"
        save(path, image)
        if factor > 1:
            cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * factor)


def test_a_mean_of_bytes_is_refused_and_the_remedy_is_taken(tmp_path: Path, photo_job: JobMaker) -> None:
    write_photographs(tmp_path)
    keys = {"executor": "inline", "workers": 1}
    job = photo_job(normalize=IN_BYTES, **keys)
    with pytest.raises(ConfigError, match=r"mean of 123[.]675 from values of 0[.][.]1") as refused:
        run(job)
    assert "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]" in str(refused.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"cannot be meant"):
        plan_photographs(load_job(job), lambda line: None)
    right = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    planned = plan_photographs(load_job(photo_job(normalize=right, **keys)), lambda line: None)
    assert (len(planned.looked.lines), planned.looked.warning) == (4, "")


def test_photographs_of_more_bits_are_told_what_they_hold(tmp_path: Path, photo_job: JobMaker) -> None:
    write_photographs(tmp_path, factor=257)
    with pytest.raises(ConfigError, match=r"fits none of its inputs: 0[.]png has uint16 pixels") as refused:
        # The default gate: trials that find no photograph to try engines with are not what is said of it.
        run(photo_job(normalize={"mean": [0.3] * 3, "std": [0.2] * 3}, gate={}))
    assert "set scale: {divide: 65535}: the network then gets mean" in str(refused.value)


def test_on_later_nights_what_no_photograph_can_mend_is_refused(tmp_path: Path, photo_job: JobMaker) -> None:
    write_photographs(tmp_path)
    assert run(photo_job(normalize=IN_BYTES, check_values=False)).tally.done == 3
    save(tmp_path / "in" / "9.png", photograph(9))
    with pytest.raises(ConfigError, match=r"mean of 123[.]675 from values of 0[.][.]1"):
        run(photo_job(normalize=IN_BYTES))


def test_black_frames_end_no_night(tmp_path: Path, photo_job: JobMaker) -> None:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", np.full((80, 90, 3), number % 2, np.uint8))
    assert run(photo_job()).tally.done == 3


def test_a_tiff_whose_names_say_another_order_is_told_with_what_mends_it(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    image = np.moveaxis(photograph(1, red=1), 2, 0)
    height, width = image.shape[1:]
    keys = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", **keys) as dataset:
        dataset.write(image)
        dataset.descriptions = ("b", "g", "r")
    right = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    given = {"normalize": right, "executor": "inline", "workers": 1}
    said = plan_photographs(load_job(photo_job(**given)), lambda line: None).looked.warning
    assert said.startswith("bands: the network gets blue, green, red of a.tif, as the file says itself")
    assert "a job with an output of its own and bands: [3, 2, 1], or turn them first: gdal_trans" in said
    mended = photo_job(**given, bands=[3, 2, 1])
    assert "bands" not in plan_photographs(load_job(mended), lambda line: None).looked.warning
