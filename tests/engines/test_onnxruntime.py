from pathlib import Path

import numpy as np
import pytest
from graphs import write_nhwc
from onnx_files import offered
from packages import onnx_package, plain, tiles

from batchseg.engines.base import engine
from batchseg.errors import ModelError
from batchseg.models.package import ModelPackage


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_channels_last_runs_from_the_file_alone(name: str, tmp_path: Path) -> None:
    package = onnx_package(write_nhwc(tmp_path / "net.onnx"), layout="NHWC", bands=6)
    session = engine(name).load(plain(package), precision="fp32", device="cpu", threads=1)
    (scores,) = session.run(tiles(6).astype(np.float32) / 255)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_does_not_start_is_no_silent_cpu(
    onnx_file: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    assert offered("onnxruntime", onnx_file, "gpu")["fp16"] is None
    with pytest.raises(ModelError, match="would run on CPUExecutionProvider: CUDAExecutionProvider did not"):
        engine("onnxruntime").load(plain(onnx_file), precision="fp32", device="gpu", threads=1)
