"""A loaded network and its guards: raw tiles in, one answer per tile out.

Tiles are scaled, normalised and laid out as the network takes them, unless its graph does that itself.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Session, engine, is_out_of_memory, telling_line
from batchseg.engines.graphs.derive import prepare_network
from batchseg.errors import ModelError, StoppedError
from batchseg.job.alignment import other_tile
from batchseg.job.recipe import Recipe, spread
from batchseg.models import resize
from batchseg.models.package import EngineName, Network, Precision
from batchseg.predict.answer import Answer, shares_of
from batchseg.predict.kept_network import kept_network
from batchseg.predict.views import VIEWS, mean_of
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


class Predictor:
    """One network for one recipe. May be called from any thread, one call at a time."""

    def __init__(self, recipe: Recipe, session: Session, batch_size: int = 1, *, threads: int = 1) -> None:
        self._recipe, self._session = recipe, session
        self._bare = replace(recipe, tta="none")
        """What one view's answer is by."""
        self.threads = threads
        """That the engine uses: with one, the caller's own."""
        self.loading: tuple[Stint, ...] = ()
        """How it was loaded, until somebody has told it."""
        # ONNX Runtime's last bits depend on the size of the batch; Paddle's do not (measured, CPU).
        alone = recipe.device == "cpu" and recipe.engine != "paddle"
        self._largest = recipe.model.batch or (1 if alone else batch_size)
        cut = recipe.bake.margin if recipe.bake is not None else 0
        self._margin = 0 if recipe.fit == "resize" else recipe.halo - recipe.rim - cut
        self._fixed = recipe.model.batch is not None or recipe.device == "gpu"
        self._lock = threading.Lock()
        self._views = VIEWS[recipe.tta]
        layout = recipe.bake.layout if recipe.bake and recipe.bake.pixels == "uint8" else recipe.model.layout
        self._axes = (1, 2) if layout == "NHWC" else (2, 3)

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
            if len(self._views) == 1:
                return self._all(batch)
            sums: list[NDArray[np.uint16]] = []
            for view in self._views:
                answers = self._all(np.ascontiguousarray(view.of(batch, self._axes)))
                shares = [view.back(shares_of(answer, self._bare)) for answer in answers]
                if not sums:
                    sums = [np.zeros(one.shape, np.uint16) for one in shares]
                for total, one in zip(sums, shares, strict=True):
                    total += one
            return [self._averaged(one) for one in sums]

    def _averaged(self, sums: NDArray[np.uint16]) -> Answer:
        """Of all views; a network of one band has one again."""
        exact, shares = mean_of(sums, len(self._views))
        own = slice(1, None) if self._recipe.facts.output == "sigmoid" else slice(None)
        return Answer(output=exact[own], probabilities=shares[own])

    def _all(self, batch: NDArray[Any]) -> list[Answer]:
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
        recipe, output = self._bare, outputs[0][number]
        if recipe.bake is not None or (recipe.graph_confidence and recipe.confidence):
            return self._classified(outputs, number)
        if recipe.answer == "classes":
            output = output[0] if output.ndim == 3 else output
        elif output.ndim == 2:
            output = output[None]
        elif recipe.facts.output_layout == "NHWC":
            output = np.moveaxis(output, -1, 0)
        if recipe.model.geometry:
            output = resize.undo(recipe.model.geometry, output, (recipe.tile_size, recipe.tile_size))
        return Answer(output=self._kept(output))

    def _classified(self, outputs: list[NDArray[Any]], number: int) -> Answer:
        """Of a graph that gives ids, then confidences and probabilities where the recipe asks for them."""
        recipe, ids = self._bare, outputs[0][number]
        with_confidence = recipe.graph_confidence and recipe.confidence
        with_shares = recipe.bake is not None and recipe.bake.probabilities
        return Answer(
            output=self._kept(ids[0] if ids.ndim == 3 else ids),
            confidence=self._kept(outputs[1][number]) if with_confidence else None,
            probabilities=self._kept(outputs[-1][number]) if with_shares else None,
        )

    def _kept(self, output: NDArray[Any]) -> NDArray[Any]:
        """(..., H, W) without the halo, where the graph has not cut it off."""
        cut = slice(self._margin, -self._margin or None)  # up to -0 there would be nothing
        kept: NDArray[Any] = output[..., cut, cut]
        return kept


def _no_room(recipe: Recipe, tiles: int, error: BaseException) -> str:
    """What to do about a device without memory: all tiles are of one size, so no source is to blame."""
    what = f"{tiles} tile{'s' * (tiles > 1)} of {recipe.tile_size} pixels"
    smaller = other_tile(recipe, 0.5)
    size = f" (tile_size: {smaller})" if smaller else ""
    return (
        f"the {recipe.device.upper()} has no memory for {what}: {telling_line(error)}; make "
        f"`tile_size` smaller{size}, run fewer predictors (`workers`, `gpus_per_worker`), or end what "
        f"else uses the memory"
    )


def with_engine(recipe: Recipe, name: EngineName, precision: Precision) -> Recipe:
    """The recipe for another engine; one that takes no uint8 gets prepared pixels."""
    bake = recipe.bake
    if bake is not None and bake.pixels == "uint8" and not engine(name).takes_uint8:
        bake = None if bake.output == "classes" else replace(bake, pixels="float32")
    quantized = recipe.quantized if (name, precision) == ("openvino", "int8") else None
    return replace(recipe, engine=name, precision=precision, bake=bake, quantized=quantized)


def network_for(recipe: Recipe) -> Network:
    """What the recipe's engine loads: derived or fetched now, unless a cache has it.

    Raises:
        ModelError: it cannot be derived; or a quantised network is not the one that was kept.
        StoppedError: a quantised network cannot be read.
    """
    if recipe.quantized is not None:
        return kept_network(recipe, recipe.quantized)
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


_Step = tuple[Callable[..., Any], tuple[Any, ...]]


class Preparation:
    """In float32 and in PaddleSeg's order of operations, or as raw pixels where the graph does it."""

    def __init__(self, recipe: Recipe) -> None:
        raw = recipe.bake is not None and recipe.bake.pixels == "uint8"
        self._recipe = recipe
        self._dtype = np.dtype("uint8" if raw else recipe.model.dtype)
        layout = recipe.bake.layout if raw and recipe.bake else recipe.model.layout
        self._channels_last = layout == "NHWC"
        side = recipe.tile_size
        self._shape_hw = resize.network_shape(recipe.model.geometry, (side, side))
        count = len(recipe.bands)
        low, high = (np.array(spread(v, count)) for v in (recipe.scale.low, recipe.scale.high))
        self._scale = [*_step(np.subtract, low, neutral=0), *_step(np.divide, high - low, neutral=1)]
        if recipe.scale.clips:
            self._scale.append((np.clip, (0, 1)))
        self._normalize: list[_Step] = []
        if recipe.normalize is not None:
            self._normalize += _step(np.subtract, np.array(recipe.normalize.mean), neutral=0)
            self._normalize += _step(np.divide, np.array(recipe.normalize.std), neutral=1)
        # Padding values are in units of 0..255; pixels that are not scaled keep theirs.
        self._white = 255.0 if recipe.scale.kind == "transforms" and recipe.normalize is None else 1.0
        self._direct = self._dtype == np.float32 and not self._channels_last and not recipe.model.geometry

    def buffer(self, count: int) -> NDArray[Any]:
        """Room for `count` tiles, in the network's layout and dtype."""
        (height, width), bands = self._shape_hw, len(self._recipe.bands)
        shape = (height, width, bands) if self._channels_last else (bands, height, width)
        return np.empty((count, *shape), dtype=self._dtype)

    def __call__(self, tile: NDArray[np.generic], out: NDArray[Any]) -> None:
        """Write the network's input for a raw tile (C, H, W) into `out`, one item of a buffer."""
        planes = np.moveaxis(out, -1, 0) if self._channels_last else out
        steps = self._recipe.model.geometry
        if self._dtype == np.uint8 and not steps:
            np.copyto(planes, tile, casting="unsafe")
            return
        prepared: NDArray[np.float32] = out if self._direct else np.empty(tile.shape, dtype=np.float32)
        np.copyto(prepared, tile, casting="unsafe")
        _apply(self._scale, prepared)
        prepared = resize.apply(steps, prepared, white=self._white)
        _apply(self._normalize, prepared)
        if self._dtype == np.uint8:
            np.rint(prepared, out=prepared)
        if not self._direct:
            np.copyto(planes, prepared, casting="unsafe")


def _step(operation: np.ufunc, values: NDArray[np.float64], *, neutral: float) -> list[_Step]:
    """One operation with a value per band; none where it would change nothing."""
    if np.all(values == neutral):
        return []
    return [(operation, (values.astype(np.float32)[:, None, None],))]


def _apply(steps: list[_Step], prepared: NDArray[np.float32]) -> None:
    for operation, operands in steps:
        operation(prepared, *operands, out=prepared)
