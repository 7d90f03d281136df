"""The halo table of a job's model, measured once for its kind of data, and what it says of the job's halo."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchseg.errors import ModelError
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe
from batchseg.predict.crop_tiles import in_time, load_crops, save_crops
from batchseg.predict.fleet import Meeting, together
from batchseg.predict.halo import (
    QUICK,
    Geometry,
    HaloFigure,
    enough,
    geometry,
    halos_to_try,
    is_open,
    is_proof,
    is_telling,
    is_wide,
    measure,
    merged,
)
from batchseg.predict.probe import silence_stdout
from batchseg.predict.remembered import recall_halos, remember_halos
from batchseg.predict.samples import Sample, sample_crops
from batchseg.predict.scores import Scorer
from batchseg.system.processes import ProcessDiedError
from batchseg.system.temp_folders import cache_root

CROPS = 6

SECONDS = 300.0
"""That a probe may take."""

MEASURE = "`batchseg model halo MODEL JOB` measures it for all jobs of its kind"

NOISE_CROPS, NOISE_SIDE = 4, 1536
"""Of a probe without a job's images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halos:
    """What is known of a network's halos."""

    table: tuple[HaloFigure, ...] = ()
    why: str = ""
    """Why nothing is known, in words; empty: it is, or there is nothing to know."""


def known_halos(recipe: Recipe, sources: Sequence[Source], *, workers: int, seconds: float) -> Halos:
    """The usual halos' figures: as they were measured before, or now, if it may take so long.

    What shows too little to tell is not remembered: other images may show more.

    Args:
        recipe: of the job.
        sources: whose pixels are taken; none: nothing is measured.
        workers: processes at work at the same time.
        seconds: that it may take, as far as the probe tile tells; in the second half no image is begun.

    Raises:
        ModelError: the network fails.
        ConfigError: no source gives a crop.
    """
    shape = geometry(recipe)
    if shape is None:
        return Halos()
    before = recall_halos(recipe)
    if before is not None:
        return Halos(table=before)
    if not sources:
        return Halos()
    needed = seconds_needed(recipe, shape)
    is_quick = needed > seconds and is_open(recipe)
    shape = (geometry(recipe, part=QUICK) if is_quick else shape) or shape
    if seconds_needed(recipe, shape) > seconds:
        return Halos(why=f"to measure it takes {needed:.0f} s or more, {seconds:.0f} s may be; {MEASURE}")
    crops = telling(sample_crops(recipe, sources, crops=CROPS).crops, shape)
    if not crops:
        return Halos(why=f"no image has the {math.ceil(shape.side / 2)} pixels a side that show it")
    halos = halos_to_try(recipe, shape)
    table = measured(recipe, shape, crops, halos, workers=workers, seconds=seconds / 2)
    if table and not is_proof(table):
        return Halos(why="the images that were looked at show one class")
    if is_quick and enough(table) is None:  # a wider one may be
        return Halos(why=f"up to {halos[-1]} none is enough, and wider ones take {needed:.0f} s; {MEASURE}")
    remember_halos(recipe, table)
    return Halos(table=table)


def telling(crops: Sequence[Sample], shape: Geometry) -> list[Sample]:
    """Those that are large enough to show what a halo changes."""
    return [crop for crop in crops if is_telling(crop, shape)]


def seconds_needed(recipe: Recipe, shape: Geometry) -> float:
    """Of one crop, by what the probe tile took."""
    sides = [shape.tile(halo)[1] for halo in (*halos_to_try(recipe, shape), shape.widest)]
    return 3.0 + sum(side**2 for side in sides) / recipe.tile_size**2 * recipe.facts.seconds_per_tile


def measured(
    recipe: Recipe,
    shape: Geometry,
    crops: Sequence[Sample],
    halos: Sequence[int],
    *,
    workers: int,
    seconds: float,
) -> tuple[HaloFigure, ...]:
    """A table of any halos. Raises ModelError where the network fails."""
    with tempfile.TemporaryDirectory(prefix="halo-", dir=cache_root()) as name:
        folder = save_crops(crops, Path(name))
        count = min(workers, len(crops)) if recipe.device == "cpu" else 1
        try:
            parts = together(
                _measure,
                recipe,
                shape,
                folder,
                tuple(halos),
                seconds,
                workers=count,
                timeout=SECONDS + 2 * min(seconds, SECONDS),
            )
        except ProcessDiedError as e:
            msg = f"model: the process that predicted tiles with several halos {e}"
            raise ModelError(msg) from e
    return merged(parts)


def _measure(
    recipe: Recipe, shape: Geometry, folder: str, halos: Sequence[int], seconds: float, meeting: Meeting
) -> tuple[HaloFigure, ...]:
    silence_stdout()
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
