"""Profiles of real runs."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import JobWriter, reflectance, write_raster

from batchseg.driver.begin import begin
from batchseg.driver.job import run_job
from batchseg.job.file import load_job
from batchseg.system.machine import process_began
from batchseg.tools.status import read_status

STEPS = ("read", "prepare", "network", "stitch", "write", "finish", "commit")


def run(job: Path, overrides: Sequence[str], *, profile: bool) -> Path:
    """The folder of the run."""
    config = load_job(job, overrides)
    with begin(config) as begun:
        run_job(config, begun, listeners=[], stop=lambda: None, replace=False, profile=profile)
    (folder,) = Path(config.output).glob("_batchseg/runs/*")
    return folder


def rows_of(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Bars by the name of their row."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in entries if e["name"] == "thread_name"}
    rows = defaultdict(list)
    for entry in entries:
        if entry["ph"] == "X":
            rows[names[entry["pid"], entry["tid"]], entry["tid"]].append(entry)
    return {f"{name}/{tid}": bars for (name, tid), bars in rows.items()}


@pytest.mark.parametrize("executor", ["inline", "processes", "ray"])
def test_every_step_is_on_its_process_row_and_none_overlaps(
    tmp_path: Path, write_job: JobWriter, request: pytest.FixtureRequest, executor: str
) -> None:
    for number in range(2):
        write_raster(tmp_path / "in" / f"{number}.tif", reflectance(190, 230, seed=number))
    overrides = [f"executor={executor}", "workers=1", "shard_tiles=1"]
    if executor == "ray":
        overrides.append(f"ray_address={request.getfixturevalue('ray_cluster')}")
    folder = run(write_job(), overrides, profile=True)
    entries = json.loads((folder / "profile.json").read_text())
    rows = rows_of(entries)
    roles = {name.split()[0].split("/")[0] for name in rows}
    assert roles == {"driver", "predictor", "reader", "writer", "finisher"}
    assert {bar["name"] for bars in rows.values() for bar in bars} >= {*STEPS, "load"}
    for bars in rows.values():
        for one, other in pairwise(sorted(bars, key=lambda bar: bar["ts"])):
            assert one["ts"] + one["dur"] <= other["ts"]
    of_leases = defaultdict(list)
    for bar in (bar for bars in rows.values() for bar in bars if "lease" in bar["args"]):
        assert bar["args"]["scene"] in ("0.tif", "1.tif") and "," in bar["args"]["shards"]
        of_leases[bar["args"]["lease"]].append(bar)
    for bars in of_leases.values():
        first = {step: min(bar["ts"] for bar in bars if bar["name"] == step) for step in STEPS[:5]}
        assert [first[step] for step in STEPS[:5]] == sorted(first.values())
    summary = json.loads((folder / "summary.json").read_text())
    cpu = summary["cpu_seconds"]
    assert cpu["network"] > 0 and set(cpu) >= {*STEPS, "all_processes"}
    if executor == "inline":
        assert cpu["all_processes"] > cpu["network"] / 2  # /proc counts hundredths of seconds
    assert summary["seconds_to_first_tile"] > 0
    assert sum(summary["predictor_shares"].values()) == pytest.approx(1, abs=0.01)


def test_without_the_flag_nothing_is_written_and_each_thread_tells_one_time(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(90, 130))
    folder = run(write_job(), ["executor=inline", "workers=1"], profile=False)
    assert not (folder / "profile.json").exists()
    summary = json.loads((folder / "summary.json").read_text())
    assert "cpu_seconds" not in summary
    assert summary["advice"] and summary["predictors"] == 1
    told = read_status(str(tmp_path / "out")).last_run
    assert told is not None and (told.run_id, told.shares) == (folder.name, summary["predictor_shares"])


TREE = """
import subprocess, sys, time
from batchseg.system.machine import cpu_seconds_of_tree
before = cpu_seconds_of_tree()
work = "import time\\nwhile time.process_time() < 0.3: pass\\ninput()"
child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
until = time.monotonic() + 60
while cpu_seconds_of_tree() - before < 0.25:
    assert time.monotonic() < until
    time.sleep(0.05)
child.communicate(b"\\n")
assert cpu_seconds_of_tree() - before >= 0.25
"""


def test_the_tree_holds_children_and_the_ended_ones() -> None:
    # In a process of its own: this one's children of other tests end meanwhile, and their time with them.
    done = subprocess.run([sys.executable, "-c", TREE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_process_knows_when_it_began() -> None:
    before = time.monotonic()
    code = "from batchseg.system.machine import process_began; print(process_began())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert before - 0.03 <= float(told) <= time.monotonic()
    assert process_began() < before
