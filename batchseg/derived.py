"""What an engine loads: the package's own files, or what is derived from them once and cached."""

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from batchseg.baking import bake as bake_paddle
from batchseg.baking import baked_network
from batchseg.cache import cache_key, cached_folder
from batchseg.conversion import to_onnx
from batchseg.engines import Device, Engine, Precision
from batchseg.errors import ModelError
from batchseg.onnxgraph import bake_onnx, files_of
from batchseg.package import Bake, ModelPackage, Network

VERSION = 1
"""Of the graph surgery here: another number, and nothing cached before is used."""

ONNX_FILE = "model.onnx"


def prepare_network(
    package: ModelPackage, *, engine: Engine, bake: Bake | None, precision: Precision, device: Device
) -> Network:
    """The network that an engine loads.

    Args:
        package: as its owner ships it.
        engine: what will load it.
        bake: what goes into the graph; None: nothing.
        precision: of the run; kept for engines whose files depend on it.
        device: likewise.

    Raises:
        ModelError: the engine cannot run this network, or it cannot be converted or baked. Without `bake`
            the second may succeed.
    """
    if package.confidence_output or package.origin == "baked":
        bake = None
    if bake and not engine.takes_uint8 and bake.pixels == "uint8":
        msg = f"engine: {engine.name} takes float32 pixels; bake with these, or set bake: false"
        raise ModelError(msg)
    convert = package.format not in engine.formats
    if convert and "onnx" not in engine.formats:
        msg = (
            f"model: {engine.name} does not run the ONNX file {package.network}; use onnxruntime or openvino"
        )
        raise ModelError(msg)
    if package.encrypted and (convert or bake):
        what = "converted" if convert else "baked"
        msg = f"model: {package.network} is encrypted: it is never {what}, because that would be kept on disk"
        raise ModelError(msg)
    if not convert:
        if bake is None:
            return own_network(package)
        return (
            _baked_onnx(package, bake, package.network) if package.format == "onnx" else _baked(package, bake)
        )
    converted = package.conversion or str(_converted(package))
    if bake is None:
        own = own_network(package)
        return dataclasses.replace(own, format="onnx", path=converted, params=None)
    return _baked_onnx(package, bake, converted)


def own_network(package: ModelPackage) -> Network:
    """The package's own files."""
    return Network(
        format=package.format,
        path=package.network,
        params=package.params,
        encrypted=package.encrypted,
        key_file=package.key_file,
        layout=package.layout,
        bands=package.bands,
        dtype=package.dtype,
        baked=package.origin == "baked",
        confidence=package.confidence_output,
        quantized=package.quantized,
    )


def _baked(package: ModelPackage, bake: Bake) -> Network:
    def make(folder: Path) -> None:
        bake_paddle(package, bake, folder)

    key = _key("bake", package, bake=bake, libraries=("paddlepaddle", "paddlepaddle-gpu"))
    return baked_network(package, bake, cached_folder(key, make))


def _converted(package: ModelPackage) -> Path:
    def make(folder: Path) -> None:
        to_onnx(package, folder / ONNX_FILE)

    key = _key("convert", package, libraries=("paddle2onnx", "paddlepaddle", "paddlepaddle-gpu"))
    return cached_folder(key, make) / ONNX_FILE


def _baked_onnx(package: ModelPackage, bake: Bake, source: str) -> Network:
    def make(folder: Path) -> None:
        bake_onnx(source, bake, package.layout, folder / ONNX_FILE)

    # What is not the package's own network is known by its content: an owner's conversion may be replaced.
    digest = None if source == package.network else _content(source)
    key = _key("bake-onnx", package, bake=bake, source=digest, libraries=("onnx",))
    network = baked_network(package, bake, cached_folder(key, make))
    return dataclasses.replace(
        network, format="onnx", path=str(Path(network.path).with_name(ONNX_FILE)), params=None
    )


def _key(
    what: str,
    package: ModelPackage,
    *,
    libraries: Sequence[str],
    bake: Bake | None = None,
    source: str | None = None,
) -> str:
    shape = (package.layout, package.dtype, package.bands, package.size_hw, package.batch)
    return cache_key(
        {
            "what": what,
            "version": VERSION,
            "model": package.digest,
            "input": shape,
            "bake": dataclasses.asdict(bake) if bake else None,
            "source": source,
            "libraries": {name: _version(name) for name in libraries},
        }
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _content(path: str) -> str:
    digest = hashlib.sha256()
    for file in files_of(Path(path)):
        with file.open("rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    return digest.hexdigest()
