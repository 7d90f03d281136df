"""ONNX files of one size at others: what opens answers the same, what does not is refused with the reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import SHARED
from fixed_graphs import CLASSES, REACH, write_fixed
from graphs import write_nchw
from numpy.typing import NDArray
from onnx import TensorProto

from batchseg.engines.graphs import open_onnx
from batchseg.engines.graphs.open_onnx import NotOpenError, open_sides
from batchseg.engines.onnxruntime import plain_session
from batchseg.errors import ModelError, StoppedError


def answer(path: Path, batch: NDArray[np.generic]) -> NDArray[np.float32]:
    session = plain_session(path.read_bytes())
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def noise(side: int, bands: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(side).random((1, bands, side, side), dtype=np.float32)


@pytest.mark.parametrize("middle", ["nothing", "resize", "resize of shape"])
def test_an_opened_network_answers_a_large_tile_as_the_file_answers_its_own(
    tmp_path: Path, middle: str
) -> None:
    path, opened = write_fixed(tmp_path / "net.onnx", middle), tmp_path / "open.onnx"
    open_sides(str(path), "NCHW", opened)
    own = noise(64)
    assert answer(opened, own).tobytes() == answer(path, own).tobytes()
    large = noise(160)
    whole = answer(opened, large)
    assert whole.shape == (1, CLASSES, 160, 160)
    for row, col in ((0, 0), (32, 48), (96, 96)):
        tile = answer(path, np.ascontiguousarray(large[..., row : row + 64, col : col + 64]))
        kept = slice(REACH, -REACH)
        there = whole[..., row + REACH : row + 64 - REACH, col + REACH : col + 64 - REACH]
        np.testing.assert_allclose(tile[..., kept, kept], there, rtol=0, atol=1e-5)
    assert np.ptp(whole) > 1


def test_what_pools_over_the_whole_tile_opens(tmp_path: Path) -> None:
    open_sides(str(write_fixed(tmp_path / "net.onnx", "mean")), "NCHW", tmp_path / "open.onnx")
    assert answer(tmp_path / "open.onnx", noise(96)).shape == (1, CLASSES, 96, 96)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        ("reshape", r"Reshape to a constant shape \(my_reshape_f\)$"),
        ("reshape with batch", r"Reshape to a constant shape \(my_reshape_m\): .* with \[4, 5, 64, 64\]"),
        ("resize uneven", r"Resize to constant sizes \(my_resize_m\)"),
        ("mean resized", r"Resize to constant sizes \(my_resize_spread\)"),
        ("kernel", r"Mul \(my_mul_m\) fails at 128 x 128 pixels"),
        ("positions", r"Add \(my_add_m\) fails at 128 x 128 pixels"),
        ("mirrored", r"something else of the same pixels in a tile of 128 x 128"),
    ],
)
def test_what_runs_at_one_size_alone_is_refused_with_the_reason(
    tmp_path: Path, middle: str, reason: str
) -> None:
    path = write_fixed(tmp_path / "net.onnx", middle)
    assert answer(path, noise(64)).shape == (1, CLASSES, 64, 64)
    with pytest.raises(NotOpenError, match=reason):
        open_sides(str(path), "NCHW", tmp_path / "open.onnx")
    assert not (tmp_path / "open.onnx").exists()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
def test_other_layouts_and_types_open(tmp_path: Path, kind: int) -> None:
    path = write_fixed(tmp_path / "net.onnx", layout="NHWC", kind=kind)
    open_sides(path.read_bytes(), "NHWC", tmp_path / "open.onnx")
    graph = onnx.load(tmp_path / "open.onnx").graph
    dims = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)
    ]
    assert dims == [[0, 0, 0, 3], [0, 0, 0, CLASSES]]
    assert not graph.value_info


def test_weights_in_a_file_of_their_own_come_into_the_one(tmp_path: Path) -> None:
    write_fixed(tmp_path / "whole.onnx")
    (tmp_path / "parts").mkdir()
    path = write_fixed(tmp_path / "parts" / "net.onnx", external="weights.bin")
    open_sides(str(path), "NCHW", tmp_path / "open.onnx")
    own = noise(64)
    assert answer(tmp_path / "open.onnx", own).tobytes() == answer(tmp_path / "whole.onnx", own).tobytes()


def test_what_cannot_be_tried_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="takes any size"):
        open_sides(str(write_nchw(tmp_path / "free.onnx")), "NCHW", tmp_path / "open.onnx")
    path = str(write_fixed(tmp_path / "net.onnx"))
    with monkeypatch.context() as patch:
        patch.setattr(open_onnx, "PROTOBUF_LIMIT", 100)
        with pytest.raises(NotOpenError, match="larger than 2 GB"):
            open_sides(path, "NCHW", tmp_path / "open.onnx")

    def exhausted(content: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(open_onnx, "plain_session", exhausted)
    with pytest.raises(StoppedError, match="no memory to try the model at 64 x 64"):
        open_sides(path, "NCHW", tmp_path / "open.onnx")


def test_a_network_that_answers_otherwise_at_its_own_size_is_refused(tmp_path: Path, monkeypatch) -> None:
    calls = []

    class Drifting:
        def __init__(self, content: bytes) -> None:
            self._session = plain_session(content)
            calls.append(content)

        def run(self, names, batch):
            return [value + np.float32(1e-6) * (len(calls) - 1) for value in self._session.run(names, batch)]

    monkeypatch.setattr(open_onnx, "plain_session", Drifting)
    with pytest.raises(NotOpenError, match="gives other answers at 64 x 64 pixels"):
        open_sides(str(write_fixed(tmp_path / "net.onnx")), "NCHW", tmp_path / "open.onnx")


def test_ukis_csmask_opens_and_answers_512_pixels_as_tiles_of_256(tmp_path: Path) -> None:
    path, opened = SHARED / "ukis-csmask" / "model_6b.onnx", tmp_path / "open.onnx"
    if not path.exists():
        pytest.skip(f"no {path}")
    open_sides(str(path), "NHWC", opened)
    large = np.moveaxis(noise(512, 6), 1, -1)
    whole = answer(opened, large)
    assert whole.shape == (1, 512, 512, 5)
    for row, col in ((0, 0), (128, 128), (128, 256), (256, 256)):
        tile = answer(path, np.ascontiguousarray(large[:, row : row + 256, col : col + 256]))
        there = whole[:, row : row + 256, col : col + 256]
        np.testing.assert_allclose(tile[:, 94:-94, 94:-94], there[:, 94:-94, 94:-94], rtol=0, atol=1e-6)
