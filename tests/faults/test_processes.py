"""Processes that misbehave, quickly: whole runs without Ray, where one step goes wrong for one source."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.commands import Place, run, said
from faults.outcome import differences
from faults.processes import FAULTS, Case, _blamed, _without
from faults.workload import Workload, make_workload, place, undisturbed

INLINE = {"executor": "inline", "engine": "paddle", "precision": "fp32", "bake": False, "workers": 1}


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("processes")
    return make_workload("photographs", folder, size=1, keys=INLINE | {"lease_timeout": 8})


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


def test_faults_are_named_once_and_of_both_kinds() -> None:
    names = [name for name, _, _, _ in FAULTS]
    assert len(set(names)) == len(names)
    assert {kind for _, kind, _, _ in FAULTS} == {"scenes", "photographs"}


@pytest.mark.slow
def test_a_batch_that_memory_refuses_is_halved_and_no_pixel_changes(workload: Workload, here: Place) -> None:
    whole, _, _ = undisturbed(workload)
    assert run(here, "run", workload.job("halved", batch_size=8), room=3, says="onnxruntime") == 0, said(here)
    assert differences(workload.outcome("halved"), whole) == ""


@pytest.mark.slow
def test_a_tile_that_memory_refuses_ends_the_run_and_blames_no_source(
    workload: Workload, here: Place
) -> None:
    assert run(here, "run", workload.job("none"), room=0) == 5
    assert "no memory for 1 tile of 64 pixels: ResourceExhaustedError: Out of memory error" in said(here)
    assert run(here, "run", workload.job("none")) == 0  # nothing was recorded against anybody


@pytest.mark.slow
def test_a_decoder_that_hangs_inline_is_found(workload: Workload, here: Place) -> None:
    whole, _, _ = undisturbed(workload)
    case = Case(workload=workload, random=random.Random(0), guilty="0003")
    assert run(here, "run", workload.job("hung"), at="decode hang 0003") == 3, said(here)
    seen = workload.outcome("hung")
    assert _blamed(seen, case)
    assert differences(_without(seen, case), _without(whole, case)) == ""


@pytest.mark.slow
def test_a_network_that_hangs_inline_ends_the_run(workload: Workload, here: Place, tmp_path: Path) -> None:
    assert run(here, "run", workload.job("stuck"), at="predict hang 0003") == 5
    assert "executor: auto" in said(here)


def test_an_error_that_nobody_foresaw_is_its_sources_own(tmp_path: Path, here: Place) -> None:
    workload = make_workload("scenes", tmp_path, size=2, keys=INLINE)
    assert run(here, "run", workload.job("odd"), defect="scene-00") == 3, said(here)
    seen = workload.outcome("odd")
    case = Case(workload=workload, random=random.Random(0), guilty="scene-00")
    assert _blamed(seen, case)
    assert "masks/scene-01.tif" in seen.masks
    assert "reading it failed: RuntimeError" in said(here)
    assert "Traceback" not in said(here)
