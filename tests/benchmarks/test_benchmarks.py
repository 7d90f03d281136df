"""benchmarks: arithmetic, tables, what is noted of a run from inside and outside, and small real cases."""

import doctest
import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import rasterio
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import page, record, regions, runs, scenes
from benchmarks.others import gdal_alone
from benchmarks.record import Case, Figure, in_turn


@pytest.fixture(autouse=True)
def brief(monkeypatch) -> None:
    monkeypatch.setattr(record, "LOOK_SECONDS", 0.05)


QUIET = {"busy_before": 0.02, "load_start": 0.1, "load_end": 1.9, "stolen": 0.0}


def make_case(**changes) -> Case:
    figures = (
        Figure(what="fast", above=(9.0, 4.0, 8.0), below=(10.0, 10.0, 10.0), at_least=0.7, above_unit="t/s"),
        Figure(what="slow", above=(6.0,), above_unit="s", at_most=5.0, aim=3.0, note="fp32"),
    )
    values = {
        "name": "z",
        "title": "A title",
        "figures": figures,
        "date": "2026-11-21 08:00",
        "seconds": 61.0,
    }
    machine = {"cpu": "A CPU", "cores": "2", "memory": "24 GiB", "python": "3.11.7"}
    return Case(**{**values, "commit": "abc", "machine": machine, "quiet": QUIET, **changes})


@pytest.mark.parametrize("module", [page, record, runs, scenes])
def test_examples_in_docstrings(module) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


sides = st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=1, max_size=9)


@given(pairs=sides, slower=st.floats(1.0, 50.0))
def test_a_minute_in_which_both_sides_are_slower_changes_no_ratio(pairs, slower) -> None:
    above, below = zip(*pairs, strict=True)
    ratios = Figure(what="", above=above, below=below).rounds
    disturbed = Figure(
        what="", above=(above[0] / slower, *above[1:]), below=(below[0] / slower, *below[1:])
    ).rounds
    assert disturbed == pytest.approx(ratios)
    assert min(ratios) <= Figure(what="", above=above, below=below).value <= max(ratios)


def test_limits() -> None:
    fast, slow = make_case().figures
    assert (fast.value, fast.is_reached) == (0.8, True)
    assert (slow.value, slow.is_reached) == (6.0, False)
    assert Figure(what="", above=(1.0,)).is_reached is None


def test_sides_are_measured_in_turn_the_first_is_not_always_first() -> None:
    asked = []

    def side(name):
        def measure():
            asked.append(name)
            return float(len(asked))

        return measure

    found = in_turn(3, {"a": side("a"), "b": side("b")})
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": (1.0, 4.0, 5.0), "b": (2.0, 3.0, 6.0)}


def test_the_page_is_made_of_the_files_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    record.save(make_case(), folder)
    record.save(make_case(name="y", title="Other"), folder)
    assert record.load(folder) == [make_case(name="y", title="Other"), make_case()]
    text = f"Head\n{page.BEGIN}\nold\n{page.END}\nTail\n"
    folder.with_suffix(".md").write_text(text)
    page.update(folder)
    first = folder.with_suffix(".md").read_text()
    page.update(folder)
    assert folder.with_suffix(".md").read_text() == first
    assert first.startswith("Head\n")
    assert first.endswith("Tail\n")
    assert "old" not in first
    assert first.index("### y: Other") < first.index("### z: A title")
    assert "| fast | **0.80** | 0.40 to 0.90 | 3 | 0.70 |  | yes | 8 t/s / 10 |" in first
    assert "| slow | **6** s |  | 1 | at most 5 | 3 | no |  |" in first
    assert "Load average 0.1 at the start, 1.9 at the end; 2% of the cores busy" in " ".join(first.split())


def test_what_a_case_left_out_stands_below_its_table() -> None:
    case = make_case(extra={"left_out": ["ppocr-fp32 left out: no model", "x-bf16 left out: no AMX"]})
    assert page.table(case).endswith("\n\nfp32; ppocr-fp32 left out: no model; x-bf16 left out: no AMX.")


def test_the_documented_page_has_the_markers_and_the_tables_of_its_files() -> None:
    text = page.PAGE.read_text()
    between = text.partition(page.BEGIN)[2].partition(page.END)[0].strip()
    assert between == page.tables(record.load(record.RECORDS))
    for name in command.CASES:
        assert f"\n| {name} |" in text


def test_a_case_that_lacks_something_is_skipped_and_says_what(tmp_path: Path, capsys) -> None:
    assert command.main(["--case", "g,c", "--out", str(tmp_path), "--work", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "g is skipped: needs --" in said
    assert "c is skipped: needs --s3" in said
    assert not list(tmp_path.glob("*.json"))


def test_a_case_from_the_command_to_the_table(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(regions, "SIZE", 512)
    assert command.main(["--case", "e", "--rounds", "2", "--out", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "e.json").read_text())
    assert [len(figure["above"]) for figure in kept["figures"]] == [2, 2]
    assert kept["extra"]["dense"]["regions"] == kept["extra"]["dense"]["shapes"] > 100
    assert kept["extra"]["sparse"]["regions"] == kept["extra"]["sparse"]["shapes"] > 0
    assert (tmp_path / "table.md").read_text().strip() in capsys.readouterr().out


def test_gdal_alone_reads_a_made_scene_and_writes_a_cog(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scenes, "CROP", 512)
    kind = scenes.Kind(dtype="uint16", bands=4, compress="deflate")
    scene = scenes.make_scene(tmp_path, kind, (700, 1500), None)
    with rasterio.open(scene) as dataset:
        assert (dataset.shape, dataset.count, dataset.block_shapes[0]) == ((700, 1500), 4, (512, 512))
        pixels = dataset.read(1)
    assert (pixels[:512, :512] == pixels[:512, 1023:511:-1]).all()
    assert gdal_alone.main(str(scene), str(tmp_path / "mask.tif")) > 0
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1)
        assert (dataset.read(1) == (pixels // 2500).clip(max=3)).all()


def test_cpu_seconds_of_a_process_and_its_children() -> None:
    burn = "import time\nwhile time.process_time() < 0.6: pass"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    process = subprocess.Popen([sys.executable, "-c", script])
    meter = runs.CpuMeter(process.pid)
    process.wait()
    meter.end()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # What a process does after the last sample of it is not seen; the parent alone takes a tenth.
    assert 0.5 * spent <= meter.between(began, time.time()) <= spent + 0.05
    assert meter.between(time.time(), time.time() + 1) == 0
    kinds = [meter.between(began, time.time(), kind) for kind in ("driver", "workers", "ray")]
    assert sum(kinds) == pytest.approx(meter.between(began, time.time()))
    assert kinds[1] == 0
    assert kinds[2] >= 0.4  # the child that burnt


def test_uses_of_a_network_are_noted_from_inside(tmp_path: Path) -> None:
    (tmp_path / "burning.py").write_text(
        textwrap.dedent(
            """
            import time

            import _thread
            import threading

            def burn(seconds):
                until = time.thread_time() + seconds
                while time.thread_time() < until: pass

            def burn_as_asked(asked, done):
                while True:
                    asked.acquire()
                    burn(0.1)
                    done.release()

            class Session:
                asked = None

                def run(self, seconds):
                    threading.Thread(target=burn, args=(0.3,)).start()  # reads beside it
                    if self.asked is None:  # as an engine that Python knows nothing of
                        self.asked, self.done = _thread.allocate_lock(), _thread.allocate_lock()
                        self.asked.acquire(), self.done.acquire()
                        _thread.start_new_thread(burn_as_asked, (self.asked, self.done))
                    self.asked.release()
                    burn(seconds)
                    self.done.acquire()
                    time.sleep(0.1)
                    return seconds

                def twice(self, seconds):
                    return self.run(seconds) + self.run(seconds)

            class Engine:
                def load(self):
                    return Session()
            """
        )
    )
    script = (
        "from batchseg.engines.base import ENGINES, engine; ENGINES['burning'] = 'burning:Engine';"
        "session = engine('burning').load(); print(session.run(0.2) + session.twice(0.1))"
    )
    notes = tmp_path / "notes"
    path = os.pathsep.join(map(str, [runs.INSIDE, tmp_path, REPOSITORY]))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path, "BENCHMARK_SESSIONS": str(notes)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) == pytest.approx(0.4)
    calls = runs.read_calls(notes)
    # 0.2 each of the callers, 0.1 for each `run` of the engine's own thread.
    assert [call.cpu for call in calls] == pytest.approx([0.3, 0.4], abs=0.09)
    assert [call.ended - call.began >= call.cpu + 0.05 for call in calls] == [True, True]


@pytest.mark.parametrize(
    ("case", "only", "known"),
    [
        ("a", "landcover-fp64", "landcover-fp32"),
        ("g", "most", "whole"),
        ("j", "landcover,g", "ppocr-photographs"),
    ],
)
def test_only_takes_the_parts_of_its_case(case, only, known, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(["--case", case, "--only", only, "--out", str(tmp_path)])
    assert known in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--case", case, "--only", known])
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["--rounds", "0"],
        ["--scene", "/not/there.tif"],
        ["--data", "/not/there"],
        ["--only", "landcover-fp64"],
        ["--only", "landcover-fp32"],  # a row of another case than e
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(given, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(["--case", "e", "--out", str(tmp_path / "out"), *given])
    assert refused.value.code == 2
    assert given[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_simulated_scheduler_finishes_scenes(tmp_path: Path) -> None:
    script = (
        "from benchmarks.scheduler import LOADS, simulate; row = simulate(LOADS['40/s'], 4, 4, 200);"
        "print(row.scenes_per_second > 0, 0 < row.share < 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "True"]
