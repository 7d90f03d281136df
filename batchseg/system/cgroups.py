"""What a container, a pod, a batch job or a unit may take of its machine: limits of control groups.

Of both versions, as cgroups(7) has them. A group is bound by its own limits and by those of all groups above
it, so the smallest on the way up counts; a container may see its own group as the root of all.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")

VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and the file that says so."""

    value: float
    """CPUs, or bytes."""
    file: Path


def cpu_limit(process: Path = PROCESS) -> Limit | None:
    """CPU time per time that this process and those beside it in its groups may use, in CPUs.

    Args:
        process: its folder of proc(5).
    """
    return _smallest(process, "cpu", {"cpu.max": _max_cpus, "cpu.cfs_quota_us": _quota_cpus})


def memory_limit(process: Path = PROCESS) -> Limit | None:
    """Bytes that the processes of its groups may take together; above `high` they are slowed down."""
    files = ("memory.max", "memory.high", "memory.limit_in_bytes")
    return _smallest(process, "memory", dict.fromkeys(files, _bytes))


def memory_kills(process: Path = PROCESS, host: Path = VMSTAT) -> int:
    """Processes so far that the kernel ended for want of memory: of its group, or else of the machine."""
    for folder in _folders(process, "memory"):
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, LookupError, ValueError):
                return _number_of(folder / name)
    with contextlib.suppress(OSError, LookupError, ValueError):
        return _number_of(host)
    return 0


def _number_of(file: Path, key: str = "oom_kill") -> int:
    words = dict(line.split(maxsplit=1) for line in file.read_text(encoding="ascii").splitlines())
    return int(words[key])


def _smallest(process: Path, controller: str, files: dict[str, Callable[[Path], float]]) -> Limit | None:
    found = []
    for folder in _folders(process, controller):
        for name, read in files.items():
            with contextlib.suppress(OSError, ValueError):  # ValueError: the word max
                found.append(Limit(read(folder / name), folder / name))
    return min(found, key=lambda limit: limit.value, default=None)


def _max_cpus(file: Path) -> float:
    quota, period = file.read_text(encoding="ascii").split()
    return int(quota) / int(period)


def _quota_cpus(file: Path) -> float:
    quota = int(file.read_text(encoding="ascii"))
    period = int(file.with_name("cpu.cfs_period_us").read_text(encoding="ascii"))
    if quota <= 0:
        msg = "no limit"
        raise ValueError(msg)
    return quota / period


def _bytes(file: Path) -> float:
    return int(file.read_text(encoding="ascii"))


def _folders(process: Path, controller: str) -> Iterator[Path]:
    """The process's groups, wherever they are mounted: its own first, then the one around it, and so on."""
    try:
        groups = (process / "cgroup").read_text(errors="replace").splitlines()
        mounts = (process / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    paths: dict[str, str] = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # of version 2 the name is empty
    for line in mounts:
        mount, _, system = line.partition(" - ")
        root, point = (_unescaped(word) for word in mount.split(" ")[3:5])
        kind, _, options = system.split(" ")[:3]
        if kind == "cgroup2":
            yield from _upwards(Path(point), root, paths.get("", root))
        elif kind == "cgroup" and controller in options.split(","):
            yield from _upwards(Path(point), root, paths.get(controller, root))


def _upwards(point: Path, root: str, path: str) -> Iterator[Path]:
    """From a group's folder to where the mount of `root` begins. One that lies elsewhere cannot be seen."""
    inside = PurePosixPath(path)
    folder = point
    if inside.is_relative_to(root) and ".." not in inside.parts:
        folder = point / inside.relative_to(root)
    while folder != point:
        yield folder
        folder = folder.parent
    yield point


def _unescaped(word: str) -> str:
    """As mountinfo has blanks and backslashes of paths: by their octal codes."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)
