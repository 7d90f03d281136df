"""Encrypted models: AES-256-GCM files that are decrypted in memory only.

A file is `MAGIC`, the role (1 byte), the package id (16), a check of the key (16), the nonce (12), then the
ciphertext with its 16-byte tag. All before the ciphertext is authenticated with it. The files of one model
share a random package id, from which and from the owner's key HKDF-SHA256 (RFC 5869) makes the key of these
files: so neither a file of another model nor one under another name is taken for the one that is missing.
"""

import contextlib
import hmac
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError, ModelError
from batchseg.models.keys import KEY_BYTES, ModelKey

ENCRYPTED = ".enc"
"""Suffix of an encrypted file, after the plain one."""

ROLES = {".json": 1, ".pdmodel": 2, ".pdiparams": 3, ".onnx": 4}
"""Which file of a model it is, by the plain suffix; as written into the header."""

PLAIN_FILES = ("deploy.yaml", "inference.yml", "inference.yaml")
"""Copied as they are: class names and pre-processing are no secret, and are edited by hand."""

MAGIC = b"BSEGENC\x01"
ID_BYTES = 16
CHECK_BYTES = 16
NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2
TAG_BYTES = 16
HEADER_BYTES = len(MAGIC) + 1 + ID_BYTES + CHECK_BYTES + NONCE_BYTES
LARGEST = 2**31 - 1 - TAG_BYTES
"""Bytes of a file: what one call of `cryptography`'s AESGCM takes."""


def is_encrypted(path: Path) -> bool:
    """Whether a file's name says that it is encrypted."""
    return path.suffix == ENCRYPTED and path.with_suffix("").suffix in ROLES


def new_package_id() -> bytes:
    """A random id that the files of one model share."""
    return os.urandom(ID_BYTES)


def encrypt_bytes(plain: bytes, *, suffix: str, package_id: bytes, key: ModelKey) -> bytes:
    """The content of an encrypted file.

    Args:
        plain: the content of the plain file.
        suffix: of the plain file, one of `ROLES`.
        package_id: of the model, from `new_package_id`.
        key: the owner's key.

    Raises:
        ModelError: the file is larger than 2 GiB, or `cryptography` is not installed.
    """
    if len(plain) > LARGEST:
        msg = f"model: a {suffix} file of {len(plain)} bytes cannot be encrypted; at most {LARGEST} can"
        raise ModelError(msg)
    cipher, check = _cipher(key, package_id)
    nonce = os.urandom(NONCE_BYTES)
    header = MAGIC + bytes([ROLES[suffix]]) + package_id + check + nonce
    ciphertext: bytes = cipher.encrypt(nonce, plain, header)
    return header + ciphertext


def _cipher(key: ModelKey, package_id: bytes) -> tuple[Any, bytes]:
    """AES-256-GCM with the key of one model's files, and what tells another key from an altered file."""
    _check_cryptography()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    length = KEY_BYTES + CHECK_BYTES
    derived = HKDF(SHA256(), length=length, salt=package_id, info=b"batchseg model").derive(key.secret)
    return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]


def _check_cryptography() -> None:
    if importlib.util.find_spec("cryptography") is None:
        msg = (
            "model: encrypted models need `cryptography`; install it with `pip install '.[encryption]'` in "
            "batchseg's clone"
        )
        raise ModelError(msg)


def decrypt_file(path: Path, key: ModelKey) -> bytes:
    """The plain content of an encrypted file.

    Raises:
        ModelError: the file cannot be read, is cut off, altered, under another file's name, or was
            encrypted with another key.
    """
    return _decrypt(path, key)[0]


def _decrypt(path: Path, key: ModelKey) -> tuple[bytes, bytes]:
    """Plain content and package id."""
    _check_cryptography()
    from cryptography.exceptions import InvalidTag

    content = _read_encrypted(path)
    start = len(MAGIC)
    role, package_id = content[start], content[start + 1 : start + 1 + ID_BYTES]
    check = content[start + 1 + ID_BYTES : HEADER_BYTES - NONCE_BYTES]
    nonce = content[HEADER_BYTES - NONCE_BYTES : HEADER_BYTES]
    _check_role(path, role)
    cipher, expected = _cipher(key, package_id)
    if not hmac.compare_digest(check, expected):
        msg = f"model: {path} was encrypted with another key, or its first bytes were altered"
        raise ModelError(msg)
    try:
        plain: bytes = cipher.decrypt(nonce, memoryview(content)[HEADER_BYTES:], content[:HEADER_BYTES])
    except InvalidTag as e:
        msg = f"model: {path} was altered or cut off after it was encrypted; copy it again"
        raise ModelError(msg) from e
    return plain, package_id


def _read_encrypted(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        msg = f"model: cannot read {path}: {e.strerror}"
        raise ModelError(msg) from e
    if not content.startswith(MAGIC):
        known = content.startswith(MAGIC[:-1])
        what = "of another version of batchseg" if known else "no file that `batchseg model encrypt` wrote"
        msg = f"model: {path} is {what}, or its first bytes were altered"
        raise ModelError(msg)
    if len(content) > HEADER_BYTES + LARGEST + TAG_BYTES:
        msg = f"model: {path} has {len(content)} bytes, more than `batchseg model encrypt` writes"
        raise ModelError(msg)
    if len(content) < HEADER_BYTES + TAG_BYTES:
        msg = f"model: {path} is cut off after {len(content)} bytes; copy it again"
        raise ModelError(msg)
    return content


def _check_role(path: Path, role: int) -> None:
    suffix = path.with_suffix("").suffix
    if ROLES.get(suffix) != role:
        actual = next((name for name, number in ROLES.items() if number == role), None)
        what = f"holds a {actual} file" if actual else "was altered"
        msg = f"model: {path} {what}; its name says {suffix or 'nothing'}"
        raise ModelError(msg)


def decrypt_model(network: Path, params: Path | None, key: ModelKey) -> tuple[bytes, bytes | None]:
    """The plain contents of a model's files.

    Args:
        network: `NAME.json.enc`, `NAME.pdmodel.enc` or `NAME.onnx.enc`.
        params: `NAME.pdiparams.enc`; None for ONNX.
        key: the owner's key.

    Raises:
        ModelError: see `decrypt_file`; also if the two files are of different models.
    """
    program, network_id = _decrypt(network, key)
    if params is None:
        return program, None
    weights, params_id = _decrypt(params, key)
    if network_id != params_id:
        msg = f"model: {params} belongs to another model than {network.name}, or to another encryption of it"
        raise ModelError(msg)
    return program, weights


@contextlib.contextmanager
def decrypted_files(network: Path, params: Path | None, key: ModelKey) -> Iterator[tuple[Path, Path | None]]:
    """Paths under which a library reads the plain files, which no disk ever holds.

    Each is a link `NAME.json` in a private folder to an anonymous file in memory (memfd_create(2)), because
    Paddle 3.2.2 takes PIR programs from paths alone (`set_model_buffer` ends the process). The paths hold for
    this process, its children and the length of the context: Paddle has read them when `create_predictor`
    returns. As all memory, they may be swapped out.

    Raises:
        ModelError: see `decrypt_model`.
    """
    contents = decrypt_model(network, params, key)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchseg-model-")))
        paths = [
            _in_memory(folder / path.with_suffix("").name, content, stack)
            for path, content in zip((network, params), contents, strict=True)
            if path is not None and content is not None
        ]
        yield paths[0], paths[1] if params is not None else None


def _in_memory(link: Path, content: bytes, stack: contextlib.ExitStack) -> Path:
    """A file in memory with a name on the disk: Paddle's `set_model_buffer` ends processes over PIR files."""
    file = stack.enter_context(os.fdopen(os.memfd_create("batchseg-model", os.MFD_CLOEXEC), "wb"))
    file.write(content)
    file.flush()
    link.symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    return link


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """What `encrypt_model` wrote."""

    destination: Path
    encrypted: tuple[str, ...]
    """Names of the encrypted files."""
    copied: tuple[str, ...]
    """Names of files that are there as they were."""
    left_out: tuple[str, ...]
    """Names in the source that are not part of what a run needs."""


def encrypt_model(source: Path, destination: Path, key: ModelKey) -> Encrypted:
    """Write the encrypted copy of a model, which appears whole or not at all.

    Args:
        source: a model folder, or an ONNX file.
        destination: the folder to write; it must not exist.
        key: the owner's key.

    Raises:
        ConfigError: the destination exists or cannot be written.
        ModelError: the source holds no network, or it is encrypted already.
    """
    files = _model_files(source)
    folder = source if source.is_dir() else source.parent
    plain = [folder / name for name in PLAIN_FILES if source.is_dir() and (folder / name).is_file()]
    if destination.exists() or destination.is_symlink():
        msg = f"{destination} exists; name a folder that does not"
        raise ConfigError(msg)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        staging = destination.with_name(f".{destination.name}-{os.getpid()}")
        staging.mkdir()
        try:
            _write_encrypted(files, plain, staging, key)
            staging.rename(destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as e:
        msg = f"cannot write {destination}: {e.strerror}"
        raise ConfigError(msg) from e
    known = {path.name for path in (*files, *plain)}
    return Encrypted(
        destination=destination,
        encrypted=tuple(path.name + ENCRYPTED for path in files),
        copied=tuple(path.name for path in plain),
        left_out=tuple(sorted({p.name for p in source.iterdir()} - known)) if source.is_dir() else (),
    )


def _model_files(source: Path) -> list[Path]:
    """Network, weights, and an ONNX file beside them: one of each role, so that the role names the file."""
    if source.is_file() and source.suffix == ".onnx":
        return [source]
    if not source.is_dir():
        what = "is neither a model folder nor an ONNX file" if source.exists() else "does not exist"
        msg = f"model: {source} {what}"
        raise ModelError(msg)
    params, onnx = sorted(source.glob("*.pdiparams")), sorted(source.glob("*.onnx"))
    if len(params) > 1 or len(onnx) > 1:
        several = ", ".join(path.name for path in (*params, *onnx))
        msg = f"model: {source} holds several networks ({several}); give each a folder of its own"
        raise ModelError(msg)
    networks = [p.with_suffix(s) for p in params for s in (".json", ".pdmodel") if p.with_suffix(s).is_file()]
    if networks or onnx:
        return [*networks, *(params if networks else []), *onnx]
    if any(is_encrypted(path) for path in source.iterdir()):
        msg = f"model: {source} is encrypted already"
        raise ModelError(msg)
    msg = (
        f"model: no network in {source}; expected NAME.json or NAME.pdmodel with NAME.pdiparams, or NAME.onnx"
    )
    raise ModelError(msg)


def _write_encrypted(files: list[Path], plain: list[Path], folder: Path, key: ModelKey) -> None:
    package_id = new_package_id()
    for path in files:
        content = encrypt_bytes(path.read_bytes(), suffix=path.suffix, package_id=package_id, key=key)
        (folder / (path.name + ENCRYPTED)).write_bytes(content)
    for path in plain:
        shutil.copyfile(path, folder / path.name)


def describe_encrypted(written: Encrypted) -> list[str]:
    """What was written, in lines for a person."""
    lines = [f"{written.destination}: {', '.join(written.encrypted)}"]
    if written.copied:
        lines.append(f"plain, because it holds names and pre-processing alone: {', '.join(written.copied)}")
    if written.left_out:
        lines.append(f"left out: {', '.join(written.left_out)}")
    return lines
