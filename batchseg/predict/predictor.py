"""A loaded network and its guards: tiles in, one answer per tile out."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Session, engine, is_out_of_memory, telling_line
from batchseg.engines.graphs.derive import prepare_network
from batchseg.errors import ModelError, StoppedError
from batchseg.job.recipe import Recipe
from batchseg.job.settings import EngineName, Precision
from batchseg.models import resize
from batchseg.models.package import Network
from batchseg.system.timing import Stint, Stopwatch

BATCH_PIXELS, MOST_TILES = 512 * 512, 16
"""Of a batch of photographs where the job names no size. A call of a network takes 0.2 ms whatever it is
given, which tells with small tiles; of large ones batches give nothing on a CPU."""

BF16_BATCH = 2
"""Of a scene's tiles up to 512 x 512. Two of them at once took a twentieth less of a whole run than two one
after the other, and no more memory than one in fp32; in fp32 there was nothing to gain."""


def usual_batch(recipe: Recipe) -> int:
    """Tiles per run of the network for jobs that name no `batch_size`."""
    if recipe.fit is None:
        small = recipe.device == "cpu" and recipe.tile_size**2 <= BATCH_PIXELS
        return BF16_BATCH if recipe.precision == "bf16" and small else 1
    fitting = MOST_TILES if recipe.device == "gpu" else BATCH_PIXELS // recipe.tile_size**2
    return max(1, min(MOST_TILES, fitting))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the network says of one tile less its halo: of what is kept of it."""

    output: NDArray[Any]
    """(H, W) ids, or (K, H, W) scores."""
    confidence: NDArray[np.uint8] | None = None
    """(H, W), 255 x probability of the winning class, where the graph gives it."""


class Predictor:
    """One network for one recipe. May be called from any thread, one call at a time."""

    def __init__(self, recipe: Recipe, session: Session, batch_size: int = 1, *, threads: int = 1) -> None:
        self._recipe, self._session = recipe, session
        self.threads = threads
        """That the engine uses: with one, the caller's own."""
        self.loading: tuple[Stint, ...] = ()
        """How it was loaded, until somebody has told it."""
        # ONNX Runtime's last bits depend on the size of the batch; Paddle's do not (measured, CPU).
        alone = recipe.device == "cpu" and recipe.engine != "paddle"
        self._largest = recipe.model.batch or (1 if alone else batch_size)
        cut = recipe.bake.margin if recipe.bake is not None else 0
        self._margin = 0 if recipe.fit == "resize" else recipe.halo - cut
        self._fixed = recipe.model.batch is not None or recipe.device == "gpu"
        self._lock = threading.Lock()

    def take_loading(self) -> tuple[Stint, ...]:
        """How it was loaded; nothing when asked again."""
        told, self.loading = self.loading, ()
        return told

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return self._lock.locked()

    def run(self, batch: NDArray[Any]) -> list[Answer]:
        """Answers for a batch that `Preparation` filled; none for an empty one, which Paddle would die of.

        Raises:
            StoppedError: the device has no memory for one tile.
        """
        with self._lock:
            parts: list[Answer] = []
            while len(parts) < len(batch):
                parts += self._part(batch[len(parts) : len(parts) + self._largest])
            return parts

    def _part(self, batch: NDArray[Any]) -> list[Answer]:
        """Of a batch's first tiles as many as memory allows; what it refuses is halved, for good."""
        while True:
            part = batch[: self._largest]
            try:
                outputs = self._session.run(self._filled(part))
            except Exception as e:
                if not is_out_of_memory(e):
                    raise
                if self._largest == 1 or self._recipe.model.batch:
                    raise StoppedError(_no_room(self._recipe, self._largest, e)) from e
                self._largest = max(1, min(self._largest, len(batch)) // 2)
                continue
            return [self._answer(outputs, number) for number in range(len(part))]

    def _filled(self, part: NDArray[Any]) -> NDArray[Any]:
        """Of one shape throughout, where a new one costs the engine a new plan."""
        if not self._fixed or len(part) == self._largest:
            return np.ascontiguousarray(part)
        filler = np.zeros((self._largest - len(part), *part.shape[1:]), dtype=part.dtype)
        return np.concatenate((part, filler))

    def _answer(self, outputs: list[NDArray[Any]], number: int) -> Answer:
        recipe, output = self._recipe, outputs[0][number]
        if recipe.graph_confidence and recipe.confidence:
            return Answer(output=self._kept(output), confidence=self._kept(outputs[1][number]))
        if recipe.answer == "classes":
            output = output[0] if output.ndim == 3 else output
        elif output.ndim == 2:
            output = output[None]
        elif recipe.facts.output_layout == "NHWC":
            output = np.moveaxis(output, -1, 0)
        if recipe.model.geometry:
            output = resize.undo(recipe.model.geometry, output, (recipe.tile_size, recipe.tile_size))
        return Answer(output=self._kept(output))

    def _kept(self, output: NDArray[Any]) -> NDArray[Any]:
        """(..., H, W) without the halo, where the graph has not cut it off."""
        cut = slice(self._margin, -self._margin or None)
        kept: NDArray[Any] = output[..., cut, cut]
        return kept


def _no_room(recipe: Recipe, tiles: int, error: BaseException) -> str:
    """What to do about a device without memory: all tiles are of one size, so no source is to blame."""
    what = f"{tiles} tile{'s' * (tiles > 1)} of {recipe.tile_size} pixels"
    return (
        f"the {recipe.device.upper()} has no memory for {what}: {telling_line(error)}; make `tile_size` "
        f"smaller, run fewer predictors (`workers`, `gpus_per_worker`), or end what else uses the memory"
    )


def with_engine(recipe: Recipe, name: EngineName, precision: Precision) -> Recipe:
    """The recipe for another engine; one that takes no uint8 gets prepared pixels."""
    bake = recipe.bake
    if bake is not None and bake.pixels == "uint8" and not engine(name).takes_uint8:
        bake = None if bake.output == "classes" else replace(bake, pixels="float32")
    return replace(recipe, engine=name, precision=precision, bake=bake)


def network_for(recipe: Recipe) -> Network:
    """What the recipe's engine loads: derived now, unless a cache has it. Raises ModelError."""
    side = recipe.tile_size
    return prepare_network(
        recipe.model,
        engine=engine(recipe.engine),
        bake=recipe.bake,
        precision=recipe.precision,
        device=recipe.device,
        size_hw=resize.network_shape(recipe.model.geometry, (side, side)),
    )


def load_predictor(recipe: Recipe, *, threads: int = 1, batch_size: int = 1) -> Predictor:
    """Derive what the engine needs, unless a cache has it, and load it.

    Raises:
        ModelError: the engine cannot load it.
        StoppedError: the device has no memory for it.
    """
    watch = Stopwatch("predictor", profiled=True)
    with watch.step("derive"):
        network = network_for(recipe)
    try:
        with watch.step("load"):
            session = engine(recipe.engine).load(
                network, precision=recipe.precision, device=recipe.device, threads=threads
            )
    except ModelError as e:
        if e.__cause__ is None or not is_out_of_memory(e.__cause__):
            raise
        msg = f"the {recipe.device.upper()} has no memory for the network: {telling_line(e.__cause__)}"
        raise StoppedError(msg) from e
    predictor = Predictor(recipe, session, batch_size, threads=threads)
    predictor.loading = (watch.stint("load"),)
    return predictor
