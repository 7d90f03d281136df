"""Hosts that are lost in mid-run, in network namespaces; the rest of the section is `make faults`."""

import random
from pathlib import Path

import pytest

from faults import hosts


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all trials: what an undisturbed run gives is found out once."""
    return tmp_path_factory.mktemp("hosts")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scenes", "photographs"])
@pytest.mark.parametrize("case", hosts.CASES, ids=lambda case: case.fault)
def test_what_a_cluster_loses_is_done_by_others(work: Path, case: hosts.Case, kind: hosts.Kind) -> None:
    if why := hosts.missing():
        pytest.skip(why)
    trial = hosts.trial(work, case, kind, 1, random.Random(1))
    assert trial.kept_promises, str(trial)
