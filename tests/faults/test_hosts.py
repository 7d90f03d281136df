"""Hosts that are lost in mid-run, in network namespaces; the rest of the section is `make faults`."""

import random
from pathlib import Path

import pytest

from faults import hosts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scenes", "photographs"])
@pytest.mark.parametrize("case", hosts.CASES, ids=lambda case: case.fault)
def test_what_a_cluster_loses_is_done_by_others(tmp_path: Path, case: hosts.Case, kind: hosts.Kind) -> None:
    if why := hosts.missing():
        pytest.skip(why)
    trial = hosts.trial(tmp_path, case, kind, 1, random.Random(1))
    assert trial.kept_promises, trial
