import shutil
import signal

import numpy as np
import pytest
from exports import PADDLESEG_28, refusal
from factories import tensor_bytes, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ModelError
from batchseg.models.package import Normalize, Resize
from batchseg.models.reading import read_model

PADDLESEG_26 = {
    "Deploy": {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": [{"type": "Normalize"}]}
}
PADDLEX = {
    "Deploy": {**PADDLESEG_28["Deploy"], "model": "inference.pdmodel", "params": "inference.pdiparams"},
    "Global": {"model_name": "PP-LiteSeg-T"},
    "Hpi": {"backend_config": {}},
}


@pytest.mark.parametrize("suffix", [".json", ".pdmodel"])
def test_an_export_of_paddleseg_2_8_is_read_whichever_format_paddle_wrote(tmp_path, suffix):
    files = read_model(str(write_model(tmp_path, PADDLESEG_28, suffix=suffix)))
    assert files.network == str(tmp_path / f"model{suffix}")
    assert files.params == str(tmp_path / "model.pdiparams")
    assert files.normalize == Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert (files.declares_transforms, files.bands, files.output) == (True, 3, "classes")


def test_an_export_of_paddleseg_2_6_says_less(tmp_path):
    files = read_model(str(write_model(tmp_path, PADDLESEG_26, suffix=".pdmodel")))
    assert files.normalize == Normalize(mean=(), std=())
    assert (files.bands, files.output) == (None, None)


def test_an_export_for_paddlex_is_read(tmp_path):
    write_model(tmp_path, PADDLEX, name="inference", deploy_name="inference.yml")
    files = read_model(str(tmp_path))
    assert files.network == str(tmp_path / "inference.json")
    assert files.normalize.mean == (0.485, 0.456, 0.406)
    assert (files.origin, files.model_name) == ("paddlex", "PP-LiteSeg-T")


def test_a_model_without_deploy_file_is_read_and_says_so(tmp_path):
    files = read_model(str(write_model(tmp_path, name="net")))
    assert (files.declares_transforms, files.normalize) == (False, None)
    assert files.network == str(tmp_path / "net.json")


def test_missing_weights_are_named(tmp_path):
    (write_model(tmp_path, PADDLESEG_28) / "model.pdiparams").unlink()
    assert "model.pdiparams is missing" in refusal(tmp_path)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4),
    st.data(),
)
def test_weights_are_whole_or_refused(tmp_path_factory, shapes, data):
    folder = write_model(tmp_path_factory.mktemp("model"), PADDLESEG_28)
    tensors = [tensor_bytes(dims) for dims in shapes]
    whole, ends = b"".join(tensors), set(np.cumsum([len(tensor) for tensor in tensors]).tolist())
    (folder / "model.pdiparams").write_bytes(whole)
    read_model(str(folder))
    cut = data.draw(st.integers(1, len(whole) - 1).filter(lambda at: at not in ends))
    (folder / "model.pdiparams").write_bytes(whole[:cut])
    assert "model.pdiparams" in refusal(folder)


def interrupt(number, frame):
    message = "still walking through the weights"
    raise AssertionError(message)


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(20)),
        b"<html>404 Not Found</html>" * 9,
        bytes(4) + (2**62).to_bytes(8, "little") + bytes(9),
        bytes(4) + (1).to_bytes(8, "little") + b"\xff" * 8 + bytes(9),
    ],
    ids=["numbers", "page", "levels", "size"],
)
def test_weights_that_are_something_else_are_refused_at_once(tmp_path, content):
    (write_model(tmp_path, PADDLESEG_28) / "model.pdiparams").write_bytes(content)
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        assert "model.pdiparams" in refusal(tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_text_file_named_like_a_network_is_refused(tmp_path):
    (write_model(tmp_path, PADDLESEG_28) / "model.json").write_text("not a network")
    assert "not a Paddle PIR program" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".json", ".pdmodel"])
def test_an_empty_network_is_refused(tmp_path, suffix):
    (write_model(tmp_path, PADDLESEG_28, suffix=suffix) / f"model{suffix}").write_bytes(b"")
    assert f"model{suffix}" in refusal(tmp_path)


def test_a_folder_without_network_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "weights.pdparams").write_bytes(b"x")
    assert "weights.pdparams" in refusal(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent")
    (tmp_path / "model.json").write_text("{}")
    assert "is a file" in refusal(tmp_path / "model.json")
    assert "does not exist" in refusal(tmp_path / "absent.onnx")


def test_files_larger_than_the_memory_are_refused(tmp_path):
    def decrypt(path):
        raise MemoryError

    write_model(tmp_path, PADDLESEG_28)
    for name in ("model.json", "model.pdiparams"):
        (tmp_path / name).rename(tmp_path / f"{name}.enc")
    with pytest.raises(ModelError, match="does not fit into this machine's memory"):
        read_model(str(tmp_path), decrypt=decrypt)


def test_what_an_export_cannot_do_is_said(tmp_path):
    resize = {"type": "Resize", "target_size": [300, 200]}
    deploy = {"Deploy": {**PADDLESEG_28["Deploy"], "transforms": [resize], "input_shape": [2, 3, 200, 300]}}
    files = read_model(str(write_model(tmp_path, deploy)))
    assert files.geometry == (Resize(target_hw=(200, 300)),)
    assert (files.size_hw, files.batch) == ((200, 300), 2)
    assert files.limits == (
        "argmax is baked in: no confidence",
        "argmax is baked in: its size is brought back by nearest neighbour, not by scores",
        "its batch is fixed at 2",
    )
    del deploy["Deploy"]["transforms"]
    files = read_model(str(write_model(tmp_path, deploy)))
    assert files.declares_transforms is False
    assert files.limits[1:] == (
        "nothing says how its input is normalised: the job's `normalize` must",
        "its input is fixed at 200 x 300 pixels (height x width); tiles are square: it cannot be fed",
        "its batch is fixed at 2",
    )


def test_a_description_of_another_network_is_refused(models, tmp_path):
    shutil.copytree(models / "conv", tmp_path / "m")
    (tmp_path / "m" / "deploy.yaml").write_text("Deploy: {input_shape: [-1, 4, -1, -1], transforms: []}")
    message = refusal(tmp_path / "m")
    assert "[free, 3, free, free], the file beside it says [free, 4, free, free]" in message


def test_the_network_s_own_bands_count_where_nothing_is_said(models, tmp_path):
    shutil.copytree(models / "one", tmp_path / "m")
    (tmp_path / "m" / "deploy.yaml").write_text("Deploy: {transforms: []}")
    assert read_model(str(tmp_path / "m")).bands == 1


def test_an_onnx_file_beside_a_paddle_network_is_its_conversion(tmp_path):
    (write_model(tmp_path, PADDLESEG_28) / "other.onnx").write_bytes(b"x")
    assert read_model(str(tmp_path)).conversion is None
    (tmp_path / "model.onnx").write_bytes(b"x")
    files = read_model(str(tmp_path))
    assert (files.format, files.conversion) == ("pir", str(tmp_path / "model.onnx"))


def test_the_job_can_say_the_layout(tmp_path):
    deploy = {"Deploy": {**PADDLESEG_28["Deploy"], "input_shape": [-1, -1, -1, -1]}}
    write_model(tmp_path, deploy)
    assert read_model(str(tmp_path)).layout == "NCHW"
    assert read_model(str(tmp_path), layout="NHWC").layout == "NHWC"


@pytest.mark.parametrize("suffix", [".json", ".pdmodel"])
def test_encrypted_files_are_checked_as_what_they_are(tmp_path, suffix):
    plain = read_model(str(write_model(tmp_path, PADDLESEG_28, suffix=suffix)))
    for name in (f"model{suffix}", "model.pdiparams"):
        (tmp_path / f"{name}.enc").write_bytes((tmp_path / name).read_bytes()[::-1])
        (tmp_path / name).unlink()
    assert "is encrypted, and there is no key" in refusal(tmp_path)
    files = read_model(str(tmp_path), decrypt=lambda path: path.read_bytes()[::-1])
    assert (files.encrypted, files.digest, files.format) == (True, plain.digest, plain.format)
    assert files.network == str(tmp_path / f"model{suffix}.enc")
    assert files.params == str(tmp_path / "model.pdiparams.enc")
    with pytest.raises(ModelError, match=r"model\.\w+\.enc is cut off"):
        read_model(str(tmp_path), decrypt=lambda path: path.read_bytes()[:0:-1])


def test_the_digest_follows_network_and_weights_and_nothing_else(tmp_path):
    one, two = write_model(tmp_path / "one", PADDLESEG_28), write_model(tmp_path / "two", PADDLESEG_26)
    assert read_model(str(one)).digest == read_model(str(two)).digest
    for name, more in (("model.json", b" "), ("model.pdiparams", tensor_bytes((1,)))):
        before = read_model(str(two)).digest
        with (two / name).open("ab") as file:
            file.write(more)
        assert read_model(str(two)).digest != before


def test_a_package_that_is_half_encrypted_is_refused(tmp_path):
    folder = write_model(tmp_path)
    params = next(folder.glob("*.pdiparams"))
    params.rename(params.with_name(params.name + ".enc"))
    assert "beside it is not; encrypt the plain export" in refusal(folder)
