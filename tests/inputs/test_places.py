"""Georeferences beside photographs."""

from pathlib import Path

import fsspec
import pytest
from archives import touch
from listings import listed

from batchseg.errors import SourceIOError
from batchseg.inputs.places import HAS_PLACE
from batchseg.system import walk

SRS = b"<PAMDataset>\n  <SRS>EPSG:4326</SRS>\n</PAMDataset>"
STATISTICS = b'<PAMDataset><Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata></PAMDataset>'

BESIDE = {
    "a.jpg": ("a.jgw", b"1\n0\n0\n-1\n5\n9\n"),
    "b.JPG": ("b.JGW", b"1"),
    "c.jpeg": ("c.jpegw", b"1"),
    "d.png": ("d.pgw", b"1"),
    "e.tif": ("e.tifw", b"1"),
    "f.bmp": ("f.bpw", b"1"),
    "g.webp": ("g.wld", b"1"),
    "h.jpg": ("h.jpg.aux.xml", SRS),
    "i.png": ("i.png.aux.xml", b"<PAMDataset><GeoTransform> 0, 1</GeoTransform></PAMDataset>"),
    "j.jpg": ("j.tab", b"!table\n!version 300\n"),
    "k.tif": ("k_RPC.TXT", b"LINE_OFF: 1"),
}
NONE = {
    "l.jpg": ("l.jpg.aux.xml", STATISTICS),
    "m.jpg": ("m.pgw", b"1"),  # GDAL reads it beside m.png alone
    "n.jpg": ("n.txt", b"notes"),
    "o.jpg": ("o.tab", b"line\tserial\n"),
    "p.jpg": ("elsewhere/p.jgw", b"1"),
}


def lay(put) -> None:
    for name, (beside, content) in (BESIDE | NONE).items():
        put(name, b"pixels")
        put(beside, content)


def refused(table) -> set[str]:
    rows = table.to_pylist()
    return {row["source_id"] for row in rows if row["problem"].startswith(HAS_PLACE)}


@pytest.mark.parametrize("pattern", ["", "/*", "/**", "/?.*"])
def test_photographs_with_a_place_have_a_problem(tmp_path, pattern):
    def put(name: str, content: bytes) -> None:
        touch(path := tmp_path / "in" / name)
        path.write_bytes(content)

    lay(put)
    assert refused(listed(f"{tmp_path}/in{pattern}")) == set(BESIDE)
    assert refused(listed(f"{tmp_path}/in/*.jpg")) == {n for n in BESIDE if n.endswith(".jpg")}


def test_in_buckets_as_on_disks(bucket):
    fs = fsspec.filesystem("s3")
    lay(lambda name, content: fs.pipe_file(f"{bucket}/in/{name}", content))
    for pattern in ("", "/*", "/**"):
        assert refused(listed(f"{bucket}/in{pattern}")) == set(BESIDE)


def test_photographs_of_a_list_have_their_places_beside_them_too(tmp_path):
    def put(name: str, content: bytes) -> None:
        touch(path := tmp_path / name)
        path.write_bytes(content)

    lay(put)
    (tmp_path / "m.lst").write_text("\n".join(BESIDE | NONE))
    assert refused(listed(tmp_path / "m.lst")) == set(BESIDE)


@pytest.mark.parametrize("listed_from", [1, 64])
def test_so_have_those_of_a_list_of_files_in_a_bucket(tmp_path, bucket, monkeypatch, listed_from):
    """Whether or not a folder holds so many of them that it is listed for their sizes."""
    monkeypatch.setattr(walk, "LISTED_FROM", listed_from)
    fs = fsspec.filesystem("s3")
    lay(lambda name, content: fs.pipe_file(f"{bucket}/in/{name}", content))
    for where, prefix in ((f"{bucket}/in", ""), (tmp_path, f"{bucket}/in/")):
        text = "\n".join(f"{prefix}{name}" for name in [*BESIDE, *NONE, "gone/x.jpg"])
        with fsspec.open(f"{where}/m.lst", "w") as file:
            file.write(text)
        assert {name.rpartition("/")[2] for name in refused(listed(f"{where}/m.lst"))} == set(BESIDE)


def test_a_key_that_may_read_and_not_list_is_enough(bucket, monkeypatch):
    def deny(*arguments, **options):
        msg = "access denied"
        raise SourceIOError(msg)

    fs = fsspec.filesystem("s3")
    fs.pipe_file(f"{bucket}/in/a.jpg", b"a")
    fs.pipe_file(f"{bucket}/m.lst", f"{bucket}/in/a.jpg".encode())
    monkeypatch.setattr(walk.listing, "pages", deny)
    found = listed(f"{bucket}/m.lst")
    assert found["problem"].to_pylist() == [""]


def test_a_text_beside_a_photograph_that_nobody_can_read_is_no_place(tmp_path):
    touch(tmp_path / "a.jpg")
    Path(tmp_path / "a.jpg.aux.xml").mkdir()
    assert refused(listed(tmp_path)) == set()
