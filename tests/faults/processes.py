"""Processes that misbehave rather than die: they hang, crash over one file, or take memory without end.

Each trial says which sources are to be blamed; all others must come out as in an undisturbed run, and the run
must end by itself, within a time that is stated.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from faults.commands import ROLES, Place, kill, said, start, wait_for
from faults.context import Context
from faults.outcome import Outcome, differences
from faults.record import Trial
from faults.stalling import StallingServer
from faults.workload import Kind, Workload, make_workload, place, undisturbed

TIMEOUT = 20
"""Seconds of `lease_timeout` in these jobs."""

BOUND = 8 * TIMEOUT + 90
"""Seconds in which each run must have ended: starting, the time limits one after the other, the end."""

Act = Callable[[Place, "Case"], int]


@dataclass(slots=True, kw_only=True)
class Case:
    """One run with a fault, and what is expected of it."""

    workload: Workload
    random: random.Random
    guilty: str = ""
    """Part of the ids that are to be blamed; none: nobody."""
    exits: tuple[int, ...] = (0,)
    faults: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    act: Act | None = None
    """Does something to the run, and gives how many faults that were."""
    mends: Callable[["Case"], None] | None = None
    """What the user does after a run that ended with 5; the same command must then finish."""
    says: str = ""
    """What the run must have printed."""


def trials(context: Context) -> Iterator[Trial]:
    for fault, kind, usual, make in FAULTS:
        for seed, chance in context.seeds(fault, usual):
            workload = _workload(kind, context.work, "ray" if fault.endswith(RAY) else "processes")
            yield _tried(fault, seed, make(workload, chance))


def _workload(kind: Kind, work: Path, executor: str) -> Workload:
    keys = {"lease_timeout": TIMEOUT, "executor": executor}
    if kind == "scenes":
        return make_workload("scenes", work / "processes-scenes", size=3, keys=keys)
    return make_workload("photographs", work / "processes-photographs", size=3, keys=keys)


_UNDISTURBED: dict[Path, tuple[Outcome, int, float]] = {}


def _tried(fault: str, seed: int, case: Case) -> Trial:
    workload, name = case.workload, f"t{seed}"
    if workload.folder not in _UNDISTURBED:
        inline = replace(workload, keys={"executor": "inline"})  # the same pixels, in a third of the time
        _UNDISTURBED[workload.folder] = undisturbed(inline)
    expected, tiles, usual = _UNDISTURBED[workload.folder]
    workload.remove(name)
    with place() as here:
        job = workload.job(name, **case.keys)
        began = time.monotonic()
        with _environment(case.environment):
            process = start(here, "run", job, **case.faults)
        times = case.act(here, case) if case.act else 1
        code = _waited(process, began)
        seconds = time.monotonic() - began
        codes, right = [code], int(code in case.exits)
        if code == 5 and case.mends is not None:
            case.mends(case)
            codes.append(_waited(start(here, "run", job), time.monotonic()))
            right += codes[-1] == 0
        words = said(here)
        found = [
            _odd(words, case, wrong=right < len(codes)),
            differences(_without(workload.outcome(name), case), _without(expected, case)),
        ]
        found += ["nobody was blamed"] if case.guilty and not _blamed(workload.outcome(name), case) else []
        wait_for(lambda: not here.processes(), 30)
        left = tuple(f"process {pid}" for pid in here.processes()) + tuple(here.left_files())
        kill(here.processes())
        wait_for(lambda: not here.processes(), 30)
        workload.remove(name)
        return Trial(
            section="processes",
            fault=fault,
            seed=seed,
            times=times,
            runs=len(codes),
            ended_right=right,
            identical=not found[1],
            predicted=tiles,
            cost_s=round(max(0.0, seconds - usual), 1),
            cost="beyond an undisturbed inline run",
            left=left,
            found="; ".join(text for text in found if text),
            note=f"exit {', '.join(map(str, codes))} after {seconds:.0f} s",
        )


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def _waited(process: Any, began: float) -> int:
    with contextlib.suppress(Exception):
        return int(process.wait(max(1.0, began + BOUND - time.monotonic())))
    process.kill()
    process.wait()
    return -int(signal.SIGKILL)


def _odd(words: str, case: Case, *, wrong: bool) -> str:
    if "Traceback" in words or wrong:
        return f"it said: {words[-600:]}"
    return "" if case.says in words else f"does not say {case.says!r}: {words[-300:]}"


def _without(seen: Outcome, case: Case) -> Outcome:
    """What is seen of sources that are not to be blamed, wherever a case has its copy of the archive."""
    guilty = case.guilty or "\0"

    def here(line: str) -> str:  # a server has other names, and other tags
        line = re.sub("'uri': '[^']*/", "'uri': '", re.sub("'tag': '[^']*'", "", line))
        return re.sub(r"127\.0\.0\.1:\d+(-\d+)?/", "", line)

    return Outcome(
        masks={here(name): digest for name, digest in seen.masks.items() if guilty not in name},
        regions=tuple(sorted(here(line) for line in seen.regions if guilty not in line)),
        items=tuple(sorted(here(line) for line in seen.items if guilty not in line)),
    )


def _blamed(seen: Outcome, case: Case) -> bool:
    own = [line for line in seen.items if case.guilty in line]
    return bool(own) and all("'quarantined'" in line or "'failed'" in line for line in own)


def _some_source(workload: Workload, chance: random.Random) -> str:
    """One of the sources, by a name that is no other's."""
    return chance.choice(sorted(path.stem for path in (workload.folder / "in").iterdir()))


def _at(step: str, how: str, **more: Any) -> Callable[[Workload, random.Random], Case]:
    """A step goes wrong for one source, always."""

    def make(workload: Workload, chance: random.Random) -> Case:
        name = _some_source(workload, chance)
        faults = {"at": f"{step} {how} {name}", **more}
        return Case(workload=workload, random=chance, guilty=name, exits=(3,), faults=faults)

    return make


def _once(step: str, how: str) -> Callable[[Workload, random.Random], Case]:
    """A step goes wrong for one source, once: nobody is to blame."""

    def make(workload: Workload, chance: random.Random) -> Case:
        mark = workload.folder / "once"
        mark.unlink(missing_ok=True)
        faults = {"at": f"{step} {how} {_some_source(workload, chance)}", "once": mark}
        return Case(workload=workload, random=chance, faults=faults)

    return make


def _stopped(role: str) -> Callable[[Workload, random.Random], Case]:
    """SIGSTOP of a process at a random moment."""

    def act(here: Place, case: Case) -> int:
        delay = case.random.uniform(0, 3)
        hit: list[int] = []

        def strike() -> bool:
            hit[:] = [pid for pid in here.processes(*ROLES[role]) if pid]
            kill(hit[:1], signal.SIGSTOP)
            return bool(hit)

        wait_for(lambda: bool(here.predicted()), 300)
        time.sleep(delay)
        wait_for(strike, 20)
        return len(hit[:1])

    def make(workload: Workload, chance: random.Random) -> Case:
        exits, mends = (0,), None
        if role == "raylet":
            exits, mends = (5,), lambda case: None
        slow = 0.1 if workload.kind == "scenes" else 0.3
        return Case(
            workload=workload, random=chance, faults={"slow": slow}, act=act, exits=exits, mends=mends
        )

    return make


def _fifo_listed(workload: Workload, chance: random.Random) -> Case:
    """FIFOs whose names look like inputs: left out."""
    folder = workload.folder / "with fifo"
    if not folder.exists():
        shutil.copytree(workload.folder / "in", folder, copy_function=os.link)
        os.mkfifo(folder / ("scene-77.tif" if workload.kind == "scenes" else "line-0-7777.png"))
    inputs = str(folder / ("*.tif" if workload.kind == "scenes" else ""))
    return Case(workload=workload, random=chance, keys={"inputs": inputs})


def _fifo_later(workload: Workload, chance: random.Random) -> Case:
    """A file that becomes a FIFO while the run is on."""
    folder = workload.folder / "becomes fifo"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workload.folder / "in", folder)
    for path in folder.iterdir():
        shutil.copystat(workload.folder / "in" / path.name, path)
    name = sorted(path.name for path in folder.iterdir())[-1]

    def act(here: Place, case: Case) -> int:
        wait_for(lambda: bool(here.predicted()), 300)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        return 1

    inputs = str(folder / ("*.tif" if workload.kind == "scenes" else ""))
    return Case(
        workload=workload,
        random=chance,
        guilty=Path(name).stem,
        exits=(3,),
        faults={"slow": 0.05},
        keys={"inputs": inputs},
        act=act,
    )


def _stalled_server(how: str) -> Callable[[Workload, random.Random], Case]:
    """A web server that answers for all files but one, for which it never does, or stops in mid-body."""

    def make(workload: Workload, chance: random.Random) -> Case:
        name = _some_source(workload, chance)
        server = StallingServer(workload.folder / "in", stalls=name, how=how)
        uris = [server.uri(path.name) for path in sorted((workload.folder / "in").iterdir())]
        return Case(workload=workload, random=chance, guilty=name, exits=(3,), keys={"inputs": uris})

    return make


def _ray_kills(step: str) -> Callable[[Workload, random.Random], Case]:
    """Ray's out-of-memory monitor ends what takes 1 GB more than the machine uses now."""

    def make(workload: Workload, chance: random.Random) -> Case:
        case = _at(step, "grow")(workload, chance)
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(facts[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
        case.environment = {
            "RAY_memory_usage_threshold": f"{(total - free + 2_200_000) / total:.3f}",
            "RAY_memory_monitor_refresh_ms": "250",
        }
        case.faults["grow"] = 2_500_000_000
        return case

    return make


def _gpu_memory(room: int, says: str) -> Callable[[Workload, random.Random], Case]:
    """A device with room for so many tiles at once, of batches of 8."""

    def make(workload: Workload, chance: random.Random) -> Case:
        faults = {"room": room, "says": says}
        case = Case(
            workload=workload, random=chance, faults=faults, keys={"batch_size": 8, "executor": "inline"}
        )
        if room == 0:
            case.exits, case.mends, case.says = (5,), lambda case: None, "tile_size"
        return case

    return make


def _both(name: str, usual: int, make: Any) -> list[tuple[str, Kind, int, Any]]:
    return [(f"{name}, scenes", "scenes", usual, make), (f"{name}, photographs", "photographs", usual, make)]


Faults = list[tuple[str, Kind, int, Callable[[Workload, random.Random], Case]]]

ON_BOTH: Faults = [
    *_both("a FIFO among the inputs", 1, _fifo_listed),
    *_both("a file becomes a FIFO", 2, _fifo_later),
    *_both("a server that never answers for one file", 2, _stalled_server("silent")),
    *_both("a server that stops within one file", 2, _stalled_server("midway")),
    ("a header that hangs", "scenes", 2, _at("header", "hang")),
    ("a header that crashes", "scenes", 2, _at("header", "segv")),
    ("a reader that hangs", "scenes", 2, _at("read", "hang")),
    ("a reader that computes for ever", "scenes", 2, _at("read", "spin")),
    ("a reader that crashes", "scenes", 3, _at("read", "segv")),
    ("a decoder that hangs", "photographs", 2, _at("decode", "hang")),
    ("a decoder that crashes", "photographs", 3, _at("decode", "segv")),
    *_both("a predictor that hangs over one source", 2, _at("predict", "hang")),
    *_both("a predictor that crashes over one source", 3, _at("predict", "abort")),
    *_both("a predictor that hangs once", 2, _once("predict", "hang")),
    ("a writer that hangs once", "scenes", 2, _once("write", "hang")),
    ("a finish that hangs once", "scenes", 2, _once("finish", "hang")),
    ("a finish that hangs for one source", "scenes", 1, _at("finish", "hang")),
    ("a finish that crashes for one source", "scenes", 2, _at("finish", "segv")),
    ("SIGSTOP of a predictor, scenes", "scenes", 12, _stopped("predictor")),
    ("SIGSTOP of a predictor, photographs", "photographs", 4, _stopped("predictor")),
    ("a reader that grows until it is killed", "scenes", 2, _at("read", "starve")),
    ("a decoder that grows until it is killed", "photographs", 2, _at("decode", "starve")),
    *_both("a predictor that grows until it is killed", 1, _at("predict", "starve")),
]
ON_RAY: Faults = [
    ("SIGSTOP of a finisher", "scenes", 2, _stopped("finisher")),
    *_both("SIGSTOP of the raylet", 2, _stopped("raylet")),
    ("a reader that grows, ended by Ray", "scenes", 1, _ray_kills("read")),
    ("a decoder that grows, ended by Ray", "photographs", 1, _ray_kills("decode")),
    *_both("a predictor that grows, ended by Ray", 1, _ray_kills("predict")),
]
INLINE: Faults = [
    *_both("GPU memory for 3 tiles of 8 (Paddle's words)", 1, _gpu_memory(3, "paddle")),
    *_both("GPU memory for 1 tile of 8 (ONNX Runtime's words)", 1, _gpu_memory(1, "onnxruntime")),
    *_both("GPU memory for no tile", 1, _gpu_memory(0, "paddle")),
]
RAY = ", on Ray"
FAULTS: Faults = [
    *ON_BOTH,
    *((f"{name}{RAY}", kind, usual, make) for name, kind, usual, make in (*ON_BOTH, *ON_RAY)),
    *INLINE,
]
"""Without RAY, and where the job is not inline, in plain processes of this machine."""
