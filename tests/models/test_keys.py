"""Where a model key comes from, and that no message holds it."""

import base64
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import ConfigError, ModelError
from batchseg.models.keys import KEY_FILE_VARIABLE, KEY_VARIABLE, ModelKey, load_key, new_key, write_key


@given(secret=st.binary(min_size=32, max_size=32))
def test_every_spelling_of_a_key_is_that_key(tmp_path_factory, secret: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "key"
    for text in (
        base64.b64encode(secret),
        base64.b64encode(secret) + b"\n",
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        secret.hex().encode(),
        secret.hex().upper().encode() + b"\r\n",
    ):
        assert load_key(environment={KEY_VARIABLE: text.decode()}) == ModelKey(secret)
        path.write_bytes(text)
        path.chmod(0o600)
        assert load_key(path, environment={}) == ModelKey(secret)
    path.write_bytes(secret)
    assert load_key(environment={KEY_FILE_VARIABLE: str(path)}) == ModelKey(secret)


def test_a_named_file_goes_before_the_environment(tmp_path: Path) -> None:
    in_file, in_environment = new_key(), new_key()
    write_key(tmp_path / "key", in_file)
    environment = {KEY_VARIABLE: in_environment.secret.hex(), KEY_FILE_VARIABLE: str(tmp_path / "key")}
    assert load_key(tmp_path / "key", environment=environment) == in_file
    assert load_key(environment=environment) == in_environment


def test_no_key_says_where_one_is_looked_for() -> None:
    with pytest.raises(ModelError, match=f"set {KEY_VARIABLE} .* or {KEY_FILE_VARIABLE}"):
        load_key(environment={})


@pytest.mark.parametrize(
    "text", ["", "short", "z" * 64, "é" * 32, "A" * 44 + "B", base64.b64encode(bytes(31)).decode()]
)
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ModelError, match="expected 32 bytes in base64 or hex") as caught:
        load_key(tmp_path / "key")
    assert not text or text not in str(caught.value)


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key())
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ModelError, match="everybody on this machine may read"):
        load_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o440)
    load_key(tmp_path / "key")
    with pytest.raises(ModelError, match="cannot read"):
        load_key(tmp_path / "gone")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key())
    with pytest.raises(ConfigError, match="File exists"):
        write_key(tmp_path / "key", new_key())


def test_a_key_shows_nothing_and_travels(tmp_path: Path) -> None:
    key = ModelKey(b"k" * 32)
    assert "k" * 4 not in f"{key!r} {key}"
    assert pickle.loads(pickle.dumps(key)) == key
    assert new_key() != new_key()
    with pytest.raises(ModelError, match="expected 32 bytes, found 31"):
        ModelKey(os.urandom(31))
