"""`batchseg model ...`: what a model is, and how it is made ready. Next: `model_trials`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from batchseg.cli.model_calibrate import add_calibrate_action
from batchseg.cli.model_trials import add_trial_actions
from batchseg.cli.terminal import Answer, Say, Streams, json_lines
from batchseg.errors import ModelError
from batchseg.models.keys import load_key, new_key, write_key
from batchseg.models.package import Geometry, LimitLong, ModelPackage, Resize, ResizeByLong, ResizeByShort
from batchseg.models.transforms import DEFAULT_MEAN, DEFAULT_STD


def add_model_commands(commands: Any, job: argparse.ArgumentParser) -> None:
    """Add `model` and what is below it; each sets `action`."""
    model = commands.add_parser(
        "model", help="inspect, try, bake, encrypt, export or import a model", allow_abbrev=False
    )
    actions = model.add_subparsers(required=True, metavar="ACTION")

    inspect = actions.add_parser("inspect", help="show what a model is", allow_abbrev=False)
    inspect.add_argument("model", metavar="MODEL", help="a model's folder, or an ONNX file")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.add_argument("--key-file", metavar="FILE", help="the key of an encrypted model")
    inspect.set_defaults(action=_inspect, only_looks=True)

    add_trial_actions(actions, job)

    bake = actions.add_parser(
        "bake",
        help="put normalisation, argmax and confidence into the graph: uint8 NHWC in, uint8 ids out",
        allow_abbrev=False,
    )
    bake.add_argument("model", metavar="MODEL", help="a model's folder, or an ONNX file")
    bake.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    bake.add_argument("--confidence", action="store_true", help="add a second output: 255 x probability")
    bake.set_defaults(action=_bake)

    encrypt = actions.add_parser("encrypt", help="encrypt a model's files (AES-256-GCM)", allow_abbrev=False)
    encrypt.add_argument("model", metavar="MODEL", help="a model's folder, or an ONNX file")
    encrypt.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    encrypt.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the key; BATCHSEG_MODEL_KEY of the environment if not given",
    )
    encrypt.set_defaults(action=_encrypt)

    key = actions.add_parser("key", help="make a key for encrypted models", allow_abbrev=False)
    key.add_argument("file", type=Path, metavar="FILE", help="a new file, readable by its owner alone")
    key.set_defaults(action=_key)

    _add_export(actions)
    _add_import(actions)
    add_calibrate_action(actions, job)


def _add_other_python(parser: argparse.ArgumentParser, package: str) -> None:
    """What each command has that makes a package in another interpreter."""
    parser.add_argument(
        "--input-shape",
        type=int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="shape of the input; -1 leaves a size free",
    )
    parser.add_argument("--python", metavar="PATH", help=f"the Python interpreter that has {package}")


def _add_export(actions: Any) -> None:
    export = actions.add_parser(
        "export", help="make a package of a PaddleSeg config and weights", allow_abbrev=False
    )
    export.add_argument("config", type=Path, metavar="CONFIG.yml", help="the config of the training")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    export.add_argument("--weights", type=Path, metavar="FILE.pdparams", help="the trained weights")
    export.add_argument(
        "--random-weights", action="store_true", help="export untrained weights, to measure speed"
    )
    export.add_argument("--output-op", choices=("none", "softmax", "argmax"), default="none")
    export.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the config; may be repeated",
    )
    _add_other_python(export, "PaddleSeg")
    export.set_defaults(action=_export)


def _add_import(actions: Any) -> None:
    imported = actions.add_parser(
        "import", help="make a package of a PyTorch network (TorchScript or .pt2)", allow_abbrev=False
    )
    imported.add_argument("network", type=Path, metavar="NET.pt", help="TorchScript, or a .pt2")
    imported.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    _add_other_python(imported, "torch")
    imported.set_defaults(action=_import)


def _inspect(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.models.reading import open_model

    streams.take()
    package = open_model(arguments.model, key_file=arguments.key_file)
    if arguments.json:
        return Answer(json_lines(as_dict(package)))
    return Answer(describe(package))


def _bake(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.models.reading import read_model
    from batchseg.predict.bake_package import rebake

    streams.take()
    package = rebake(read_model(arguments.model), arguments.folder, confidence=arguments.confidence)
    return Answer([f"baked into {arguments.folder}:", *describe(package)])


def _key(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    streams.take()
    write_key(arguments.file, new_key())
    return Answer([f"wrote a new key to {arguments.file}; without it, what it encrypts is lost"])


def _encrypt(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.models.encryption import describe_encrypted, encrypt_model
    from batchseg.models.onnx_file import external_files
    from batchseg.models.reading import read_model

    streams.take()
    key = load_key(arguments.key_file)
    network = Path(read_model(arguments.model).network)
    if network.suffix == ".onnx" and (outside := external_files(network.read_bytes(), network)):
        msg = (
            f"model: {network} keeps weights in {', '.join(outside)}, which would stay plain; save it in one "
            f"file first: onnx.save_model(onnx.load({network.name!r}), ..., save_as_external_data=False)"
        )
        raise ModelError(msg)
    return Answer(describe_encrypted(encrypt_model(Path(arguments.model), arguments.folder, key)))


def _export(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.models.export_paddleseg import describe_exported, export_model

    streams.take()
    exported = export_model(
        arguments.config,
        arguments.weights,
        arguments.folder,
        python=arguments.python,
        output_op=arguments.output_op,
        input_shape=arguments.input_shape,
        random_weights=arguments.random_weights,
        settings=arguments.settings,
    )
    return Answer(describe_exported(exported))


def _import(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.models.import_torch import describe_imported, import_model
    from batchseg.predict.same_answers import compared

    streams.take()
    imported = import_model(
        arguments.network,
        arguments.folder,
        compare=compared,
        python=arguments.python,
        input_shape=arguments.input_shape,
    )
    return Answer(describe_imported(imported))


ORIGINS = {
    "paddleseg": "PaddleSeg's deploy.yaml",
    "paddlex": "inference.yml",
    "onnx": "its ONNX metadata",
    "baked": "batchseg model bake",
    "bare": "nobody",
}


FORMATS = {
    "pir": "Paddle PIR program",
    "pdmodel": "Paddle program (.pdmodel)",
    "onnx": "ONNX",
    "openvino": "OpenVINO",
}


OUTPUTS = {
    "classes": "class ids",
    "logits": "scores per class (logits)",
    "probabilities": "probabilities per class",
    "sigmoid": "one band of scores in 0..1",
    "values": "one number a pixel",
    None: "not declared; a tile will tell",
}


def describe(package: ModelPackage) -> list[str]:
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
    return lines


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
    if package.output_name is not None:
        lines.append(f"of its outputs the one called {package.output_name}")
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
