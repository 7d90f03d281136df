"""The reference: the bare network on its own engine in fp32, for tiles of any side that it takes."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Session, engine
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import Scale
from batchseg.predict.answer import classify, margin, winning_probability
from batchseg.predict.gate import Ids, Labels
from batchseg.predict.predictor import Predictor, Preparation, network_for
from batchseg.predict.samples import Sample


def reference_recipe(recipe: Recipe) -> Recipe:
    """The recipe as the reference runs it: nothing baked, nothing converted."""
    return replace(
        recipe,
        engine=reference_engine(recipe.model),
        precision="fp32",
        device=recipe.facts.device,
        bake=None,
        confidence=False,
        quantized=None,
    )


class Scorer:
    """Answers of the reference. One session serves tiles of all sides, as long as it does."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = replace(reference_recipe(recipe), halo=0)
        self._sessions: dict[str, Session] = {}
        self._ready: dict[tuple[int, Scale], tuple[Preparation, Predictor]] = {}
        self.largest = 0
        """Side of the largest tile that it has answered."""

    def output(self, pixels: NDArray[np.generic], sample: Sample) -> NDArray[Any]:
        """Raw output for a square tile (C, S, S) of a sample: scores (K, S, S), or ids (S, S).

        Raises:
            ModelError: the network cannot be loaded, or not for this size.
            Exception: whatever the engine raises for it.
        """
        try:
            output = self._run(pixels, sample)
        except Exception:
            if self.largest in (0, pixels.shape[-1]):
                raise
            # Paddle's may fail on a small tile behind large ones, which one of its own takes.
            self._sessions.clear()
            self._ready.clear()
            output = self._run(pixels, sample)
        self.largest = max(self.largest, pixels.shape[-1])
        return output

    def _run(self, pixels: NDArray[np.generic], sample: Sample) -> NDArray[Any]:
        key = pixels.shape[-1], sample.scale
        if key not in self._ready:
            recipe = self.recipe(pixels.shape[-1], sample)
            self._ready[key] = Preparation(recipe), Predictor(recipe, self._session(recipe))
        preparation, predictor = self._ready[key]
        buffer = preparation.buffer(1)
        preparation(pixels, buffer[0])
        return predictor.run(buffer)[0].output

    def recipe(self, side: int, sample: Sample) -> Recipe:
        """By which a sample's tiles of that side are answered."""
        return replace(self._recipe, tile_size=side, scale=sample.scale)

    def labels(self, pixels: NDArray[np.generic], sample: Sample, halo: int) -> Labels:
        """Classes, confidences and margins of a tile less its halo."""
        recipe = self.recipe(pixels.shape[-1], sample)
        output = self.output(pixels, sample)[
            ..., halo : pixels.shape[-1] - halo, halo : pixels.shape[-1] - halo
        ]
        sure = margin(output, recipe)
        return Labels(
            classes=np.array(classify(output, recipe)),
            confidence=None if sure is None else winning_probability(output, recipe),
            margin=None if sure is None else sure.astype(np.float16),
            values=None if recipe.values is None else np.array(output[0]),
        )

    def _session(self, recipe: Recipe) -> Session:
        network = network_for(recipe)
        if network.path not in self._sessions:
            self._sessions[network.path] = engine(recipe.engine).load(
                network, precision="fp32", device=recipe.device, threads=1
            )
        return self._sessions[network.path]


def mosaic(scorer: Scorer, sample: Sample, side: int, tile_size: int, halo: int) -> Ids:
    """Classes of a square in the sample's middle, made of tiles that all lie inside it.

    Args:
        scorer: the reference.
        sample: of which the square is cut, reflected where it is smaller.
        side: of the square.
        tile_size: of the tiles, at most `side`. The last of a row lies at the square's end.
        halo: dropped on each side of a tile.

    Returns:
        (side - 2 * halo, side - 2 * halo).
    """
    square, core = centre(sample.pixels, side), tile_size - 2 * halo
    ids = np.zeros((side - 2 * halo, side - 2 * halo), dtype=np.uint16)
    last = side - tile_size
    offsets = [*range(0, last, core), last]
    for row in offsets:
        for col in offsets:
            tile = square[:, row : row + tile_size, col : col + tile_size]
            ids[row : row + core, col : col + core] = scorer.labels(tile, sample, halo).classes
    return ids


def centre(pixels: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """The middle (C, side, side) of (C, H, W); what is smaller is reflected as a raster's border is."""
    height, width = pixels.shape[-2:]
    below, right = max(0, side - height), max(0, side - width)
    if below or right:
        around = ((0, 0), (below // 2, below - below // 2), (right // 2, right - right // 2))
        pixels = np.pad(pixels, around, mode="reflect")
        height, width = pixels.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
