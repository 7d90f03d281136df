"""Disks that are full, read-only, forbidden, failing or slow: of outputs, and of what a run keeps meanwhile.

A trial lets one run meet the disk, mends the disk, and runs the same command again. Disks are tmpfs mounts
in a namespace of the campaign's own: they end with it, however it ends.
"""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from faults.commands import BATCHSEG, Place, kill, said, start, wait_for
from faults.context import Context
from faults.mounts import Disk, between, small_disk, why_not
from faults.outcome import Outcome, differences
from faults.record import Trial
from faults.workload import Kind, Workload, make_workload, place, undisturbed

SIZE = 2
"""Scenes of a workload; 20 times as many photographs."""

SHARED = Path("/dev/shm")

FILLER = "filler"
"""The file that takes a disk's room: a trial's own, and not what a run left."""

MOST_SECONDS = 480.0
"""For one run: none may need more on a busy machine."""


@dataclass(frozen=True, slots=True)
class Job:
    """A workload and what an undisturbed run makes of it."""

    workload: Workload
    expected: Outcome
    tiles: int
    seconds: float
    used: int
    """Bytes of its output."""
    files: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault is put into: the trial's place and disk, a job whose output lies there or not."""

    here: Place
    job: Job
    executor: str
    chance: random.Random
    folder: Path
    """For a disk."""


Fault = Callable[[Scene], Iterator["Met"]]


@dataclass(slots=True)
class Met:
    """How one run met its disk."""

    output: Path
    """Where its output lies."""
    names: str = ""
    """What its message must name."""
    disk: Disk | None = None
    keys: dict[str, object] | None = None
    """Of the job."""
    faults: dict[str, object] | None = None
    """Environment of the first run."""
    during: Callable[[], None] | None = None
    """What befalls the disk once the first run predicts."""
    mend: Callable[[], None] | None = None
    """In place of making room on the disk."""
    before: tuple[str, ...] = ()
    """What starts the first run."""
    codes: tuple[int, ...] = (0, 5)
    says: str = ""
    """What the first run must say, if it ends well too."""


def trials(context: Context) -> Iterator[Trial]:
    if reason := why_not():
        print(f"disks: nothing done: {reason}", file=sys.stderr)  # noqa: T201
        return
    jobs: dict[Kind, Job] = {}
    for fault, (kinds, executor, times, make) in FAULTS.items():
        for seed, chance in context.seeds(fault, times):
            kind = kinds[seed % len(kinds)]
            if kind not in jobs:
                jobs[kind] = _job(kind, context.work)
            yield _trial(fault, seed, chance, jobs[kind], executor, make)


def _job(kind: Kind, work: Path) -> Job:
    folder = work / f"disks-{kind}"
    workload = make_workload(kind, folder, size=SIZE, keys={"executor": "inline"})
    with small_disk(folder / "disk", "size=2g") as disk:
        on_disk = replace(workload, output_root=str(disk.folder))
        expected, tiles, seconds = undisturbed(on_disk)
        return Job(workload, expected, tiles, seconds, disk.used, disk.files)


def _trial(fault: str, seed: int, chance: random.Random, job: Job, executor: str, make: Fault) -> Trial:
    name = f"trial-{os.getpid()}"
    with place() as here, tempfolder(here) as folder:
        scene = Scene(here, job, executor, chance, folder)
        with contextlib.contextmanager(make)(scene) as met:
            began = time.monotonic()
            workload = replace(job.workload, output_root=str(met.output))
            keys: dict[str, object] = {"executor": executor, **(met.keys or {})}
            first = _first(here, workload, name, keys, met)
            problems = list(_problems(here, met, first))
            if first != 0:
                problems += _readers(workload.output(name), blamed=3 in met.codes)
            if met.mend is not None:
                met.mend()
            elif met.disk is not None:
                met.disk.make_room()
            runs, right = 1 + (first != 0), int(first in met.codes)
            if first != 0:
                second = _run(here, "run", workload.job(name, **keys))
                right += second == 0
                problems += [] if second == 0 else [f"the resume ended with {second}: {_last(here)}"]
            cost = time.monotonic() - began - job.seconds
            differ = differences(workload.outcome(name), job.expected) if right == runs else "not finished"
            identical = not differ
            problems += [] if identical else [differ]
            problems += _readers(workload.output(name), complete=True) if identical else []
            predicted = here.predicted()
            wait_for(lambda: not here.processes(), 30)
            left = [f"process {pid}" for pid in here.processes()]
            left += [name for name in here.left_files() if name != FILLER]
            (workload.folder / f"{name}.yaml").unlink()
    return Trial(
        section="disks",
        fault=fault,
        seed=seed,
        runs=runs,
        ended_right=right,
        identical=identical,
        predicted=job.tiles,
        repeated=sum(count - 1 for count in predicted.values()),
        cost_s=round(cost, 1),
        left=tuple(left),
        found="; ".join(problems),
        note=f"first run ended with {first}",
    )


@contextlib.contextmanager
def tempfolder(here: Place) -> Iterator[Path]:
    """Beside the place's own temporary folder; goes with the place."""
    folder = here.folder.with_name("d")
    folder.mkdir()
    yield folder


def _first(here: Place, workload: Workload, name: str, keys: dict[str, object], met: Met) -> int:
    process = start(here, "run", workload.job(name, **keys), within=met.before, **(met.faults or {}))
    if met.during is not None:
        wait_for(lambda: len(here.predicted()) > 0 or process.poll() is not None, 300)
        met.during()
    return _wait(here, process)


def _run(here: Place, *arguments: object) -> int:
    return _wait(here, start(here, *arguments))


def _wait(here: Place, process: "subprocess.Popen[str]") -> int:
    try:
        return process.wait(MOST_SECONDS)
    except subprocess.TimeoutExpired:
        kill(here.processes())
        process.wait()
        return -9


def _last(here: Place) -> str:
    lines = said(here).strip().splitlines()
    return lines[-1] if lines else "nothing said"


def _problems(here: Place, met: Met, code: int) -> Iterator[str]:
    """What of the first run is not as promised."""
    text = said(here)
    if code not in met.codes:
        yield f"the run ended with {code}: {_last(here)}"
    if "Traceback" in text:
        yield "a traceback was printed"
    if code not in (0, 3) and met.names not in _last(here):
        yield f"the message does not name {met.names}: {_last(here)}"
    if met.says not in text:
        yield f"{met.says!r} was not said"


def _readers(output: str, *, complete: bool = False, blamed: bool = False) -> list[str]:
    """Commands that only read, on the disk as it is; nothing may be quarantined, nothing recorded damaged."""
    found = []
    for command in (("status",), ("verify",)):
        done = subprocess.run([BATCHSEG, *command, output], capture_output=True, text=True, timeout=600)
        nothing_yet = done.returncode == 2 and not complete
        if done.returncode != 0 and not nothing_yet:
            found.append(f"{command[0]} ended with {done.returncode}: {(done.stderr + done.stdout)[-300:]}")
        if "quarantined:" in done.stdout or ("failed:" in done.stdout and not blamed):
            found.append(f"blamed: {done.stdout.strip().splitlines()[-1]}")
    return found


def _full(scene: Scene) -> Iterator[Met]:
    """An output's disk that is too small by chance."""
    size = between(scene.chance, 16 * 2**10, round(1.5 * scene.job.used))
    with small_disk(scene.folder, f"size={size // 1024}k") as disk:
        yield Met(scene.folder, names=str(scene.folder), disk=disk)


def _out_of_files(scene: Scene) -> Iterator[Met]:
    """Inodes."""
    files = scene.chance.randint(5, 2 * scene.job.files)
    with small_disk(scene.folder, f"size=1g,nr_inodes={files}") as disk:
        yield Met(scene.folder, names="files (inodes) free", disk=disk)


def _fills_up(scene: Scene) -> Iterator[Met]:
    """Somebody else's file takes all the room after a while."""
    with small_disk(scene.folder, "size=8m") as disk:
        yield Met(
            scene.folder,
            names=str(scene.folder),
            disk=disk,
            during=_later(scene, lambda: _fill(scene.folder)),
            faults={"slow": 0.02},
        )


def _small_ledger(scene: Scene) -> Iterator[Met]:
    size = between(scene.chance, 8 * 2**10, 128 * 2**10)
    with small_disk(scene.folder / f"trial-{os.getpid()}" / "_batchseg", f"size={size // 1024}k") as disk:
        yield Met(scene.folder, names="_batchseg", disk=disk)


def _read_only(scene: Scene) -> Iterator[Met]:
    with small_disk(scene.folder, "ro") as disk:
        yield Met(scene.folder, names="Read-only file system", disk=disk, codes=(5,))


def _turns_read_only(scene: Scene) -> Iterator[Met]:
    """As ext4 does after errors."""
    with small_disk(scene.folder, "size=1g") as disk:
        yield Met(
            scene.folder,
            names="Read-only file system",
            disk=disk,
            during=_later(scene, disk.turn_read_only),
            faults={"slow": 0.02},
        )


def _later(scene: Scene, what: Callable[[], None]) -> Callable[[], None]:
    """After a random part of the work."""
    tiles = scene.chance.randrange(scene.job.tiles)

    def do() -> None:
        wait_for(lambda: len(scene.here.predicted()) >= tiles, 120)
        what()

    return do


def _fill(folder: Path) -> None:
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _fails_to_sync(scene: Scene) -> Iterator[Met]:
    """fsync says EIO once, as it does after a write that the kernel could not finish."""
    number = scene.chance.randrange(2, 9)
    yield Met(scene.folder, names="Input/output error", faults={"fsync_eio": number})


def _slow(scene: Scene) -> Iterator[Met]:
    """Each fsync takes a while, each published file as well."""
    yield Met(scene.folder, faults={"fsync_seconds": round(scene.chance.uniform(0.05, 0.4), 2)}, codes=(0,))


def _full_temporary(scene: Scene) -> Iterator[Met]:
    """Of Ray: logs, sockets, spilled objects."""
    size = between(scene.chance, 256 * 2**10, 16 * 2**20)
    with small_disk(scene.here.folder, f"size={size // 1024}k") as disk:
        yield Met(scene.folder, names=str(scene.here.folder), disk=disk)


def _full_temporary_in_mid_run(scene: Scene) -> Iterator[Met]:
    """Objects are spilled to it from the first on."""
    with small_disk(scene.here.folder, "size=64m") as disk:
        yield Met(
            scene.folder,
            names=str(scene.here.folder),
            disk=disk,
            during=_later(scene, lambda: _fill(scene.here.folder)),
            faults={"slow": 0.02, "spill": 1},
        )


def _full_cache(scene: Scene) -> Iterator[Met]:
    size = between(scene.chance, 4 * 2**10, 2 * 2**20)
    with small_disk(scene.folder / "cache", f"size={size // 1024}k") as disk:
        yield Met(
            scene.folder, names=str(disk.folder), disk=disk, faults={"cache": disk.folder}, codes=(0, 5)
        )


def _small_shared_memory(scene: Scene) -> Iterator[Met]:
    """As in a container."""
    with small_disk(SHARED, "size=64m"):
        yield Met(scene.folder, codes=(0,), says="--shm-size=")


def _full_shared_memory(scene: Scene) -> Iterator[Met]:
    with small_disk(SHARED, "size=400m") as disk:
        yield Met(
            scene.folder,
            names=str(SHARED),
            disk=disk,
            during=_later(scene, lambda: _fill(SHARED)),
            faults={"slow": 0.02},
        )


UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""root heeds the modes of files then."""


def _forbidden(scene: Scene) -> Iterator[Met]:
    """An output that may not be written: nothing is started, so it is the configuration that is wrong."""
    scene.folder.chmod(0o555)
    yield Met(
        scene.folder,
        names="Permission denied",
        before=UNPRIVILEGED,
        mend=lambda: scene.folder.chmod(0o755),
        codes=(2,),
    )


def _becomes_forbidden(scene: Scene) -> Iterator[Met]:
    def forbid(mode: int) -> None:
        for name in ("ledger", "fragments"):
            for folder in scene.folder.glob(f"*/_batchseg/{name}"):
                folder.chmod(mode)

    yield Met(
        scene.folder,
        names="Permission denied",
        before=UNPRIVILEGED,
        during=_later(scene, lambda: forbid(0o555)),
        mend=lambda: forbid(0o755),
        faults={"slow": 0.02},
    )


def _forbidden_input(scene: Scene) -> Iterator[Met]:
    """One source that may not be read: it failed, and is tried again by the next run."""
    sources = sorted((scene.job.workload.folder / "in").iterdir())
    source = sources[scene.chance.randrange(len(sources))]
    source.chmod(0)
    try:
        yield Met(
            scene.folder, before=UNPRIVILEGED, mend=lambda: source.chmod(0o644), codes=(3,), says=source.name
        )
    finally:
        source.chmod(0o644)


FAULTS: dict[str, tuple[tuple[Kind, ...], str, int, Fault]] = {
    "output's disk too small": (("scenes", "photographs"), "inline", 24, _full),
    "output's disk too small, on Ray": (("scenes", "photographs"), "ray", 4, _full),
    "output's disk without files (inodes)": (("scenes", "photographs"), "inline", 10, _out_of_files),
    "output's disk fills up in mid-run": (("scenes", "photographs"), "inline", 10, _fills_up),
    "output's disk fills up in mid-run, on Ray": (("scenes", "photographs"), "ray", 4, _fills_up),
    "ledger's disk too small": (("scenes", "photographs"), "inline", 8, _small_ledger),
    "output's disk is read-only": (("scenes", "photographs"), "inline", 2, _read_only),
    "output's disk turns read-only": (("scenes", "photographs"), "inline", 6, _turns_read_only),
    "output may not be written": (("scenes", "photographs"), "inline", 2, _forbidden),
    "output may not be written any more": (("scenes", "photographs"), "inline", 4, _becomes_forbidden),
    "an input may not be read": (("scenes", "photographs"), "inline", 2, _forbidden_input),
    "fsync fails with EIO": (("scenes", "photographs"), "inline", 6, _fails_to_sync),
    "a slow disk": (("scenes", "photographs"), "inline", 2, _slow),
    "temporary folder too small for Ray": (("scenes", "photographs"), "ray", 4, _full_temporary),
    "Ray's spill folder fills up in mid-run": (("scenes", "scenes"), "ray", 3, _full_temporary_in_mid_run),
    "model cache too small": (("scenes", "photographs"), "inline", 6, _full_cache),
    "/dev/shm of 64 MB": (("scenes", "photographs"), "ray", 2, _small_shared_memory),
    "/dev/shm fills up in mid-run": (("scenes", "photographs"), "ray", 3, _full_shared_memory),
}
