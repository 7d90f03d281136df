"""summary.json: a run's figures for programs."""

import dataclasses
import json

from batchseg.driver.class_shares import ClassShares
from batchseg.driver.events import PlanReady, ShardsDone
from batchseg.driver.loop import Tally
from batchseg.driver.progress import Sums
from batchseg.driver.report import Report, save_summary
from batchseg.output.record import SceneRecord
from batchseg.predict.engine_choice import Choice

CHOICE = Choice(engine="paddle", precision="fp32", device="cpu", baked=False, asked={})


def report_of(folder, **changes):
    sums = Sums()
    sums(PlanReady(scenes=1, tiles=5, pixels=100, skipped=0))
    seconds = {"read_seconds": 1.0, "predict_seconds": 2.0, "stitch_seconds": 0.5, "write_seconds": 0.25}
    sums(ShardsDone(source_id="a.tif", shards=1, tiles=5, skipped=0, pixels=100, **seconds))
    fields = {
        "log": "log.txt",
        "choice": CHOICE,
        "tally": Tally(done=1, predicted=5),
        "skipped": 2,
        "still_quarantined": 0,
        "vanished": (),
        "young": 3,
        "sums": sums,
        "refused": (),
    }
    return Report(output=str(folder), **(fields | changes))


def saved(folder, report, **more):
    save_summary(str(folder), "run-1", report, **more)
    return json.loads((folder / "_batchseg" / "runs" / "run-1" / "summary.json").read_text())


def test_the_figures_are_the_reports(tmp_path):
    damaged = SceneRecord(status="done", source_id="a.tif", tag="t", bad_pixels=7)
    summary = saved(tmp_path, report_of(tmp_path, damaged=(damaged,)))
    assert (summary["done"], summary["predicted"], summary["skipped"], summary["young"]) == (1, 5, 2, 3)
    assert (summary["tiles"], summary["pixels"], summary["bad_pixels"]) == (5, 100, {"a.tif": 7})
    assert summary["step_seconds"] == {"read": 1.0, "predict": 2.0, "stitch": 0.5, "write": 0.25}
    assert "verdicts" not in summary
    assert "cpu_seconds" not in summary


def test_verdicts_and_cpu_seconds_are_there_where_there_are_any(tmp_path):
    report = report_of(tmp_path, verdicts={"PASS": 3, "FAIL": 1})
    summary = saved(tmp_path, report, cpu_seconds={"predict": 1.23456})
    assert (summary["verdicts"], summary["uninspected"]) == ({"PASS": 3, "FAIL": 1}, 0)
    assert summary["cpu_seconds"] == {"predict": 1.235}


def test_all_that_is_odd_is_in_one_place(tmp_path):
    classes = ClassShares(shares={"good": 1.0}, warning="every pixel of this run is good")
    report = report_of(tmp_path, odd_sources=("bands: blue first",), classes=classes)
    assert report.warnings == ("bands: blue first", "every pixel of this run is good")
    seams = "a halo of 8 is narrow for this network ..."
    for narrow, told in ((True, (seams,)), (False, ())):
        choice = dataclasses.replace(CHOICE, seams=seams, narrow=narrow)
        assert report_of(tmp_path, choice=choice).warnings == told
    assert saved(tmp_path, report)["warnings"] == list(report.warnings)
