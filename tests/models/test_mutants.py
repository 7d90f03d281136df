"""Files of models, changed, cut off, nested and of odd values: a ModelError or a package, nothing else."""

import json
import random
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from exports import PADDLESEG_28
from factories import tensor_bytes, write_model
from graphs import write_onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from paddle_programs import chain, pdmodel

from batchseg.errors import ModelError
from batchseg.models.encryption import encrypt_bytes, new_package_id
from batchseg.models.keys import ModelKey, write_key
from batchseg.models.package import ModelPackage
from batchseg.models.reading import open_model

SECONDS = 10
"""A file of a few kilobytes takes milliseconds."""

METADATA = {
    "model_type": "Segmentor",
    "class_names": {"0": "_background", "1": "building"},
    "resolution": 50,
    "tile_size": 512,
    "tiles_overlap": 15,
    "standardization_mean": [0.1, 0.2, 0.3],
    "seg_thresh": 0.3,
}
OWN = {"layout": "NCHW", "mean": [0.5], "std": [0.2], "classes": ["a", {"name": "b", "color": "#000000"}],
       "output": "logits", "threshold": 0.5, "size_divisor": 32, "confidence_output": False}  # fmt: skip
STEPS = [
    {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    {"type": "Resize", "target_size": [512, 256], "keep_ratio": True, "size_divisor": 32, "interp": "LINEAR"},
    {"type": "ResizeByShort", "short_size": 512, "max_size": 2048},
    {"type": "ResizeByLong", "long_size": 1024},
    {"type": "LimitLong", "max_long": 2048, "min_long": 512},
    {"type": "Padding", "target_size": [512, 512], "im_padding_value": [0, 0, 0]},
]
DEPLOY = {
    "Deploy": {
        **PADDLESEG_28["Deploy"],
        "transforms": STEPS,
        "classes": OWN["classes"],
        "input_layout": "NCHW",
    },
    "Global": {"model_name": "PP-LiteSeg-T"},
}
PIR = chain("conv2d", "softmax", "scale", shape=[-1, 4, -1, -1])
PDMODEL = pdmodel("conv2d", "softmax", "scale", dims=[-1, 4, -1, -1])


def interrupt(number: int, frame: Any) -> None:
    message = "still reading"
    raise AssertionError(message)


def outcome(path: Path, key_file: Path | None = None) -> ModelPackage | str:
    """The package, or the message. Anything else than a ModelError comes through."""
    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    try:
        return open_model(str(path), key_file=None if key_file is None else str(key_file))
    except ModelError as e:
        assert "\n" not in str(e)
        assert len(str(e)) < 1000 + 2 * len(str(path))
        return str(e)
    finally:
        signal.alarm(0)


def write_kinds(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A model of each kind, and the file of it that is to be changed."""
    for suffix, program in ((".json", PIR), (".pdmodel", PDMODEL)):
        for name in (f"model{suffix}", "model.pdiparams", "deploy.yaml"):
            made = write_model(folder / f"{suffix[1:]}-{name}", DEPLOY, suffix=suffix)
            (made / f"model{suffix}").write_bytes(program)
            (made / "model.pdiparams").write_bytes(tensor_bytes((4, 3, 1, 1)) + tensor_bytes((4,)))
            yield made, made / name
    for name, metadata in (("deepness", METADATA), ("own", {"batchseg": OWN})):
        path = write_onnx(folder / name / "net.onnx", ends=["Transpose", "Softmax"], metadata=metadata)
        yield path, path
    path = write_onnx(folder / "outside" / "net.onnx", external="w.bin")
    yield path.parent, path


def mutants(data: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(30):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        yield bytes(changed)
    for _ in range(15):
        at, end = sorted(chance.choices(range(len(data) + 1), k=2))
        yield data[:at]
        yield data[:at] + data[end:]
        yield data[:end] + data[at:]
        yield data[:at] + chance.randbytes(chance.choice((1, 4, 9, 200))) + data[at:]
    yield b""
    yield data * 3


def test_the_originals_are_read(tmp_path):
    for model, changed in write_kinds(tmp_path):
        assert isinstance(outcome(model), ModelPackage), changed


def test_files_with_bytes_changed_or_cut_off_are_read_or_refused(tmp_path):
    chance = random.Random(16)
    refused = total = 0
    for model, changed in write_kinds(tmp_path):
        for content in mutants(changed.read_bytes(), chance):
            changed.write_bytes(content)
            refused += isinstance(outcome(model), str)
            total += 1
    assert total // 4 < refused < total


@pytest.mark.parametrize("suffix", [".json", ".pdmodel"])
def test_plain_texts_of_encrypted_files_are_read_or_refused(tmp_path, suffix):
    """Who has the key may have encrypted something else."""
    chance, key, package_id = random.Random(17), ModelKey(bytes(32)), new_package_id()
    write_key(tmp_path / "key", key)
    folder = write_model(tmp_path / "m", DEPLOY, suffix=suffix)
    plain = {f"model{suffix}": PIR if suffix == ".json" else PDMODEL, "model.pdiparams": tensor_bytes((4,))}
    for name, content in plain.items():
        (folder / name).unlink()
        sealed = encrypt_bytes(content, suffix=Path(name).suffix, package_id=package_id, key=key)
        (folder / f"{name}.enc").write_bytes(sealed)
    assert isinstance(outcome(folder, tmp_path / "key"), ModelPackage)
    for name, content in plain.items():
        path = folder / f"{name}.enc"
        whole = path.read_bytes()
        for cut in mutants(whole, chance):
            path.write_bytes(cut)
            assert cut == whole or isinstance(outcome(folder, tmp_path / "key"), str)
        for mutant in mutants(content, chance):
            kind = Path(name).suffix
            path.write_bytes(encrypt_bytes(mutant, suffix=kind, package_id=package_id, key=key))
            outcome(folder, tmp_path / "key")
        path.write_bytes(whole)


ODD = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**99, -(10**99), 0.5, -0.0, float("nan"), float("inf"),
    -float("inf"), 1e308, 5e-324, "", "x", "\x00", "\x1b[2J", "a/../b", "/etc/passwd", "x" * 5000, "é",
    "NHWC", "argmax", [], [[]], {}, {"a": 1}, {1: 2, "a": 3}, [None], [[0] * 4] * 4, ["x", 1],
    [-1, 3, -1, -1], [1e308] * 3, [float("nan")] * 3, [0, 0, 0], {"0": "a", "x": "b"}, {"name": "a"},
    ["a\nb"], [{"name": "a", "color": 7}],
)  # fmt: skip


def replaced(value: Any, odd: Any) -> Iterator[Any]:
    """The value with one part after the other in the odd one's place, and beside it."""
    yield odd
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in replaced(inner, odd))
        yield {**value, "more": odd}
        yield {**value, 7: odd}
    if isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in replaced(inner, odd))
        yield [*value, odd]


def write_yaml(path: Path, value: Any) -> None:
    path.write_text(yaml.dump(value, Dumper=yaml.CSafeDumper), encoding="utf-8")


THIRDS = (0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow))
"""Of all odd values in all places. Each third has every value, and every place with another third of them."""


@pytest.mark.parametrize("third", THIRDS)
@pytest.mark.parametrize("at", range(len(ODD)))
def test_a_deploy_file_of_odd_values_is_read_or_refused(tmp_path, at, third):
    folder = write_model(tmp_path, DEPLOY)
    for value in islice(replaced(DEPLOY, ODD[at]), (at + third) % 3, None, 3):
        write_yaml(folder / "deploy.yaml", value)
        outcome(folder)


@pytest.mark.parametrize("value", [METADATA, {"batchseg": OWN}])
def test_metadata_of_odd_values_are_read_or_refused(tmp_path, value):
    path = write_onnx(tmp_path / "net.onnx")
    model = onnx.load(path)
    for odd in ODD:
        for changed in replaced(value, odd):
            if isinstance(changed, dict):
                for encode in (json.dumps, repr):
                    helper.set_model_props(model, {str(k): encode(v) for k, v in changed.items()})
                    path.write_bytes(model.SerializeToString())
                    outcome(path)


def test_a_program_of_odd_values_is_read_or_refused(tmp_path):
    folder = write_model(tmp_path)
    for number, odd in enumerate(ODD):
        for value in islice(replaced(json.loads(PIR), odd), number % 7, None, 7):
            (folder / "model.json").write_text(json.dumps(value))
            outcome(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "-" * 100_000 + "1", "(" * 5000, "1+" * 50_000]
)
def test_texts_that_are_nested_deeply_are_read_or_refused(tmp_path, text):
    folder = write_model(tmp_path / "m", DEPLOY)
    for name, head in (
        ("model.json", '{"base_code": {"magic": "pir"}, "program": '),
        ("deploy.yaml", "Deploy: "),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_text(head + text)
        assert isinstance(outcome(folder), str)
        (folder / name).write_bytes(whole)
    for key in ("batchseg", "resolution", "class_names", "standardization_mean", "model_type"):
        assert isinstance(outcome(write_onnx(tmp_path / "net.onnx", metadata={key: text})), str)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["json", "pdmodel", "pdiparams", "onnx", "yaml"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, kind):
    folder = write_model(tmp_path_factory.mktemp("m"), suffix=".pdmodel" if kind == "pdmodel" else ".json")
    if kind == "onnx":
        folder = folder / "onnx"
        folder.mkdir()
    (folder / ("deploy.yaml" if kind == "yaml" else f"model.{kind}")).write_bytes(content)
    outcome(folder)
