"""Processes of a run that are killed: what the run makes of it, and what is left."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchseg.driver.executors.watched import CALL_SECONDS
from batchseg.output import publish
from batchseg.system.location import Location
from batchseg.system.temp_folders import RAY_PREFIX, held_folder, remove_stale
from faults.commands import ROLES, kill, run, said, start, wait_for
from faults.kills import Fault, _Job, _Running
from faults.workload import Workload, make_workload, place, undisturbed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Workload]:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "models").symlink_to(models)
    yield make_workload("scenes", folder, size=1, keys={"executor": "inline"})


@pytest.mark.slow
def test_a_killed_driver_is_resumed_and_nothing_is_left(scenes: Workload) -> None:
    fault = Fault(role="driver", kind="scenes", executor="inline", kills=2, times=1)
    trial = _Running(fault, _Job(scenes, *undisturbed(scenes)), 1, random.Random(4)).chain()
    assert trial.kept_promises, str(trial)
    assert trial.times >= 1


@pytest.mark.slow
@pytest.mark.parametrize("part", ["raylet", "head"])
def test_a_run_whose_ray_cluster_is_broken_ends_soon_and_says_so(scenes: Workload, part: str) -> None:
    scenes.remove(part)
    with place() as here:
        process = start(here, "run", scenes.job(part, executor="ray"), slow=0.3)
        assert wait_for(lambda: len(here.predicted()) >= 4, 200), said(here)
        kill(here.processes(*ROLES[part]))
        assert process.wait(CALL_SECONDS) == 5  # seen at once, not by the time limit of a call to Ray
        assert "was ended by SIGKILL" in said(here)
        assert "the same command goes on" in said(here)
        assert wait_for(lambda: not here.processes(), 60)
        assert here.left_files() == []
        assert run(here, "run", scenes.job(part)) == 0


AGENT = """
import sys, time
held = open(sys.argv[1], "a") if len(sys.argv) > 1 else None
print("ready", flush=True)
time.sleep(600)
"""


def _agent(*arguments: object) -> "subprocess.Popen[str]":
    """A process that calls itself as Ray's agents do."""
    command = ["ray::DashboardAgent", "-c", AGENT, *map(str, arguments)]
    process = subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_agents_of_a_dead_run_are_ended_and_others_are_not(tmp_path: Path) -> None:
    dead, lock = held_folder(RAY_PREFIX, root=tmp_path)
    lock.close()
    living, held = held_folder("other-", root=tmp_path)
    left, elsewhere, nowhere = _agent(dead / "log"), _agent(living / "log"), _agent()
    try:
        remove_stale(RAY_PREFIX, root=tmp_path)
        assert left.wait(10) == -9
        assert not dead.exists()
        assert elsewhere.poll() is None
        assert nowhere.poll() is None
    finally:
        for process in (left, elsewhere, nowhere):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        held.close()


def test_a_kill_while_a_file_is_made_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "_batchseg").mkdir()
    (tmp_path / "masks").mkdir()
    if (child := os.fork()) == 0:
        publish.Making.replace = lambda *_: os._exit(9)  # type: ignore[method-assign]
        publish.publish(Location.of(str(tmp_path)).below("masks/a.png"), b"pixels", durable=False)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list((tmp_path / "masks").iterdir()) == []
    scratch = tmp_path / "_batchseg" / "scratch"
    assert len(list(scratch.iterdir())) == 1
    publish.clear_scratch(str(tmp_path))  # as the next run does when it begins
    assert not scratch.exists()
