import os
from pathlib import Path

import pytest
from stored import put

from batchseg.system import listing
from batchseg.system.file_info import ABSENT, file_info
from batchseg.system.location import join


def test_listing_takes_a_file_a_folder_or_a_glob_sorted(root):
    for name in ("b.tif", "a.tif", "sub/c.tif", "sub/d.txt"):
        put(join(root, *name.split("/")), b"x")

    def listed(pattern: str) -> list[str]:
        return [info.uri.rpartition("root/")[2] for info in listing.list_files(pattern)]

    assert listed(root) == ["a.tif", "b.tif", "sub/c.tif", "sub/d.txt"]
    assert listed(join(root, "*.tif")) == ["a.tif", "b.tif"]
    assert listed(join(root, "**", "c.tif")) == ["sub/c.tif"]
    assert listed(join(root, "a.tif")) == ["a.tif"]
    assert listed(join(root, "absent")) == []


def test_listing_leaves_out_what_cannot_be_read_like_a_file(tmp_path):
    (tmp_path / "file.tif").write_bytes(b"x")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "link.tif").symlink_to(tmp_path / "file.tif")
    (tmp_path / "broken.tif").symlink_to(tmp_path / "absent")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    for pattern in (str(tmp_path), str(tmp_path / "*.tif")):
        found = {Path(info.uri).name: info for info in listing.list_files(pattern)}
        assert list(found) == ["broken.tif", "file.tif", "link.tif", "loop.tif"]
        # What a link points at may lie on a volume that is not mounted: nobody may overlook it.
        absent = [found[name] for name in ("broken.tif", "loop.tif")]
        assert {(info.size, info.version) for info in absent} == {(0, ABSENT)}


@pytest.mark.parametrize("linked", [False, True])
def test_a_listing_and_a_look_at_one_file_agree(tmp_path, linked):
    target = tmp_path / "target" / "a.tif"
    target.parent.mkdir()
    target.write_bytes(b"content")
    os.utime(target, (1000, 1000))
    folder = target.parent
    if linked:
        folder = tmp_path / "links"
        folder.mkdir()
        (folder / "a.tif").symlink_to(target)
    uri = str(folder / "a.tif")
    for pattern in (str(folder), str(folder / "*.tif"), uri):
        assert list(listing.list_files(pattern)) == [file_info(uri)]
