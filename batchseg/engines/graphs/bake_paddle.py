"""Cast, normalisation, argmax and confidence inside a Paddle network: uint8 pixels in, uint8 ids out.

What is saved is worth it less for the arithmetic (6 to 12 % of a tile's time on a CPU) than for the
bytes that move: 0.8 MB in and 0.3 MB out per tile of 512 pixels, where 3 and 5 to 20 MB moved before.
"""

import contextlib
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from batchseg.engines.base import telling_line
from batchseg.engines.paddle import import_paddle
from batchseg.errors import ModelError
from batchseg.models.package import Bake, ModelPackage, Network
from batchseg.system.processes import ProcessDiedError, call_in_fresh_process, captured_output

TIMEOUT = 300.0
"""Seconds; 0.4 s and the import of paddle are usual."""

STEM = "model"


def bake(package: ModelPackage, bake: Bake, folder: Path) -> Network:
    """Write a network that takes pixels and gives ids, as a PIR program.

    Paddle works in a process of its own: it prints, it may crash, and tracing changes its global state
    (static mode, the old representation).

    Args:
        package: a Paddle network, not encrypted.
        bake: what goes into the graph.
        folder: exists; gets model.json and model.pdiparams.

    Raises:
        ModelError: Paddle cannot load, trace or write the network. It can still be run as it is.
    """
    if package.format == "onnx" or package.params is None or package.encrypted:
        msg = f"model: {package.network} is not a plain Paddle network; nothing can be baked into it"
        raise ModelError(msg)
    try:
        call_in_fresh_process(_bake, package, bake, folder, timeout=TIMEOUT)
    except ProcessDiedError as e:
        msg = f"model: {package.network} cannot be baked: the process that tried {e}"
        raise ModelError(msg) from e
    return baked_network(package, bake, folder)


def baked_network(package: ModelPackage, bake: Bake, folder: Path) -> Network:
    """What `bake` wrote there."""
    pixels = bake.pixels == "uint8"
    return Network(
        format="pir",
        path=str(folder / f"{STEM}.json"),
        params=str(folder / f"{STEM}.pdiparams"),
        layout=bake.layout if pixels else package.layout,
        bands=len(bake.mean) or package.bands if pixels else package.bands,
        size_hw=package.size_hw,
        dtype="uint8" if pixels else package.dtype,
        baked=True,
        confidence=bake.confidence,
        probabilities=bake.probabilities,
        quantized=package.quantized,
    )


def _bake(package: ModelPackage, bake: Bake, folder: Path) -> None:
    with captured_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_paddle()
        try:
            if package.format == "pir":
                _trace(package, bake, folder / STEM)
            else:
                _trace_legacy(package, bake, folder / STEM)
        except ModelError:
            raise
        except Exception as e:  # Paddle's classes are many; the network still runs as it is
            reason = telling_line(e)
            if "object has no attribute 'attr'" in reason:  # what paddle.jit.load of such a program gives
                reason = "Paddle cannot trace a program that was converted from a .pdmodel; bake that one"
            msg = f"model: {package.network} cannot be baked: {reason}"
            raise ModelError(msg) from e


def _trace(package: ModelPackage, bake: Bake, target: Path) -> None:
    import paddle

    from batchseg.engines.graphs.baked_layer import Baked

    with tempfile.TemporaryDirectory() as folder:
        program = side_by_side(package.network, str(package.params), Path(folder))
        net = paddle.jit.load(str(program.with_suffix("")))
    net.eval()
    layer = Baked(net, bake, nhwc=package.layout == "NHWC")
    layer.eval()
    traced = paddle.jit.to_static(layer, input_spec=[_input_spec(package, bake)], full_graph=True)
    paddle.jit.save(traced, str(target))


def side_by_side(network: str, params: str, folder: Path) -> Path:
    """Links to a network's two files, of one stem and alone in a folder; gives the program's.

    Both Paddle and paddle2onnx look beside a program for more files of its name. Paddle would load a
    .pdiparams.info, which is a pickle.
    """
    program, weights = folder / f"{STEM}{Path(network).suffix}", folder / f"{STEM}.pdiparams"
    for source, link in ((network, program), (params, weights)):
        try:
            link.symlink_to(Path(source).resolve())
        except OSError:
            shutil.copyfile(source, link)
    return program


def _trace_legacy(package: ModelPackage, bake: Bake, target: Path) -> None:
    import paddle

    old = target.with_name("legacy")
    # The guard's names keep clear of the loaded program's: "Variable 'tmp_3' has been created before".
    with paddle.pir_utils.DygraphOldIrGuard(), paddle.utils.unique_name.guard("batchseg_"):
        _trace(package, bake, old)
    to_pir(old, target)
    for path in old.parent.glob("legacy.*"):
        path.unlink()


def to_pir(source: Path, target: Path) -> None:
    """A .pdmodel program as a .json one; paths without suffix."""
    import paddle

    paddle.enable_static()
    try:
        executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.pir_utils.OldIrGuard():
            program, _, _ = paddle.static.load_inference_model(str(source), executor)
            translated = paddle.pir.translate_to_pir(program.desc)
        feed: list[Any] = []
        fetch: list[Any] = []
        for operator in translated.global_block().ops:
            if operator.name() == "pd_op.feed":
                feed += operator.results()
            if operator.name() in ("pd_op.fetch", "builtin.shadow_output"):
                fetch += operator.operands_source()
        with paddle.pir_utils.IrGuard():
            paddle.static.save_inference_model(str(target), feed, fetch, executor, program=translated)
    finally:
        with contextlib.suppress(Exception):
            paddle.disable_static()


def _input_spec(package: ModelPackage, bake: Bake) -> Any:
    import paddle

    bands = (len(bake.mean) if bake.pixels == "uint8" else None) or package.bands
    if bands is None:
        msg = f"model: {package.network} says no number of bands; nothing can be baked into it without"
        raise ModelError(msg)
    last = (bake.layout if bake.pixels == "uint8" else package.layout) == "NHWC"
    shape = (package.batch, *package.size_hw, bands) if last else (package.batch, bands, *package.size_hw)
    dtype = "uint8" if bake.pixels == "uint8" else package.dtype
    return paddle.static.InputSpec(list(shape), dtype, name="image")
