"""What an engine loads: the package's own files, or what is derived from them once and cached."""

import dataclasses
import functools
import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from batchseg.engines.base import Device, Engine
from batchseg.engines.graphs.bake_onnx import bake_onnx, files_of
from batchseg.engines.graphs.bake_paddle import bake as bake_paddle
from batchseg.engines.graphs.bake_paddle import baked_network
from batchseg.engines.graphs.cache import cache_key, cached_folder
from batchseg.engines.graphs.to_onnx import OPSET, NoConversionError, to_onnx
from batchseg.errors import ModelError, StoppedError
from batchseg.models.package import Bake, ModelPackage, Network, Precision
from batchseg.system.disks import full_disks

VERSION = 1
"""Of the graph surgery here: another number, and nothing cached before is used."""

ONNX_FILE = "model.onnx"
REFUSAL_FILE = "refused.txt"


def prepare_network(
    package: ModelPackage,
    *,
    engine: Engine,
    bake: Bake | None,
    precision: Precision,
    device: Device,
    size_hw: tuple[int, int] | None = None,
) -> Network:
    """The network that an engine loads.

    Args:
        package: as its owner ships it.
        engine: what will load it.
        bake: what goes into the graph; None: nothing.
        precision: of the run; kept for engines whose files depend on it.
        device: likewise.
        size_hw: of the network's input. A network that can be converted only for a fixed size is converted
            for this one, and the answer's `size_hw` says so.

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
    if package.conversion:
        files_of(Path(package.conversion))  # checked as the package's own files were
    converted, fixed_hw = (package.conversion, None) if package.conversion else _converted(package, size_hw)
    network = (
        dataclasses.replace(own_network(package), format="onnx", path=converted, params=None)
        if bake is None
        else _baked_onnx(package, bake, converted)
    )
    return dataclasses.replace(network, size_hw=fixed_hw or package.size_hw)


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
        size_hw=package.size_hw,
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


def _converted(package: ModelPackage, size_hw: tuple[int, int] | None) -> tuple[str, tuple[int, int] | None]:
    """The ONNX file, and the one size that it is for, if it is; that there is none is cached as well."""
    for size in dict.fromkeys((None, size_hw)):
        key = _key(
            "convert", package, libraries=("paddle2onnx", "paddlepaddle", "paddlepaddle-gpu"), size_hw=size
        )
        folder = cached_folder(key, functools.partial(_convert, package, size))
        if (folder / ONNX_FILE).exists():
            return str(folder / ONNX_FILE), size
    raise ModelError((folder / REFUSAL_FILE).read_text(encoding="utf-8"))


def _convert(package: ModelPackage, size_hw: tuple[int, int] | None, folder: Path) -> None:
    try:
        to_onnx(package, folder / ONNX_FILE, size_hw=size_hw)
    except NoConversionError as e:
        if left := full_disks():  # the reason may be that; a refusal would be kept
            msg = f"{e}; {'; '.join(left)}: make room there and run the same command again"
            raise StoppedError(msg) from e
        (folder / REFUSAL_FILE).write_text(str(e), encoding="utf-8")


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
    size_hw: tuple[int, int] | None = None,
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
            "size": size_hw,
            "opset": OPSET,
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
