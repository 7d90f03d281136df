"""Keys that need a network's scores, and how tiles overlap and are seen for `blend` and `tta`."""

from dataclasses import replace

from batchseg.errors import ConfigError, ModelError
from batchseg.job.alignment import USUAL_STRIDE
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Augmentation, JobConfig
from batchseg.models.package import ModelFacts, ModelPackage

USUAL_SHARE = 1 / 8
"""Of a tile that it shares with a neighbour, where the job does not say."""

MOST_CLASSES = 255
"""A probability is a byte: of more classes the best may round to nothing."""

VIEW_COUNT: dict[Augmentation, int] = {"none": 1, "flips": 4, "d4": 8}
"""How often the network sees each tile: `predict.views` says how."""


def check_scores(config: JobConfig, model: ModelPackage, facts: ModelFacts) -> None:
    """Refuse what needs probabilities of a network that gives none.

    Raises:
        ConfigError: the job asks for numbers, or has too many classes.
        ModelError: the network gives ids.
    """
    key = next(iter(_asked(config)), None)
    if key is None:
        return
    asked = f"{key}: {_asked(config)[key]}"
    if facts.output == "values":
        msg = f"{config.path}: {asked} is for classes; with result: values leave it out"
        raise ConfigError(msg)
    if facts.output == "classes":
        msg = (
            f"{config.path}: {asked}, but {model.network} has argmax inside and gives no scores; export it "
            f"with --output_op softmax or none, or leave {key} out"
        )
        raise ModelError(msg)
    if (facts.class_count or 0) > MOST_CLASSES:
        msg = f"{config.path}: {asked}: the model has {facts.class_count} classes, {MOST_CLASSES} at most go"
        raise ConfigError(msg)


def _asked(config: JobConfig) -> dict[str, str]:
    """Keys of the job that need scores, as they are written."""
    keys = {
        "blend": config.blend if config.blend != "none" else "",
        "tta": config.tta if config.tta != "none" else "",
        "probabilities": "true" if config.probabilities else "",
        "threshold": "..." if config.threshold else "",
        "ignore_below": f"{config.ignore_below:g}" if config.ignore_below is not None else "",
    }
    return {key: words for key, words in keys.items() if words}


def with_averaging(config: JobConfig, recipe: Recipe) -> Recipe:
    """The recipe whose tiles are seen as often, and overlap as far beyond their halo, as the job says.

    Args:
        config: the job.
        recipe: with the tile and the halo that it will have, and nothing blended.

    Raises:
        ConfigError: the overlap does not fit the tile, or tiles would no longer line up; names one that does.
    """
    if not _asked(config):
        return recipe
    bake = recipe.bake and replace(recipe.bake, probabilities=True)
    facts = replace(recipe.facts, seconds_per_tile=VIEW_COUNT[config.tta] * recipe.facts.seconds_per_tile)
    recipe = replace(recipe, bake=bake, facts=facts, tta=config.tta)
    return recipe if config.blend == "none" else _overlapping(config, recipe)


def _overlapping(config: JobConfig, recipe: Recipe) -> Recipe:
    stride = recipe.facts.stride or (USUAL_STRIDE if recipe.tile_size % USUAL_STRIDE == 0 else 2)
    room = (recipe.tile_size - 2 * recipe.halo) // 4 // stride * stride
    overlap = _overlap(config, recipe.tile_size, stride)
    rim = overlap // 2
    is_off = bool(overlap % 2 or (recipe.halo + rim) % stride) and (config.overlap is not None)
    if rim > room or is_off or rim < 1:
        raise ConfigError(_unfit(config, recipe, overlap, room, stride))
    return replace(recipe, blend=config.blend, rim=rim, halo=recipe.halo + rim)


def _overlap(config: JobConfig, tile_size: int, stride: int) -> int:
    """In pixels: those that are named, or a share that lines up with the stride."""
    if isinstance(config.overlap, int):
        return config.overlap
    wanted = tile_size * (config.overlap or USUAL_SHARE)
    return 2 * stride * max(1, round(wanted / (2 * stride)))


def _unfit(config: JobConfig, recipe: Recipe, overlap: int, room: int, stride: int) -> str:
    core = recipe.tile_size - 2 * recipe.halo
    if not room:
        return (
            f"{config.path}: blend: {config.blend}: a tile of {recipe.tile_size} less a halo of "
            f"{recipe.halo} on each side leaves {core} pixels, which is too little to share; set tile_size: "
            f"{-(-(2 * recipe.halo + 8 * stride) // stride) * stride}"
        )
    rim = min(room, max(stride, overlap // 2 // stride * stride))
    named = config.overlap if isinstance(config.overlap, float) else f"{overlap} px"
    return (
        f"{config.path}: overlap: {named} does not fit a tile of {recipe.tile_size} with a halo of "
        f"{recipe.halo}: two tiles may share at most half of the {core} pixels that are left, in steps of "
        f"{2 * stride} (twice the network's stride); set overlap: {2 * rim}"
    )
