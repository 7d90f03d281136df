"""A network's stride: how many pixels lie between two cells of the coarsest grid on which it computes.

Only tiles that lie a multiple of it apart see the raster through the same grid. It shows in the shapes of the
network's tensors.
"""

import contextlib
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import readable
from batchseg.engines.graphs.bake_onnx import show_tensors
from batchseg.engines.graphs.bake_paddle import side_by_side
from batchseg.engines.onnxruntime import plain_session
from batchseg.models.package import ModelPackage, Network
from batchseg.system.processes import captured_output

SIDES = (128, 240, 336)
"""Pixels of the smaller of both runs: about the largest stride that they show. The others are taken where a
map does not divide the first: strides such as 10, 24 and 40 divide the second, 7, 14 and 28 the third."""

SMALLEST_MAP = 8
"""Cells per side, of a network that runs at one size alone: a map of so few may be the whole tile pooled to
2 x 2 or 6 x 6. Left out, the stride that is found may be too small, and is never too large."""

Shapes = list[tuple[int, ...]]
Run = Callable[[NDArray[Any]], Shapes]


def stride_of(package: ModelPackage, network: Network, *, channels: int, side: int) -> int:
    """The least common multiple of all factors by which the network makes its input smaller.

    The network runs twice, the second time on twice the side. A map whose side doubles was made by strides,
    and input by map is their product; what stays as it was (everything pooled to one cell, or to 4 x 4)
    is no grid.

    Args:
        package: the model.
        network: its own files, decrypted or not.
        channels: number of bands that the job feeds.
        side: pixels of the network's input in the job; one that can run at no other size runs once, at this.

    Returns:
        1 where every pixel is treated alike; 0 where the library would not show its tensors.
    """
    # What fails here says nothing of the model, which has just answered: its inside stays unknown.
    with contextlib.suppress(Exception), captured_output(), _opened(package, network) as run:
        with contextlib.suppress(Exception):
            return _at_two_sizes(package, run, channels)
        return math.lcm(*_at_one_size(run(_noise(package, channels, side)), side))
    return 0


def _at_two_sizes(package: ModelPackage, run: Run, channels: int) -> int:
    """0 where no side is divided by all maps, and those that are divided show nothing."""
    best = 1
    for side in SIDES:
        small = math.lcm(side, package.size_divisor)
        once, twice = (run(_noise(package, channels, at)) for at in (small, 2 * small))
        best = math.lcm(*_grown(once, twice, small))
        if not _is_cut(once, twice, small):
            return best
    return best if best > 1 else 0


def _is_cut(once: Shapes, twice: Shapes, side: int) -> bool:
    """Whether a map grows with the input and does not divide it: a part of its last cell was cut off, or
    padded."""
    return any(
        abs(more - 2 * cells) <= 1 and cells < side and more > cells and (more != 2 * cells or side % cells)
        for shape, larger in zip(once, twice, strict=True)
        for cells, more in zip(shape, larger, strict=True)
        if cells > 1
    )


def _grown(once: Shapes, twice: Shapes, side: int) -> Iterator[int]:
    """Input by map, of every axis that grows with the input; of tokens in a row the axis grows fourfold."""
    for shape, larger in zip(once, twice, strict=True):
        for cells, more in zip(shape, larger, strict=True):
            if cells and more == 2 * cells and side % cells == 0:
                yield side // cells
            per_side = math.isqrt(cells)
            if cells and more == 4 * cells and per_side**2 == cells and side % per_side == 0:
                yield side // per_side


def _at_one_size(shapes: Shapes, side: int) -> Iterator[int]:
    """Input by map, of every square map that is no small one."""
    for shape in shapes:
        for cells, next_to_it in itertools.pairwise(shape):
            if cells == next_to_it > SMALLEST_MAP and side % cells == 0:
                yield side // cells


def _noise(package: ModelPackage, channels: int, side: int) -> NDArray[Any]:
    last = package.layout == "NHWC"
    shape = (side, side, channels) if last else (channels, side, side)
    noise = np.random.default_rng(0).random((package.batch or 1, *shape), dtype=np.float32)
    return (noise * 255 if package.dtype == "uint8" else noise).astype(package.dtype)


@contextlib.contextmanager
def _opened(package: ModelPackage, network: Network) -> Iterator[Run]:
    """The network as something that gives the shapes of all its tensors for a batch."""
    if package.format == "openvino":  # it shows its outputs alone
        raise NotImplementedError
    with readable(network) as (program, params), tempfile.TemporaryDirectory() as folder:
        if package.format == "onnx":
            session = plain_session(show_tensors(program, package.layout))
            name = session.get_inputs()[0].name
            yield lambda batch: [np.shape(value) for value in session.run(None, {name: batch})]
            return
        import paddle

        # Decrypted files are alone in a folder as they are, and must never be copied into another.
        path = Path(program) if network.encrypted else side_by_side(program, str(params), Path(folder))
        stem = str(path.with_suffix(""))
        paddle.enable_static()
        try:
            yield _paddle(stem) if package.format == "pir" else _paddle_legacy(stem)
        finally:
            paddle.disable_static()


def _paddle(stem: str) -> Run:
    import paddle

    executor = paddle.static.Executor(paddle.CPUPlace())
    program, feed, _ = paddle.static.load_inference_model(stem, executor)
    values = []
    for operator in list(program.global_block().ops):
        if operator.name() == "pd_op.fetch":  # its column would be taken for the first of those asked for
            program.global_block().remove_op(operator)
        elif operator.name() not in ("builtin.parameter", "pd_op.data", "pd_op.feed"):
            values += [value for value in operator.results() if value.is_dense_tensor_type()]
    return lambda batch: _fetched(executor, program, feed[0], batch, values)


def _paddle_legacy(stem: str) -> Run:
    import paddle

    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard():
        program, feed, _ = paddle.static.load_inference_model(stem, executor)
    block = program.global_block()
    names = [
        name
        for operator in block.ops
        if operator.type not in ("feed", "fetch")
        for name in operator.output_arg_names
        if block.has_var(name) and not block.var(name).persistable
    ]

    def run(batch: NDArray[Any]) -> Shapes:
        with paddle.pir_utils.OldIrGuard():
            return _fetched(executor, program, feed[0], batch, names)

    return run


def _fetched(executor: Any, program: Any, feed: str, batch: NDArray[Any], wanted: Sequence[Any]) -> Shapes:
    results = executor.run(program, feed={feed: batch}, fetch_list=list(wanted), return_numpy=False)
    return [tuple(result.shape()) for result in results]
