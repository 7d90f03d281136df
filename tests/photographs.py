"""Photographs for the network `spots` of tests/models.py, and what it must say of them."""

import dataclasses
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from factories import make_config, make_facts, make_photographs, make_product
from numpy.typing import NDArray
from PIL import Image

from batchseg.inputs.source import LISTING
from batchseg.job.recipe import Product, Recipe, RegionSettings, Ruleset
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import Scale
from batchseg.models.reading import read_model
from batchseg.pixels.photo.picture import Picture
from batchseg.predict.photo import Fitting, PhotoMask
from batchseg.predict.predictor import Predictor, Preparation, load_predictor
from batchseg.system.walk import current_tags

RAW = Scale(kind="divide", low=(0.0,), high=(1.0,))
ALL = RegionSettings()
NAMES = ("none", "red", "green", "blue")


def recipe_of(
    models: Path, name: str = "spots", *, fit: str = "tile", classes: int = 4, **job: Any
) -> Recipe:
    """Raw pixels, tiles of 16 with a core of 10."""
    config = make_config(scale=RAW, normalize="none", photographs=make_photographs(fit=fit), **job)
    return make_recipe(config, read_model(str(models / name)), make_facts(class_count=classes), "cpu")


@cache
def network_of(models: Path, name: str = "spots", **job: Any) -> tuple[Recipe, Predictor]:
    """A recipe and its network, loaded once."""
    recipe = recipe_of(models, name, **job)
    return recipe, load_predictor(recipe, batch_size=8)


def spots_scores(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(4, H, W) of pixels (H, W, 3)."""
    bright = (np.moveaxis(pixels, -1, 0).astype(np.float32) - np.float32(150)) / np.float32(16)
    return np.concatenate([np.zeros_like(bright[:1]), bright])


def spots_mask(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return spots_scores(pixels).argmax(axis=0).astype(np.uint8)


def spotted(height: int, width: int, seed: int = 0, spots: int = 4) -> NDArray[np.uint8]:
    """(H, W, 3): grey with noise below all thresholds, and some bright rectangles, pure colours and mixed."""
    random = np.random.default_rng(seed)
    pixels = random.integers(20, 140, (height, width, 3), dtype=np.uint8)
    for _ in range(spots):
        row, col = random.integers(0, height), random.integers(0, width)
        extent = (slice(row, row + 1 + random.integers(0, 9)), slice(col, col + 1 + random.integers(0, 9)))
        pixels[extent] = random.integers(100, 256, 3)
    return pixels


def picture_of(pixels: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Picture:
    return Picture(pixels=pixels, valid=valid, kind="RGB")


def masked(picture: Picture, recipe: Recipe, predictor: Predictor) -> PhotoMask:
    """One photograph by itself through the network."""
    fitting = Fitting(picture, recipe)
    preparation = Preparation(recipe)
    for number in range(fitting.inputs):
        assert not fitting.is_complete
        buffer = preparation.buffer(1)
        preparation(fitting.tile(number), buffer[0])
        fitting.place(number, predictor.run(buffer)[0])
    assert fitting.is_complete
    return fitting.mask()


def product_of(
    *rules: Any,
    regions: RegionSettings | None = ALL,
    names: tuple[str, ...] = NAMES,
    **options: Any,
) -> Product:
    product = make_product(*names, regions=regions)
    return dataclasses.replace(
        product,
        classes=product.classes if names else (),
        photographs=make_photographs(**options),
        rules=Ruleset(criteria=rules),
    )


def encoded(pixels: NDArray[Any], form: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, form, **options)
    return sink.getvalue()


def listed(folder: Path, **problems: str) -> pa.Table:
    """LISTING of the files in a folder, by name; `problems` by id with underscores for dots."""
    rows = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            source_id = str(path.relative_to(folder))
            rows.append(
                {
                    "source_id": source_id,
                    "uri": str(path),
                    "tag": current_tags([str(path)])[0],
                    "size": path.stat().st_size,
                    "young": False,
                    "problem": problems.get(source_id.replace(".", "_"), ""),
                    "attributes": "",
                }
            )
    return pa.Table.from_pylist(rows, schema=LISTING)
