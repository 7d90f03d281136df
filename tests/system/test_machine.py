"""What the processor and the environment say of bf16 and of the last bits."""

import os
from pathlib import Path

import pytest

from batchseg.system import machine
from batchseg.system.cgroups import Limit
from batchseg.system.machine import cpu_class, has_fast_bf16, has_fast_int8


@pytest.mark.parametrize(
    ("flags", "limit", "name", "fast"),
    [
        (["sse4_1", "avx", "avx2", "avx512f", "avx512_bf16", "amx_bf16"], "", "amx_bf16", True),
        (["sse4_1", "avx", "avx2", "avx512f", "avx512_bf16"], "DEFAULT", "avx512_bf16", True),
        (["avx2", "avx512f", "avx512_bf16"], "AVX512_CORE", "avx512_bf16:max=avx512_core", False),
        (["avx2", "avx512_bf16"], "AVX512_CORE_BF16", "avx512_bf16:max=avx512_core_bf16", True),
        (["avx", "avx2"], "", "avx2", False),
        ([], "", "other", False),
    ],
)
def test_the_class_is_the_widest_instruction_set(
    flags: list[str], limit: str, name: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_flags", lambda: flags)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert cpu_class() == name
    assert has_fast_bf16() == fast


@pytest.mark.parametrize(
    ("flags", "limit", "fast"),
    [
        (["avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"], "", True),
        (["avx2", "avx_vnni"], "AVX2_VNNI", True),
        (["avx512f", "avx512_vnni"], "AVX512_CORE_BF16", True),
        (["avx512f", "avx512_vnni"], "AVX512_CORE", False),
        (["avx2", "avx512f"], "", False),
        (["avx2"], "AVX2_VNNI", False),
    ],
)
def test_int8_is_fast_where_instructions_add_it_up(
    flags: list[str], limit: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_flags", lambda: flags)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert has_fast_int8() == fast


def test_paddle_agrees_on_this_machine() -> None:
    import paddle

    assert has_fast_bf16() == bool(paddle.base.core.supports_bfloat16_fast_performance())


@pytest.mark.parametrize(
    ("cpus", "gib", "cores", "predictors", "said"),
    [
        (None, None, 8, 8, ""),
        (1.5, None, 2, 2, "1.5 of 8 CPUs (/g/cpu.max)"),
        (0.25, None, 1, 1, "0.25 of 8 CPUs (/g/cpu.max)"),
        (16.0, 64, 8, 8, ""),
        (None, 3, 8, 3, "3.0 of 32.0 GiB of memory (/g/memory.max)"),
        (2.0, 0.5, 2, 1, "2 of 8 CPUs (/g/cpu.max), 0.5 of 32.0 GiB of memory (/g/memory.max)"),
    ],
)
def test_a_container_has_as_many_predictors_as_its_limits_allow(
    monkeypatch, cpus, gib, cores, predictors, said
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "_host_memory", lambda: 32 * 2**30)
    cpu = None if cpus is None else Limit(cpus, Path("/g/cpu.max"))
    memory = None if gib is None else Limit(gib * 2**30, Path("/g/memory.max"))
    monkeypatch.setattr(machine, "cpu_limit", lambda: cpu)
    monkeypatch.setattr(machine, "memory_limit", lambda: memory)
    assert (machine.core_count(), machine.predictor_count()) == (cores, predictors)
    assert machine.describe_limits() == said
    assert machine.memory_bytes() == min(32, gib or 32) * 2**30
    assert machine.memory_share() == machine.memory_bytes() // (3 * cores)
