"""Choices and halo tables that were found for other outputs, by model, machine and kind of data.

What is found anew takes the place of what was remembered.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchseg.engines.base import ENGINES, engine
from batchseg.engines.graphs.cache import cache_key, cached_folder, forget_folder, kept_folder
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.models.package import ModelPackage
from batchseg.predict.choice import Choice, as_document, from_document, halo_figures
from batchseg.predict.halo import HaloFigure
from batchseg.predict.samples import CROP_SIDE
from batchseg.system.fetch import sha256
from batchseg.system.json_text import parse_json
from batchseg.system.machine import core_count, cpu_class, cpu_model

VERSION = 3
"""Of trials: another number, and nothing remembered before is used."""

FILE = "found.json"


ShapesHW = tuple[tuple[int, int], ...]


def recall_choice(config: JobConfig, recipe: Recipe, shapes_hw: ShapesHW, workers: int) -> Choice | None:
    """What an earlier output chose for such a job; None: no such was tried, or it is not kept."""
    found = from_document(_recall(recipe.model, _choice_key(config, recipe, shapes_hw, workers)))
    made = None if found is None else found.quantized
    if made is not None and not Path(made["root"], made["path"]).exists():
        return None  # the cache had no room for the network
    return found


def remember_choice(
    config: JobConfig, recipe: Recipe, shapes_hw: ShapesHW, workers: int, choice: Choice
) -> None:
    """Keep it for the next output.

    Raises:
        StoppedError: the cache's disk is full or failing.
    """
    key = _choice_key(config, recipe, shapes_hw, workers)
    _remember(recipe.model, key, as_document(choice) or {})


def recall_shapes(sources: Sequence[Source]) -> ShapesHW | None:
    """Heights and widths that were seen of the same versions of the same sources; None: they were not."""
    folder = kept_folder(_shapes_key(sources))
    if folder is None:
        return None
    return tuple((height, width) for height, width in parse_json((folder / FILE).read_bytes())["shapes_hw"])


def remember_shapes(sources: Sequence[Source], shapes_hw: ShapesHW) -> None:
    """Raises StoppedError where the cache's disk is full or failing."""

    def make(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"shapes_hw": shapes_hw}), encoding="utf-8")

    cached_folder(_shapes_key(sources), make)


def _shapes_key(sources: Sequence[Source]) -> str:
    return cache_key({"what": "shapes", "sources": [(source.source_id, source.tag) for source in sources]})


def recall_halos(recipe: Recipe) -> tuple[HaloFigure, ...] | None:
    """None: none was measured. Empty: the network takes no tiles that could tell."""
    found = _recall(recipe.model, _halo_key(recipe))
    return None if found is None else tuple(HaloFigure(**figure) for figure in found["halos"])


def remember_halos(recipe: Recipe, table: tuple[HaloFigure, ...]) -> int:
    """Keep a table, unless one of more pixels is known.

    Returns:
        Pixels of the one that is known; 0: the table is kept.

    Raises:
        StoppedError: the cache's disk is full or failing.
    """
    before = _pixels(recall_halos(recipe) or ())
    if before > _pixels(table):
        return before
    figures = [{k: v for k, v in one.items() if k != "share"} for one in halo_figures(table)]
    _remember(recipe.model, _halo_key(recipe), {"halos": figures})
    return 0


def _pixels(table: Sequence[HaloFigure]) -> int:
    return max((figure.pixels for figure in table), default=0)


def _recall(package: ModelPackage, key: str) -> Any:
    """Encrypted models leave nothing on a disk."""
    folder = None if package.encrypted else kept_folder(key)
    return None if folder is None else parse_json((folder / FILE).read_bytes())


def _remember(package: ModelPackage, key: str, document: Mapping[str, Any]) -> None:
    def make(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(document), encoding="utf-8")

    if not package.encrypted:
        forget_folder(key)
        cached_folder(key, make)


def _kind(recipe: Recipe) -> dict[str, Any]:
    """Of data, and of what the network gets of it."""
    said = dataclasses.replace(recipe.model, path="", network="", params=None, conversion=None)
    return {
        "version": VERSION,
        "model": dataclasses.asdict(said),
        "bands": list(recipe.band_names or recipe.bands),
        "scale": dataclasses.asdict(recipe.scale),
        "normalize": recipe.normalize and dataclasses.asdict(recipe.normalize),
        "fit": recipe.fit,
    }


def _halo_key(recipe: Recipe) -> str:
    return cache_key({"what": "halo", **_kind(recipe), "tile_size": recipe.model.size_hw})


def size_class(shapes_hw: ShapesHW) -> str:
    """Of sources, by the shorter side of the middle one: small ones to 64 pixels, as a tile more or less
    counts for them, large ones to a power of two.

    >>> size_class(((480, 640),)), size_class(((9000, 7000), (5784, 7472), (6000, 6000)))
    ('512', '8192')
    """
    sides = sorted(min(shape) for shape in shapes_hw)
    side = sides[len(sides) // 2] if sides else 0
    return str(-(-side // 64) * 64 if side < 2 * CROP_SIDE else 2 ** (side - 1).bit_length())


def _choice_key(config: JobConfig, recipe: Recipe, shapes_hw: ShapesHW, workers: int) -> str:
    """Also of all that trials depend on: the machine, the engines, and what the job asks for."""
    return cache_key(
        {
            "what": "choice",
            **_kind(recipe),
            "conversion": recipe.model.conversion and sha256(recipe.model.conversion),
            "machine": [cpu_class(), cpu_model(), core_count(), workers],
            "sizes": size_class(shapes_hw),
            "device": recipe.device,
            "engines": {name: engine(name).version() for name in ENGINES},
            "asked": [config.engine, config.precision, config.bake, config.tile_size, config.halo],
            "confidence": config.confidence,
            "gate": dataclasses.asdict(config.gate),
        }
    )
