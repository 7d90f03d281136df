"""The predictor as a Ray actor, and how the actors of a run are made."""

from dataclasses import dataclass
from typing import Any

import ray

from batchseg.driver.executors.group_worker import group_worker
from batchseg.driver.executors.ray.tasks import RunContext, Where
from batchseg.driver.scene_worker import LeaseMasks, LeasePixels, predict_lease
from batchseg.driver.tasks import Failure, Group, GroupAnswer
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError
from batchseg.job.recipe import Product, Recipe
from batchseg.predict.predictor import load_predictor
from batchseg.system import storage
from batchseg.system.machine import cpu_class


class PredictorActor:
    """A process that holds a loaded network: it predicts leases, or does whole groups of photographs."""

    def __init__(self, recipe: Recipe, batch_size: int, output: str, product: Product, readers: int) -> None:
        self._recipe, self._batch_size = recipe, batch_size
        self._predictor = load_predictor(recipe, batch_size=batch_size)
        self._worker = group_worker(
            output,
            recipe,
            product,
            self._predictor,
            batch_size=batch_size,
            readers=readers,
            cpu_class=self.hello()[1],
        )

    def hello(self) -> tuple[str, str]:
        """Node id and CPU class."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, cpu_class() if self._recipe.device == "cpu" else self._recipe.facts.cpu_class

    def predict(self, pixels: LeasePixels | Failure) -> LeaseMasks | Failure:
        if isinstance(pixels, Failure):
            return pixels
        try:
            return predict_lease(self._predictor, self._recipe, pixels, self._batch_size)
        except BatchsegError as e:
            return Failure.of(e, "predict")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="predict", reason=f"predicting it: {telling_line(e)}")

    def do_group(self, where: Where, group: Group) -> GroupAnswer | Failure:
        """Photographs are read where they are predicted: their pixels cross no process."""
        assert self._worker is not None  # noqa: S101  groups come of photographs alone, which have one
        try:
            storage.adopt(where)
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  as above
            return Failure(kind="error", step="group", reason=f"predicting it: {telling_line(e)}")


remote_predictor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(PredictorActor)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorMaker:
    """Makes the predictors of a run."""

    context: RunContext
    device: str
    gpus: float
    """That each one reserves where the device is "gpu"; it may be a part of one."""
    batch_size: int
    readers: int
    """Threads of each that read and decode photographs ahead."""

    def make(self) -> Any:
        """A predictor that reserves its GPU, or its CPU."""
        if self.device == "gpu":
            return self._make(num_gpus=self.gpus, num_cpus=1)
        return self._make(num_gpus=0, num_cpus=1)

    def make_beside(self, **where: Any) -> Any:
        """A predictor for one lease alone, beside the others of a node: it reserves nothing.

        Args:
            where: options that name the node.
        """
        return self._make(num_gpus=0, num_cpus=0, **where)

    def _make(self, **options: Any) -> Any:
        of = self.context
        return remote_predictor.options(**options).remote(
            of.recipe, self.batch_size, of.output, of.product, self.readers
        )
