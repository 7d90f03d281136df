"""Scenes that are predicted: those that wait for their last records, and those that are being finished."""

from collections.abc import Callable

from batchseg.driver.scene_queue import SceneWork, outside_record
from batchseg.driver.tasks import Executor, FinishTask, finish_limit
from batchseg.job.recipe import Recipe


class SceneFinishes:
    """Finishes that wait, and those under way.

    A mask is never made of fragments that the ledger does not know: a finish starts after the commit of its
    scene's last shards.

    Args:
        executor: where finishes run.
        recipe: pixel settings.
        epoch: of the lock, which is looked at before a mask is replaced.
        usual_class: class of CPU that records of scenes carry which no predictor took.
        timeout: seconds that a step may take; a large scene's finish may take more.
        clock: seconds.
    """

    def __init__(
        self,
        executor: Executor,
        recipe: Recipe,
        *,
        epoch: int,
        usual_class: str,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._executor, self._recipe, self._epoch = executor, recipe, epoch
        self._usual_class, self._timeout, self._clock = usual_class, timeout, clock
        self._waiting: list[SceneWork] = []
        self._under_way: dict[str, tuple[SceneWork, FinishTask, float]] = {}
        """Scenes, and when their finish is given up."""

    @property
    def waits(self) -> bool:
        """Whether a scene waits for its last shards to be recorded."""
        return bool(self._waiting)

    def add(self, work: SceneWork) -> None:
        """A scene whose shards are all there."""
        work.finishing = True
        self._waiting.append(work)

    def start(self) -> None:
        """Finish the scenes that wait. All their records are committed."""
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            cpu_class = work.cpu_class or self._usual_class
            outside = [outside_record(work.job, shard, self._recipe, cpu_class) for shard in work.outside]
            ordered = tuple(sorted([*work.records, *outside], key=lambda record: record.window))
            task = FinishTask(scene=work.job.scene, shards=ordered, epoch=self._epoch)
            self._under_way[work.source_id] = work, task, self._clock() + self.limit(work)
            self._executor.submit(task)

    def pop(self, source_id: str) -> SceneWork | None:
        """The scene whose finish came back; None where it was given up before."""
        found = self._under_way.pop(source_id, None)
        return None if found is None else found[0]

    def late(self, now: float) -> list[SceneWork]:
        """Scenes whose finish gave no answer in time."""
        return [work for work, _, until in self._under_way.values() if now > until]

    def give_up(self, work: SceneWork) -> None:
        _, task, _ = self._under_way.pop(work.source_id)
        self._executor.abandon(task)

    def limit(self, work: SceneWork) -> float:
        """Seconds after which the scene's finish is given up."""
        return finish_limit(work.job.scene, self._timeout)
