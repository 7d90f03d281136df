"""Surgery on ONNX graphs, against numpy; the graphs are made here."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import CLASSES, _write, mixing, write_nchw, write_nhwc
from onnx import TensorProto, helper
from packages import bake_of, near_ties, normalized, onnx_package, plain, probabilities, tiles

from batchseg.engines.base import engine
from batchseg.engines.graphs.bake_onnx import bake_onnx, files_of, to_float16
from batchseg.errors import ModelError
from batchseg.models.package import Network


def run(path: Path, batch: np.ndarray, name: str = "onnxruntime", **fields: Any) -> list[np.ndarray]:
    network = Network(format="onnx", path=str(path), dtype=str(batch.dtype), **fields)  # type: ignore[arg-type]
    return engine(name).load(network, precision="fp32", device="cpu", threads=1).run(batch)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_baked_graphs_give_numpys_classes_and_confidences(layout: str, opset: int, tmp_path: Path) -> None:
    nhwc = layout == "NHWC"
    bands = 6 if nhwc else 3
    write = write_nhwc if nhwc else write_nchw
    source = write(tmp_path / "net.onnx", bands, opset=opset)
    spec = bake_of(bands, confidence=True, output="probabilities" if nhwc else "logits", output_layout=layout)
    bake_onnx(str(source), spec, "NHWC" if nhwc else "NCHW", tmp_path / "baked.onnx")
    pixels = tiles(bands)
    ids, confidence = run(tmp_path / "baked.onnx", pixels, layout="NHWC", bands=bands)
    scores = np.einsum("kb,nbhw->nkhw", mixing(bands), normalized(pixels, spec))
    assert ids.dtype == confidence.dtype == np.uint8
    assert not np.any((ids != scores.argmax(axis=1)) & ~near_ties(scores))
    assert len(np.unique(ids)) >= CLASSES - 1
    assert np.abs(confidence - np.rint(probabilities(scores).max(axis=1) * 255)).max() <= 1
    cut = dataclasses.replace(spec, margin=7)
    bake_onnx(str(source), cut, "NHWC" if nhwc else "NCHW", tmp_path / "cut.onnx")
    kept = run(tmp_path / "cut.onnx", pixels, layout="NHWC", bands=bands)
    for answer, whole in zip(kept, (ids, confidence), strict=True):
        np.testing.assert_array_equal(answer, whole[:, 7:-7, 7:-7])
    if not nhwc:
        bake_onnx(str(source), dataclasses.replace(spec, layout="NCHW"), "NCHW", tmp_path / "first.onnx")
        first = run(
            tmp_path / "first.onnx", np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), layout="NCHW"
        )
        np.testing.assert_array_equal(first[0], ids)
    if opset == 13:
        again = run(tmp_path / "baked.onnx", pixels, "openvino", layout="NHWC", bands=bands)
        assert not np.any((again[0] != ids) & ~near_ties(scores))


def test_a_sigmoid_band_is_compared_with_its_threshold(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Sigmoid", ["y"], ["p"])]
    weights = mixing(3, 1).reshape(1, 3, 1, 1)
    _write(tmp_path / "net.onnx", nodes, {"w": weights}, ["n", 3, "h", "w"], ["n", 1, "h", "w"])
    spec = bake_of(3, output="sigmoid", threshold=0.3, confidence=True)
    bake_onnx((tmp_path / "net.onnx").read_bytes(), spec, "NCHW", tmp_path / "baked.onnx")
    ids, confidence = run(tmp_path / "baked.onnx", tiles(3), layout="NHWC")
    score = 1 / (1 + np.exp(-np.einsum("kb,nbhw->nkhw", mixing(3, 1), normalized(tiles(3), spec))[:, 0]))
    np.testing.assert_array_equal(ids, score > 0.3)
    winner = np.where(score > 0.3, score, 1 - score)
    assert np.abs(confidence - np.rint(winner * 255)).max() <= 1


def test_more_classes_than_a_byte_holds_come_as_int32(tmp_path: Path) -> None:
    source = write_nchw(tmp_path / "net.onnx", classes=300)
    bake_onnx(str(source), bake_of(3), "NCHW", tmp_path / "baked.onnx")
    (ids,) = run(tmp_path / "baked.onnx", tiles(3), layout="NHWC")
    assert ids.dtype == np.int32
    assert ids.max() > 255


def test_a_half_precision_input_is_normalised_in_full(tmp_path: Path) -> None:
    source = write_nhwc(tmp_path / "net.onnx", kind=TensorProto.FLOAT16)
    spec = bake_of(6, output="probabilities", output_layout="NHWC")
    bake_onnx(str(source), spec, "NHWC", tmp_path / "baked.onnx")
    (ids,) = run(tmp_path / "baked.onnx", tiles(6), layout="NHWC")
    scores = np.einsum("kb,nbhw->nkhw", mixing(6), normalized(tiles(6), spec))
    assert not np.any((ids != scores.argmax(axis=1)) & ~near_ties(scores, margin=1e-2))


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    proto = onnx.load(str(write_nchw(tmp_path / "net.onnx", classes=300)))
    onnx.save(
        proto, str(tmp_path / "out.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert files_of(tmp_path / "out.onnx") == [tmp_path / "out.onnx", tmp_path / "w.bin"]
    bake_onnx(str(tmp_path / "out.onnx"), bake_of(3), "NCHW", tmp_path / "baked.onnx")
    bake_onnx(str(tmp_path / "net.onnx"), bake_of(3), "NCHW", tmp_path / "inside.onnx")
    outside, inside = (
        run(tmp_path / name, tiles(3), layout="NHWC") for name in ("baked.onnx", "inside.onnx")
    )
    np.testing.assert_array_equal(outside[0], inside[0])


def test_fp16_keeps_inputs_and_outputs(tmp_path: Path) -> None:
    source = write_nchw(tmp_path / "net.onnx")
    half = to_float16(str(source))
    (tmp_path / "half.onnx").write_bytes(half)
    batch = normalized(tiles(3), bake_of(3))
    (scores,) = run(tmp_path / "half.onnx", batch)
    (exact,) = run(source, batch)
    assert scores.dtype == np.float32
    assert 0 < np.abs(scores - exact).max() < 0.02


def test_fp16_leaves_what_was_baked_in_fp32(tmp_path: Path) -> None:
    bake_onnx(str(write_nchw(tmp_path / "net.onnx")), bake_of(3), "NCHW", tmp_path / "baked.onnx")
    half = onnx.load_from_string(to_float16(str(tmp_path / "baked.onnx")))
    kinds = {tensor.name.startswith("batchseg_"): tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {True: TensorProto.FLOAT, False: TensorProto.FLOAT16}
    onnx.save(half, str(tmp_path / "half.onnx"))
    (ids,) = run(tmp_path / "half.onnx", tiles(3), layout="NHWC")
    (exact,) = run(tmp_path / "baked.onnx", tiles(3), layout="NHWC")
    assert ids.dtype == np.uint8
    assert np.mean(ids == exact) > 0.99


@pytest.mark.parametrize(
    ("write", "bands", "complaint"),
    [
        (lambda path: path.write_text("no graph"), 3, "cannot be read as ONNX"),
        (lambda path: write_nchw(path, opset=9), 3, "opset 9"),
        (lambda path: write_nchw(path), 4, "takes 3 bands; mean and std are given for 4"),
    ],
)
def test_graphs_that_cannot_be_baked_are_refused(
    write: Any, bands: int, complaint: str, tmp_path: Path
) -> None:
    write(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=complaint):
        bake_onnx(str(tmp_path / "net.onnx"), bake_of(bands), "NCHW", tmp_path / "baked.onnx")


def test_a_package_of_it_runs_plain(tmp_path: Path) -> None:
    package = onnx_package(write_nhwc(tmp_path / "net.onnx"), layout="NHWC", bands=6)
    session = engine("onnxruntime").load(plain(package), precision="fp32", device="cpu", threads=1)
    (scores,) = session.run(tiles(6).astype(np.float32) / 255)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)
