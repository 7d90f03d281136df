"""The key of encrypted models: from the environment or a file, never in a message."""

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchseg.errors import ConfigError, ModelError

KEY_VARIABLE = "BATCHSEG_MODEL_KEY"
"""Environment: the key itself, 32 bytes in base64 or hex."""

KEY_FILE_VARIABLE = "BATCHSEG_MODEL_KEY_FILE"
"""Environment: a file that holds the key, as 32 raw bytes, base64 or hex."""

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The key of an owner's models. It is in no repr, log or message."""

    secret: bytes = field(repr=False)
    """32 bytes."""

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            msg = f"model key: expected {KEY_BYTES} bytes, found {len(self.secret)}"
            raise ModelError(msg)


def new_key() -> ModelKey:
    """A random key."""
    return ModelKey(os.urandom(KEY_BYTES))


def write_key(path: Path, key: ModelKey) -> None:
    """Write a key as one line of base64, readable by its owner alone.

    Raises:
        ConfigError: the file exists (a key that was overwritten is lost with all its models), or the folder
            cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        msg = f"model key: cannot write {path}: {e.strerror}"
        raise ConfigError(msg) from e
    with os.fdopen(descriptor, "wb") as f:
        f.write(base64.b64encode(key.secret) + b"\n")


def load_key(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> ModelKey:
    """The key: from a file, else from the environment.

    Args:
        path: a key file; None: `BATCHSEG_MODEL_KEY`, else the file that `BATCHSEG_MODEL_KEY_FILE` names.
        environment: where those variables are.

    Raises:
        ModelError: there is none, it is no key, or everybody may read the file.
    """
    if path is None and environment.get(KEY_VARIABLE):
        return ModelKey(_decode_text(environment[KEY_VARIABLE].encode(), where=KEY_VARIABLE))
    if path is None and environment.get(KEY_FILE_VARIABLE):
        path = Path(environment[KEY_FILE_VARIABLE])
    if path is None:
        msg = (
            f"model key: there is no key; name a file, or set {KEY_VARIABLE} (base64 or hex of "
            f"{KEY_BYTES} bytes) or {KEY_FILE_VARIABLE}"
        )
        raise ModelError(msg)
    return ModelKey(_read_key_file(path))


def _read_key_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as e:
        msg = f"model key: cannot read {path}: {e.strerror}"
        raise ModelError(msg) from e
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        msg = (
            f"model key: everybody on this machine may read or write {path}; `chmod 600` it "
            f"(in Kubernetes, the secret's defaultMode: 0440)"
        )
        raise ModelError(msg)
    return content if len(content) == KEY_BYTES else _decode_text(content, where=str(path))


def _decode_text(content: bytes, *, where: str) -> bytes:
    text = content.strip()
    with contextlib.suppress(binascii.Error, ValueError):
        if len(text) == 2 * KEY_BYTES:
            return binascii.unhexlify(text)
        plain = text.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        decoded = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        if len(decoded) == KEY_BYTES:
            return decoded
    found = f"expected {KEY_BYTES} bytes in base64 or hex, found {len(text)} characters"
    msg = f"model key: {where} holds no key; {found}"
    raise ModelError(msg)
