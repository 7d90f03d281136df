"""`model export`: refusals are quick and clear; where PaddleSeg is, its networks come out as they are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from batchseg.errors import ConfigError, ModelError
from batchseg.models import other_python
from batchseg.models.export_paddleseg import PYTHON_VARIABLE, describe_exported, export_model, find_python
from batchseg.models.reading import read_model

BASE = """
batch_size: 2
iters: 10
train_dataset: {type: Dataset, dataset_root: data, train_path: a, num_classes: 5, mode: train, transforms: []}
val_dataset:
  type: Dataset
  dataset_root: data
  val_path: b.txt
  num_classes: 5
  mode: val
  transforms: [{type: Normalize, mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}]
loss: {types: [{type: CrossEntropyLoss}], coef: [1]}
optimizer: {type: SGD}
lr_scheduler: {type: PolynomialDecay, learning_rate: 0.01}
"""

NETWORKS = {
    "PPLiteSeg": """
model:
  type: PPLiteSeg
  backbone: {type: STDC1, pretrained: "https://nowhere.invalid/stdc1.tar.gz"}
  arm_out_chs: [32, 64, 128]
  seg_head_inter_chs: [32, 64, 64]
loss: {coef: [1, 1, 1]}
""",
    "DeepLabV3P": """
model:
  type: DeepLabV3P
  backbone:
    type: ResNet50_vd
    output_stride: 8
    multi_grid: [1, 2, 4]
    pretrained: "https://nowhere.invalid/r50.tar.gz"
  backbone_indices: [0, 3]
  aspp_ratios: [1, 12, 24, 36]
  aspp_out_channels: 256
test_config: {aug_eval: true, scales: 0.5}
""",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "network.yml"
    path.write_text(BASE)
    return path


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path, config: Path) -> None:
    weights, output = tmp_path / "w.pdparams", tmp_path / "out"
    weights.write_bytes(b"")
    notes = tmp_path / "notes.txt"
    notes.write_text("")
    for arguments, options, reason in (
        (
            (tmp_path / "gone.yml", weights, output),
            {},
            r"gone\.yml does not exist; expected a PaddleSeg config",
        ),
        ((notes, weights, output), {}, r"notes\.txt is no PaddleSeg config"),
        ((config, tmp_path / "gone.pdparams", output), {}, r"gone\.pdparams does not exist"),
        ((config, None, output), {}, "give the weights"),
        ((config, weights, output), {"random_weights": True}, "one of both"),
        ((config, weights, output), {"input_shape": (3, 512, 512)}, r"found \[3, 512, 512\]"),
        ((config, weights, output), {"settings": ["iters"]}, "KEY=VALUE.*found 'iters'"),
        ((config, weights, tmp_path), {}, "exists; name a folder that does not"),
        ((config, weights, output), {"python": str(tmp_path / "none")}, "--python: .* is no program"),
    ):
        with pytest.raises(ConfigError, match=reason):
            export_model(*arguments, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.yml", "notes.txt", "w.pdparams"]


def test_the_interpreter_is_the_one_that_is_named(tmp_path: Path) -> None:
    assert find_python(sys.executable, environment={PYTHON_VARIABLE: "elsewhere"}) == sys.executable
    assert find_python(environment={PYTHON_VARIABLE: sys.executable}) == sys.executable
    with pytest.raises(ConfigError, match=f"{PYTHON_VARIABLE}: elsewhere is no program"):
        find_python(environment={PYTHON_VARIABLE: "elsewhere"})


def test_without_paddleseg_the_commands_that_install_it_are_shown(tmp_path: Path, config: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ConfigError, match="PaddleSeg cannot be imported") as caught:
        export_model(config, None, tmp_path / "out", random_weights=True, python=str(bare))
    (requirements,) = (word for word in str(caught.value).split() if word.endswith(".txt"))
    assert "paddleseg==" in Path(requirements).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.yml", "python"]


def test_an_interpreter_that_dies_shows_its_last_words(tmp_path: Path, config: Path) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nseq 100\necho out of memory >&2\nexit 9\n")
    dying.chmod(0o755)
    with pytest.raises(ModelError, match="ended with status 9") as caught:
        export_model(config, None, tmp_path / "out", random_weights=True, python=str(dying))
    lines = str(caught.value).splitlines()
    assert lines[-1].strip() == "out of memory"
    assert len(lines) == 1 + other_python.LOG_LINES


ORACLE = """
import sys, numpy, paddle
from paddleseg.cvlibs import Config, SegBuilder
config = Config(sys.argv[1])
config.dic["model"]["backbone"]["pretrained"] = None
paddle.seed(7)
network = SegBuilder(config).model
for layer in network.sublayers():
    if hasattr(layer, "_mean"):
        layer._momentum = 0.0
x = paddle.to_tensor(numpy.load(sys.argv[2]))
network.train()
network(x)
network.eval()
paddle.save(network.state_dict(), sys.argv[3])
numpy.save(sys.argv[4], network(x)[0].numpy())
"""
"""What PaddleSeg itself gives; batch norm takes the input's statistics, so that no score vanishes."""


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(PYTHON_VARIABLE), reason=f"no {PYTHON_VARIABLE}")
@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_gives_what_paddleseg_gives(tmp_path: Path, name: str) -> None:
    (tmp_path / "base.yml").write_text(BASE)
    config = tmp_path / f"{name}.yml"
    config.write_text("_base_: './base.yml'\n" + NETWORKS[name])
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "oracle.py").write_text(ORACLE)
    weights, expected = tmp_path / "w.pdparams", tmp_path / "expected.npy"
    command = [tmp_path / "oracle.py", config, tmp_path / "x.npy", weights, expected]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [os.environ[PYTHON_VARIABLE], *map(str, command)], check=True, capture_output=True, env=environment
    )
    exported = export_model(config, weights, tmp_path / "out")
    assert (exported.network, exported.classes, exported.transforms) == (name, 5, ("Normalize",))
    assert ("resized by 0.5" in " ".join(describe_exported(exported))) == (name == "DeepLabV3P")
    deploy = yaml.safe_load((tmp_path / "out" / "deploy.yaml").read_text())["Deploy"]
    assert (tmp_path / "out" / deploy["model"]).is_file()
    assert deploy["input_shape"] == [-1, 3, -1, -1]
    model = read_model(str(tmp_path / "out"))
    assert exported.digest == model.digest
    actual, wanted = run_plain(model.network, str(model.params), x), np.load(expected)
    # Other kernels, other sums: at most a hundredth of the scores' spread after all layers.
    assert np.abs(actual - wanted).max() < 0.01 * wanted.std()
    assert np.mean(actual.argmax(1) == wanted.argmax(1)) > 0.999
    other = next(text for key, text in NETWORKS.items() if key != name)
    config.write_text("_base_: './base.yml'\n" + other)
    with pytest.raises(ModelError, match="weights of another network"):
        export_model(config, weights, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def run_plain(network: str, params: str, x: np.ndarray) -> np.ndarray:
    import paddle.inference as inference

    settings = inference.Config(network, params)
    settings.disable_gpu()
    settings.enable_new_ir(True)
    settings.enable_new_executor()
    settings.disable_glog_info()
    predictor = inference.create_predictor(settings)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(x)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
