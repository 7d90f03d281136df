"""What another user can have prepared is not used. Where root runs the tests there is another user."""

import contextlib
import errno
import grp
import os
import pwd
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batchseg.errors import StoppedError
from batchseg.system.private_folder import (
    NotPrivateError,
    is_private,
    new_folder,
    open_lock,
    opened,
    others_can_replace,
    own_folder,
    private_folder,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

STRANGER = 61_234
"""A user id that no machine gives to anybody."""


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (0o700, None),
        (0o755, None),
        (0o770, r"can be written by others \(mode 0770\)"),
        (0o702, r"can be written by others \(mode 0702\)"),
        (0o1777, r"can be written by others \(mode 1777\)"),
    ],
)
def test_a_folder_that_others_write_to_is_not_private(
    mode: int, found: str | None, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda gid: group("staff", gid))
    folder = shared / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert is_private(folder) == (found is None)
    with contextlib.nullcontext() if found is None else pytest.raises(NotPrivateError, match=found):
        private_folder(folder)


def group(name: str, gid: int, *members: str) -> grp.struct_group:
    return grp.struct_group((name, "x", gid, list(members)))


def user(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", ""))


@pytest.mark.parametrize(
    ("members", "gid", "name", "more", "is_own"),
    [
        ([], 0, "me", [], True),
        (["me"], 0, "me", [], True),
        (["me", "you"], 0, "me", [], False),
        ([], 1, "me", [], False),
        ([], 0, "users", [], False),
        ([], 0, "me", [("you", 1)], False),
    ],
)
def test_the_users_own_group_may_write(
    members: list[str],
    gid: int,
    name: str,
    more: list[tuple[str, int]],
    is_own: bool,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `umask 002` leaves it. `gid`: what the primary group differs by from the folder's."""
    folder = shared / "folder"
    folder.mkdir()
    folder.chmod(0o775)
    uid, own = os.geteuid(), folder.stat().st_gid
    me = user("me", uid, own + gid)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
    monkeypatch.setattr(pwd, "getpwall", lambda: [me, *(user(n, uid + i, own) for n, i in more)])
    monkeypatch.setattr(grp, "getgrgid", lambda gid: group(name, gid, *members))
    assert is_private(folder) == is_own
    folder.chmod(0o777)
    assert not is_private(folder)


@pytest.mark.parametrize("found", [["system.posix_acl_access"], OSError(errno.EIO, "x")])
def test_a_group_that_may_stand_for_other_users_may_not_write(
    found: list[str] | OSError, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(_: int) -> list[str]:
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr("batchseg.system.private_folder._is_own_group", lambda _: True)
    (shared / "folder").mkdir()
    (shared / "folder").chmod(0o775)
    assert is_private(shared / "folder")
    monkeypatch.setattr(os, "listxattr", listed)
    assert not is_private(shared / "folder")


def test_a_group_or_a_user_without_a_name_is_nobodys_own(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    (shared / "folder").mkdir()
    (shared / "folder").chmod(0o775)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert not is_private(shared / "folder")


def test_neither_is_a_link_or_a_file(shared: Path) -> None:
    (shared / "folder").mkdir(mode=0o700)
    (shared / "link").symlink_to(shared / "folder")
    (shared / "file").touch()
    for name, found in (("link", "is a link"), ("file", "is no folder")):
        assert not is_private(shared / name)
        with pytest.raises(NotPrivateError, match=found), opened(shared / name):
            pass
    assert not is_private(shared / "none")


@needs_root
def test_a_folder_of_another_user_is_not_private(shared: Path) -> None:
    folder = shared / "folder"
    folder.mkdir(mode=0o700)
    os.chown(folder, STRANGER, STRANGER)
    assert not is_private(folder)
    with pytest.raises(NotPrivateError, match=f"belongs to user {STRANGER}"):
        private_folder(folder)


def test_a_folder_that_the_user_named_is_made_for_nobody_else(shared: Path) -> None:
    folder = private_folder(shared / "deep" / "folder")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == folder


def test_a_link_of_the_users_own_is_followed_to_what_is_private(shared: Path) -> None:
    (shared / "link").symlink_to(shared / "other disk")
    assert private_folder(shared / "link") == shared / "other disk"
    (shared / "other disk").chmod(0o777)
    with pytest.raises(NotPrivateError, match="others"):
        private_folder(shared / "link")


@needs_root
def test_a_link_of_another_user_is_not_followed(shared: Path) -> None:
    (shared / "victim").mkdir(mode=0o700)
    (shared / "link").symlink_to(shared / "victim")
    os.chown(shared / "link", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(NotPrivateError, match="is a link"):
        private_folder(shared / "link")


def prepared(usual: Path, how: str) -> None:
    """What somebody who was first made in the place of the folder."""
    if how == "file":
        usual.touch()
    elif how == "link":
        (usual.parent / "victim").mkdir(mode=0o700)
        usual.symlink_to(usual.parent / "victim")
    else:
        usual.mkdir()
        usual.chmod(0o777 if how == "mode" else 0o700)
        if how == "owner":
            os.chown(usual, STRANGER, STRANGER)


@pytest.mark.parametrize("how", ["file", "link", "mode", pytest.param("owner", marks=needs_root)])
def test_where_somebody_was_first_another_folder_is_used_and_found_again(how: str, shared: Path) -> None:
    usual = shared / f"x-{os.geteuid()}"
    prepared(usual, how)
    (shared / f"{usual.name}-0guessed").symlink_to(usual)
    folder = own_folder(shared, "x")
    assert folder.parent == shared
    assert folder.name.startswith(f"{usual.name}-")
    assert is_private(folder)
    assert own_folder(shared, "x") == folder
    assert how == "file" or list(usual.iterdir()) == []


def test_the_usual_folder_is_the_usual_one(shared: Path) -> None:
    assert own_folder(shared, "x") == own_folder(shared, "x") == shared / f"x-{os.geteuid()}"
    assert [path.name for path in shared.iterdir()] == [f"x-{os.geteuid()}"]


def test_a_disk_that_does_not_keep_owners_is_refused_and_left_clean(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mounted share that gives all files to one user."""
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    with pytest.raises(StoppedError, match=r"just made, belongs to user .*TMPDIR"):
        new_folder("x-", root=shared)
    with pytest.raises(StoppedError, match="TMPDIR"):
        own_folder(shared, "x")
    assert [path.name for path in shared.iterdir()] == [f"x-{STRANGER}"]


@pytest.mark.parametrize(
    ("mode", "answer"), [(0o755, False), (0o775, False), (0o777, True), (0o1777, False), (0o700, False)]
)
def test_who_can_put_something_else_in_a_folders_place(mode: int, answer: bool, tmp_path: Path) -> None:
    (tmp_path / "above" / "folder").mkdir(parents=True)
    (tmp_path / "above").chmod(mode)
    assert others_can_replace(tmp_path / "above" / "folder") == answer


@needs_root
def test_the_owner_of_the_folder_above_can(tmp_path: Path) -> None:
    (tmp_path / "above" / "folder").mkdir(parents=True)
    os.chown(tmp_path / "above", STRANGER, STRANGER)
    assert others_can_replace(tmp_path / "above" / "folder")


def test_a_lock_keeps_what_is_in_it(tmp_path: Path) -> None:
    with open_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    (tmp_path / "lock").write_text("kept")
    (tmp_path / "lock").chmod(0o644)
    with opened(tmp_path) as at, open_lock(Path("anywhere") / "lock", at=at) as lock:
        assert os.path.samestat(os.fstat(lock.fileno()), (tmp_path / "lock").stat())
    assert (tmp_path / "lock").read_text() == "kept"
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600, "nobody else can hold it"


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("link", "is a link"),
        ("dangling", "is a link"),
        ("name", "is one of 2 names of a file"),
        ("pipe", "is no file"),
        ("folder", "is a folder"),
        pytest.param("owner", f"belongs to user {STRANGER}", marks=needs_root),
    ],
)
def test_what_is_no_lock_is_refused_and_its_target_left_alone(what: str, found: str, tmp_path: Path) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "lock"
    victim.write_text("kept")
    if what == "link":
        lock.symlink_to(victim)
    elif what == "dangling":
        lock.symlink_to(tmp_path / "none")
    elif what == "name":
        lock.hardlink_to(victim)
    elif what == "pipe":
        os.mkfifo(lock)
    elif what == "folder":
        lock.mkdir()
    else:
        lock.touch()
        os.chown(lock, STRANGER, STRANGER)
    with pytest.raises(StoppedError, match=rf"lock {lock} {found}; expected .*remove it"):
        open_lock(lock)
    assert victim.read_text() == "kept"
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_swapped_for_a_link_again_and_again_leads_nowhere(tmp_path: Path) -> None:
    """Between the look and the use; the lock is opened below what was looked at, wherever that is by then."""
    victim, folder, aside = tmp_path / "victim", tmp_path / "folder", tmp_path / "aside"
    victim.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            folder.rename(aside)
            folder.symlink_to(victim)
            folder.unlink()
            aside.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    rounds = met = 0
    while rounds < 1000 or not met:
        rounds += 1
        try:
            with opened(folder) as at, open_lock(folder / "lock", at=at):
                pass
        except OSError:
            met += 1
    done.set()
    swapping.join()
    assert list(victim.iterdir()) == []


AS_ANOTHER = """
import os, sys
from pathlib import Path
from batchseg.system.private_folder import is_private, own_folder
shared = Path(sys.argv[1])
os.setgid(61235), os.setuid(61235)
folder = own_folder(shared, "x")
assert is_private(folder) and folder.stat().st_uid == 61235, folder
assert not list(folder.iterdir())
print(folder.name)
"""


@needs_root
def test_a_user_whose_folder_another_made_has_one_all_the_same(shared: Path) -> None:
    theirs = shared / "x-61235"
    theirs.mkdir()
    theirs.chmod(0o777)
    (theirs / "planted").touch()
    os.chown(theirs, STRANGER, STRANGER)
    names = [
        subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, str(shared)], check=True, text=True, capture_output=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert names[0].startswith("x-61235-")


RIVAL = """
import contextlib, os, sys
from pathlib import Path
os.setgid(61234), os.setuid(61234)
usual, victims = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while True:
    with contextlib.suppress(OSError):
        usual.symlink_to(victims)
        usual.unlink()
        usual.mkdir()
        usual.chmod(0o777)
        usual.rmdir()
"""


@needs_root
def test_somebody_who_takes_and_leaves_the_name_all_the_time_leads_nowhere(shared: Path) -> None:
    usual, victims = shared / f"x-{os.geteuid()}", shared / "victims"
    victims.mkdir(mode=0o700)
    with subprocess.Popen(
        [sys.executable, "-c", RIVAL, str(usual), str(victims)], stdout=subprocess.PIPE
    ) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        names: set[bool] = set()
        rounds, until = 0, time.monotonic() + 60
        try:
            # On a busy core the rival may wait for long.
            while rounds < 1000 or (len(names) < 2 and time.monotonic() < until):
                rounds += 1
                folder = own_folder(shared, "x")
                with open_lock(folder / "lock"):
                    assert is_private(folder)
                names.add(folder == usual)
                shutil.rmtree(folder)
        finally:
            rival.kill()
    assert list(victims.iterdir()) == []
    assert names == {True, False}, "now the one, now the other was first"
