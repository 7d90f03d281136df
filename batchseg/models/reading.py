"""A model's folder or file to its package. Nothing is run here, and nothing of Paddle is imported."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from batchseg.errors import ModelError
from batchseg.models.deploy import DEPLOY_FILES, named_stem, read_deploy
from batchseg.models.encryption import ENCRYPTED, decrypt_file
from batchseg.models.keys import load_key
from batchseg.models.mlm import pixel_size_beside
from batchseg.models.onnx_file import guess_layout, read_onnx
from batchseg.models.openvino_file import read_openvino
from batchseg.models.package import (
    LARGEST_AXIS,
    Declaration,
    Format,
    Layout,
    ModelOptions,
    ModelPackage,
    OutputKind,
    Padding,
    Signature,
)
from batchseg.models.paddle_file import check_params, read_program
from batchseg.system.excerpt import excerpt

FORMATS: dict[str, Format] = {".json": "pir", ".pdmodel": "pdmodel", ".onnx": "onnx", ".xml": "openvino"}
"""By suffix; where a folder holds several, the first is taken: deploy.yaml says .pdmodel in any case."""

TORCH_FILES = frozenset((".pt", ".pth", ".pt2", ".torchscript", ".ckpt"))

DTYPES = ("float32", "float16", "uint8")

Decrypt = Callable[[Path], bytes]
"""The plain content of an encrypted file; raises ModelError."""


def read_model(
    path: str,
    *,
    layout: Layout | None = None,
    output_name: str | None = None,
    decrypt: Decrypt | None = None,
) -> ModelPackage:
    """Find, check and describe a model.

    Args:
        path: folder of a Paddle export, folder with one ONNX file, or ONNX file.
        layout: of the network's input; None: as declared, or told from its shape.
        output_name: of an ONNX file's output that counts; None: `anomaly_map`, or the first.
        decrypt: for encrypted files; None: they are refused.

    Raises:
        ModelError: files are missing, damaged or of another kind, or a transform is not known.
    """
    try:
        return _read(path, layout, output_name, decrypt)
    except OSError as e:
        msg = f"model: cannot read {e.filename or path}: {e.strerror or e}"
        raise ModelError(msg) from e
    except MemoryError as e:
        msg = f"model: {path} does not fit into this machine's memory"
        raise ModelError(msg) from e
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        # Somebody else wrote the files, which can be wrong in more ways than are foreseen here.
        said = f"{type(e).__name__}: {excerpt(str(e))}"
        msg = f"model: {path} is damaged, or of a kind that is not known ({said})"
        raise ModelError(msg) from e


def _read(path: str, layout: Layout | None, output_name: str | None, decrypt: Decrypt | None) -> ModelPackage:
    given = Path(path)
    folder = given.parent if _suffix(given) in (".onnx", ".xml") else given
    if given.is_file() and given.suffix in TORCH_FILES:
        raise ModelError(_of_torch(given))
    if not (given.is_dir() or (given.is_file() and folder != given)):
        what = "is a file; give its folder" if given.is_file() else "does not exist"
        msg = (
            f"model: {path} {what}; expected a folder with NAME.json or .pdmodel and NAME.pdiparams, "
            f"or with one .onnx file or OpenVINO's .xml, or that file"
        )
        raise ModelError(msg)
    deploy = next((folder / name for name in DEPLOY_FILES if (folder / name).is_file()), None)
    network = given if folder != given else _find_network(folder, named_stem(deploy) if deploy else None)
    if _suffix(network) == ".xml":
        return _openvino_package(given, network, layout, output_name, deploy)
    params = None if _suffix(network) == ".onnx" else _params(network)
    declaration = read_deploy(deploy) if deploy else Declaration()
    if params is None:
        return _onnx_package(given, network, declaration, layout, output_name, decrypt)
    if output_name is not None:
        msg = f"model: output_name: is of networks with several outputs; {network} is a Paddle network"
        raise ModelError(msg)
    return _paddle_package(given, network, params, declaration, layout, decrypt)


def _of_torch(path: Path) -> str:
    return (
        f"model: {path} is a file of PyTorch. `batchseg model import {path} FOLDER` makes a package of "
        f"TorchScript and .pt2, in an environment of its own with torch; give that folder"
    )


def _params(network: Path) -> Path:
    params = _beside(network, ".pdiparams")
    if params is None:
        ending = ENCRYPTED if network.suffix == ENCRYPTED else ""
        msg = f"model: {_stem(network)}.pdiparams{ending} is missing beside {network}; copy the whole export"
        raise ModelError(msg)
    if (params.suffix == ENCRYPTED) != (network.suffix == ENCRYPTED):
        plain, hidden = (network, params) if params.suffix == ENCRYPTED else (params, network)
        msg = f"model: {hidden.name} is encrypted and {plain.name} beside it is not; encrypt the plain export"
        raise ModelError(msg)
    return params


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ENCRYPTED else path).suffix


def _beside(network: Path, suffix: str) -> Path | None:
    """The file of the same name with another suffix, encrypted or not."""
    stem = (network.with_suffix("") if network.suffix == ENCRYPTED else network).with_suffix("")
    candidates = (stem.with_name(stem.name + suffix + ending) for ending in ("", ENCRYPTED))
    return next((path for path in candidates if path.is_file()), None)


def _find_network(folder: Path, stem: str | None) -> Path:
    """The deploy file names `.pdmodel` even where Paddle 3 wrote `.json`: its stem counts."""
    weights = sorted({_stem(path) for path in folder.iterdir() if _suffix(path) == ".pdiparams"})
    if stem is None and len(weights) > 1:
        msg = f"model: {folder} holds several networks ({', '.join(weights)}); give each a folder of its own"
        raise ModelError(msg)
    for name in [stem, *weights] if stem else weights:
        for suffix in (".json", ".pdmodel"):
            if found := _beside(folder / f"{name}.x", suffix):
                return found
    for suffixes in ((".onnx",), (".xml",), (".json", ".pdmodel")):
        candidates = sorted(path for path in folder.iterdir() if _suffix(path) in suffixes)
        if len(candidates) == 1:
            return candidates[0]
        if candidates and suffixes in ((".onnx",), (".xml",)):
            names = ", ".join(candidate.name for candidate in candidates)
            msg = f"model: {folder} holds several networks ({names}); give the file, or a folder of its own"
            raise ModelError(msg)
    of_torch = sorted(path for path in folder.iterdir() if path.suffix in TORCH_FILES)
    if of_torch:
        raise ModelError(_of_torch(of_torch[0]))
    found_names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    expected = "NAME.json or NAME.pdmodel, and NAME.pdiparams; or one .onnx file; or NAME.xml and NAME.bin"
    msg = f"model: no network in {folder}; expected {expected}; found {found_names}"
    raise ModelError(msg)


def _stem(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ENCRYPTED else path).stem


def _content(path: Path, decrypt: Decrypt | None) -> bytes:
    """Plain bytes of a network's file: what digests are of, and what is checked."""
    if path.suffix == ENCRYPTED:
        if decrypt is None:
            msg = f"model: {path} is encrypted, and there is no key"
            raise ModelError(msg)
        return decrypt(path)
    try:
        return path.read_bytes()
    except OSError as e:
        msg = f"model: cannot read {path}: {e}"
        raise ModelError(msg) from e


def _paddle_package(
    given: Path,
    network: Path,
    params: Path,
    declaration: Declaration,
    layout: Layout | None,
    decrypt: Decrypt | None,
) -> ModelPackage:
    program = _content(network, decrypt)
    signature = read_program(program, str(network))
    weights = _content(params, decrypt)
    check_params(weights, str(params))
    conversion = _beside(network, ".onnx")
    return _package(
        signature,
        declaration,
        layout,
        path=str(given),
        network=str(network),
        params=str(params),
        digest=_digest(program, weights),
        encrypted=ENCRYPTED in (network.suffix, params.suffix),
        conversion=str(conversion) if conversion else None,
    )


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _onnx_package(
    given: Path,
    network: Path,
    beside: Declaration,
    layout: Layout | None,
    output_name: str | None,
    decrypt: Decrypt | None,
) -> ModelPackage:
    """A deploy file beside an ONNX file describes it as it would the Paddle network."""
    signature, inside, digest, chosen = read_onnx(_content(network, decrypt), network, output_name)
    return _package(
        signature,
        inside if beside.origin == "bare" else beside,
        layout,
        path=str(given),
        network=str(network),
        params=None,
        digest=digest,
        encrypted=network.suffix == ENCRYPTED,
        conversion=None,
        output_name=chosen,
    )


def _openvino_package(
    given: Path, network: Path, layout: Layout | None, output_name: str | None, deploy: Path | None
) -> ModelPackage:
    """Weights lie beside the network; it holds no metadata of ours."""
    weights = network.with_suffix(".bin")
    if network.suffix == ENCRYPTED:
        msg = f"model: {network} is encrypted; of OpenVINO's networks none is: encrypt the ONNX file"
        raise ModelError(msg)
    if not weights.is_file():
        msg = f"model: {weights.name} is missing beside {network}; copy both files"
        raise ModelError(msg)
    content = _content(network, None)
    signature, chosen = read_openvino(content, network, output_name)
    return _package(
        signature,
        read_deploy(deploy) if deploy else Declaration(),
        layout,
        path=str(given),
        network=str(network),
        params=str(weights),
        digest=_digest(content, _content(weights, None)),
        conversion=None,
        output_name=chosen,
    )


def _package(
    signature: Signature, declared: Declaration, layout: Layout | None, *, network: str, **files: Any
) -> ModelPackage:
    shape = _agreed_shape(signature, declared, network)
    if shape is not None and max(axis or 0 for axis in shape) > LARGEST_AXIS:
        msg = f"model: {network} takes an input of {_axes(shape)}, more than {LARGEST_AXIS:,} on one axis"
        raise ModelError(msg)
    layout = layout or declared.layout or (guess_layout(shape) if shape else "NCHW")
    if layout not in get_args(Layout):
        msg = f"model: {network}: its layout is {excerpt(layout)}; expected NCHW or NHWC"
        raise ModelError(msg)
    batch, a, b, c = shape or (None,) * 4
    bands, size_hw = (a, (b, c)) if layout == "NCHW" else (c, (a, b))
    dtype: Any = signature.dtype or declared.dtype or "float32"
    if dtype not in DTYPES:
        said = dtype if isinstance(dtype, str) else excerpt(dtype)
        msg = f"model: {network} takes {said} pixels; expected {', '.join(DTYPES)}"
        raise ModelError(msg)
    output = signature.output or declared.output
    return ModelPackage(
        origin=declared.origin,
        format=FORMATS[_suffix(Path(network))],
        network=network,
        layout=layout,
        dtype=dtype,
        bands=bands,
        size_hw=size_hw,
        batch=batch,
        size_divisor=declared.size_divisor,
        geometry=declared.geometry,
        normalize=declared.normalize,
        declares_transforms=declared.declares_transforms,
        output=output,
        confidence_output=declared.confidence_output,
        classes=declared.classes,
        threshold=declared.threshold,
        model_name=declared.model_name,
        tile_size=declared.tile_size,
        halo=declared.halo,
        pixel_size=declared.pixel_size or pixel_size_beside(Path(network)),
        quantized=signature.quantized,
        limits=(*_limits(declared, output, size_hw, batch), *declared.notes),
        **files,
    )


def _agreed_shape(signature: Signature, declared: Declaration, network: str) -> Any:
    """Axis by axis: what the network says, else what is declared."""
    if signature.shape is None or declared.shape is None:
        return signature.shape or declared.shape
    for found, said in zip(signature.shape, declared.shape, strict=True):
        if found is not None and said is not None and found != said:
            msg = (
                f"model: {network} takes an input of {_axes(signature.shape)}, the file beside it says "
                f"{_axes(declared.shape)}; one of them is of another network"
            )
            raise ModelError(msg)
    pairs = zip(signature.shape, declared.shape, strict=True)
    return tuple(found if found is not None else said for found, said in pairs)


def _axes(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("free" if axis is None else str(axis) for axis in shape) + "]"


def _limits(
    declared: Declaration,
    output: OutputKind | None,
    size_hw: tuple[int | None, int | None],
    batch: int | None,
) -> tuple[str, ...]:
    limits = []
    if output == "classes" and not declared.confidence_output:
        limits.append("argmax is baked in: no confidence")
        if any(not isinstance(step, Padding) for step in declared.geometry):
            limits.append("argmax is baked in: its size is brought back by nearest neighbour, not by scores")
    if not declared.declares_transforms:
        limits.append("nothing says how its input is normalised: the job's `normalize` must")
    if None not in size_hw and not declared.geometry:
        height, width = size_hw
        trouble = "" if height == width else "; tiles are square: it cannot be fed"
        limits.append(f"its input is fixed at {height} x {width} pixels (height x width){trouble}")
    if batch is not None:
        limits.append(f"its batch is fixed at {batch}")
    return tuple(limits)


def open_model(
    path: str, *, layout: Layout | None = None, output_name: str | None = None, key_file: str | None = None
) -> ModelPackage:
    """`read_model`, with the key of an encrypted model from a file, else from the environment."""

    def decrypt(file: Path) -> bytes:
        return decrypt_file(file, load_key(None if key_file is None else Path(key_file)))

    package = read_model(path, layout=layout, output_name=output_name, decrypt=decrypt)
    return replace(package, key_file=key_file)


def read_package(options: ModelOptions) -> ModelPackage:
    """The job's model, completed by what the job says of it. Raises ModelError."""
    package = open_model(
        options.path, layout=options.layout, output_name=options.output_name, key_file=options.key_file
    )
    given = {
        key: value
        for key in ("output", "threshold", "size_divisor")
        if (value := getattr(options, key)) is not None
    }
    return replace(package, **given)
