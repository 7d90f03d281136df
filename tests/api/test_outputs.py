"""Outputs of photographs as a run leaves them; tests/api/test_runs.py has those of scenes."""

from pathlib import Path

import numpy as np
import pytest
from factories import Photo, make_photo_output

import batchseg
from batchseg.errors import ConfigError


def photo(name: str, side: int) -> Photo:
    mask = np.zeros((20, 30), np.uint8)
    mask[2 : 2 + side, 3 : 3 + side] = 1
    return Photo(source_id=name, mask=mask)


@pytest.fixture
def output(tmp_path: Path) -> batchseg.Output:
    photos = [photo(f"{n}.png", 4 + n) for n in range(4)]
    return batchseg.open(make_photo_output(tmp_path / "out", photos, stale=[photo("3.png", 15)]))


def test_it_is_found_by_folder_job_and_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {"inputs": "in", "model": "model", "output": "out"}
    options = {"s3": {"anonymous": True}}
    assert batchseg.open("out").uri == batchseg.open(tmp_path / "out").uri == str(tmp_path / "out")
    assert batchseg.open("s3://bucket/out/").uri == "s3://bucket/out"
    found = batchseg.open(batchseg.Job(**keys, storage=options))
    assert (found.uri, found.storage) == (str(tmp_path / "out"), options)
    Path("job.yaml").write_text("inputs: in\nmodel: model\noutput: out\n")
    assert batchseg.open("job.yaml").uri == str(tmp_path / "out")


def test_options_of_storages_are_not_shown_and_not_left_here() -> None:
    import os

    before = dict(os.environ)
    secret = {"s3": {"secret": "wJalrXUtnFEMI"}}
    found = batchseg.open(batchseg.Job(inputs="in", model="m", output="/nowhere", storage=secret))
    assert "wJalrXUtnFEMI" not in repr(found)
    assert repr(batchseg.open("s3://key:wJalr/XUtnFEMI@bucket/out")) == "Output(uri='s3://***@bucket/out')"
    with pytest.raises(ConfigError, match="holds no results"):
        found.status()
    assert dict(os.environ) == before


def test_items_are_a_table(output: batchseg.Output) -> None:
    frame = output.items().to_pandas()
    assert list(frame.source_id) == ["0.png", "1.png", "2.png", "3.png"]
    assert output.status().done == 4


def test_regions_of_photographs_are_in_pixels_and_have_no_crs(output: batchseg.Output) -> None:
    regions = output.regions()
    assert regions.crs is None
    assert dict(zip(regions.source_id, regions.area_px, strict=True)) == {
        "0.png": 16,
        "1.png": 25,
        "2.png": 36,
        "3.png": 49,
    }, "rows that the ledger does not name are left out"
    assert regions.geometry.iloc[0].bounds == (3.0, 2.0, 7.0, 6.0)
    with pytest.raises(ConfigError, match="have no CRS, so they cannot be brought to EPSG:32633"):
        output.regions("EPSG:32633")
    with pytest.raises(ConfigError, match="is no CRS"):
        output.regions("EPSG:nothing")


def test_an_output_without_regions_gives_an_empty_frame(tmp_path: Path) -> None:
    output = batchseg.open(make_photo_output(tmp_path / "out", [photo("a.png", 0)]))
    assert len(output.regions()) == 0
    assert "area_px" in output.regions().columns


def test_without_geopandas_it_says_what_to_install(
    output: batchseg.Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "geopandas", None)
    with pytest.raises(ConfigError, match="pip install geopandas"):
        output.regions()


def test_verify_tells_and_counts(output: batchseg.Output) -> None:
    said: list[str] = []
    found = output.verify(quick=True, say=said.append)
    assert found.sources == 4
    assert said[0] == "2 files to compare"


def test_between_runs_nothing_is_to_prune_or_retry(output: batchseg.Output) -> None:
    assert output.prune(dry_run=True).sources == ()
    assert output.retry() == ()
    with pytest.raises(ConfigError, match=r"0\.png is not quarantined"):
        output.retry(["0.png"])
    with pytest.raises(ConfigError, match=r"0\.png is not quarantined"):
        output.retry("0.png")
