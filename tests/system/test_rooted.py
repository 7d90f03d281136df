import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchseg.errors import OutputError, SourceIOError
from batchseg.output import publish
from batchseg.system import fetch, listing, rooted
from batchseg.system.file_info import file_info
from batchseg.system.location import Location

FILE = "masks/deep/a.tif"


def _put_aside(place: Location, scratch: Path) -> None:
    rooted.put_aside(place, scratch / "second")


def _publish_file(place: Location, scratch: Path) -> None:
    (scratch / "made").write_bytes(b"new")
    publish.publish_file(scratch / "made", place)


READING: dict[str, Callable[[Location, Path], object]] = {
    "read": lambda place, _: rooted.read_bytes(place),
    "fetch": lambda place, _: fetch.read_bytes(place),
    "sha256": lambda place, _: fetch.sha256(place),
    "look": lambda place, _: rooted.look(place),
    "file_info": lambda place, _: file_info(place),
    "native": lambda place, _: rooted.native_path(place).__enter__(),
    "put_aside": _put_aside,
}
LISTING: dict[str, Callable[[Location, Path], object]] = {
    "entries": lambda place, _: rooted.entries(place),
    "list_folder": lambda place, _: list(listing.list_folder(place)),
    "list_below": lambda place, _: listing.list_below(place),
    "list_subfolders": lambda place, _: listing.list_subfolders(place),
}
WRITING: dict[str, Callable[[Location, Path], object]] = {
    "publish": lambda place, _: publish.publish(place, b"new"),
    "create": lambda place, _: publish.create(Location.of(str(place.root)).below("masks/deep/b.tif"), b"new"),
    "publish_file": _publish_file,
    "remove_files": lambda place, _: publish.remove_files([place]),
    "remove_folder": lambda place, _: publish.remove_folder(place),
    "append": lambda place, _: rooted.open_file(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
}
FAILURES = (rooted.LinkError, OutputError, SourceIOError)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out" / FILE).parent.mkdir(parents=True)
    (tmp_path / "out" / FILE).write_bytes(b"ours")
    return tmp_path / "out"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """What a link may lead to: it has the same names."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "a.tif").write_bytes(b"theirs")
    (tmp_path / "elsewhere" / "a.tif").write_bytes(b"theirs")
    return tmp_path / "elsewhere"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _link(output: Path, part: str, elsewhere: Path) -> None:
    (output / part).rename(output / "before")
    target = {"masks": elsewhere, "masks/deep": elsewhere / "deep", FILE: elsewhere / "a.tif"}[part]
    (output / part).symlink_to(target)


@pytest.mark.parametrize("part", ["masks", "masks/deep"])
@pytest.mark.parametrize("name", [*READING, *WRITING])
def test_no_folder_that_is_a_link_is_entered(output, elsewhere, tmp_path, part, name):
    before = contents(elsewhere)
    _link(output, part, elsewhere)
    place = Location.of(str(output)).below(FILE)
    with pytest.raises(FAILURES, match=f"{output}/{part} is a link"):
        {**READING, **WRITING}[name](place, tmp_path)
    assert contents(elsewhere) == before


@pytest.mark.parametrize("part", ["masks", "masks/deep"])
@pytest.mark.parametrize("name", LISTING)
def test_no_folder_that_is_a_link_is_listed(output, elsewhere, tmp_path, part, name):
    _link(output, part, elsewhere)
    with pytest.raises(FAILURES, match=f"{output}/{part} is a link"):
        LISTING[name](Location.of(str(output)).below("masks/deep"), tmp_path)
    with pytest.raises(FAILURES, match=f"{output}/{part} is a link"):
        LISTING[name](Location.of(str(output)).below("masks"), tmp_path)


@pytest.mark.parametrize("name", READING)
def test_no_file_that_is_a_link_is_read(output, elsewhere, tmp_path, name):
    _link(output, FILE, elsewhere)
    with pytest.raises(FAILURES, match=f"{output}/{FILE} is a link"):
        READING[name](Location.of(str(output)).below(FILE), tmp_path)


@pytest.mark.parametrize("name", ["publish", "publish_file", "remove_files"])
def test_a_link_in_place_of_a_file_is_itself_replaced_or_removed(output, elsewhere, tmp_path, name):
    before = contents(elsewhere)
    _link(output, FILE, elsewhere)
    WRITING[name](Location.of(str(output)).below(FILE), tmp_path)
    assert contents(elsewhere) == before
    if name == "remove_files":
        assert not os.path.lexists(output / FILE)
    else:
        assert (output / FILE).read_bytes() == b"new" and not (output / FILE).is_symlink()


def test_the_root_itself_may_be_a_link(output, tmp_path):
    (tmp_path / "named").symlink_to(output)
    place = Location.of(str(tmp_path / "named")).below(FILE)
    publish.publish(place, b"new")
    assert rooted.read_bytes(place) == (output / FILE).read_bytes() == b"new"


def test_what_is_no_file_is_not_read(output):
    os.mkfifo(output / "masks" / "fifo")
    for path, said in (("masks/fifo", "no regular file"), ("masks/deep", "no regular file")):
        with pytest.raises(OSError, match=said):
            rooted.read_bytes(Location.of(str(output)).below(path))


def test_errors_name_the_whole_path(output):
    place = Location.of(str(output)).below("masks/absent/a.tif")
    with pytest.raises(FileNotFoundError) as caught:
        rooted.read_bytes(place)
    assert caught.value.filename == f"{output}/masks/absent"
    assert rooted.look(place) is None and file_info(place) is None
    assert rooted.entries(Location.of(str(output)).below("absent")) == []


def test_entries_are_what_the_disk_says(output):
    found = {entry.name: entry for entry in rooted.entries(Location.of(str(output)).below("masks/deep"))}
    said = (output / FILE).stat()
    assert (found["a.tif"].size, found["a.tif"].modified) == (said.st_size, said.st_mtime)
    assert [entry.is_folder for entry in rooted.entries(Location.of(str(output)).below("masks"))] == [True]


def test_a_private_folder_is_this_users_alone_and_goes(output):
    place = Location.of(str(output)).below("scratch")
    with rooted.private_folder(place) as folder:
        (folder / "a").write_bytes(b"x")
        (made,) = (output / "scratch").iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        made.rename(output / "moved")  # whoever may write in the folder above it can do so
        made.mkdir()
        (folder / "a").write_bytes(b"y")
        assert list(made.iterdir()) == [] and (output / "moved" / "a").read_bytes() == b"y"
        assert rooted.with_true_names(f"in {folder}/a: full") == f"in {output}/moved/a: full"


def test_a_folder_that_another_user_put_in_its_place_is_not_private(output, monkeypatch):
    place = Location.of(str(output)).below("scratch")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(rooted.NotOwnError, match="is not this user's alone"), rooted.private_folder(place):
        pass
    assert list((output / "scratch").iterdir()) == []


def test_where_no_second_name_can_be_given_a_file_is_copied(output, tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    rooted.put_aside(Location.of(str(output)).below(FILE), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"ours"


@contextmanager
def swapping(folder: Path, link: Path) -> Iterator[list[int]]:
    """Exchange a folder and a link as fast as it goes. Yields the count of exchanges."""
    rounds, over = [0], threading.Event()
    exchange = ctypes.CDLL(None).renameat2
    names = os.fsencode(folder), os.fsencode(link)

    def swap() -> None:
        while not over.is_set():
            exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
            rounds[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield rounds
    finally:
        over.set()
        thread.join()


AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2(2)."""


@pytest.mark.parametrize("part", ["masks", "masks/deep"])
def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere(output, elsewhere, tmp_path, part):
    before, second = contents(elsewhere), tmp_path / "second"
    link = tmp_path / "link"
    link.symlink_to(elsewhere if part == "masks" else elsewhere / "deep")
    place = Location.of(str(output)).below(FILE)
    actions: list[Callable[[], object]] = [
        lambda: publish.publish(place, b"ours", durable=False),
        lambda: seen.add(rooted.read_bytes(place)),
        lambda: rooted.put_aside(place, second),
        lambda: seen.add(second.read_bytes()),
        lambda: second.unlink(),
        lambda: publish.remove_files([place]),
        lambda: publish.remove_folder(Location.of(str(output)).below("masks/deep/inner")),
    ]
    seen: set[bytes] = set()
    refused = 0
    with swapping(output / part, link) as rounds:
        for _ in range(1000):
            for action in actions:
                try:
                    action()
                except (OSError, OutputError):
                    refused += 1
    assert contents(elsewhere) == before
    assert seen == {b"ours"} and refused and rounds[0] > 1000
