"""Networks in int8 for OpenVINO, made of float ones by NNCF on tiles of the data that they are for.

A quantised network is an OpenVINO file pair in a folder, or both files packed into one, which is kept.
"""

import contextlib
import importlib.metadata
import io
import logging
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, telling_line
from batchseg.engines.graphs.bake_onnx import PREFIX
from batchseg.engines.graphs.bake_paddle import baked_network
from batchseg.engines.graphs.derive import own_network
from batchseg.engines.openvino import NO_FAST_INT8, OpenVINO, import_openvino, without_telemetry
from batchseg.errors import ModelError
from batchseg.models.package import Bake, ModelPackage, Network
from batchseg.system.machine import has_fast_int8
from batchseg.system.processes import captured_output

XML, BIN = "model.xml", "model.bin"
"""Graph and weights."""

NOT_INSTALLED = "NNCF is not installed: `pip install '.[int8]'` in batchseg's clone"

QUANTIZED_KINDS = frozenset(("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"))
"""Operators whose sums OpenVINO computes from int8."""


def int8_offer(package: ModelPackage, device: Device) -> Offer:
    """Whether OpenVINO could run a float model in int8 here, if it is quantised before; imports nothing.

    Apart from `OpenVINO.offers`, which names what can be loaded as it is.
    """
    openvino = next(offer for offer in OpenVINO().offers(package, device) if offer.precision == "fp32")
    reason = openvino.reason
    if reason is None and package.format == "openvino":
        reason = "OpenVINO's own files run as they are"
    if reason is None and package.encrypted:
        reason = "the model is encrypted: it is never quantised, because that would be kept on disk"
    if reason is None and package.dtype == "float16":
        reason = "the model computes in fp16"
    if reason is None and not has_fast_int8():
        reason = NO_FAST_INT8
    if reason is None and version() is None:
        reason = NOT_INSTALLED
    return Offer(engine=OpenVINO.name, precision="int8", device=device, reason=reason)


def version() -> str | None:
    """NNCF's; None: it is not installed."""
    try:
        return importlib.metadata.version("nncf")
    except importlib.metadata.PackageNotFoundError:
        return None


def quantize(
    network: Network, batches: Iterable[NDArray[np.generic]], folder: Path, *, count: int
) -> Network:
    """Quantise a network by what its layers give for some batches; equal batches give equal files.

    To be called in a process of its own: file descriptors 1 and 2 are taken while it works, and the names
    in the files depend on how many graphs the process has held before.

    Args:
        network: the ONNX file that OpenVINO would load, baked or bare. What is baked into it stays as it is.
        batches: in the network's layout and dtype; no iterator, as they are gone through several times.
        folder: exists; gets model.xml and model.bin.
        count: of the batches, at least 1.

    Raises:
        ModelError: NNCF is not installed, or cannot quantise the network, or finds nothing to quantise.
    """
    if version() is None:
        msg = f"precision: int8: {NOT_INSTALLED}"
        raise ModelError(msg)
    if network.encrypted or network.format != "onnx":
        msg = f"model: {network.path} is no plain ONNX network; it cannot be quantised"
        raise ModelError(msg)
    kind = logging.getLoggerClass()
    try:
        # Its progress goes to Python's stdout, which need not be descriptor 1.
        with captured_output(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _quantized(network, batches, count)
    except Exception as e:  # NNCF's own classes, and RuntimeError of OpenVINO
        msg = f"model: {network.path} cannot be quantised: {telling_line(e)}"
        raise ModelError(msg) from e
    finally:
        logging.setLoggerClass(kind)  # NNCF gives the whole process another
    if not _in_int8(model):
        msg = f"model: {network.path} has no convolution that could be computed in int8"
        raise ModelError(msg)
    import_openvino().save_model(model, str(folder / XML), compress_to_fp16=False)
    return replace(
        network, format="openvino", path=str(folder / XML), params=str(folder / BIN), quantized=True
    )


def _quantized(network: Network, batches: Iterable[NDArray[np.generic]], count: int) -> Any:
    """The openvino.Model."""
    openvino = import_openvino()
    with without_telemetry():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    nncf.set_log_level(logging.CRITICAL)
    return nncf.quantize(
        # It joins batch normalisation with convolutions, which `read_model` leaves to the compiler: NNCF
        # would round between the two, which costs a fifth of the time and a third more other pixels.
        openvino.convert_model(network.path),
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=count,
        ignored_scope=nncf.IgnoredScope(patterns=[f"{PREFIX}.*"], validate=False),
        # Pixels other than fp32's without and with it: 0.71 and 1.18 % of land cover's, 0.15 and 0.14 % of
        # ukis-csmask's; and it takes twice as long.
        advanced_parameters=AdvancedQuantizationParameters(disable_bias_correction=True),
    )


def _in_int8(model: Any) -> int:
    """How many operators of QUANTIZED_KINDS get rounded values."""
    return sum(
        op.get_type_name() in QUANTIZED_KINDS
        and op.input_value(0).get_node().get_type_name() == "FakeQuantize"
        for op in model.get_ops()
    )


def quantized_network(package: ModelPackage, bake: Bake | None, folder: Path) -> Network:
    """What `quantize` wrote there, of the package's network with this in its graph."""
    network = own_network(package) if bake is None else baked_network(package, bake, folder)
    return replace(
        network, format="openvino", path=str(folder / XML), params=str(folder / BIN), quantized=True
    )


def pack(folder: Path, target: Path) -> None:
    """Both files of a quantised network as one; equal files give equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for name in (XML, BIN):
            entry = zipfile.ZipInfo(name)  # of 1980
            with (folder / name).open("rb") as source, packed.open(entry, "w", force_zip64=True) as into:
                while piece := source.read(1 << 20):
                    into.write(piece)


def unpack(content: bytes, folder: Path) -> None:
    """What `pack` made of a folder, into one. The content is one whose digest was compared.

    Raises:
        ModelError: it is no packed network.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in (XML, BIN):
                (folder / name).write_bytes(packed.read(name))
    except (zipfile.BadZipFile, KeyError) as e:
        msg = f"model: a file that is said to hold a quantised network holds none: {e}"
        raise ModelError(msg) from e
