"""What the processor and the environment say of bf16 and of the last bits."""

import os

import pytest

from batchseg.system import machine
from batchseg.system.machine import cpu_class, has_fast_bf16


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


def test_paddle_agrees_on_this_machine() -> None:
    import paddle

    assert has_fast_bf16() == bool(paddle.base.core.supports_bfloat16_fast_performance())


def test_memory_is_that_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CONTAINER_LIMITS", ())
    whole = machine.memory_bytes()
    assert whole > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "limit_in_bytes").write_text("9223372036854771712\n")
    limits = tuple(tmp_path / name for name in ("memory.max", "limit_in_bytes", "absent"))
    monkeypatch.setattr(machine, "CONTAINER_LIMITS", limits)
    assert machine.memory_bytes() == whole
    (tmp_path / "memory.max").write_text("600000000\n")
    assert machine.memory_bytes() == 600_000_000
    assert machine.memory_share() * 3 * len(os.sched_getaffinity(0)) <= 600_000_000
