"""Files put anywhere, as anybody puts them there."""

from pathlib import Path

from batchseg.system.storage import filesystem


def put(uri: str | Path, data: bytes) -> None:
    fs, path = filesystem(str(uri))
    if "file" in fs.protocol:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, data)


def take(uri: str | Path) -> None:
    fs, path = filesystem(str(uri))
    fs.rm(path, recursive=True)
