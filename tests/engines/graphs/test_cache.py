"""A cache of folders: made once, checked, bounded."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchseg.engines.graphs.cache import (
    ENTRY,
    cache_key,
    cache_root,
    cached_folder,
    engine_folder,
    prune,
)
from batchseg.errors import ModelError, StoppedError


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


@pytest.mark.parametrize("how", ["mode", "owner", "link"])
def test_a_named_folder_that_others_can_have_filled_is_refused(
    how: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry says of itself which digests it has: whoever puts one in has his network run."""
    named = shared / "models"
    named.mkdir()
    if how == "mode":
        named.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(named, 61_234, 61_234)
    else:
        pytest.skip("only root can be several users")
    if how == "link":
        named.rmdir()
        named.symlink_to(shared)
        os.chown(named, 61_234, 61_234, follow_symlinks=False)
    found = {"mode": "can be written by others", "owner": "belongs to user 61234", "link": "is a link"}[how]
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(named))
    with pytest.raises(
        ModelError, match=f"BATCHSEG_MODEL_CACHE: {named} {found}.*name a folder that does not"
    ):
        cache_root()
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(named.with_name("none")))
    assert cache_root() == named.with_name("none"), "the remedy"


@pytest.mark.parametrize("how", ["mode", "owner", "above"])
def test_a_cache_in_the_home_that_is_not_the_users_alone_is_not_used(
    how: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of root, say, who has kept the home of another user; or of a service whose home is /tmp."""
    for name in ("BATCHSEG_MODEL_CACHE", "BATCHSEG_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(shared))
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    usual = shared / ".cache" / "batchseg"
    assert cache_root() == usual
    if how == "mode":
        usual.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(usual if how == "owner" else usual.parent, 61_234, 61_234)
    else:
        pytest.skip("only root can be several users")
    assert cache_root() == shared / f"batchseg-models-{os.geteuid()}"


def test_a_lock_that_leads_to_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victims").write_text("kept")
    (tmp_path / "key.lock").symlink_to(tmp_path / "victims")
    with pytest.raises(StoppedError, match=r"key\.lock is a link"):
        cached_folder("key", slow_make, root=tmp_path)
    assert (tmp_path / "victims").read_text() == "kept"


def test_an_entry_that_others_can_write_is_made_again(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("content")

    before = os.umask(0o002)
    try:
        folder = cached_folder("key", make, root=tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        cached_folder("key", make, root=tmp_path)
        cached_folder("key", make, root=tmp_path)
    finally:
        os.umask(before)
    assert len(made) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_an_engine_keeps_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path))
    folder = engine_folder("tensorrt")
    assert folder == tmp_path / "tensorrt"
    (folder / "engine").touch()
    assert list(engine_folder("tensorrt").iterdir()) == [folder / "engine"]
    folder.chmod(0o777)
    assert list(engine_folder("tensorrt").iterdir()) == [], "anybody can have put it there"
    assert folder.stat().st_mode & 0o777 == 0o700


LEFT = """
import os, sys
from pathlib import Path
from batchseg.engines.graphs.cache import cached_folder, engine_folder
from batchseg.errors import ModelError
os.setgid(61235), os.setuid(61235)
for ask in (lambda: cached_folder("key", lambda folder: None), lambda: engine_folder("tensorrt")):
    try:
        print(ask())
    except ModelError as e:
        print(e)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_what_others_left_in_a_cache_is_not_used_where_it_cannot_be_removed(shared: Path) -> None:
    cache = shared / "cache"
    cache.mkdir(mode=0o700)
    for name in ("key", "tensorrt"):
        (cache / name / "deep").mkdir(parents=True)
        os.chown(cache / name, 61_234, 61_234)
    os.chown(cache, 61_235, 61_235)
    done = subprocess.run(
        [sys.executable, "-c", LEFT],
        env={**os.environ, "BATCHSEG_MODEL_CACHE": str(cache)},
        text=True,
        capture_output=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{cache}/key cannot be replaced; expected")
    assert second.startswith(f"{cache}/tensorrt belongs to user 61234; expected")
