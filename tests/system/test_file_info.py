import os

import pytest
from chunked import chunked_server

from batchseg.system import fetch, listing
from batchseg.system.file_info import FileInfo, digest_of, file_info


@pytest.mark.parametrize("linked", [False, True])
def test_the_version_changes_when_the_content_is_written_again(tmp_path, linked):
    target = tmp_path / "target"
    target.write_bytes(b"one")
    os.utime(target, (1000, 1000))
    folder = tmp_path / "folder"
    folder.mkdir()
    os.link(target, folder / "a") if not linked else (folder / "a").symlink_to(target)
    (before,) = listing.list_files(str(folder))
    target.write_bytes(b"two")
    os.utime(target, (2000, 2000))
    (after,) = listing.list_files(str(folder))
    assert before.size == after.size
    assert before.version != after.version


def test_there_is_no_info_of_what_is_no_file(tmp_path):
    assert file_info(str(tmp_path / "absent")) is None
    assert file_info(str(tmp_path)) is None


def test_the_digest_covers_names_sizes_and_versions_and_no_order():
    a, b = (FileInfo(uri=f"/x/{name}", size=3, version="1") for name in "ab")
    digest = digest_of([a, b])
    assert digest == digest_of([b, a])
    others = [
        [a],
        [a, FileInfo(uri="/x/c", size=3, version="1")],
        [a, FileInfo(uri="/x/b", size=4, version="1")],
        [a, FileInfo(uri="/x/b", size=3, version="2")],
    ]
    assert digest not in [digest_of(infos) for infos in others]


def test_a_file_whose_length_no_server_says_has_a_version_nevertheless(tmp_path, hasty):
    (tmp_path / "a.bin").write_bytes(b"a" * 5000)
    (tmp_path / "torn.bin").write_bytes(b"a" * 5000)
    with chunked_server(tmp_path, etag=True) as web:
        first = file_info(f"{web}/a.bin")
        assert first.size is None
        assert first.version
        assert listing.is_folder(f"{web}/a.bin") is False
    with chunked_server(tmp_path, etag=False) as web:
        before = file_info(f"{web}/a.bin")
        assert before.size == 5000
        (tmp_path / "a.bin").write_bytes(b"b" * 5000)
        (after,) = listing.list_files(f"{web}/a.bin")
        assert (after.size, after.version != before.version) == (5000, True)
        assert file_info(f"{web}/torn.bin").size is None
        assert file_info(f"{web}/none.bin") is None
        assert fetch.sha256(f"{web}/a.bin") == after.version
