"""Nights over photographs: the same command, folders that change, rules that change."""

import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from photo_runs import RULES, JobMaker, check, items, night, photograph, save, truth, verdict
from PIL import Image
from runs import run, run_on_ray

from batchseg.cli.main import main
from batchseg.driver.begin import begin
from batchseg.driver.events import Event, GroupDone
from batchseg.driver.job import run_job
from batchseg.errors import StoppedError
from batchseg.job.file import load_job
from batchseg.system import fetch, storage
from batchseg.system.location import Location
from batchseg.tools.maintain import prune, retry
from batchseg.tools.verify import verify


def test_nights(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output, job = night(tmp_path), tmp_path / "out", photo_job()
    first = run(job)
    assert (first.tally.done, first.refused) == (14, ())
    assert first.verdicts is not None
    assert sum(first.verdicts.values()) == 14
    assert set(first.verdicts) == {"PASS", "FAIL", "REVIEW"}
    check(output, images)
    kept = {path: path.stat().st_mtime_ns for path in output.rglob("masks/**/*.png")}

    second = run(job)
    assert (second.tally.done, second.skipped) == (0, 14)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())

    names = sorted(images)
    (tmp_path / "in" / names[0]).unlink()
    images[names[1]] = photograph(50, red=2)
    images["line 2/new.png"] = photograph(51, blue=3)
    for name in (names[1], "line 2/new.png"):
        save(tmp_path / "in" / name, images[name])
    broken = tmp_path / "in" / names[2]
    broken.write_bytes(broken.read_bytes()[:700])
    third = run(job)
    assert (third.tally.done, third.tally.quarantined, third.vanished) == (2, 1, (names[0],))
    del images[names[2]]
    check(output, images)  # what is gone is kept

    prune(str(output), "prune", dry_run=False, everything=False)
    del images[names[0]]
    images[names[2]] = photograph(52, red=1)
    save(broken, images[names[2]])
    fourth = run(job)
    assert (fourth.tally.done, fourth.skipped) == (1, 13)
    check(output, images)


def test_bad_files_are_quarantined_alone_and_retried_after_repair(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    images, output, job = night(tmp_path), tmp_path / "out", photo_job()
    whole = cv2.imencode(".jpg", photograph(70))[1].tobytes()
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 65536, 65536, 8, 2, 0, 0, 0), b"IDAT" + bytes(8), b"IEND")
    huge = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    bad = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "text.jpg": b"ask Ms Huber where the photographs went",
        "huge.png": b"\x89PNG\r\n\x1a\n" + b"".join(huge),
        "grey16.png": cv2.imencode(".png", np.zeros((40, 50), np.uint16))[1].tobytes(),
    }
    for name, data in bad.items():
        (tmp_path / "in" / name).write_bytes(data)
    report = run(job)
    assert report.tally.done == 14
    reasons = {record.source_id: record.error for record in report.refused}
    assert set(reasons) == set(bad)
    assert {record.status for record in report.refused} == {"quarantined"}
    assert "empty" in reasons["empty.png"]
    assert "text" in reasons["text.jpg"]
    assert "65536 x 65536" in reasons["huge.png"]
    assert "uint16" in reasons["grey16.png"]
    check(output, images)
    assert run(job).refused == ()

    images["cut.jpg"] = cv2.cvtColor(cv2.imdecode(np.frombuffer(whole, np.uint8), 1), cv2.COLOR_BGR2RGB)
    cut = tmp_path / "in" / "cut.jpg"
    cut.write_bytes(whole)
    assert retry(str(output), "retry", ["cut.jpg"]) == ("cut.jpg",)
    after = run(job)
    assert (after.tally.done, after.skipped, after.still_quarantined) == (1, 14, 4)
    check(output, images)


def test_other_rules_predict_nothing(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output = night(tmp_path), tmp_path / "out"
    run(photo_job())
    check(output, images)
    strict = [*RULES, {"name": "any green", "class": "green"}]
    report = run(photo_job(rules=strict))
    assert (report.sums.tiles, report.rejudged) == (0, 14)
    rows = items(output)
    for name, image in images.items():
        green = bool((truth(image) == 2).any())
        before = verdict(image)
        assert rows[name]["verdict"] == ("FAIL" if green else before[0])
        mask = output / "masks" / name
        assert mask.exists() == (rows[name]["verdict"] != "PASS")
        if mask.exists():
            np.testing.assert_array_equal(np.asarray(Image.open(mask)), truth(image))
    run(photo_job())
    check(output, images)


def test_other_names_and_formats_are_derived(
    tmp_path: Path, photo_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output = night(tmp_path, 6), tmp_path / "out"
    run(photo_job())
    for path in (tmp_path / "in").rglob("*.png"):
        monkeypatch.setattr(fetch, "read_bytes", _all_but(fetch.read_bytes, tmp_path / "in"))
        assert path.exists()
    report = run(photo_job(classes=["none", "red", "grün", "blue"], masks="all", pixel_size=0.5))
    assert report.tally.done == 6
    rows = items(output)
    regions = pq.read_table(output / "annotations").to_pylist()
    assert {r["class_name"] for r in regions} == {"red", "grün", "blue"}
    assert all(r["area_mm2"] == r["area_px"] / 4 for r in regions)
    for name, image in images.items():
        np.testing.assert_array_equal(np.asarray(Image.open(output / rows[name]["mask"])), truth(image))
    assert len(list(output.rglob("masks/**/*.png"))) == 6
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())


def _all_but(read: Callable[..., bytes], folder: Path) -> Callable[..., bytes]:
    def guarded(where: str | Location) -> bytes:
        assert not str(where).startswith(str(folder)), "a photograph was read"
        return read(where)

    return guarded


def test_the_same_content_is_predicted_once(tmp_path: Path, photo_job: JobMaker) -> None:
    images, output = night(tmp_path, 6), tmp_path / "out"
    names = sorted(images)
    twin = f"archive/{Path(names[3]).name}"
    (tmp_path / "in" / "archive").mkdir()
    (tmp_path / "in" / twin).write_bytes((tmp_path / "in" / names[3]).read_bytes())
    images[twin] = images[names[3]]
    job = photo_job(same_content=True)
    first = run(job)
    assert (first.tally.done, first.copied) == (7, 1)
    check(output, images)
    rows = items(output)
    assert {key: row["same_as"] for key, row in rows.items() if row["same_as"]} == {names[3]: twin}

    moved = "archive/moved.png"
    (tmp_path / "in" / names[1]).rename(tmp_path / "in" / moved)
    images[moved] = images[names[1]]
    tiles = first.sums.tiles
    second = run(job)
    assert (second.tally.done, second.copied, second.sums.tiles) == (1, 1, 0)
    assert tiles
    check(output, images)
    assert items(output)[moved]["same_as"] == names[1]


def test_manifests_carry_attributes_and_status_counts_verdicts(
    tmp_path: Path, photo_job: JobMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    images = night(tmp_path, 4)
    manifest = tmp_path / "photos.csv"

    def write(shift: str) -> None:
        lines = [f"in/{name},L{n},{shift}" for n, name in enumerate(sorted(images))]
        manifest.write_text("\n".join(["uri,line,shift", *lines]) + "\n", encoding="utf-8")

    write("late")
    job = photo_job(inputs="photos.csv")
    assert run(job).tally.done == 4
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "out")])
    counted = Counter(row["verdict"] for row in items(tmp_path / "out").values())
    first, second, *_ = capfd.readouterr().out.splitlines()
    assert "4 photographs done" in first
    assert all(f"{count} {verdict}" in second for verdict, count in counted.items())
    rows = items(tmp_path / "out").values()
    assert sorted((row["line"], row["shift"]) for row in rows) == [(f"L{n}", "late") for n in range(4)]
    write("early")
    assert run(job).tally.done == 0
    assert {row["shift"] for row in items(tmp_path / "out").values()} == {"early"}


def test_a_run_that_was_stopped_goes_on_to_the_same_results(
    tmp_path: Path, photo_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchseg.driver import commit, photo_queue

    monkeypatch.setattr(photo_queue, "FIRST_IMAGES", 3)
    monkeypatch.setattr(photo_queue, "MOST_IMAGES", 3)
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 0.0)
    images, job = night(tmp_path), photo_job()
    reasons: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, GroupDone):
            reasons.append("the night is over")

    config = load_job(job, ["executor=inline", "workers=1"])
    with begin(config) as begun, pytest.raises(StoppedError, match="the night is over"):
        run_job(config, begun, listeners=[listen], stop=lambda: next(iter(reasons), None), replace=False)
    report = run(job)
    assert 0 < report.tally.done < 14
    assert report.tally.done + report.skipped == 14
    check(tmp_path / "out", images)


@pytest.mark.slow
def test_on_ray_as_inline(tmp_path: Path, photo_job: JobMaker, ray_cluster: str) -> None:
    images = night(tmp_path)
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    report = run_on_ray(photo_job(), ray_cluster)
    assert (report.tally.done, report.tally.quarantined) == (14, 1)
    check(tmp_path / "out", images)


def test_on_a_bucket(tmp_path: Path, photo_job: JobMaker, bucket: str) -> None:
    images = night(tmp_path, 5)
    for name in images:
        (tmp_path / "in" / name).rename(tmp_path / Path(name).name)
        data = (tmp_path / Path(name).name).read_bytes()
        filesystem, path = storage.filesystem(f"{bucket}/in/{name}")
        filesystem.pipe_file(path, data)
    job = photo_job(inputs=f"{bucket}/in", output=f"{bucket}/out")
    assert run(job).tally.done == 5
    assert run(job).skipped == 5
    filesystem, root = storage.filesystem(f"{bucket}/out")
    filesystem.get(root, str(tmp_path / "copy"), recursive=True)
    found = verify(f"{bucket}/out", quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())
    rows = items(tmp_path / "copy")
    assert {key: (row["verdict"], row["rule"]) for key, row in rows.items()} == {
        key: verdict(image) for key, image in images.items()
    }


def framed(number: int) -> Image.Image:
    """Nothing to find, and so many columns without data at its left."""
    alpha = np.full((90, 130), 255, np.uint8)
    alpha[:, :number] = 0
    return Image.fromarray(np.dstack([np.full((90, 130, 3), 40, np.uint8), alpha]))


def test_what_was_not_inspected_is_no_pass_whenever_the_rules_change(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    """A night of other rules, then today's, gives what today's give at once; no sound file is blamed."""
    (tmp_path / "in").mkdir()
    for number in (0, 1, 65, 130):
        framed(number).save(tmp_path / f"in/{number}.png")
    right = {"box": [0.5, 0, 1, 1], "unit": "share"}
    beyond = {"box": [100, 0, 140, 90]}
    rule = {"name": "red", "class": "red"}
    passing = {
        "lenient": ([rule | {"min_valid": 0.4}], {"0", "1", "65"}),
        "strict": ([rule], {"0"}),
        "right": ([rule | {"region_of_interest": right}], {"0", "1", "65"}),
        "beyond": ([rule | {"region_of_interest": beyond}], set()),
        "either": ([rule | {"region_of_interest": right}, {"min_valid": 0.6}], {"0", "1"}),
    }
    for name, (rules, expected) in passing.items():
        assert run(photo_job(rules=rules)).refused == ()
        rows = items(tmp_path / "out")
        assert {Path(key).stem for key, row in rows.items() if row["verdict"] == "PASS"} == expected, name
        assert all(row["verdict"] == "PASS" or row["rule"] == "min_valid" for row in rows.values())
        assert all((row["mask"] is None) == (row["verdict"] == "PASS") for row in rows.values()), name
    again = run(photo_job(rules=rules))
    assert (again.tally.done, again.rejudged, again.uninspected) == (0, 0, 2)
    run(photo_job(rules=rules, output="fresh"))
    fresh, told = items(tmp_path / "fresh"), ("verdict", "rule", "review_reason", "valid_share", "mask")
    assert all(rows[key][one] == fresh[key][one] for key in fresh for one in told)
