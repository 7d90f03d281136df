"""`model import`: refusals are quick and clear; where torch is, its networks answer alike as ONNX."""

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from batchseg.errors import ConfigError, ModelError
from batchseg.models.import_torch import (
    PYTHON_VARIABLE,
    ImportedModel,
    describe_imported,
    find_python,
    import_model,
    kind_of,
)
from batchseg.models.reading import read_model
from batchseg.predict.same_answers import compared

TORCH = os.environ.get(PYTHON_VARIABLE, "")
needs_torch = pytest.mark.skipif(not TORCH, reason=f"{PYTHON_VARIABLE} names no interpreter")

WRITE = """
import sys, torch
from torch import nn

torch.manual_seed(3)
net = nn.Sequential(
    nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2),
    nn.Conv2d(8, 3, 3, padding=1),
    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
).eval()

class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, image):
        scores = self.net(image)
        return scores.mean((2, 3)), scores

kind, path = sys.argv[1:]
tile = torch.rand(1, 4, 64, 64)
if kind == "trace":
    torch.jit.trace(net, tile).save(path)
elif kind == "training":
    torch.jit.trace(net.train(), tile, check_trace=False).save(path)
elif kind == "several":
    torch.jit.trace(Several().eval(), tile).save(path)
elif kind == "weights":
    torch.save(net.state_dict(), path)
else:
    flat = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)).eval()
    shapes = ({2: torch.export.Dim("h", min=8, max=512), 3: torch.export.Dim("w", min=8, max=512)},)
    torch.export.save(torch.export.export(flat, (tile,), dynamic_shapes=shapes), path)
"""


def unasked(*_: object) -> float | None:
    raise AssertionError


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name in names:
            written.writestr(f"net/{name}", b"x")
    return path


@pytest.mark.parametrize(
    ("name", "inside", "kind"),
    [
        ("a.pt", ("data.pkl", "code/__torch__.py"), "torchscript"),
        ("a.pt2", ("archive_format", "models/model.json"), "pt2"),
        ("b.pt", ("models/model.json",), "pt2"),
    ],
)
def test_what_a_file_of_pytorch_holds_shows_without_torch(name, inside, kind, tmp_path: Path) -> None:
    assert kind_of(archive(tmp_path / name, *inside)) == kind


def test_weights_without_their_network_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without the code that runs them.*torch\.jit\.trace"):
        kind_of(archive(tmp_path / "a.pth", "data.pkl", "data/0"))


def test_what_is_no_file_of_pytorch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("cut off")
    with pytest.raises(ModelError, match="neither TorchScript"):
        kind_of(tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="does not exist"):
        kind_of(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2"])
def test_a_file_of_pytorch_given_as_a_model_names_the_import(suffix, tmp_path: Path) -> None:
    path = archive(tmp_path / f"net{suffix}", "code/a.py")
    with pytest.raises(ModelError, match=rf"`batchseg model import {path} FOLDER`"):
        read_model(str(path))


def test_arguments_are_checked_before_torch_is_asked(tmp_path: Path) -> None:
    network = archive(tmp_path / "a.pt", "code/a.py")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists; name a folder that does not"):
        import_model(network, tmp_path / "there", compare=unasked)
    with pytest.raises(ConfigError, match=r"-1 for what is free; found \[1, 0"):
        import_model(network, tmp_path / "new", compare=unasked, input_shape=(1, 0, 64, 64))
    with pytest.raises(ConfigError, match="--python: nowhere is no program"):
        import_model(network, tmp_path / "new", compare=unasked, python="nowhere")
    with pytest.raises(ConfigError, match="torch is not installed beside batchseg") as caught:
        find_python(environment={})
    assert f"export {PYTHON_VARIABLE}=" in str(caught.value)


def test_an_interpreter_without_torch_is_named(tmp_path: Path) -> None:
    lacking = tmp_path / "python"
    lacking.write_text(
        '#!/bin/sh\necho \'{"error": "torch cannot be imported", "cause": "environment"}\' > "$5"\n'
    )
    lacking.chmod(0o755)
    with pytest.raises(ConfigError, match=r"python: torch cannot be imported\n.*environment of its own"):
        import_model(
            archive(tmp_path / "a.pt", "code/a.py"), tmp_path / "out", compare=unasked, python=str(lacking)
        )
    assert not (tmp_path / "out").exists()


def test_what_was_imported_is_said() -> None:
    imported = ImportedModel(
        folder=Path("out"),
        kind="torchscript",
        parameters=8_760_132,
        input_shape=(-1, 12, -1, -1),
        answers=((1, 3), (1, 3, 64, 64)),
        kept=1,
        apart=1.2e-6,
        version="2.13.0",
        digest="0",
    )
    assert describe_imported(imported) == [
        "out: TorchScript of 8,760,132 parameters, input free x 12 x free x free (batch, bands, height, "
        "width)",
        "the ONNX file answers as torch does, to 1e-06 of the largest value; made by torch 2.13.0",
        "the network gives 1 x 3, 1 x 3 x 64 x 64; number 2 of them is kept",
        "nothing says how its input is normalised: the job's `normalize` and `scale` must",
    ]


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(("kind", "name"), [("trace", "a.pt"), ("several", "a.pt"), ("program", "a.pt2")])
def test_networks_of_pytorch_answer_at_other_sizes_too(kind, name, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    script, network = tmp_path / "write.py", tmp_path / name
    script.write_text(WRITE)
    subprocess.run([TORCH, str(script), kind, str(network)], check=True)
    imported = import_model(network, tmp_path / "out", compare=compared, python=TORCH)
    assert imported.apart is not None
    assert imported.apart < 1e-5
    assert imported.kept == (kind == "several")
    package = read_model(str(tmp_path / "out"))
    assert (package.bands, package.size_hw, package.layout) == (4, (None, None), "NCHW")
    session = onnxruntime.InferenceSession(package.network, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).random((1, 4, 96, 128), dtype=np.float32)
    (answer,) = session.run(None, {session.get_inputs()[0].name: pixels})
    assert answer.shape == (1, 3, 96, 128)


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    ("kind", "words"),
    [("training", r"works as in training: the BatchNormalization .* network\.eval\(\) before")],
)
def test_what_cannot_be_imported_says_what_to_do_by_the_networks_own_name(
    kind, words, tmp_path: Path
) -> None:
    script, network = tmp_path / "write.py", tmp_path / "a.pt"
    script.write_text(WRITE)
    subprocess.run([TORCH, str(script), kind, str(network)], check=True)
    with pytest.raises(ModelError, match=words) as caught:
        import_model(network, tmp_path / "out", compare=compared, python=TORCH)
    assert str(network) in str(caught.value) and "model.onnx" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_torch
def test_weights_alone_are_refused_as_torch_writes_them(tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(WRITE)
    subprocess.run([TORCH, str(script), "weights", str(tmp_path / "a.pt")], check=True)
    with pytest.raises(ModelError, match="holds weights"):
        import_model(tmp_path / "a.pt", tmp_path / "out", compare=unasked, python=TORCH)
