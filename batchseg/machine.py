"""What this machine's processor and allocator do to results and speed. Imports no engine."""

import ctypes
import os
from pathlib import Path

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Linux's names of instructions that multiply bf16 faster than fp32."""


def cpu_class() -> str:
    """The instruction set that an engine will use here: it decides the last bits of a score."""
    limit = _isa_limit()
    found = next(
        (isa for isa in (*BF16_FLAGS, "avx512f", "avx2", "avx", "sse4_1") if isa in _flags()), "other"
    )
    return f"{found}:max={limit}" if limit else found


def has_fast_bf16() -> bool:
    """Whether the processor has bf16 instructions and nothing forbids oneDNN to use them."""
    limit = _isa_limit()
    allowed = not limit or any(word in limit for word in ("bf16", "fp16", "amx", "all"))
    return allowed and any(flag in _flags() for flag in BF16_FLAGS)


def _isa_limit() -> str:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").lower()
    return "" if limit in ("default", "all") else limit


def _flags() -> list[str]:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as f:
            return next((line.split(":", 1)[1].split() for line in f if line.startswith("flags")), [])
    except OSError:
        return []


def has_gpu_nodes() -> bool:
    """Whether the system has a device that may be a GPU for computing, working or not: NVIDIA's, or WSL's."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


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
