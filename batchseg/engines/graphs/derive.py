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
from batchseg.engines.graphs.open_onnx import NotOpenError, open_sides
from batchseg.engines.graphs.to_onnx import OPSET, NoConversionError, to_onnx
from batchseg.errors import ModelError, StoppedError
from batchseg.models.package import Bake, Layout, ModelPackage, Network, Precision
from batchseg.system.disks import full_disks
from batchseg.system.processes import (
    NotStartedError,
    ProcessDiedError,
    call_in_fresh_process,
    captured_output,
)

VERSION = 3
"""Of the graph surgery here: another number, and nothing cached before is used."""

ONNX_FILE = "model.onnx"
REFUSAL_FILE = "refused.txt"

OPENVINO_ALONE = "OpenVINO alone runs its own files"

OPENING_TIMEOUT = 600.0
"""Seconds, for five tiles of up to nine times the network's own; ukis-csmask takes two, and the imports."""


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
        size_hw: of the network's input; None: its own. A network that can be converted only for a fixed size
            is converted for this one, and the answer's `size_hw` says so. An ONNX file that fixes another
            size is opened: the answer takes any.

    Raises:
        ModelError: the engine cannot run this network, or it cannot be converted, opened or baked. Without
            `bake` it may still run.
    """
    if package.confidence_output or package.origin == "baked" or package.output_name is not None:
        bake = None
    if package.format == "openvino":
        if package.format not in engine.formats:
            msg = f"model: {OPENVINO_ALONE}, and {engine.name} does not"
            raise ModelError(msg)
        return own_network(package)
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
        if package.format == "onnx":
            return _own_onnx(package, bake, size_hw)
        return own_network(package) if bake is None else _baked(package, bake)
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
        output_name=package.output_name,
        quantized=package.quantized,
    )


def _own_onnx(package: ModelPackage, bake: Bake | None, size_hw: tuple[int, int] | None) -> Network:
    """An ONNX file for a size of its input."""
    if size_hw is None or is_own_size(package, size_hw):
        return own_network(package) if bake is None else _baked_onnx(package, bake, package.network)
    if (reason := can_open(package)) is not None:
        taken = " x ".join("any" if side is None else str(side) for side in package.size_hw)
        msg = f"model: {package.network} takes {taken} pixels alone: {reason}; leave `tile_size` out"
        raise ModelError(msg)
    opened = str(_opened(package) / ONNX_FILE)
    network = (
        dataclasses.replace(own_network(package), path=opened)
        if bake is None
        else _baked_onnx(package, bake, opened)
    )
    return dataclasses.replace(network, size_hw=(None, None))


def is_own_size(package: ModelPackage, size_hw: tuple[int, int]) -> bool:
    """Whether a network takes such an input as it is; if not, an ONNX file has to be opened for it."""
    return bool(package.geometry) or all(
        own in (None, side) for own, side in zip(package.size_hw, size_hw, strict=True)
    )


def can_open(package: ModelPackage) -> str | None:
    """Why a network of one size cannot be run at others; None: it can, or runs at any as it is.

    It is tried once, in a process of its own, and the answer is kept: ask from wherever you are.

    Raises:
        StoppedError: this machine has no memory or no disk to try it.
    """
    if package.size_hw == (None, None):
        return None
    if package.format != "onnx":
        return "only ONNX files are opened for other sizes"
    if package.geometry:
        return f"its own {type(package.geometry[0]).__name__} brings every tile to that size"
    if package.output_name is not None:
        return f"of its several outputs {package.output_name} counts, and such files are not opened"
    if package.encrypted:
        return "it is encrypted, and what is derived of it would be kept on disk"
    try:
        folder = _opened(package)
    except ModelError as e:
        return str(e)
    refusal = folder / REFUSAL_FILE
    return refusal.read_text(encoding="utf-8") if refusal.exists() else None


def _opened(package: ModelPackage) -> Path:
    """The folder of the file for any size, or of why there is none."""
    key = _key("open", package, libraries=("onnx", "onnxruntime", "onnxruntime-gpu"))
    return cached_folder(key, functools.partial(_open, package))


def _open(package: ModelPackage, folder: Path) -> None:
    try:
        call_in_fresh_process(
            _open_silently, package.network, package.layout, package.bands, folder, timeout=OPENING_TIMEOUT
        )
    except NotOpenError as e:
        _refuse(folder, e)
    except NotStartedError as e:
        msg = f"the process that tries the model at other sizes {e}"
        raise StoppedError(msg) from e
    except ProcessDiedError as e:
        msg = f"the process that tried other sizes {e}"
        raise ModelError(msg) from e


def _open_silently(network: str, layout: Layout, bands: int | None, folder: Path) -> None:
    with captured_output():
        open_sides(network, layout, folder / ONNX_FILE, bands=bands)


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
        _refuse(folder, e)


def _refuse(folder: Path, error: ModelError) -> None:
    """Keep why a network cannot be derived."""
    if left := full_disks():  # the reason may be that; a refusal would be kept
        msg = f"{error}; {'; '.join(left)}: make room there and run the same command again"
        raise StoppedError(msg) from error
    (folder / REFUSAL_FILE).write_text(str(error), encoding="utf-8")


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
