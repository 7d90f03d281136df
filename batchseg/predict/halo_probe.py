"""The halo table of a job's model, measured once for its kind of data, and what it says of the job's halo."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchseg.errors import ModelError
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe
from batchseg.predict.fleet import Meeting, together
from batchseg.predict.halo import (
    Geometry,
    HaloFigure,
    enough,
    geometry,
    halos_to_try,
    is_wide,
    measure,
    merged,
)
from batchseg.predict.probe import silence_stdout
from batchseg.predict.remembered import recall_halos, remember_halos
from batchseg.predict.samples import Sample, sample_crops
from batchseg.predict.scores import Scorer
from batchseg.predict.survey import in_time, load_crops, save_crops
from batchseg.system.processes import ProcessDiedError
from batchseg.system.temp_folders import cache_root

CROPS = 6

SECONDS = 300.0
"""That a probe may take."""

NOISE_CROPS, NOISE_SIDE = 4, 1536
"""Of a probe without a job's images."""


def known_halos(
    recipe: Recipe, sources: Sequence[Source], *, workers: int, seconds: float
) -> tuple[HaloFigure, ...]:
    """The usual halos' figures: as they were measured before, or now, if it may take so long.

    Args:
        recipe: of the job.
        sources: whose pixels are taken; none: nothing is measured.
        workers: processes at work at the same time.
        seconds: that it may take, as far as the probe tile tells.

    Returns:
        Empty: none could be tried, or it would take too long.

    Raises:
        ModelError: the network fails.
        ConfigError: no source gives a crop.
    """
    shape = geometry(recipe)
    if shape is None:
        return ()
    if table := recall_halos(recipe):
        return table
    if not sources or seconds_needed(recipe, shape) > seconds:
        return ()
    crops = sample_crops(recipe, sources, crops=CROPS).crops
    table = measured(recipe, crops, halos_to_try(recipe, shape), workers=workers, seconds=seconds)
    remember_halos(recipe, table)
    return table


def seconds_needed(recipe: Recipe, shape: Geometry) -> float:
    """Of one crop, by what the probe tile took."""
    sides = [shape.tile(halo)[1] for halo in (*halos_to_try(recipe, shape), shape.widest)]
    return 3.0 + sum(side**2 for side in sides) / recipe.tile_size**2 * recipe.facts.seconds_per_tile


def measured(
    recipe: Recipe, crops: Sequence[Sample], halos: Sequence[int], *, workers: int, seconds: float
) -> tuple[HaloFigure, ...]:
    """A table of any halos. Raises ModelError where the network fails."""
    with tempfile.TemporaryDirectory(prefix="halo-", dir=cache_root()) as name:
        folder = save_crops(crops, Path(name))
        count = min(workers, len(crops)) if recipe.device == "cpu" else 1
        try:
            parts = together(
                _measure, recipe, folder, tuple(halos), seconds, workers=count, timeout=SECONDS + 2 * seconds
            )
        except ProcessDiedError as e:
            msg = f"model: the process that predicted tiles with several halos {e}"
            raise ModelError(msg) from e
    return merged(parts)


def _measure(
    recipe: Recipe, folder: str, halos: Sequence[int], seconds: float, meeting: Meeting
) -> tuple[HaloFigure, ...]:
    silence_stdout()
    shape = geometry(recipe)
    if shape is None:
        return ()
    mine = in_time(meeting.share(load_crops(folder)), seconds)
    return measure(Scorer(recipe), recipe, shape, mine, halos)


def noise_crops(recipe: Recipe) -> list[Sample]:
    """Clouds of noise with edges of all sizes, for a model without a job: power falls with frequency, as in
    images (Field 1987, Relations between the statistics of natural images, p. 2381)."""
    bands = len(recipe.bands)
    frequencies = np.hypot(np.fft.fftfreq(NOISE_SIDE)[:, None], np.fft.rfftfreq(NOISE_SIDE))
    frequencies[0, 0] = 1.0
    crops = []
    for seed in range(NOISE_CROPS):
        random = np.random.default_rng(seed)
        planes = []
        for _ in range(bands):
            waves = np.fft.rfft2(random.standard_normal((NOISE_SIDE, NOISE_SIDE))) / frequencies
            plane = np.fft.irfft2(waves, s=(NOISE_SIDE, NOISE_SIDE))
            planes.append(np.clip(0.5 + plane / (6 * plane.std()), 0, 1))
        low, high = (np.array(v)[:, None, None] for v in (recipe.scale.low, recipe.scale.high))
        pixels = low + np.stack(planes) * (high - low)
        whole = float(high.max()) == 255
        crops.append(Sample(pixels=pixels.astype(np.uint8 if whole else np.float32), scale=recipe.scale))
    return crops


def is_narrow(recipe: Recipe, table: Sequence[HaloFigure]) -> bool:
    """Whether another halo would be enough, and the recipe's is not."""
    good = enough(table)
    if good is None or recipe.fit == "resize":
        return False
    return not is_wide(table, good, recipe.halo)
