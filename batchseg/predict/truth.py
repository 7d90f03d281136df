"""Images of which somebody knows the classes: with them accuracy decides about an engine, not agreement."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.scene_rows import to_sources
from batchseg.inputs.source import Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Gate, JobConfig, Photographs, Truth
from batchseg.pixels.fit import mismatch, of_scene, tile_grid
from batchseg.pixels.gdal import gdal, source_errors
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.model_grid import on_model_grid
from batchseg.pixels.read import read_shards
from batchseg.pixels.resample import nearest
from batchseg.pixels.stack import open_source
from batchseg.predict.gate import Ids
from batchseg.predict.listed_beside import list_beside
from batchseg.predict.samples import SAMPLE_TIMEOUT, Sample, spread_over
from batchseg.system import fetch, storage
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process

PAIRS = 24
"""Images that are looked at."""

CROP_SIDE = 1024
"""Pixels of each per side at most: those of its middle."""

LEAST_PIXELS = 1000
"""Of a class in the truth, or it has no IoU: each of a few pixels would weigh as much as all of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A crop with its classes."""

    sample: Sample
    classes: Ids
    """(H, W); what is no class of the model counts for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What was listed, and nothing of it read."""

    images: int
    paired: tuple[tuple[Source, Source], ...]
    """An image and its labels."""
    unpaired: tuple[Source, ...]
    """Images without labels."""


def list_pairs(config: JobConfig, truth: Truth) -> Pairs:
    """Pairs of an image and its labels, which have one name but for the ending.

    Raises:
        ConfigError: there is none.
    """
    images = _listed(config, "images", truth.images, config.photographs)
    by_stem = {_stem(source): source for source in _listed(config, "labels", truth.labels, None)}
    paired = tuple((image, by_stem[_stem(image)]) for image in images if _stem(image) in by_stem)
    if not paired:
        msg = (
            f"{config.path}: gate: truth: of {len(images)} images in {truth.images} none has labels in "
            f"{truth.labels}; they are paired by name, whatever the ending: images/7.tif and labels/7.png"
        )
        raise ConfigError(msg)
    unpaired = tuple(image for image in images if _stem(image) not in by_stem)
    return Pairs(images=len(images), paired=paired, unpaired=unpaired)


def known_crops(
    config: JobConfig, recipe: Recipe, truth: Truth, say: Callable[[str], None] = lambda line: None
) -> list[Known]:
    """Crops of images of which the classes are known.

    Args:
        config: the job.
        recipe: of the job.
        truth: of the job.
        say: told how many count, where some do not.

    Raises:
        ConfigError: there is no pair, or none that can be read and fits.
    """
    pairs = list_pairs(config, truth)
    chosen = [pairs.paired[number] for number in spread_over(len(pairs.paired), PAIRS)]
    where = storage.environment()
    answers = list(each_in_fresh_process(_known, chosen, recipe, where, timeout=SAMPLE_TIMEOUT))
    found = [answer for answer in answers if isinstance(answer, Known)]
    wrong = [
        _why(image, a) for (image, _), a in zip(chosen, answers, strict=True) if not isinstance(a, Known)
    ]
    if not found:
        msg = f"{config.path}: gate: truth: of {len(chosen)} pairs none can be used; the first: {wrong[0]}"
        raise ConfigError(msg)
    if left_out := [*(_why(image, "it has no labels of that name") for image in pairs.unpaired), *wrong]:
        some = f" ({len(chosen)} pairs are looked at)" if len(chosen) < len(pairs.paired) else ""
        say(f"gate: truth: {len(found)} of {pairs.images} images count{some}; first left out: {left_out[0]}")
    if not accuracy(((known.classes, known.classes) for known in found), recipe.class_count).iou:
        msg = (
            f"{config.path}: gate: truth: no class has {LEAST_PIXELS:,} pixels in {len(found)} labels of "
            f"{truth.labels}; they must hold class ids"
        )
        raise ConfigError(msg)
    return found


def _why(image: Source, answer: str | ProcessDiedError) -> str:
    """Why it has no crop."""
    died = "the process that read it " if isinstance(answer, ProcessDiedError) else ""
    return f"{image.source_id}, because {died}{answer}"


def _listed(config: JobConfig, key: str, folder: str, photographs: Photographs | None) -> list[Source]:
    return to_sources(*list_beside(config, f"gate: truth: {key}", folder, photographs))


def _stem(source: Source) -> str:
    return PurePosixPath(source.source_id).stem


def _known(pair: tuple[Source, Source], recipe: Recipe, where: dict[str, str]) -> Known | str:
    """A crop of one pair, or why it has none."""
    storage.adopt(where)
    image, labels = pair
    try:
        crop = (_of_scene if recipe.fit is None else _of_photograph)(image, recipe)
        with gdal(), source_errors("read", labels), open_source(labels) as dataset:
            if (dataset.height, dataset.width) != crop.shape_hw:
                height, width = crop.shape_hw
                return (
                    f"its labels have {dataset.height} x {dataset.width} pixels, and it has {height} x "
                    f"{width}"
                )
            top, left = int(crop.rows[0]), int(crop.cols[0])
            at = RasterioWindow(left, top, int(crop.cols[-1]) + 1 - left, int(crop.rows[-1]) + 1 - top)
            classes = dataset.read([1], window=at)[0]
    except (SourceError, OSError, ValueError) as e:
        return str(e)
    classes = classes[(crop.rows - top)[:, None], crop.cols - left]
    return Known(sample=crop.sample, classes=np.asarray(classes).astype(np.uint16))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crop:
    """A part of an image as the network gets it, and where its labels lie."""

    sample: Sample
    rows: NDArray[np.int64]
    """Per row of the sample that of the labels; ascending."""
    cols: NDArray[np.int64]
    shape_hw: tuple[int, int]
    """That the labels must have."""


def _of_scene(image: Source, recipe: Recipe) -> _Crop:
    """Raises ValueError where it cannot be read or does not fit."""
    own = read_header(image)
    if not isinstance(own, Scene):
        raise ValueError(own.reason)
    if why := mismatch(own, recipe):
        msg = f"it {why}"
        raise ValueError(msg)
    scene = on_model_grid(own, recipe)
    whole = replace(recipe, tile_size=CROP_SIDE, halo=0, bake=None)
    grid = ShardGrid(tiles=tile_grid(whole, scene.height, scene.width), tiles_hw=(1, 1))
    (held,), _ = read_shards(scene, whole, (grid.shard(grid.count // 2),))
    at = held.shard.read
    return _Crop(
        sample=Sample(pixels=held.pixels, scale=of_scene(recipe, scene).scale),
        rows=nearest(scene.height, own.height)[at.row_off : at.row_stop],
        cols=nearest(scene.width, own.width)[at.col_off : at.col_stop],
        shape_hw=(own.height, own.width),
    )


def _of_photograph(image: Source, recipe: Recipe) -> _Crop:
    """The middle; of one that is resized all, in one tile."""
    from batchseg.pixels.photo.decode import decode
    from batchseg.predict.photo import Fitting

    fitting = Fitting(decode(fetch.read_bytes(image.uri), image.uri), recipe)
    if recipe.fit == "resize":
        pixels: NDArray[Any] = np.ascontiguousarray(fitting.tile(0))
        at = [np.arange(recipe.tile_size) * length // recipe.tile_size for length in fitting.shape_hw]
    else:
        at = [
            np.arange(min(length, CROP_SIDE)) + max(0, length - CROP_SIDE) // 2 for length in fitting.shape_hw
        ]
        pixels = fitting.pixels[:, at[0][0] : at[0][-1] + 1, at[1][0] : at[1][-1] + 1]
    return _Crop(
        sample=Sample(pixels=pixels, scale=recipe.scale),
        rows=at[0],
        cols=at[1],
        shape_hw=fitting.shape_hw,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Of one engine's answers."""

    iou: tuple[tuple[int, float], ...]
    """(class id, IoU with the truth) of every class with LEAST_PIXELS in it."""

    @property
    def mean_iou(self) -> float:
        """Over these classes; 0 where there are none."""
        return sum(value for _, value in self.iou) / len(self.iou) if self.iou else 0.0


def accuracy(pairs: Iterable[tuple[Ids, Ids]], class_count: int | None) -> Accuracy:
    """IoU of predicted and known classes over all pixels together.

    Args:
        pairs: (predicted, known), of one shape each. Known values that are no class count for nothing.
        class_count: of the model; None: whatever the truth shows below 255.
    """
    highest = 255 if class_count is None else class_count
    both, predicted, known = (np.zeros(highest, np.int64) for _ in range(3))
    for said, right in pairs:
        there = right < highest
        a, b = np.minimum(said[there], highest - 1), right[there]
        predicted += np.bincount(a, minlength=highest)
        known += np.bincount(b, minlength=highest)
        both += np.bincount(b[a == b], minlength=highest)
    ids = np.flatnonzero(known >= LEAST_PIXELS).tolist()
    return Accuracy(iou=tuple((k, float(both[k] / (predicted[k] + known[k] - both[k]))) for k in ids))


def loss(found: Accuracy, reference: Accuracy, gate: Gate) -> str | None:
    """Why an engine loses more against the truth than the job allows, in words; None: it does not."""
    lost = reference.mean_iou - found.mean_iou
    if lost <= gate.miou_drop:
        return None
    return (
        f"mean IoU against the truth falls from {reference.mean_iou:.4f} to {found.mean_iou:.4f}, by "
        f"{gate.miou_drop:g} it may"
    )
