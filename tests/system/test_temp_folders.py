import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from batchseg.system import temp_folders
from batchseg.system.temp_folders import (
    cache_root,
    held_folder,
    machine_root,
    remove_stale,
    run_folder,
    user_home,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A machine's temporary folder, and no run under way."""
    monkeypatch.delenv("BATCHSEG_CACHE", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_folders_of_the_dead_go_and_those_of_the_living_stay(root):
    dead, lock = held_folder("x-", root=root)
    living, held = held_folder("x-", root=root)
    (dead / "deep").mkdir()
    lock.close()
    third, _ = held_folder("x-", root=root)
    assert sorted(root.iterdir()) == sorted([living, third])
    held.close()


def test_a_folder_without_a_lock_is_a_dead_ones(root):
    (root / "x-1").mkdir(mode=0o700)
    (root / "x-1" / "deep").mkdir()
    remove_stale("x-", root=root)
    assert list(root.iterdir()) == []


def test_links_and_what_others_own_are_left_alone(root):
    """Whoever makes such a link would have our lock file written, and the folder removed."""
    (root / "victim").mkdir()
    (root / "x-link").symlink_to(root / "victim")
    (root / "x-dir").mkdir()
    (root / "file").write_text("kept")
    (root / "x-dir" / "lock").symlink_to(root / "file")
    remove_stale("x-", root=root)
    assert list((root / "victim").iterdir()) == []
    assert (root / "file").read_text() == "kept"


def test_a_new_folder_that_is_taken_for_a_dead_ones_is_made_again(root, monkeypatch):
    """Another process that starts at once sees it before it is locked."""
    made = tempfile.mkdtemp

    def seen_by_another(**options):
        folder = made(**options)
        if len(list(root.iterdir())) == 1 and not attempts:
            attempts.append(folder)
            remove_stale("x-", root=root)
        return folder

    attempts: list[str] = []
    monkeypatch.setattr(tempfile, "mkdtemp", seen_by_another)
    folder, _ = held_folder("x-", root=root)
    assert attempts != [str(folder)]
    assert folder.is_dir()


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(root):
    """Of two that remove one folder at once, the later must not remove what is made in its place."""
    folder, lock = held_folder("x-", root=root)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(temp_folders._locked(folder, wait=True)))
    waiting.start()
    while "FLOCK" not in Path("/proc/locks").read_text().split("->")[-1]:
        pass
    (folder / "lock").unlink()
    lock.close()
    waiting.join()
    assert answers == [None]


STARTS = """
import sys
from pathlib import Path
from batchseg.system.temp_folders import held_folder
for _ in range(300):
    folder, lock = held_folder("x-", root=Path(sys.argv[1]))
    assert (folder / "lock").exists(), "somebody removed it"
    (folder / "work").touch()
    lock.close()
"""


def test_processes_that_start_at_once_keep_their_folders(root):
    running = [subprocess.Popen([sys.executable, "-c", STARTS, str(root)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]


def test_a_run_keeps_all_in_its_folder_and_removes_it(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root / "nonexistent"))
    with run_folder() as folder:
        assert folder.parent == root == machine_root()
        assert cache_root() == folder
        assert user_home() is None
        for place in (tempfile.gettempdir(), os.environ["TMPDIR"], os.environ["HOME"]):
            assert Path(place).is_dir()
            assert Path(place).parent == folder
    assert not folder.exists()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(root)
    assert os.environ["HOME"] == str(root / "nonexistent")
    assert "BATCHSEG_CACHE" not in os.environ


def test_a_home_that_is_there_stays(root, monkeypatch):
    (root / "home").mkdir()
    monkeypatch.setenv("HOME", str(root / "home"))
    with run_folder():
        assert os.environ["HOME"] == str(root / "home")
        assert user_home() == root / "home"
    assert list((root / "home").iterdir()) == []


@pytest.mark.parametrize("how", ["link", "mode"])
def test_copies_are_kept_where_nobody_else_was_first(root, how):
    usual = root / f"batchseg-cache-{os.geteuid()}"
    assert cache_root() == usual
    usual.rmdir()
    (root / "victim").mkdir()
    usual.symlink_to(root / "victim") if how == "link" else usual.mkdir()
    (root / "victim" if how == "link" else usual).chmod(0o777)
    assert cache_root().name.startswith(f"{usual.name}-")
    assert cache_root() == cache_root()


@pytest.mark.parametrize("how", ["link", "mode", "file"])
def test_a_runs_folder_that_others_can_have_made_is_none(root, monkeypatch, how):
    """On another host of a cluster that name is free; here anybody can read it."""
    (root / "theirs").mkdir()
    named = root / "batchseg-run-x"
    if how == "link":
        named.symlink_to(root / "theirs")
    elif how == "mode":
        named.mkdir()
        named.chmod(0o777)
    else:
        named.touch()
    monkeypatch.setenv("BATCHSEG_CACHE", str(named))
    assert cache_root() == root / f"batchseg-cache-{os.geteuid()}"


def test_the_folder_of_somebody_elses_run_stays(root):
    """What others can write to may be led elsewhere between the look and the removal."""
    (root / "x-open").mkdir()
    (root / "x-open").chmod(0o777)
    remove_stale("x-", root=root)
    assert list((root / "x-open").iterdir()) == []


def test_a_folder_whose_lock_cannot_be_made_is_not_tried_for_ever(root, monkeypatch):
    def refused(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temp_folders, "open_lock", refused)
    with pytest.raises(OSError, match="No space"):
        held_folder("x-", root=root)


@pytest.mark.parametrize("value", [None, "", "/", "somewhere", "/nonexistent"])
def test_homes_that_are_none(root, monkeypatch, value):
    monkeypatch.setattr(temp_folders, "_recorded_home", lambda: "/nonexistent")
    if value is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", value)
    assert user_home() is None


def test_without_home_the_user_database_says_it(root, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(temp_folders, "_recorded_home", lambda: str(root))
    assert user_home() == root
    with run_folder():
        assert os.environ["HOME"] == str(root)
    assert "HOME" not in os.environ


def test_what_a_killed_run_left_is_removed_by_the_next_one_that_has_nothing_to_do(root, monkeypatch):
    monkeypatch.setattr(temp_folders, "SOCKET_ROOT_LENGTH", 1000)
    for name in ("batchseg-run-abc", "bsray-abc"):
        (root / name).mkdir(mode=0o700)
        (root / name / "session_latest").mkdir()
    with run_folder() as folder:
        assert list(root.iterdir()) == [folder]


def test_a_disk_without_locks_is_worked_on_all_the_same(root, monkeypatch):
    def refused(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    first, _ = held_folder("x-", root=root)
    held_folder("x-", root=root)
    assert first.is_dir(), "nobody knows whether its process lives"
