"""Encrypted models: only the right key and untouched files open them, and nothing reaches a disk."""

import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.errors import ConfigError, ModelError
from batchseg.models.encryption import (
    HEADER_BYTES,
    MAGIC,
    ROLES,
    decrypt_file,
    decrypt_model,
    decrypted_files,
    describe_encrypted,
    encrypt_bytes,
    encrypt_model,
    is_encrypted,
    new_package_id,
)
from batchseg.models.keys import ModelKey, new_key

KEY = ModelKey(bytes(range(32)))

PPOCR = SHARED / "models" / "ppocrv4-det-paddle"


def scores(network: Path, params: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """What Paddle's reference predictor gives for noise."""
    import paddle.inference as inference

    config = inference.Config(str(network), str(params))
    config.disable_gpu()
    config.enable_new_ir(True)
    config.enable_new_executor()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.copy_from_cpu(np.random.default_rng(0).random(shape, dtype=np.float32))
    predictor.run()
    result: NDArray[Any] = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return result


def small_model(folder: Path, program: bytes = b"program", weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "model.json").write_bytes(program)
    (folder / "model.pdiparams").write_bytes(weights)
    return folder


def encrypted_pair(folder: Path, suffix: str = ".json") -> tuple[Path, Path]:
    return folder / f"model{suffix}.enc", folder / "model.pdiparams.enc"


@pytest.mark.parametrize(
    ("name", "suffix", "shape"),
    [("conv", ".json", (1, 3, 40, 56)), (None, ".pdmodel", (1, 3, 64, 96))],
    ids=["pir", "pdmodel"],
)
def test_paddle_reads_an_encrypted_model_from_memory_alone(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, suffix: str, shape
) -> None:
    source = models / name if name else PPOCR
    if not source.is_dir():
        pytest.skip(f"no {source}")
    plain = next(source.glob(f"*{suffix}"))
    expected = scores(plain, plain.with_suffix(".pdiparams"), shape)
    encrypt_model(source, tmp_path / "enc", KEY)
    network = tmp_path / "enc" / (plain.name + ".enc")
    params = tmp_path / "enc" / (plain.with_suffix(".pdiparams").name + ".enc")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with decrypted_files(network, params, KEY) as (readable, weights):
        assert weights is not None
        assert (readable.suffix, weights.suffix) == (suffix, ".pdiparams")
        on_disk = [path for path in temporary.rglob("*") if not path.is_dir()]
        assert sorted(on_disk) == sorted([readable, weights])
        assert all(path.is_symlink() for path in on_disk)
        assert all("/memfd:" in str(Path(path.readlink()).readlink()) for path in on_disk)
        assert stat.S_IMODE(readable.parent.stat().st_mode) == 0o700
        descriptors = [path.readlink() for path in on_disk]
        actual = scores(readable, weights, shape)
    assert np.array_equal(actual, expected)
    assert list(temporary.iterdir()) == []
    for descriptor in descriptors:
        assert not (descriptor.exists() and "/memfd:" in str(descriptor.readlink()))


def test_an_encrypted_folder_holds_no_plain_byte_of_the_network(tmp_path: Path) -> None:
    source = small_model(tmp_path / "plain", weights=b"secret weights" * 100)
    (source / "deploy.yaml").write_text("Deploy: {}\n")
    (source / "model.pdiparams.info").write_bytes(b"names")
    written = encrypt_model(source, tmp_path / "enc", KEY)
    assert sorted(p.name for p in (tmp_path / "enc").iterdir()) == sorted(
        [*written.encrypted, *written.copied]
    )
    assert written.encrypted == ("model.json.enc", "model.pdiparams.enc")
    assert written.copied == ("deploy.yaml",)
    assert written.left_out == ("model.pdiparams.info",)
    assert "left out: model.pdiparams.info" in describe_encrypted(written)
    assert all(is_encrypted(tmp_path / "enc" / name) for name in written.encrypted)
    assert b"secret" not in (tmp_path / "enc" / "model.pdiparams.enc").read_bytes()
    assert decrypt_model(*encrypted_pair(tmp_path / "enc"), KEY) == (b"program", b"secret weights" * 100)
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_onnx_file_is_encrypted_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    written = encrypt_model(tmp_path / "net.onnx", tmp_path / "enc", KEY)
    assert written.encrypted == ("net.onnx.enc",)
    assert decrypt_model(tmp_path / "enc" / "net.onnx.enc", None, KEY) == (b"onnx", None)


@given(plain=st.binary(max_size=300), data=st.data())
def test_every_changed_or_missing_byte_is_refused(
    tmp_path_factory, plain: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.json.enc"
    content = encrypt_bytes(plain, suffix=".json", package_id=new_package_id(), key=KEY)
    path.write_bytes(content)
    assert decrypt_file(path, KEY) == plain
    position = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[position] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(flipped), content[:position], content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(ModelError, match=r"altered\.json\.enc"):
            decrypt_file(path, KEY)


def test_each_byte_of_a_file_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx.enc"
    content = encrypt_bytes(b"0123456789", suffix=".onnx", package_id=new_package_id(), key=KEY)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ModelError):
            decrypt_file(path, KEY)


def test_another_key_is_named_as_the_reason(tmp_path: Path) -> None:
    encrypt_model(small_model(tmp_path / "plain"), tmp_path / "enc", KEY)
    other = new_key()
    with pytest.raises(ModelError, match="with another key") as caught:
        decrypt_model(*encrypted_pair(tmp_path / "enc"), other)
    assert other.secret.hex() not in str(caught.value)


def test_a_cut_off_file_and_a_foreign_file_say_so(tmp_path: Path) -> None:
    encrypt_model(small_model(tmp_path / "plain"), tmp_path / "enc", KEY)
    network, _ = encrypted_pair(tmp_path / "enc")
    content = network.read_bytes()
    for wrong, reason in (
        (content[: HEADER_BYTES + 3], "is cut off after"),
        (content[:-1], "was altered or cut off"),
        (b"", "no file that `batchseg model encrypt` wrote"),
        (b"text", "no file that `batchseg model encrypt` wrote"),
        (b"BSEGENC\x02" + content[8:], "of another version"),
    ):
        network.write_bytes(wrong)
        with pytest.raises(ModelError, match=reason):
            decrypt_file(network, KEY)
    network.unlink()
    with pytest.raises(ModelError, match="cannot read"):
        decrypt_file(network, KEY)


def test_files_of_another_model_and_under_another_name_are_refused(tmp_path: Path) -> None:
    encrypt_model(small_model(tmp_path / "a"), tmp_path / "a.enc", KEY)
    encrypt_model(small_model(tmp_path / "b"), tmp_path / "b.enc", KEY)
    network, params = encrypted_pair(tmp_path / "a.enc")
    _, foreign = encrypted_pair(tmp_path / "b.enc")
    with pytest.raises(ModelError, match="belongs to another model"):
        decrypt_model(network, foreign, KEY)
    params.replace(network)
    with pytest.raises(ModelError, match=r"holds a \.pdiparams file; its name says \.json"):
        decrypt_file(network, KEY)
    content = bytearray(network.read_bytes())
    content[len(MAGIC)] = ROLES[".json"]
    network.write_bytes(content)
    with pytest.raises(ModelError, match="was altered"):
        decrypt_file(network, KEY)


def test_the_same_model_twice_shares_no_bytes(tmp_path: Path) -> None:
    source = small_model(tmp_path / "plain", weights=bytes(64))
    encrypt_model(source, tmp_path / "one", KEY)
    encrypt_model(source, tmp_path / "two", KEY)
    one, two = ((tmp_path / n / "model.pdiparams.enc").read_bytes()[HEADER_BYTES:] for n in ("one", "two"))
    assert one != two


def test_sources_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    encrypt_model(small_model(tmp_path / "plain"), tmp_path / "enc", KEY)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    two = small_model(tmp_path / "two")
    (two / "other.pdiparams").write_bytes(b"")
    for source, reason in (
        (tmp_path / "enc", "is encrypted already"),
        (tmp_path / "empty", "no network in"),
        (tmp_path / "notes.txt", "neither a model folder nor an ONNX file"),
        (tmp_path / "gone", "does not exist"),
        (two, "holds several networks"),
    ):
        with pytest.raises(ModelError, match=reason):
            encrypt_model(source, tmp_path / "out", KEY)
    with pytest.raises(ConfigError, match=r"enc exists; name a folder that does not"):
        encrypt_model(tmp_path / "plain", tmp_path / "enc", KEY)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        encrypt_model(tmp_path / "plain", tmp_path / "file" / "out", KEY)


def test_what_fails_while_the_files_are_readable_leaves_none(tmp_path: Path, monkeypatch) -> None:
    encrypt_model(small_model(tmp_path / "plain"), tmp_path / "enc", KEY)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        decrypted_files(*encrypted_pair(tmp_path / "enc"), KEY) as (network, params),
    ):
        assert params is not None
        assert (network.read_bytes(), params.read_bytes()) == (b"program", b"weights")
        msg = "on purpose"
        raise RuntimeError(msg)
    assert list(temporary.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
