"""The job file and the model to a recipe: what they leave open is filled in, what contradicts is refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from batchseg.errors import ConfigError, ModelError
from batchseg.job.alignment import USUAL_STRIDE, check_core, may_be_opened
from batchseg.job.averaging import check_scores
from batchseg.job.class_names import class_ids
from batchseg.job.cleaning import make_cleaning
from batchseg.job.masks import masks_in_words
from batchseg.job.numbers import check_numbers, class_count_of, sides
from batchseg.job.recipe import Area, Criterion, Product, Recipe, RegionSettings, Ruleset, is_simple, spread
from batchseg.job.resolution import model_grid
from batchseg.job.schema import LARGEST_TILE
from batchseg.job.settings import JobConfig, Photographs, RegionOptions, Rule, Scale, SceneSet
from batchseg.models import resize
from batchseg.models.package import (
    PALETTE,
    Bake,
    ClassInfo,
    EngineName,
    Format,
    ModelFacts,
    ModelPackage,
    Normalize,
)

DEFAULT_TILE_SIZE = 512

UNKNOWN = ClassInfo(name="unknown", color="#808080")
"""The class of pixels of which none of the model's is told."""

LARGEST_SIDE = LARGEST_TILE
"""Of what a Resize makes of a tile, too: beyond, one tile of float32 takes gigabytes."""


def make_recipe(
    config: JobConfig,
    model: ModelPackage,
    facts: ModelFacts,
    device: Literal["cpu", "gpu"],
    area: Area | None = None,
) -> Recipe:
    """Complete the job's settings by what the model says, and by the polygons of its `aoi`.

    The engine is the model's reference engine, in fp32, or the one that the job names.

    Raises:
        ConfigError: settings contradict each other or the model.
        ModelError: the model cannot give what the job asks for.
    """
    check_numbers(config, model, facts)
    check_scores(config, model, facts)
    names = tuple(band for band in config.bands or () if isinstance(band, str))
    numbers = tuple(band for band in config.bands or () if isinstance(band, int))
    bands = numbers or tuple(range(1, (len(names) or facts.channels) + 1))
    if len(bands) != facts.channels:
        msg = f"{config.path}: `bands` names {len(bands)}, the model takes {facts.channels}; make them agree"
        raise ConfigError(msg)
    if config.confidence and facts.output == "classes" and not model.confidence_output:
        msg = (
            f"{config.path}: confidence: true, but the model's export has argmax baked in and gives no "
            f"scores; export it with --output_op softmax or none, or set confidence: false"
        )
        raise ModelError(msg)
    if config.model.threshold is not None and facts.output != "sigmoid":
        msg = f"{config.path}: model: threshold: is for one band of scores; this model gives {facts.output}"
        raise ConfigError(msg)
    size = tile_size(config, model)
    halo = usual_halo(model, size, facts.stride) if config.halo is None else config.halo
    if config.tile_size is None and size - 2 * halo < size / 4:
        size = grown(model, size, halo, facts.stride)
    check_core(config, model, size, halo, facts.stride)
    normalize = _normalize(config, model, len(bands))
    scale = _scale(config, normalize, len(bands))
    if model.dtype == "uint8" and (scale.kind != "transforms" or normalize is not None):
        msg = f"{config.path}: the model takes raw uint8 pixels; leave out `scale`, and set normalize: none"
        raise ConfigError(msg)
    return Recipe(
        model=model,
        facts=facts,
        bands=bands,
        all_bands=config.bands is None,
        band_names=names,
        scale=scale,
        normalize=normalize,
        nodata=config.nodata,
        tile_size=size,
        halo=halo,
        engine=named_engine(config, model),
        precision="fp32" if config.precision == "auto" else config.precision,
        device=device,
        bake=_bake(config, model, facts, normalize, scale, halo),
        confidence=config.confidence,
        class_count=_class_count(config, facts),
        on_bad_block=config.on_bad_block,
        masks=tuple(masks_in_words([one.mask for _, one in config.inputs if isinstance(one, SceneSet)])),
        area=area,
        fit=config.photographs.fit if config.photographs else None,
        resolution=model.pixel_size,
        any_resolution=config.resolution == "any",
        model_grid=model_grid(
            config.resolution,
            made_for=model.pixel_size,
            max_ratio=config.max_ratio,
            mask=config.mask_resolution,
        ),
        check_values=config.check_values,
        values=config.values,
    )


def reference_engine(model: ModelPackage) -> EngineName:
    """The engine whose fp32 answers count as the model's own."""
    own: dict[Format, EngineName] = {"onnx": "onnxruntime", "openvino": "openvino"}
    return own.get(model.format, "paddle")


def named_engine(config: JobConfig, model: ModelPackage) -> EngineName:
    """The job's engine; where it names none, or leaves it to be chosen, the reference engine."""
    if config.engine != "auto":
        return config.engine
    if config.precision == "int8" and not model.quantized:
        return "openvino"  # alone runs what is quantised here
    return reference_engine(model)


USUAL_HALO = 64
"""Pixels per side."""


def usual_halo(model: ModelPackage, tile_size: int, stride: int | None) -> int:
    """The halo where no probe shows one that is enough: its owner's advice, or 64, as multiple of the stride.

    At most a quarter of the tile per side.
    """
    step = stride or 1
    if stride == 0 and tile_size % USUAL_STRIDE == 0:  # it does not show
        step = USUAL_STRIDE
    wanted = -(-(USUAL_HALO if model.halo is None else model.halo) // step) * step
    return min(wanted, tile_size // 4 // step * step)


def tile_size(config: JobConfig, model: ModelPackage) -> int:
    """Pixels per side of the network's window: the job's, the network's own, its owner's advice, or 512.

    An ONNX file may take another size than it says: `prepare_network` tries that.

    Raises:
        ConfigError: the network takes another size.
    """
    height, width = model.size_hw
    fixed = {side for side in (height, width) if side is not None}
    if model.geometry:
        fixed = set()
    if len(fixed) > 1:
        msg = f"{model.network} takes {height} x {width} pixels; tiles are square: export it for a square"
        raise ModelError(msg)
    size = config.tile_size or usual_tile_size(config, model)
    if fixed and size not in fixed and not may_be_opened(model):
        msg = (
            f"{config.path}: tile_size: {size}, but {model.network} takes {fixed.pop()} pixels; leave it out"
        )
        raise ConfigError(msg)
    network_hw = resize.network_shape(model.geometry, (size, size))
    if max(network_hw) > LARGEST_SIDE:
        msg = (
            f"model: its transforms make {network_hw[0]} x {network_hw[1]} pixels of a tile; at most "
            f"{LARGEST_SIDE} a side are taken"
        )
        raise ModelError(msg)
    if not model.geometry and size % model.size_divisor:
        msg = f"{config.path}: tile_size: {size} is no multiple of {model.size_divisor}, as the model needs"
        raise ConfigError(msg)
    return size


def usual_tile_size(config: JobConfig, model: ModelPackage) -> int:
    """The same of a job that names no tile."""
    fixed = () if model.geometry else (side for side in model.size_hw if side is not None)
    return next(iter(fixed), model.tile_size or _advised(config, model))


def grown(model: ModelPackage, tile_size: int, halo: int, stride: int | None) -> int:
    """The tile that a job gets which names a wide halo and no tile: four halos, if the network takes it."""
    is_open = model.size_hw == (None, None) or may_be_opened(model)
    if model.geometry or not is_open:
        return tile_size
    step = math.lcm(stride or USUAL_STRIDE, model.size_divisor)
    return min(-(-4 * halo // step) * step, LARGEST_TILE // step * step)


def _advised(config: JobConfig, model: ModelPackage) -> int:
    """512; for images that are resized as a whole the square that the model's own Resize makes."""
    square = (DEFAULT_TILE_SIZE, DEFAULT_TILE_SIZE)
    height, width = resize.network_shape(model.geometry, square) if is_resized(config) else square
    return height if height == width else DEFAULT_TILE_SIZE


def is_resized(config: JobConfig) -> bool:
    """Whether each image is brought to the network's size as a whole."""
    return config.photographs is not None and config.photographs.fit == "resize"


def _bake(
    config: JobConfig,
    model: ModelPackage,
    facts: ModelFacts,
    normalize: Normalize | None,
    scale: Scale,
    halo: int,
) -> Bake | None:
    """None where the job says so, or where nothing is left to put into the graph, or cannot be."""
    if not config.bake or model.encrypted or model.geometry or model.dtype != "float32":
        return None
    if is_resized(config):
        return None  # scores are interpolated before they are classified
    if facts.output == "values" or model.output_name is not None or model.format == "openvino":
        return None
    raw = scale.kind == "transforms"
    if facts.output == "classes" and not raw:
        return None
    return Bake(
        pixels="uint8" if raw else "float32",
        mean=normalize.mean if normalize else (0.0,) * facts.channels,
        std=normalize.std if normalize else (1 / 255,) * facts.channels,
        output=facts.output,
        output_layout=facts.output_layout,
        threshold=model.threshold,
        confidence=config.confidence,
        margin=halo,
        layout=model.layout if raw else "NHWC",
    )


def _class_count(config: JobConfig, facts: ModelFacts) -> int | None:
    named = len(config.classes) or None
    if facts.output == "values":
        return class_count_of(config)
    if facts.class_count is None:
        return config.num_classes or named
    for key, count in (("num_classes", config.num_classes), ("classes", named)):
        if count is not None and count != facts.class_count:
            msg = f"{config.path}: {key} says {count} classes, the model gives {facts.class_count}"
            raise ConfigError(msg)
    return facts.class_count


def _normalize(config: JobConfig, model: ModelPackage, channels: int) -> Normalize | None:
    if config.normalize == "none":
        return None
    if config.normalize == "model":
        if not model.declares_transforms:
            msg = (
                f"{config.path}: {model.path} has no deploy.yaml, so nothing says how its input was "
                f"normalised; add `normalize: {{mean: [...], std: [...]}}`, or `normalize: none`"
            )
            raise ConfigError(msg)
        normalize = model.normalize
        if normalize is None:
            return None
        # PaddleSeg's Normalize without keys: 0.5 for every band.
        normalize = Normalize(mean=normalize.mean or (0.5,), std=normalize.std or (0.5,))
    else:
        normalize = config.normalize
    lengths = {len(normalize.mean), len(normalize.std)} - {1, channels}
    if lengths:
        msg = f"{config.path}: normalize has {lengths.pop()} values, the model takes {channels} bands"
        raise ConfigError(msg)
    return Normalize(mean=spread(normalize.mean, channels), std=spread(normalize.std, channels))


def _scale(config: JobConfig, normalize: Normalize | None, channels: int) -> Scale:
    scale = config.scale
    if scale.kind == "transforms" and normalize is None:
        return Scale(kind="transforms", low=(0.0,), high=(1.0,))  # no Normalize: pixels go in as they are
    for key, values in (("low", scale.low), ("high", scale.high)):
        if len(values) not in (1, channels):
            msg = (
                f"{config.path}: scale: {len(values)} {key} values for {channels} bands; give 1 or {channels}"
            )
            raise ConfigError(msg)
    for low, high in zip(spread(scale.low, channels), spread(scale.high, channels), strict=True):
        if high <= low:
            msg = f"{config.path}: scale: stretch wants low < high, found {low:g} and {high:g}"
            raise ConfigError(msg)
    return scale


def region_settings(options: RegionOptions | None, classes: Sequence[ClassInfo]) -> RegionSettings | None:
    """Classes by id instead of by name.

    Raises:
        ConfigError: a name is not among the classes.
    """
    if options is None:
        return None
    chosen = class_ids("regions: classes", options.classes or (), classes)
    return RegionSettings(
        min_area=options.min_area,
        simplify=options.simplify,
        classes=chosen if options.classes else None,
        max_vertices=options.max_vertices,
        connectivity=options.connectivity,
    )


def resolve_rules(
    options: Photographs, classes: Sequence[ClassInfo], regions: RegionSettings | None
) -> Ruleset:
    """Rules with classes by id instead of by name, and areas in pixels.

    Args:
        options: of the job.
        classes: of the job, or of its model.
        regions: those that are recorded.

    Raises:
        ConfigError: a name is not among the classes, a class makes no regions, or a region of interest
            is no area.
    """
    return Ruleset(criteria=tuple(_criterion(rule, options, classes, regions) for rule in options.rules))


def _criterion(
    rule: Rule, options: Photographs, classes: Sequence[ClassInfo], regions: RegionSettings | None
) -> Criterion:
    where = f"rules: {rule.name}"
    chosen = class_ids(f"{where}: class", rule.classes or (), classes)
    recorded = None if regions is None else regions.classes
    without = [c for c in chosen if (c == 0 if recorded is None else c not in recorded)]
    if without:
        name = classes[without[0]].name if classes else without[0]
        msg = f"{where}: class: {name!r} makes no regions; name it in regions: {{classes: [...]}} as well"
        raise ConfigError(msg)
    if rule.interest is not None and not is_simple(rule.interest):
        msg = (
            f"{where}: region_of_interest: the corners go around no area, or sides cross; give them in order"
        )
        raise ConfigError(msg)
    return Criterion(
        name=rule.name,
        then=rule.then,
        classes=chosen if rule.classes else None,
        min_area=rule.least_px(options.pixel_size),
        count=rule.count,
        min_confidence=rule.min_confidence,
        interest=rule.interest,
        min_valid=rule.min_valid,
    )


def make_product(config: JobConfig, recipe: Recipe) -> Product:
    """Raises ConfigError where the job's regions, rules or merges name a class that is not there."""
    predicted = classes(config, recipe)
    if recipe.unknown is not None:
        predicted = (*predicted[: recipe.unknown], UNKNOWN)
    cleaning = make_cleaning(config, predicted)
    named = predicted if cleaning is None else cleaning.shown
    regions, photographs = region_settings(config.regions, named), config.photographs
    return Product(
        classes=named,
        compress=config.compress,
        regions=regions,
        photographs=photographs,
        rules=None
        if photographs is None
        else replace(resolve_rules(photographs, named, regions), check_values=config.check_values),
        cleaning=cleaning,
    )


def classes(config: JobConfig, recipe: Recipe) -> tuple[ClassInfo, ...]:
    """Names and colours, before `merge`; a model that says how many it has gets `class 0`, `class 1`, ..."""
    if config.classes:
        return config.classes
    if recipe.values is not None:
        return sides(config)
    count = recipe.facts.class_count or recipe.class_count or 0
    if recipe.model.classes and len(recipe.model.classes) >= count:
        return recipe.model.classes
    return tuple(ClassInfo(name=f"class {i}", color=PALETTE[i % len(PALETTE)]) for i in range(count))
