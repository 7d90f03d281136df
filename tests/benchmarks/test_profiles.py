"""benchmarks.profiles: what is the network's, what each step's, and what is left of which process."""

import doctest
from pathlib import Path

import pytest
from noted_runs import make_run

from benchmarks import profiles


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(profiles).attempted
    assert not doctest.testmod(profiles).failed


def test_work_is_all_that_the_processes_took() -> None:
    run = make_run()
    lines = {line.name: line.cpu for line in profiles.work(run)}
    assert sum(lines.values()) == pytest.approx(run.cpu) == pytest.approx(18.0)
    assert lines["network"] == 12.5
    assert lines["finish"] == 0.3
    assert lines["other processes (fresh ones, Ray's own)"] == pytest.approx(2.0)
    assert lines["driver, all else"] == pytest.approx(0.95)
    assert lines["predictors, all else (threads of GDAL and of the executor)"] == pytest.approx(
        15 - 12.5 - 1.35
    )


def test_start_and_end_are_phases_of_all_processes() -> None:
    run = make_run()
    assert [(line.name, line.seconds) for line in profiles.start(run)] == [
        ("checking the model and listing inputs", 2.0),
        ("starting predictors, reading headers", 1.5),
    ]
    tables, leaving = profiles.end(run)
    assert (tables.seconds, leaving.seconds) == (pytest.approx(0.5), pytest.approx(2.0))
    assert leaving.cpu == pytest.approx(3.6)


def test_a_page_shows_the_run_of_median_time(tmp_path: Path) -> None:
    path = profiles.save_page(tmp_path / "profiles" / "x.md", "x", [make_run()])
    text = path.read_text()
    assert text.startswith("# x: where the time outside the network goes\n")
    assert "First tile 4.50 s after the command. Tail: 1 s" in text.replace("\n", " ")
    assert "| **all outside the network** | 5.50 | 1.1000 | 27.5% |" in text
    assert "| idle, or others' | 2.00 | 0.4000 | 10.0% |" in text
    assert "| idle at the end | 4.00 | 20.0% |" in text
    assert max(len(line) for line in text.splitlines()) <= 110
