import errno
import os
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchseg.errors import ConfigError, OutputError
from batchseg.output import publish
from batchseg.system import fetch, listing
from batchseg.system.location import Location, join


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "_batchseg")


def below(root: str | Path, path: str) -> Location:
    return Location.of(str(root)).below(path)


def test_publishing_replaces_the_content(root):
    place = below(root, "deep/file.bin")
    for data in (b"first, longer", b"second", b""):
        publish.publish(place, data)
        assert fetch.read_bytes(place) == data


def test_publishing_leaves_nothing_but_the_file(tmp_path):
    for _ in range(3):
        publish.publish(below(tmp_path, "a"), b"x")
        publish.create(below(tmp_path, "b"), b"x")
    assert names_in(tmp_path) == ["a", "b"]
    assert names_in(tmp_path / "_batchseg" / "scratch") == []


@pytest.mark.parametrize("write", [publish.publish, publish.create])
def test_a_failed_write_leaves_nothing_and_is_an_output_error(tmp_path, write):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file/below"):
        write(below(tmp_path, "file/below"), b"x")
    (tmp_path / "folder").mkdir()
    if write is publish.publish:
        with pytest.raises(OutputError, match="folder"):
            write(below(tmp_path, "folder"), b"x")
    assert names_in(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("write", [publish.publish, publish.create])
def test_what_cannot_be_removed_hides_no_reason(tmp_path, write, monkeypatch):
    def full(self: publish.Making, data: bytes, *, durable: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tempfile.gettempdir()  # which removes a file of its own, once

    def stuck(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(publish.Making, "write", full)
    monkeypatch.setattr(os, "unlink", stuck)
    with pytest.raises(OutputError, match=r"cannot \w+ .*below: No space left on device"):
        write(below(tmp_path, "below"), b"x")


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "file"
    place, contents = below(tmp_path, "file"), [bytes([n]) * 400_000 for n in range(2)]
    publish.publish(place, contents[0])
    halves, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            data = path.read_bytes()
            if data not in contents:
                halves.append(len(data))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        publish.publish(place, contents[number % 2])
    over.set()
    reader.join()
    assert halves == []


def test_create_never_replaces(root):
    place = below(root, "file")
    assert publish.create(place, b"first")
    assert not publish.create(place, b"second")
    assert fetch.read_bytes(place) == b"first"


def test_of_many_who_create_a_file_one_succeeds(tmp_path):
    place = below(tmp_path, "file")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: publish.create(place, bytes([n])), range(8)))
    assert sum(won) == 1
    assert fetch.read_bytes(place) == bytes([won.index(True)])
    assert names_in(tmp_path) == ["file"]


def test_names_as_long_as_the_file_system_allows_can_be_published(tmp_path):
    name = "n" * 255
    publish.publish(below(tmp_path, name), b"x")
    assert names_in(tmp_path) == [name]


def test_publishing_a_file_moves_it(root, tmp_path):
    local = tmp_path / "made"
    local.write_bytes(b"content")
    publish.publish_file(local, below(root, "deep/file"))
    assert fetch.read_bytes(join(root, "deep", "file")) == b"content"
    assert not local.exists()


def test_publishing_a_file_crosses_file_systems(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system here")
    local = other / f"batchseg-test-{os.getpid()}"
    local.write_bytes(b"content")
    try:
        publish.publish_file(local, below(tmp_path, "file"))
        assert not local.exists()
    finally:
        local.unlink(missing_ok=True)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert names_in(tmp_path) == ["file"]


def test_removing_takes_files_folders_and_what_is_not_there(root):
    for path in ("folder/a", "b", "c"):
        publish.publish(below(root, path), b"x")
    for name in ("folder", "absent"):
        publish.remove_folder(below(root, name))
    publish.remove_files([below(root, name) for name in ("b", "absent/d", "c")])
    assert list(listing.list_files(root)) == []


@pytest.mark.parametrize("name", ["*", "?", "[ab]", "**"])
def test_a_name_like_a_pattern_is_removed_alone(bucket, name):
    for path in ("masks/a", "masks/b", f"masks/{name}", "other/a", f"other/{name}/a"):
        publish.publish(below(bucket, path), b"x")
    publish.remove_files([below(bucket, f"masks/{name}"), below(bucket, "masks/b")])
    publish.remove_folder(below(bucket, f"other/{name}"))
    left = {info.uri.removeprefix(f"{bucket}/") for info in listing.list_below(bucket)}
    assert left == {"masks/a", "other/a"}


def test_what_another_users_run_left_stops_no_run(tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    publish.publish(below(tmp_path, "masks/a"), b"x")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refused)
        publish.clear_scratch(str(tmp_path))
    publish.clear_scratch(str(tmp_path))
    assert not (tmp_path / "_batchseg" / "scratch").exists()
    (tmp_path / "_batchseg" / "scratch").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is a link"):
        publish.clear_scratch(str(tmp_path))


def test_folders_too_deep_to_be_removed_stay_in_scratch(tmp_path):
    scratch = tmp_path / "_batchseg" / "scratch"
    scratch.mkdir(parents=True)
    descriptor = os.open(scratch, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a", dir_fd=descriptor)
        below = os.open("a", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    publish.clear_scratch(str(tmp_path))
    subprocess.run(["rm", "-r", scratch], check=True)  # else pytest fails to remove its folders


def test_checking_an_output_writes_nothing(tmp_path):
    publish.check_writable(str(tmp_path / "new" / "deep"))
    assert names_in(tmp_path) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not a folder"):
        publish.check_writable(str(tmp_path / "file" / "below"))


NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO)


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("number", NO_LINKS)
def test_a_disk_without_hard_links_creates_what_is_absent_and_only_that(tmp_path, monkeypatch, number):
    refuse_links(monkeypatch, number)
    place = below(tmp_path, "folder/file")
    assert publish.create(place, b"first")
    assert not publish.create(place, b"second")
    assert fetch.read_bytes(place) == b"first"
    assert names_in(tmp_path / "folder") == ["file"]
    assert names_in(tmp_path / "_batchseg" / "scratch") == []


def test_of_many_who_create_a_file_without_hard_links_one_succeeds(tmp_path, monkeypatch):
    refuse_links(monkeypatch, errno.EPERM)
    place = below(tmp_path, "file")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: publish.create(place, bytes([n])), range(8)))
    assert sum(won) == 1
    assert fetch.read_bytes(place) == bytes([won.index(True)])


def test_what_else_hinders_a_creation_is_said_and_the_name_stays_free(tmp_path, monkeypatch):
    refuse_links(monkeypatch, errno.EPERM)
    place = below(tmp_path, "file")

    def rename(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="quota"):
        patch.setattr(os, "rename", rename)
        publish.create(place, b"first")
    assert publish.create(place, b"second")
