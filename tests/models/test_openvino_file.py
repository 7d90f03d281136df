"""OpenVINO's own files are read without OpenVINO."""

from pathlib import Path

import pytest
from anomaly_models import OUTPUTS, tile, write_padim

from batchseg.engines.base import engine
from batchseg.engines.graphs.derive import OPENVINO_ALONE, prepare_network
from batchseg.errors import ModelError
from batchseg.job.resolve import reference_engine
from batchseg.models.openvino_file import read_openvino
from batchseg.models.reading import read_model
from batchseg.predict.probe import offers

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ir")
    padim = write_padim(folder / "padim.onnx", [tile(0), tile(1)])
    openvino.save_model(openvino.convert_model(str(padim)), str(folder / "net" / "padim.xml"))
    return folder / "net" / "padim.xml"


def test_a_network_says_what_it_takes_and_which_output_counts(network: Path) -> None:
    signature, chosen = read_openvino(network.read_bytes(), network)
    assert (signature.shape, signature.dtype, signature.quantized) == ((None, 3, 256, 256), "float32", False)
    assert chosen == "anomaly_map"
    assert read_openvino(network.read_bytes(), network, "pred_mask")[0].output == "classes"
    with pytest.raises(ModelError, match="one answer per image"):
        read_openvino(network.read_bytes(), network, "pred_score")
    with pytest.raises(ModelError, match=f"it has {', '.join(OUTPUTS)}"):
        read_openvino(network.read_bytes(), network, "map")


def test_names_of_outputs_are_those_of_earlier_versions_too(network: Path) -> None:
    earlier = b"\n".join(
        line.partition(b' output_names="')[0] + b">" if b'type="Result"' in line else line
        for line in network.read_bytes().split(b"\n")
    )
    assert b"output_names" not in earlier
    assert read_openvino(earlier, network)[1] == "anomaly_map"


def test_the_file_and_its_folder_are_one_model(network: Path) -> None:
    package = read_model(str(network.parent))
    assert (package.format, package.bands, package.size_hw) == ("openvino", 3, (256, 256))
    assert package.params == str(network.with_suffix(".bin"))
    assert read_model(str(network)).digest == package.digest
    assert reference_engine(package) == "openvino"


def test_openvino_alone_runs_it(network: Path) -> None:
    package = read_model(str(network))
    for name in ("onnxruntime", "paddle"):
        assert {offer.reason for offer in offers(name, package, "cpu")} == {OPENVINO_ALONE}
        with pytest.raises(ModelError, match=OPENVINO_ALONE):
            prepare_network(package, engine=engine(name), bake=None, precision="fp32", device="cpu")
    assert offers("openvino", package, "cpu")[0].reason is None


def test_what_is_not_whole_is_refused(network: Path, tmp_path: Path) -> None:
    content = network.read_bytes()
    copy = tmp_path / "padim.xml"
    copy.write_bytes(content)
    with pytest.raises(ModelError, match=r"padim\.bin is missing"):
        read_model(str(copy))
    copy.with_suffix(".bin").write_bytes(network.with_suffix(".bin").read_bytes())
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cut off"):
        read_model(str(copy))
    copy.write_bytes(b"<kml><Document/></kml>")
    with pytest.raises(ModelError, match="0 inputs and 0 outputs"):
        read_model(str(copy))
