"""Samples of values as pictures have them, for tests of units."""

from typing import Any

import numpy as np
from factories import make_package, make_recipe

from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.values import Held, ValueSample, hold

IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IN_BYTES = Normalize(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
LAND = Normalize(mean=(0.19, 0.19, 0.19), std=(0.16, 0.17, 0.18))
TRANSFORMS = Scale(kind="transforms", low=(0.0,), high=(255.0,))
RNG = np.random.default_rng(3)


def divide(high: float) -> Scale:
    return Scale(kind="divide", low=(0.0,), high=(high,))


def stretch(low: float, high: float) -> Scale:
    return Scale(kind="stretch", low=(low,), high=(high,))


def pixels(low: float, high: float, dtype: str, count: int = 3000) -> Any:
    """Like a picture: most of it is in the lower half."""
    drawn = low + (high - low) * RNG.beta(1.5, 3, (3, count))
    drawn[:, :20] = high
    return drawn.astype(dtype)


def held(raw: Any, scale: Scale, normalize: Normalize | None, **recipe: Any) -> Held:
    raws = raw if isinstance(raw, list) else [raw]
    samples = [
        ValueSample(source_id=f"{n}.tif", dtype=str(one.dtype), pixels=one, scale=scale)
        for n, one in enumerate(raws)
    ]
    recipe.setdefault("model", make_package(declares_transforms=False, normalize=None))
    found = hold(samples, make_recipe(scale=scale, normalize=normalize, **recipe))
    assert found is not None
    return found


UNIT, BYTES, TWELVE = pixels(0.01, 0.9, "float32"), pixels(0, 255, "uint8"), pixels(20, 4095, "uint16")
SENTINEL = pixels(100, 4500, "uint16")
WIDE_BYTES = BYTES.astype("uint16")
