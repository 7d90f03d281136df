"""Headers become jobs while leases run, and what all of them would have shown is still told or refused."""

import contextlib

import pytest
from factories import make_config, make_recipe, make_scene, make_source
from planned_scenes import AREA_CONFIG, area, placed, planner_of, scene, triage_of
from scene_runs import Run

from batchseg.driver import intake as module
from batchseg.driver.events import Note, Replanned
from batchseg.driver.intake import FIRST, Intake, sample_rows
from batchseg.errors import ConfigError, StoppedError
from batchseg.inputs.source import Refusal
from batchseg.output.ledger import Ledger

HERE, ELSEWHERE = area(5, 52, 6, 53), area(52.0, 5.0, 52.2, 5.2)


class Took:
    """An intake over headers that a test makes up, until all of them came."""

    def __init__(self, folder, headers, recipe=None, config=None, done=0):
        self.events, self.recipe = [], recipe or make_recipe()
        ledger = Ledger(str(folder / "out"))
        by_id = {header.source.source_id: header for header in headers}
        triaged = triage_of([header.source for header in headers], ledger, self.recipe)
        object.__setattr__(triaged, "done", done)

        def read(sources):
            return (by_id[source.source_id] for source in sources)

        stopped = [None]
        self.stopped = stopped
        self.intake = Intake(
            config or make_config(), triaged, self.recipe, read, self.events.append, lambda: stopped[0]
        )
        self.planner = planner_of(ledger, recipe=self.recipe)

    def begin(self):
        self.looked_at = self.intake.gather(lambda: True)
        self.plan = self.intake.begin(self.planner)
        return self

    def go(self):
        with contextlib.closing(self.intake):
            self.begin()
            self.jobs, self.refused = [*self.plan.jobs], [*self.plan.refusals]
            while self.intake.goes_on:
                taken = self.intake.take(50, 1.0)
                self.jobs += taken.jobs
                self.refused += taken.refused
        return self

    def ids(self):
        return [job.scene.source.source_id for job in self.jobs]


def scenes(count, **changes):
    return [make_scene(27, 43, source=make_source(f"{n:04d}.tif"), **changes) for n in range(count)]


def misfit(name):
    return make_scene(source=make_source(name), bands=5)


@pytest.mark.parametrize("count", [1, FIRST, 3 * FIRST])
def test_all_scenes_come_and_counts_become_exact(tmp_path, count):
    took = Took(tmp_path, scenes(count)).go()
    assert sorted(took.ids()) == [f"{n:04d}.tif" for n in range(count)]
    assert len(took.plan.jobs) >= min(count, FIRST)
    tiles = sum(job.grid.tiles.count for job in took.jobs)
    assert (took.intake.numbers.tiles, took.intake.tiles) == (tiles, 0)
    first = tiles // count * count
    assert first + sum(event.tiles for event in took.events if isinstance(event, Replanned)) == tiles


def test_values_are_looked_at_in_scenes_all_over_the_archive(tmp_path):
    took = Took(tmp_path, scenes(600)).begin()
    took.intake.close()
    assert [header.source.source_id for header in took.looked_at] == ["0100.tif", "0300.tif", "0500.tif"]


def test_those_that_failed_are_not_the_first_to_be_read(tmp_path):
    took = Took(tmp_path, scenes(9))
    triaged = took.intake._triaged
    object.__setattr__(triaged, "failed", 6)
    assert sample_rows(triaged).tolist() == [0, 1, 2]
    object.__setattr__(triaged, "failed", 9)
    assert sample_rows(triaged).tolist() == [1, 4, 7]


@pytest.mark.parametrize("count", [3, 200])
def test_a_job_that_fits_none_is_refused(tmp_path, monkeypatch, count):
    monkeypatch.setattr(module, "MOST_REFUSED", 100)
    with pytest.raises(ConfigError, match=r"fits none of its inputs: \d+.tif has 5 bands"):
        Took(tmp_path, [misfit(f"{n:04d}.tif") for n in range(count)]).go()


def test_misfits_are_held_back_until_one_fits(tmp_path):
    headers = [misfit(f"{n:04d}.tif") for n in range(500)]
    headers[450] = make_scene(source=make_source("0450.tif"))
    took = Took(tmp_path, headers).go()
    assert took.ids() == ["0450.tif"]
    assert len(took.refused) == 499
    assert {refusal.mismatch for refusal in took.refused} == {True}


def test_where_earlier_runs_did_some_nothing_is_held_back(tmp_path):
    took = Took(tmp_path, [misfit(f"{n:04d}.tif") for n in range(200)], done=1).go()
    assert len(took.refused) == 200


def test_an_area_that_meets_no_scene_is_refused_after_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_OUTSIDE", 20)
    headers = [placed(number) for number in range(90)]
    with pytest.raises(ConfigError, match="meets no scene, of 90: "):
        Took(tmp_path, headers, make_recipe(area=ELSEWHERE), AREA_CONFIG).go()


def test_scenes_outside_the_area_are_put_aside_until_it_meets_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_OUTSIDE", 20)
    far = [scene(f"{number:03d}.tif", crs="EPSG:32701") for number in range(300)]
    took = Took(tmp_path, [*far, placed(0)], make_recipe(area=HERE), AREA_CONFIG).go()
    assert sorted(took.ids()) == sorted(header.source.source_id for header in [*far, placed(0)])
    assert sum(job.is_outside for job in took.jobs) == 300


def test_what_later_headers_show_is_told_when_they_come_and_once(tmp_path):
    plain = [scene(f"{n:04d}.tif") for n in range(600)]
    for number in (400, 550):
        plain[number] = scene(f"{number:04d}.tif", crs=None)
    took = Took(tmp_path, plain).go()
    (line,) = took.intake.warnings
    assert "place: nothing says where 1 of " in line
    assert "(0400.tif)" in line
    told = [event.text for event in took.events if isinstance(event, Note)]
    assert told == [f"warning: {line}"]


def test_a_larger_shard_that_comes_later_raises_the_bound_of_memory(tmp_path):
    headers = scenes(300)
    headers[200] = make_scene(4000, 4000, source=make_source("0200.tif"))
    took = Took(tmp_path, headers, config=make_config(max_in_flight=1000))
    before = took.begin().intake.numbers.in_flight_bytes
    bounds = []
    while took.intake.goes_on:
        bounds.append(took.intake.take(50, 1.0).in_flight_bytes)
    assert max(bounds) > before


def test_a_stop_is_heard_while_headers_are_awaited(tmp_path):
    took = Took(tmp_path, scenes(3))
    took.stopped[0] = "stopped by SIGTERM"
    with pytest.raises(StoppedError, match="SIGTERM"):
        took.intake.gather(lambda: False)
    took.intake.close()


def test_a_run_does_all_that_comes_and_records_what_is_refused(tmp_path):
    headers = scenes(100)
    for number in (70, 80, 90):
        headers[number] = Refusal(source=headers[number].source, reason="cut off")
    run = Run(tmp_path / "out", [])
    took = Took(tmp_path, headers, run.recipe)
    with contextlib.closing(took.intake):
        took.begin()
        run.loop.run(took.plan.jobs, (), took.intake)
    statuses = run.statuses()
    assert len(statuses) == 100
    refused = [name for name, status in statuses.items() if status == "quarantined"]
    assert refused == ["0070.tif", "0080.tif", "0090.tif"]
    assert run.loop.tally.done == 97


def test_a_storage_that_gives_no_more_headers_ends_the_run(tmp_path):
    headers = scenes(300)
    headers[200:] = [
        Refusal(source=header.source, reason="no answer", transient=True) for header in headers[200:]
    ]
    run = Run(tmp_path / "out", [])
    took = Took(tmp_path, headers, run.recipe)
    with contextlib.closing(took.intake):
        took.begin()
        with pytest.raises(StoppedError, match="3 sources in a row failed alike"):
            run.loop.run(took.plan.jobs, (), took.intake)
