"""`model import`: refusals are quick and clear; where torch is, its networks answer alike as ONNX."""

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from batchseg.errors import ConfigError, ModelError
from batchseg.models.import_torch import (
    FILE,
    PYTHON_VARIABLE,
    SIDE,
    ImportedModel,
    _said_of,
    describe_imported,
    find_python,
    import_model,
    kind_of,
)
from batchseg.models.reading import read_model
from batchseg.predict.probe import probe
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

class Told(nn.Module):  # scores brought to the input's size, as a number that a trace keeps
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(4, 3, 3, stride=4, padding=1)
    def forward(self, image):
        size = (int(image.shape[2]), int(image.shape[3]))
        return nn.functional.interpolate(self.net(image), size=size, mode="bilinear", align_corners=False)

class Pooled(Several):
    def forward(self, image):
        scores = self.net(image)
        return scores + nn.functional.adaptive_avg_pool2d(scores, 6).mean((2, 3), keepdim=True)

class Named(Several):
    def forward(self, image):
        return {"aux": self.net(image).mean((2, 3)), "out": self.net(image)}

Half = nn.Sequential(nn.Conv2d(4, 3, 3, stride=2, padding=1))
Random = type("Random", (Several,), {"forward": lambda self, image: self.net(image) + torch.rand(1)})
MADE = {"told": Told, "pooled": Pooled, "named": Named, "half": lambda: Half, "random": Random}

kind, path, *side = sys.argv[1:]
if side:
    tile = torch.rand(1, 4, int(side[0]), int(side[0]))
    traced = torch.jit.trace(MADE[kind]().eval(), tile, strict=False, check_trace=False)
    traced.save(path)
    sys.exit()
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


def test_a_folder_of_nothing_else_names_it_too(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", "code/a.py")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        ModelError, match=rf"{path} is a file of PyTorch\. `batchseg model import {path} FOLDER`"
    ):
        read_model(str(tmp_path))


def test_errors_name_the_network_and_not_the_folder_in_which_it_is_made(tmp_path: Path) -> None:
    package = tmp_path / ".out-x" / "package"
    for said in (package / FILE, package):
        with (
            pytest.raises(ModelError, match=r"^cannot load /a/net\.pt: NOT_IMPLEMENTED$"),
            _said_of(Path("/a/net.pt"), package),
        ):
            raise ModelError(f"cannot load {said}: NOT_IMPLEMENTED")


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
        fixed_by_trace=False,
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


def written(tmp_path: Path, *arguments: str) -> Path:
    """A network that torch wrote."""
    script, network = tmp_path / "write.py", tmp_path / "a.pt"
    script.write_text(WRITE)
    kind, *side = arguments
    subprocess.run([TORCH, "-W", "ignore", str(script), kind, str(network), *side], check=True)
    return network


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("training",), r"works as in training: the BatchNormalization .* network\.eval\(\) before"),
        (("named", "64"), r"gives a dict \(aux, out\), .* return the tensor, or export the network as \.pt2"),
        (("pooled", "96"), r"adaptive_avg_pool2d, input size not accessible; .*: --input-shape -1 4 HEIGHT"),
        (("half", "64"), r"answers a tile of 256 x 256 with 128 x 128; expected an answer for each pixel"),
        (("random", "64"), r"as ONNX it answers otherwise"),
    ],
)
def test_what_cannot_be_imported_says_what_to_do_by_the_networks_own_name(
    arguments, words, tmp_path: Path
) -> None:
    network = written(tmp_path, *arguments)
    with pytest.raises(ModelError, match=words) as caught:
        import_model(network, tmp_path / "out", compare=compared, python=TORCH)
    said = str(caught.value)
    assert str(network) in said and "model.onnx" not in said and ".out-" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("side", [64, SIDE])
def test_sizes_that_a_trace_fixed_are_fixed_in_the_package(side, tmp_path: Path) -> None:
    """At other sizes than the trace's it gives that size: it was imported as one of any."""
    network = written(tmp_path, "told", str(side))
    imported = import_model(network, tmp_path / "out", compare=compared, python=TORCH)
    assert imported.fixed_by_trace
    assert imported.input_shape == (-1, 4, side, side)
    assert "its trace fixed height and width" in describe_imported(imported)[2]
    package = read_model(str(tmp_path / "out"))
    assert package.size_hw == (side, side)
    facts, _ = probe(package, channels=4, tile_size=side, device="cpu")
    assert facts.output == "logits"


@pytest.mark.slow
@needs_torch
def test_the_size_that_a_refusal_asks_for_helps(tmp_path: Path) -> None:
    network = written(tmp_path, "pooled", "96")
    shape = (-1, 4, 96, 96)
    imported = import_model(network, tmp_path / "out", compare=compared, python=TORCH, input_shape=shape)
    assert (imported.input_shape, imported.fixed_by_trace) == (shape, False)


@pytest.mark.slow
@needs_torch
def test_weights_alone_are_refused_as_torch_writes_them(tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(WRITE)
    subprocess.run([TORCH, str(script), "weights", str(tmp_path / "a.pt")], check=True)
    with pytest.raises(ModelError, match="holds weights"):
        import_model(tmp_path / "a.pt", tmp_path / "out", compare=unasked, python=TORCH)
