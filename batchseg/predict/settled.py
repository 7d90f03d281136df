"""What is settled about how a network runs: by the machine, by its graph, and by an output's earlier runs."""

from dataclasses import replace
from typing import get_args

from batchseg.engines.base import Device, Offer, engine
from batchseg.engines.graphs.quantize import int8_offer
from batchseg.errors import ModelError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.models.package import EngineName, ModelPackage
from batchseg.predict.choice import Choice
from batchseg.predict.predictor import network_for, with_engine
from batchseg.predict.probe import offers
from batchseg.system import fetch


def is_own(recipe: Recipe) -> bool:
    """Whether the network runs on the runtime that it was made for."""
    return recipe.engine == reference_engine(recipe.model)


def is_quantised_here(recipe: Recipe) -> bool:
    """Whether the job asks for int8 of a network that arrived in floats."""
    return recipe.precision == "int8" and not recipe.model.quantized


def _takes_owners_conversion(recipe: Recipe) -> bool:
    """An ONNX file that lies beside a Paddle network may be that of other weights: it must pass the gate."""
    formats = engine(recipe.engine).formats
    return recipe.model.conversion is not None and recipe.model.format not in formats


def with_kept_tiles(config: JobConfig, recipe: Recipe, kept: Choice | None) -> Recipe:
    """The recipe with the tiles of an output's earlier runs, as far as the job leaves them open."""
    if kept is None or kept.tile_size is None or kept.halo is None or recipe.fit == "resize":
        return recipe
    return recipe.tiled(
        kept.tile_size if config.tile_size is None else recipe.tile_size,
        kept.halo if config.halo is None else recipe.halo,
    )


def as_before(config: JobConfig, recipe: Recipe, kept: Choice) -> Recipe:
    """What the job leaves open is as the output's masks were made; the caller compares what it names."""
    name = kept.engine if config.engine == "auto" else recipe.engine
    precision = kept.precision if config.precision == "auto" else recipe.precision
    recipe = with_engine(recipe, name, precision)
    recipe = with_kept_tiles(config, recipe, kept)
    if name == kept.engine and config.device == "auto":
        recipe = replace(recipe, device=kept.device)
    if kept.asked.get("bake") and not kept.baked:
        recipe = replace(recipe, bake=None)
    if kept.quantized is not None and (name, precision) == (kept.engine, kept.precision):
        made = Quantized(**kept.quantized)
        recipe = replace(recipe, quantized=replace(made, root=made.root or config.output))
    if (name, precision) == (kept.engine, kept.precision):
        check_offer(recipe, f"; this output's masks were made by {kept.summary}. Use another output")
        if conversion_digest(recipe) != kept.conversion:
            msg = (
                f"model: {recipe.model.conversion or 'the ONNX file beside the network'} is not the one that "
                f"this output was made with; use another output, or --replace"
            )
            raise ModelError(msg)
    return recipe


def conversion_digest(recipe: Recipe) -> str | None:
    """sha256 of the owner's conversion, if this engine takes it."""
    if recipe.model.conversion is None or not _takes_owners_conversion(recipe):
        return None
    return fetch.sha256(recipe.model.conversion)


def check_asked(config: JobConfig, model: ModelPackage, device: Device) -> None:
    """Refuse a job that names an engine or a precision in which this machine cannot run the model at all.

    On a CPU nothing is loaded for it.

    Raises:
        ModelError: names what was asked for, and why not.
    """
    named, precision = config.engine, config.precision
    if (named, precision) in (("auto", "auto"), (reference_engine(model), "fp32")):
        return
    engines = get_args(EngineName) if named == "auto" else (named,)
    asked = [
        offer
        for name in engines
        for offer in _offers(name, model, device, quantised=precision == "int8" or bool(config.gate.truth))
        if precision in ("auto", offer.precision)
    ]
    if any(offer.reason is None for offer in asked):
        return
    reasons = {offer.reason for offer in asked}
    if named != "auto" and len(reasons) == 1:
        what = named if precision == "auto" else f"{named} in {precision}"
        msg = f"model: {what} on {device}: {reasons.pop()}"
        raise ModelError(msg)
    msg = "model: no engine runs it here as the job asks:"
    raise ModelError(msg, *(f"  {offer.engine} {offer.precision}: {offer.reason}" for offer in asked))


def _offers(name: EngineName, model: ModelPackage, device: Device, *, quantised: bool) -> list[Offer]:
    """Of an engine, which may quantise the model for int8."""
    found = list(offers(name, model, device))
    if name != "openvino" or not quantised or model.quantized:
        return found
    return [int8_offer(model, device) if offer.precision == "int8" else offer for offer in found]


def check_offer(recipe: Recipe, remedy: str = "") -> None:
    """Raises ModelError where this machine cannot run the recipe's engine and precision."""
    known = _offers(recipe.engine, recipe.model, recipe.device, quantised=True)
    offer = next((offer for offer in known if offer.precision == recipe.precision), None)
    reason = f"{recipe.engine} has no {recipe.precision}" if offer is None else offer.reason
    if reason:
        msg = f"model: {recipe.engine} in {recipe.precision} on {recipe.device}: {reason}{remedy}"
        raise ModelError(msg)


def bakeable(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe, without a bake where the graph cannot take it, and why."""
    if recipe.bake is None:
        return recipe, ()
    try:
        network_for(recipe)
    except ModelError as e:
        reason = str(e).removeprefix("model: ")
        note = f"normalisation and classes stay outside the network: {reason}"
        return replace(recipe, bake=None), (note,)
    return recipe, ()
