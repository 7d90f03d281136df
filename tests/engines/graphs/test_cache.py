"""A cache of folders: made once, checked, bounded."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from batchseg.engines.graphs.cache import ENTRY, cache_key, cache_root, cached_folder, prune
from batchseg.errors import ModelError


def slow_make(folder: Path) -> None:
    time.sleep(0.3)
    (folder / "file").write_text("content")
    with (folder.parent / "made").open("a") as f:
        f.write("once\n")


def ask(root: Path) -> None:
    cached_folder("key", slow_make, root=root)


def test_processes_that_start_at_once_make_an_entry_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=ask, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "made").read_text() == "once\n"
    assert (tmp_path / "key" / "file").read_text() == "content"


@pytest.mark.parametrize("harm", ["cut", "altered", "gone", "more", "unlisted"])
def test_a_damaged_entry_is_made_again(harm: str, tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "file").write_text("content")

    folder = cached_folder("key", make, root=tmp_path)
    if harm == "gone":
        (folder / "file").unlink()
    elif harm == "unlisted":
        (folder / ENTRY).unlink()
    else:
        (folder / ("other" if harm == "more" else "file")).write_text({"cut": "cont"}.get(harm, "c0ntent"))
    again = cached_folder("key", make, root=tmp_path)
    assert [path.name for path in sorted(again.iterdir())] == [ENTRY, "file"]
    assert (again / "file").read_text() == "content"


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        cached_folder("key", make, root=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "file").write_bytes(bytes(1000))

    now = time.time()
    for number in range(4):
        folder = cached_folder(f"key{number}", make, root=tmp_path)
        os.utime(folder / ENTRY, (now, now - 10_000 + number))
    cached_folder("key0", make, root=tmp_path)  # a use
    prune(tmp_path, limit=2500)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["key0", "key3"]
    prune(tmp_path, limit=0)
    assert (tmp_path / "key0").is_dir(), "used within the last hour"
    prune(tmp_path, limit=0, in_use_seconds=0)
    assert list(tmp_path.glob("key?")) == []


def test_keys_follow_their_parts() -> None:
    assert cache_key({"a": 1, "b": (2,)}) == cache_key({"b": [2], "a": 1})
    assert cache_key({"a": 1}) != cache_key({"a": 2})


def test_the_folder_is_the_named_one_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "named"))
    assert cache_root() == tmp_path / "named"
    (tmp_path / "file").touch()
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ModelError, match="cannot be written"):
        cache_root()
    monkeypatch.delenv("BATCHSEG_MODEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "batchseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "batchseg"


def test_without_a_home_it_is_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCHSEG_MODEL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = cache_root()
    assert [root] == list(tmp_path.iterdir()), "no home is made"
    assert root.stat().st_mode & 0o777 == 0o700
    assert cache_root() == root
    root.rmdir()
    root.symlink_to(tmp_path)
    assert cache_root() != root, "somebody else's link is not followed"
