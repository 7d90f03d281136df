"""Scenes come in while leases run: headers become jobs, and what is odd about them is told.

The first headers are looked at before anything is done, as they show a job that fits none of its inputs.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from batchseg.driver.events import Listener, Note, Replanned
from batchseg.driver.header_feed import ROWS, HeaderFeed, Rows, all_rows
from batchseg.driver.plan import (
    Estimate,
    Measured,
    Plan,
    Planner,
    Read,
    SceneJob,
    make_plan,
    refuse_unfit_job,
    told_apart,
    wanted_tiles,
)
from batchseg.driver.scene_area import refuse_area_elsewhere
from batchseg.driver.scene_warnings import SceneWarnings
from batchseg.driver.tasks import Stop
from batchseg.driver.triage import Triage
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.pixels.fit import mismatch
from batchseg.pixels.value_samples import SCENES

FIRST = 64
"""Headers that a run reads before it begins, where they come quickly."""

GRACE_SECONDS = 0.5
"""That it waits for them beside the predictors, once one scene is there to begin with."""

MOST_REFUSED = 1000
"""Headers that are held back while none fits: then the job is wrong, whatever the others are."""

MOST_OUTSIDE = 1000
"""Scenes outside the area that are kept while none meets it; of further ones the header is read again."""

LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Taken:
    """What came of some headers."""

    jobs: list[SceneJob] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    in_flight_bytes: int = 0
    """Bound of pixels and masks between reading and writing, as the largest shard so far has it."""


class Later(Protocol):
    """Scenes that are known by their rows alone when a run begins."""

    @property
    def goes_on(self) -> bool:
        """Whether more may come."""
        ...

    @property
    def tiles(self) -> int:
        """That they are likely to have."""
        ...

    def take(self, most: int, seconds: float) -> Taken:
        """At most so many of those whose headers are there; waits so long for the first.

        Raises:
            StoppedError: headers cannot be read.
        """
        ...


class Nothing:
    """All scenes are there from the beginning."""

    goes_on = False
    tiles = 0

    def take(self, most: int, seconds: float) -> Taken:
        return Taken()


def sample_rows(triaged: Triage) -> Rows:
    """Rows whose headers are read first, as values are looked at there: in the middles of equal parts, of
    those that did not fail when they were last tried."""
    count = triaged.todo.num_rows - triaged.failed or triaged.todo.num_rows
    parts = min(SCENES, count)
    return np.unique([(2 * part + 1) * count // (2 * parts) for part in range(parts)]).astype(np.int64)


class Intake:
    """The scenes of a run over all its headers.

    Args:
        config: the job.
        triaged: its sources.
        recipe: pixel settings.
        read: gives headers of sources in any order.
        emit: hears of warnings, and of what the run has to do, as that gets known.
        stop: asked often; a reason ends the run.
    """

    def __init__(
        self,
        config: JobConfig,
        triaged: Triage,
        recipe: Recipe,
        read: Callable[[Iterator[Source]], Iterator[Scene | Refusal]],
        emit: Listener,
        stop: Stop,
    ) -> None:
        self._config, self._triaged, self._recipe = config, triaged, recipe
        self._read, self._emit, self._stop = read, emit, stop
        self._samples = sample_rows(triaged)
        self._feed = self._feed_of(all_rows(self._samples, triaged.todo.num_rows))
        self._first: list[Read] = []
        self._fits = False
        """Whether a scene is there to begin with."""
        self._refused = 0
        self._outside = 0
        self._put_aside: list[int] = []
        """Rows of scenes outside the area that are not kept."""
        self._unread = triaged.todo.num_rows
        self._measured = Measured(recipe, cleans=bool(config.merge or config.sieve))
        self._told = SceneWarnings(recipe)
        self._planner: Planner | None = None

    def gather(self, ready: Callable[[], bool], most: int = FIRST) -> list[Scene | Refusal]:
        """Read the first headers, and give those whose values may be looked at.

        Args:
            ready: whether the predictors are.
            most: scenes that are enough.

        Raises:
            StoppedError: told to stop, or headers cannot be read.
        """
        until = None
        while not self._feed.is_over and len(self._first) - self._refused - self._outside < most:
            if reason := self._stop():
                raise StoppedError(reason)
            for row, header in self._feed.take(most, LOOK_SECONDS):
                self._sort_in(row, header)
            if not self._fits and self._refused >= MOST_REFUSED:
                break
            if ready() and (self._fits or self._triaged.done):
                until = until or time.monotonic() + GRACE_SECONDS
                if time.monotonic() > until:
                    break
        self._first.sort(key=lambda each: each[0])
        whole = self._feed.is_over and not self._put_aside
        chosen = [header for row, header in self._first if row in self._samples and not whole]
        return chosen if any(self._is_fit(each) for each in chosen) else [each for _, each in self._first]

    def _sort_in(self, row: int, header: Scene | Refusal) -> None:
        """Keep a header that came before the run's beginning."""
        if not self._is_fit(header):
            self._refused += 1
        elif isinstance(header, Scene) and self._is_outside(header):
            self._outside += 1
            if self._outside > MOST_OUTSIDE and not self._fits:
                self._put_aside.append(row)
                return
        else:
            self._fits = True
        self._first.append((row, header))

    def _is_fit(self, header: Scene | Refusal) -> bool:
        return isinstance(header, Scene) and mismatch(header, self._recipe) is None

    def _is_outside(self, scene: Scene) -> bool:
        if self._recipe.area is None or self._triaged.done:
            return False
        wanted, _ = wanted_tiles(scene, self._recipe)
        return wanted is not None and not any(wanted)

    def begin(self, planner: Planner, remedy: str = "") -> Plan:
        """What is known of the run by the first headers.

        Args:
            planner: makes jobs.
            remedy: what samples of the sources tell to write into the job, where none fits it.

        Raises:
            ConfigError: none of the sources fits the job, or meets its area.
        """
        plan = make_plan(self._triaged, self._first, planner)
        self._planner, self._first = planner, []
        refuse_unfit_job(plan, self._config, remedy)
        refuse_area_elsewhere(plan, self._recipe, self._config, beyond=len(self._put_aside))
        self._unread = plan.unread
        for job in plan.jobs:
            self._measured.add(job)
        self._measured.heard += len(plan.refusals)
        self._told.begin(plan)
        return plan

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the scenes so far."""
        return self._told.lines

    @property
    def goes_on(self) -> bool:
        return not self._feed.is_over or bool(self._put_aside)

    @property
    def tiles(self) -> int:
        return self.numbers.tiles - self._known_tiles

    @property
    def numbers(self) -> Estimate:
        """Of all scenes; of those that were not read, the mean of the others."""
        assert self._planner is not None  # noqa: S101  it has begun
        return self._measured.estimate(self._unread, self._planner, self._config.max_in_flight)

    @property
    def _known_tiles(self) -> int:
        assert self._planner is not None  # noqa: S101  it has begun
        return self._measured.estimate(0, self._planner, None).tiles

    def take(self, most: int, seconds: float) -> Taken:
        assert self._planner is not None  # noqa: S101  it has begun
        read = self._feed.take(most, seconds)
        if self._feed.is_over and self._put_aside:
            rows, self._put_aside = np.array(self._put_aside), []
            parts = np.array_split(rows, -(-len(rows) // ROWS))
            self._feed = self._feed_of(parts)
        if not read:
            return Taken()
        before = self.numbers
        scenes, refusals = told_apart(read, self._recipe)
        jobs = [self._planner.job(scene, int(self._triaged.stored[row])) for row, scene in scenes]
        for job in jobs:
            self._measured.add(job)
        self._measured.heard += len(refusals)
        self._unread -= len(read)
        came = Plan(triage=self._triaged, jobs=tuple(jobs), refusals=(), unread=self._unread)
        for line in self._told.add(came):
            self._emit(Note(text=f"warning: {line}"))
        now = self.numbers
        self._emit(Replanned(tiles=now.tiles - before.tiles, pixels=now.source_pixels - before.source_pixels))
        return Taken(
            jobs=jobs,
            refused=refusals,
            in_flight_bytes=now.in_flight_bytes,
        )

    def _feed_of(self, rows: Iterator[Rows] | list[Rows]) -> HeaderFeed:
        return HeaderFeed(self._read, self._triaged.todo, self._config, rows)

    def close(self) -> None:
        """No more headers are wanted."""
        self._feed.close()
