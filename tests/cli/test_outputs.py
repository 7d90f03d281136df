"""The commands between runs, on an output of photographs; tests/integration has those of scenes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from factories import Photo, make_photo_output

from batchseg.cli.main import main
from batchseg.cli.outputs import status_lines
from batchseg.output.seam_shares import SeamShares
from batchseg.tools.status import DamagedScene, LastRun, RefusedSource, Status, UnfinishedScene


@pytest.fixture
def output(tmp_path: Path) -> str:
    return make_photo_output(tmp_path / "out", [Photo(source_id="a.png", mask=np.ones((3, 4), np.uint8))])


def said(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return (ended.value.code, *capfd.readouterr())


def test_status_in_words() -> None:
    status = Status(
        output="/out",
        running=None,
        verdicts=None,
        done=2,
        pixels_done=3_000_000,
        unfinished=(UnfinishedScene(source_id="b", shards_done=2, pixels_done=500_000),),
        refused=(RefusedSource(source_id="q", status="quarantined", error="no raster"),),
        damaged=(DamagedScene(source_id="d", bad_pixels=5, bad_share=0.05),),
        last_run=LastRun(run_id="r", shares={"predicting": 0.9}, bound_by="predicting", advice="buy one"),
        gone=("g",),
        seams=SeamShares(places=2, pixels=1000, changed=13),
    )
    assert status_lines(status) == [
        "/out: 2 scenes done, 3.00 Mpx",
        "running now: nothing",
        "  begun: b: 2 shards, 0.50 Mpx recorded",
        "  damaged: d: 5.00% of it cannot be decoded",
        "places of tiles: 1.30 % of the pixels depend on where tiles lie, looked at in 2 places",
        "last run: predicting 90 %; bound by predicting: buy one",
        "1 source is gone from the inputs, until `batchseg prune`",
        "  quarantined: q: no raster",
    ]


def test_status_for_programs(output: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capfd, "status", output, "--json")
    assert (code, json.loads(out)["done"]) == (0, 1)


def test_a_job_file_names_its_output(tmp_path: Path, output: str, capfd: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("inputs: in\nmodel: model\noutput: out\n")
    _, out, _ = said(capfd, "status", str(job))
    assert out.startswith(f"{output}: 1 photograph done")


def test_verify_has_a_verdict_and_a_code(output: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capfd, "verify", output, "--quick")
    assert (code, err.splitlines()[0]) == (0, "1 file to compare")
    assert re.fullmatch(r"1 source, 1 file, \d.* KiB, 1 region: all as recorded\n", out)
    code, out, _ = said(capfd, "verify", output)
    assert (code, out.splitlines()[-1].endswith(": 1 problem")) == (3, True), "no checksum was recorded"


def test_nothing_to_retry_or_prune(output: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "retry", output)[:2] == (0, "0 sources will be tried by the next run\n")
    assert said(capfd, "prune", output, "--dry-run")[:2] == (0, "would remove 0 sources with 0 files, 0 B\n")
    assert said(capfd, "prune", output)[:2] == (0, "removed 0 sources with 0 files, 0 B\n")


def test_export_writes_what_the_files_name_says(
    tmp_path: Path, output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(capfd, "export", output, str(tmp_path / "r.json"))
    assert (code, out) == (0, f"{tmp_path}/r.json: 1 image, 1 annotation\n")
    code, _, err = said(capfd, "export", output, str(tmp_path / "r.json"), "--crs", "EPSG:4326")
    assert (code, "photographs have no place" in err) == (2, True)
    assert said(capfd, "export", output, str(tmp_path / "r.doc"))[0] == 2
