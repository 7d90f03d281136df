"""SIGKILL of each process of a run, and of all of them at once; the same command goes on."""

import contextlib
import json
import os
import random
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec

from batchseg.output.ledger import Ledger
from batchseg.output.lock import holder
from faults.commands import ROLES, Place, kill, run, said, start, wait_for
from faults.context import Context
from faults.outcome import Outcome, differences
from faults.record import Trial
from faults.workload import Kind, Workload, make_workload, place, undisturbed

SCENES, IMAGES = 2, 60
SLOW = 0.05
"""Seconds per tile, of which there are 220 or 450: so that a run lasts long enough to be hit."""

END_SECONDS = 300
"""In which a run ends by itself on a busy machine; more is a hang."""

ORPHAN_SECONDS = 40
"""In which all is gone that a killed run had started, or the next command ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table: whom to kill, how often, in which job."""

    role: Literal["driver", "predictor", "finisher", "raylet", "head", "all"]
    kind: Kind
    executor: Literal["processes", "ray", "inline"] = "ray"
    storage: Literal["disk", "S3"] = "disk"
    kills: int
    times: int
    """Trials, where the campaign does not say how many."""
    faults: dict[str, float] = field(default_factory=dict)
    """Of inject/sitecustomize.py, beside `slow`."""
    at: str = ""
    """What these faults make it likely to be at."""

    @property
    def name(self) -> str:
        whom = {"all": "all processes", "head": "GCS server", "predictor": "predictors"}.get(
            self.role, self.role
        )
        whom = f"{whom} that {self.at}" if self.at else whom
        return f"SIGKILL of {whom}: {self.kind}, {self.executor}, {self.storage}"

    @property
    def ends_the_run(self) -> bool:
        return self.role in ("driver", "raylet", "head", "all")

    @property
    def codes(self) -> tuple[int, ...]:
        """With which a run may end that was hit. Parts of it are replaced, but not a predictor that died four
        times before it gave an answer; nor is Ray itself."""
        killed, stopped = (-9,), (5, 0)
        codes = {"driver": killed, "all": killed, "raylet": stopped, "head": stopped, "predictor": stopped}
        return codes.get(self.role, (0,))


READ, DECODED, PUBLISHED = {"slow_read": 0.4}, {"slow_read": 0.02}, {"slow_published": 0.6}
FAULTS = (
    Fault(role="driver", kind="scenes", executor="inline", kills=7, times=3, faults=PUBLISHED),
    Fault(role="driver", kind="photographs", executor="inline", kills=7, times=3, faults=PUBLISHED),
    Fault(role="driver", kind="scenes", executor="processes", kills=4, times=1, faults=PUBLISHED),
    Fault(role="driver", kind="photographs", executor="processes", kills=4, times=1, faults=PUBLISHED),
    Fault(role="predictor", kind="scenes", executor="processes", kills=7, times=3),
    Fault(role="predictor", kind="photographs", executor="processes", kills=7, times=1, faults=DECODED),
    Fault(role="predictor", at="read", kind="scenes", executor="processes", kills=7, times=1, faults=READ),
    Fault(
        role="predictor", at="write", kind="scenes", executor="processes", kills=7, times=1, faults=PUBLISHED
    ),
    Fault(role="all", kind="scenes", executor="processes", kills=3, times=1, faults=PUBLISHED),
    Fault(role="all", kind="photographs", executor="processes", kills=3, times=1, faults=PUBLISHED),
    Fault(role="driver", kind="scenes", kills=4, times=1, faults=PUBLISHED),
    Fault(role="driver", kind="photographs", kills=4, times=1, faults=PUBLISHED),
    Fault(role="predictor", kind="scenes", kills=7, times=1),
    Fault(role="predictor", kind="photographs", kills=7, times=1, faults=DECODED),
    Fault(role="predictor", at="read", kind="scenes", kills=7, times=1, faults=READ),
    Fault(role="predictor", at="write", kind="scenes", kills=7, times=1, faults=PUBLISHED),
    Fault(role="finisher", kind="scenes", kills=6, times=1, faults={"slow_published": 2.0}),
    Fault(role="raylet", kind="scenes", kills=3, times=1),
    Fault(role="raylet", kind="photographs", kills=3, times=1),
    Fault(role="head", kind="scenes", kills=2, times=1),
    Fault(role="head", kind="photographs", kills=2, times=1),
    Fault(role="all", kind="scenes", kills=3, times=1, faults=PUBLISHED),
    Fault(role="all", kind="photographs", kills=3, times=1, faults=PUBLISHED),
    Fault(role="driver", kind="scenes", executor="inline", storage="S3", kills=3, times=1),
    Fault(role="driver", kind="photographs", executor="processes", storage="S3", kills=2, times=1),
    Fault(role="predictor", kind="scenes", executor="processes", storage="S3", kills=5, times=1),
    Fault(role="all", kind="scenes", executor="processes", storage="S3", kills=1, times=1, faults=PUBLISHED),
    Fault(role="driver", kind="photographs", storage="S3", kills=2, times=1),
    Fault(role="predictor", kind="scenes", storage="S3", kills=5, times=1),
    Fault(role="predictor", at="read", kind="scenes", storage="S3", kills=4, times=1, faults=READ),
    Fault(role="raylet", kind="scenes", storage="S3", kills=2, times=1),
    Fault(role="all", kind="scenes", storage="S3", kills=1, times=1, faults=PUBLISHED),
)
"""183 kills, fewer where a run of a chain ends before it is hit."""


def trials(context: Context) -> Iterator[Trial]:
    """Chains of kills and resumes, and runs whose parts are killed again and again."""
    undisturbed_by: dict[tuple[str, str], _Job] = {}
    with contextlib.ExitStack() as stack:
        for fault in FAULTS:
            if fault.storage == "S3" and context.s3_endpoint is None:
                continue
            for seed, chance in context.seeds(fault.name, fault.times):
                key = fault.kind, fault.storage
                if key not in undisturbed_by:
                    undisturbed_by[key] = _prepare(context, fault, stack)
                trial = _Running(fault, undisturbed_by[key], seed, chance)
                yield trial.chain() if fault.ends_the_run else trial.one_run()


@dataclass(frozen=True, slots=True)
class _Job:
    workload: Workload
    expected: Outcome
    tiles: int
    seconds: float


def _prepare(context: Context, fault: Fault, stack: contextlib.ExitStack) -> _Job:
    folder = context.work / "kills" / fault.kind
    size = SCENES if fault.kind == "scenes" else IMAGES // 20
    fields: dict[str, Any] = {"keys": {"executor": "inline"}}
    if fault.storage == "S3":
        assert context.s3_endpoint is not None
        make_workload(fault.kind, folder, size=size)
        fields = stack.enter_context(_bucket(context.s3_endpoint, folder, fault.kind))
    workload = make_workload(fault.kind, folder, size=size, **fields)
    workload.remove("undisturbed")
    return _Job(workload, *undisturbed(workload))


@contextlib.contextmanager
def _bucket(endpoint: str, folder: Path, kind: Kind) -> Iterator[dict[str, Any]]:
    """A bucket with the folder's archive in it, known to this process and to those that it starts."""
    key, secret = (os.environ.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    options = {"endpoint_url": endpoint, "key": key, "secret": secret}
    os.environ["FSSPEC_S3"] = json.dumps(options)
    fsspec.config.conf["s3"] = options
    files = fsspec.filesystem("s3", **options)
    root = f"kills-{uuid.uuid4().hex[:12]}"
    files.mkdir(root)
    files.put(str(folder / "in"), f"{root}/in", recursive=True)
    inputs = f"s3://{root}/in/*.{'tif' if kind == 'scenes' else 'png'}"
    try:
        keys = {"inputs": inputs, "executor": "inline"}
        yield {"output_root": f"s3://{root}", "options": options, "keys": keys}
    finally:
        files.invalidate_cache()
        files.rm(root, recursive=True)


class _Running:
    """One trial: what was done so far, and what was seen."""

    def __init__(self, fault: Fault, job: _Job, seed: int, chance: random.Random) -> None:
        self._fault, self._job, self._seed, self._chance = fault, job, seed, chance
        self._workload = job.workload
        self._name = re.sub(r"\W+", "-", f"{fault.role}-{fault.kind}-{fault.executor}-{fault.storage}-{seed}")
        self._output = self._workload.output(self._name)
        self._codes: list[int] = []
        self._right = self._kills = 0
        self._recorded: list[dict[str, int]] = []
        """For each kill: how often the tiles that were recorded by then had been predicted."""
        self._shared: set[str] = set()
        """Names in /dev/shm that killed processes had."""
        self._found: list[str] = []
        self._longest_wait = 0.0

    def chain(self) -> Trial:
        """Runs that are killed one after the other, and one that is not."""
        with place() as here:
            job = self._begin()
            for number in range(self._fault.kills):
                process = start(here, "run", job, slow=SLOW, **self._fault.faults)
                self._reach_moment(here, process, self._fault.kills - number)
                if process.poll() is None:
                    self._kill(here, self._victims(here, process))
                    self._end(process, self._fault.codes)
                    self._account(here)
                    self._wait_for_lock()
                else:  # it was faster; the next one has less to do
                    self._end(process, (0,))
            return self._concluded(here, job)

    def one_run(self) -> Trial:
        """A run whose parts are killed and replaced."""
        with place() as here:
            job = self._begin()
            process = start(here, "run", job, slow=SLOW, **self._fault.faults)
            for _ in range(self._fault.kills):
                self._let_work(here, process, self._chance.randint(8, 24))
                wait_for(lambda: process.poll() is not None or bool(self._victims(here, process)), 30)
                time.sleep(self._chance.uniform(0, 0.3))
                if process.poll() is None and (victims := self._victims(here, process)):
                    self._account(here)
                    self._kill(here, [self._chance.choice(victims)])
            self._end(process, self._fault.codes)
            return self._concluded(here, job)

    def _begin(self) -> Path:
        self._workload.remove(self._name)
        self._began = time.monotonic()
        return self._workload.job(self._name, executor=self._fault.executor)

    def _victims(self, here: Place, process: subprocess.Popen[str]) -> list[int]:
        if self._fault.role == "all":
            return here.processes()
        return [process.pid] if self._fault.role == "driver" else here.processes(*ROLES[self._fault.role])

    def _reach_moment(self, here: Place, process: subprocess.Popen[str], kills_left: int) -> None:
        """A random one: while the run starts, in the middle, or in its last seconds."""
        how = self._chance.random()
        if how < 0.25:
            time.sleep(self._chance.uniform(0, 4))
        elif how < (0.6 if kills_left == 1 else 0.95):  # after the last seconds little is left to resume
            left = self._job.tiles - len(here.predicted())
            self._let_work(here, process, int(self._chance.uniform(0, 1.5) * left / kills_left))
        else:
            self._let_work(here, process, self._job.tiles - len(here.predicted()))
            time.sleep(self._chance.uniform(0, 2))

    def _let_work(self, here: Place, process: subprocess.Popen[str], tiles: int) -> None:
        until = sum(here.predicted().values()) + tiles
        wait_for(
            lambda: process.poll() is not None or sum(here.predicted().values()) >= until, END_SECONDS / 2
        )

    def _kill(self, here: Place, victims: list[int]) -> None:
        self._shared |= shared_memory(here.processes())
        kill(victims)
        self._kills += 1

    def _end(self, process: subprocess.Popen[str], codes: tuple[int, ...]) -> None:
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._found.append(f"still running {END_SECONDS} s after the kill")
            process.kill()
            code = process.wait()
        self._codes.append(code)
        self._right += code in codes

    def _account(self, here: Place) -> None:
        is_recorded = _recorded(self._output)
        self._recorded.append({t: n for t, n in here.predicted().items() if is_recorded(t)})

    def _wait_for_lock(self) -> None:
        """A disk tells at once that a holder is dead; in a bucket it has to be silent for a while."""
        if self._fault.storage == "S3":
            began = time.monotonic()
            if not wait_for(lambda: holder(self._output) is None, 60):
                self._found.append("the lock was still held 60 s after the kill")
            self._longest_wait = max(self._longest_wait, time.monotonic() - began)

    def _concluded(self, here: Place, job: Path) -> Trial:
        if self._fault.ends_the_run or self._codes[-1] != 0:
            self._codes.append(run(here, "run", job, timeout=END_SECONDS))
            self._right += self._codes[-1] == 0
        cost = time.monotonic() - self._began - self._job.seconds
        wait_for(lambda: not here.processes(), ORPHAN_SECONDS)
        left = (*here.left_files(), *map(_called, here.processes()))
        left += tuple(name for name in self._shared if (Path("/dev/shm") / name).exists())
        kill(here.processes())
        difference = differences(self._workload.outcome(self._name), self._job.expected)
        if self._right != len(self._codes):
            self._found.append(f"runs ended with {self._codes}: {said(here)[-400:]}")
        if "Traceback" in said(here):
            self._found.append(f"a traceback: {said(here)[-400:]}")
        if run(here, "verify", self._output) != 0:
            self._found.append(f"verify: {said(here)[-400:]}")
        final = here.predicted()
        trial = Trial(
            section="kills",
            fault=self._fault.name,
            seed=self._seed,
            times=self._kills,
            runs=len(self._codes),
            ended_right=self._right,
            identical=not difference,
            predicted=self._job.tiles,
            repeated=sum(count > 1 for count in final.values()),
            unaccounted=len({t for known in self._recorded for t, n in known.items() if final[t] > n}),
            cost_s=max(cost, 0.0),
            left=(*left, *self._left_in_output(said(here))),
            found="; ".join([*self._found, *([difference] if difference else [])]),
            note=f"waited {self._longest_wait:.0f} s for the lock" if self._longest_wait else "",
        )
        if trial.kept_promises:
            self._workload.remove(self._name)
        return trial

    def _left_in_output(self, said: str) -> list[str]:
        """Fragments, temporary files, files that no record names."""
        files, root = fsspec.core.url_to_fs(self._output, **self._workload.options)
        files.invalidate_cache()
        below = [path[len(root) :].lstrip("/") for path in files.find(root)]
        odd = [path for path in below if "/.tmp-" in path or path.startswith("_batchseg/fragments/")]
        odd += [path for path in below if path.startswith("_batchseg/scratch/")]
        odd += [path for path in below if path.startswith("_batchseg/locks/")][1:]
        return sorted({*odd, *re.findall("^not recorded, left alone: (.*)$", said, re.MULTILINE)})


def _recorded(output: str) -> Callable[[str], bool]:
    """Whether a tile, `row col source id`, is in an output's ledger now."""
    ledger = Ledger(output)
    done = {record.source_id for record in ledger.sources() if record.status == "done"}
    windows = {source_id: ledger.shards(source_id) for source_id in ledger.unfinished()}

    def is_recorded(tile: str) -> bool:
        row, col, source_id = tile.split(" ", 2)
        return source_id in done or any(
            0 <= int(row) - shard.row_off < shard.height and 0 <= int(col) - shard.col_off < shard.width
            for shard in windows.get(source_id, ())
        )

    return is_recorded


def shared_memory(pids: Iterable[int]) -> set[str]:
    """Names of what processes have mapped of /dev/shm."""
    names: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            names.update(re.findall(r"/dev/shm/(\S+)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE))
    return names


def _called(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:80]
    return ""
