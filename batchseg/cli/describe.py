"""A model's package in words, for `batchseg model inspect`."""

import dataclasses
from typing import Any

from batchseg.models.package import (
    Geometry,
    LimitLong,
    ModelPackage,
    Resize,
    ResizeByLong,
    ResizeByShort,
)
from batchseg.models.transforms import DEFAULT_MEAN, DEFAULT_STD

ORIGINS = {
    "paddleseg": "PaddleSeg's deploy.yaml",
    "paddlex": "inference.yml",
    "onnx": "its ONNX metadata",
    "baked": "batchseg model bake",
    "bare": "nobody",
}

FORMATS = {"pir": "Paddle PIR program", "pdmodel": "Paddle program (.pdmodel)", "onnx": "ONNX"}

OUTPUTS = {
    "classes": "class ids",
    "logits": "scores per class (logits)",
    "probabilities": "probabilities per class",
    "sigmoid": "one band of scores in 0..1",
    None: "not declared; a tile will tell",
}


def describe(package: ModelPackage) -> str:
    """Aligned lines: a word, then what it is; further lines of the same word are indented."""
    rows = [
        ("model", _files(package)),
        ("digest", [package.digest]),
        ("input", _input(package)),
        ("before", [describe_step(step) for step in package.geometry] + _normalisation(package)),
        ("output", _output(package)),
        ("classes", [f"{n} {info.name} {info.color}" for n, info in enumerate(package.classes)]),
        ("advice", _advice(package)),
        ("limits", list(package.limits)),
    ]
    lines = []
    for word, texts in rows:
        lines += [f"{word if number == 0 else '':<8} {text}" for number, text in enumerate(texts)]
    return "\n".join(lines)


def as_dict(package: ModelPackage) -> dict[str, Any]:
    """For JSON: every field; a step of the geometry says its kind."""
    values = dataclasses.asdict(package)
    values["geometry"] = [
        {"type": type(step).__name__, **dataclasses.asdict(step)} for step in package.geometry
    ]
    return values


def describe_step(step: Geometry) -> str:
    """One step in PaddleSeg's words, sizes as height x width."""
    if isinstance(step, Resize):
        ratio = ", ratio kept" if step.keep_ratio else ""
        divisor = f", up to multiples of {step.size_divisor}" if step.size_divisor else ""
        return f"Resize to {_size(step.target_hw)} ({step.interp}{ratio}{divisor}), undone on the mask"
    if isinstance(step, ResizeByShort):
        limit = f", the long one at most {step.max_size}" if step.max_size else ""
        return f"ResizeByShort: the short side to {step.short_size}{limit}, undone on the mask"
    if isinstance(step, ResizeByLong):
        return f"ResizeByLong: the long side to {step.long_size}, undone on the mask"
    if isinstance(step, LimitLong):
        limits = (("at least", step.min_long), ("at most", step.max_long))
        words = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
        return f"LimitLong: the long side {words or 'as it is'}, undone on the mask"
    return f"Padding to {_size(step.target_hw)} with {_numbers(step.value)}, cut off the mask"


def _files(package: ModelPackage) -> list[str]:
    lines = [f"{package.network} ({FORMATS[package.format]}{', encrypted' if package.encrypted else ''})"]
    if package.params:
        lines.append(package.params)
    if package.conversion:
        lines.append(f"{package.conversion} (its owner's conversion)")
    name = f"{package.model_name}, " if package.model_name else ""
    lines.append(f"{name}described by {ORIGINS[package.origin]}")
    return lines


def _input(package: ModelPackage) -> list[str]:
    bands = (
        "bands not declared" if package.bands is None else f"{package.bands} band{'s' * (package.bands > 1)}"
    )
    size = (
        "any size" if package.size_hw == (None, None) else f"{_size(package.size_hw)} pixels (height x width)"
    )
    batch = "any batch" if package.batch is None else f"batch {package.batch}"
    lines = [f"{bands}, {package.dtype}, {package.layout}, {size}, {batch}"]
    if package.size_divisor > 1:
        lines.append(f"both sides multiples of {package.size_divisor}")
    if package.quantized:
        lines.append("quantised by its owner")
    return lines


def _size(size_hw: tuple[int | None, int | None]) -> str:
    return " x ".join("free" if side is None else str(side) for side in size_hw)


def _normalisation(package: ModelPackage) -> list[str]:
    if package.origin == "baked":
        return ["nothing: raw pixels go in"]
    if not package.declares_transforms:
        return ["not declared"]
    if package.normalize is None:
        return ["not normalised"]
    mean, std = package.normalize.mean or (DEFAULT_MEAN,), package.normalize.std or (DEFAULT_STD,)
    return [f"0..255 to 0..1, then less mean ({_numbers(mean)}), by std ({_numbers(std)})"]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _output(package: ModelPackage) -> list[str]:
    lines = [OUTPUTS[package.output]]
    if package.confidence_output:
        lines.append("a second output with the confidence")
    if package.output == "sigmoid":
        lines.append(f"class 1 above {package.threshold:g}")
    return lines


def _advice(package: ModelPackage) -> list[str]:
    """What its owner wrote and the job decides."""
    lines = []
    if package.tile_size is not None:
        halo = f", halo: {package.halo}" if package.halo is not None else ""
        lines.append(f"tile_size: {package.tile_size}{halo}")
    if package.pixel_size is not None:
        lines.append(f"pixels of {package.pixel_size:g} m on the ground")
    return lines
