"""A threshold that moves with its scores: what ONNX Runtime makes of them is the oracle."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from batchseg.engines.graphs.temperature import temper_onnx
from batchseg.predict.moved_threshold import NEAR, moved_threshold
from batchseg.system.yaml_text import parse_yaml

onnxruntime = pytest.importorskip("onnxruntime")


def divided(scores: np.ndarray, temperature: float, folder: Path) -> np.ndarray:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, "w"]) for name in "xp"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["p"])], "net", values[:1], values[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(folder / "a.onnx"))
    temper_onnx(folder / "a.onnx", folder / "b.onnx", temperature, "sigmoid", "NCHW")
    session = onnxruntime.InferenceSession(str(folder / "b.onnx"), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": scores[None, None, None]})
    return answer.ravel()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(-3, 3).map(np.exp),
    st.one_of(st.floats(0.001, 0.999), st.sampled_from([1e-6, 0.0157, 0.5, 0.9994, 0.99999, 1 - 1e-7])),
)
def test_every_pixel_keeps_its_class_or_there_is_no_threshold(tmp_path, temperature, threshold):
    new = moved_threshold(threshold, temperature)
    assume(new is not None)
    assert 0 < new < 1 and np.float32(new) == new
    assert float(parse_yaml(f"threshold: {new!r}")["threshold"]) == new
    old = np.float32(threshold)
    around = old + np.linspace(-100 * NEAR, 100 * NEAR, 20_001, dtype=np.float32)
    scores = np.concatenate([np.random.default_rng(0).random(20_000, np.float32), np.clip(around, 0, 1)])
    clear = np.abs(scores - old) > NEAR
    after = divided(scores, temperature, tmp_path)
    np.testing.assert_array_equal((after > np.float32(new))[clear], (scores > old)[clear])


@pytest.mark.parametrize(
    ("threshold", "temperature"), [(0.9994, 0.3), (0.7, 0.05), (0.99999, 0.7), (0.0001, 0.05), (0.01, 0.3)]
)
def test_where_float32_ends_there_is_none(threshold, temperature):
    assert moved_threshold(threshold, temperature) is None


@pytest.mark.parametrize(("threshold", "temperature"), [(0.9994, 1.4), (0.3, 2.5), (0.7, 0.7), (0.01, 0.7)])
def test_usual_temperatures_have_one(threshold, temperature):
    logit = np.log(threshold / (1 - threshold)) / temperature
    assert moved_threshold(threshold, temperature) == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-6)
