"""What this machine's processor and allocator do to results and speed. Imports no engine."""

import ctypes
import math
import os
import time
from pathlib import Path

from batchseg.system.cgroups import cpu_limit, memory_limit

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Linux's names of instructions that multiply bf16 faster than fp32."""

INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni")
"""Of instructions that add up int8 products exactly: older ones do it in three steps, and saturate."""

PREDICTOR_BYTES = 2**30
"""Of a predictor's process, with what it has in flight: 0.4 to 0.7 GB were measured on CPUs."""


def cpu_class() -> str:
    """The instruction set that an engine will use here: it decides the last bits of a score."""
    limit = _isa_limit()
    # The first that is there. AMX is a class of its own: its bf16 sums differ from those of avx512_bf16.
    found = next(
        (isa for isa in (*BF16_FLAGS, "avx512f", "avx2", "avx", "sse4_1") if isa in _flags()), "other"
    )
    return f"{found}:max={limit}" if limit else found


def has_fast_bf16() -> bool:
    """Whether the processor has bf16 instructions and nothing forbids oneDNN to use them."""
    limit = _isa_limit()
    allowed = not limit or any(word in limit for word in ("bf16", "fp16", "amx", "all"))
    return allowed and any(flag in _flags() for flag in BF16_FLAGS)


def has_fast_int8() -> bool:
    """The same of int8. Where it is, all sums of int8 are equal, whatever the CPU class."""
    limit = _isa_limit()
    allowed = not limit or any(word in limit for word in ("vnni", "bf16", "fp16", "amx", "all"))
    return allowed and any(flag in _flags() for flag in INT8_FLAGS)


def _isa_limit() -> str:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").lower()
    return "" if limit in ("default", "all") else limit


def cpu_model() -> str:
    """The processor's name; empty where the system does not tell."""
    return _cpu_info("model name")


def _flags() -> list[str]:
    return _cpu_info("flags").split()


def _cpu_info(key: str) -> str:
    """Of the first processor."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as f:
            return next((line.split(":", 1)[1].strip() for line in f if line.startswith(key)), "")
    except OSError:
        return ""


def has_gpu_nodes() -> bool:
    """Whether the system has a device that may be a GPU for computing, working or not: NVIDIA's, or WSL's."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


def process_began() -> float:
    """When this process was started, of time.monotonic(); now, where the system does not tell."""
    try:
        ticks = _stat_of("self")[19]
        up = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        up = 0.0
    return time.monotonic() - up


def cpu_seconds_of_tree() -> float:
    """CPU time so far of this process, of those that it started, and of theirs; of ended ones as far as
    their parents asked how they ended."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = _stat_of(folder.name)
        except (OSError, ValueError):
            continue  # it has ended
        # Field 4 of proc(5) is the parent; 14 to 17 are utime, stime, cutime, cstime.
        parents[int(folder.name)], used[int(folder.name)] = fields[1], sum(fields[11:15])
    mine, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in mine} - mine
        mine, grown = mine | more, bool(more)
    return float(sum(used.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK"))


def _stat_of(pid: str) -> list[int]:
    """/proc/PID/stat behind the state, from field 4 on at index 1; the name may hold blanks."""
    text = Path("/proc", pid, "stat").read_text(encoding="ascii", errors="replace")
    return [0, *map(int, text.rpartition(")")[2].split()[1:])]


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_bytes() -> int:
    """Memory of this machine, or as much of it as the container may take."""
    limit = memory_limit()
    return _host_memory() if limit is None else min(_host_memory(), int(limit.value))


def core_count() -> int:
    """Cores that this process may use, or as many as it takes to use up the CPU time that it may have."""
    cores, limit = len(os.sched_getaffinity(0)), cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit.value)))


def predictor_count() -> int:
    """Predictors in processes of their own that this machine has room for: one per core.

    Fewer where a container has too little memory for as many.
    """
    if memory_bytes() >= _host_memory():
        return core_count()
    return max(1, min(core_count(), memory_bytes() // PREDICTOR_BYTES))


def describe_limits() -> str:
    """What of the machine may not be used, and which file says so; empty: all of it may be."""
    said = []
    cores, cpus, host, memory = len(os.sched_getaffinity(0)), cpu_limit(), _host_memory(), memory_limit()
    if cpus is not None and cpus.value < cores:
        said.append(f"{cpus.value:.3g} of {cores} CPUs ({cpus.file})")
    if memory is not None and memory.value < host:
        said.append(f"{memory.value / 2**30:.1f} of {host / 2**30:.1f} GiB of memory ({memory.file})")
    return ", ".join(said)


def memory_share() -> int:
    """Bytes that one thing may take while each core does another, and perhaps has two of them."""
    return memory_bytes() // (3 * core_count())


def keep_freed_memory() -> None:
    """Let malloc keep what Paddle's executor frees after every run.

    Without it each run returns its buffers to the system and faults them in again: 1.3 times the time
    per tile. Values: MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD, ARENA_MAX of mallopt(3).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1)):
            libc.mallopt(option, ctypes.c_int(value))


def give_back_freed_memory() -> None:
    """Give the system what malloc kept: beside Paddle's buffers, photographs of all sizes leave holes.

    Ten groups of 160 photographs of 2 megapixels left a process at 1.4 GiB, at 0.4 GiB with this.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
