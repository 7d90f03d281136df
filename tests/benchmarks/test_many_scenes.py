"""benchmarks.many_scenes: scenes that are made, and steps whose sum is what the run took."""

import doctest
from pathlib import Path

import pytest
import rasterio
from noted_runs import make_run

from benchmarks import many_scenes


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(many_scenes).attempted
    assert not doctest.testmod(many_scenes).failed


def test_scenes_are_made_once_and_no_more_than_wanted(tmp_path: Path) -> None:
    many_scenes.make_scenes(tmp_path, 205)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.tif")}
    assert len(made) == 205
    many_scenes.make_scenes(tmp_path, 203)
    left = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.tif")}
    assert len(left) == 203
    assert left.items() <= made.items()
    with rasterio.open(min(left)) as dataset:
        assert (dataset.count, dataset.shape) == (4, (96, 112))


def test_steps_add_up_to_what_all_processes_took() -> None:
    run = make_run()
    steps = many_scenes.cpu_by_step(run)
    assert sum(steps.values()) == pytest.approx(run.meter.between(100.5, 116.0))
    assert steps["listing"] == pytest.approx(3.6)
    assert steps["header"] == pytest.approx(2.7)
    assert steps["lease: network"] == 12.5
    assert steps["commit"] == 0.05
    assert steps["finish"] == 0.3
