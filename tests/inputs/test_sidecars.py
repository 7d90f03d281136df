import os

import pytest
from archives import find, touch

from batchseg.inputs.scene_files import RASTER_SUFFIXES
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.sidecars import beside, is_sidecar


@pytest.mark.parametrize("name", ["a.tif.msk", "a.tif.aux.xml", "a.wld", "a.tfw", "a.tif.ovr"])
def test_the_tag_changes_when_a_sidecar_appears_or_changes(tmp_path, name):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    tags = []
    for mtime in (None, 1000, 2000):
        if mtime:
            touch(tmp_path / name)
            os.utime(tmp_path / name, (mtime, mtime))
        a, b = find(tmp_path / "*.tif")[0]
        assert current_tag(a) == a.tag
        tags.append((a.tag, b.tag))
    assert len({a for a, _ in tags}) == 3
    assert len({b for _, b in tags}) == 1


@pytest.mark.parametrize(
    ("raster", "name"),
    [
        ("a.tif", "a.TFW"),
        ("A.TIF", "A.TFW"),
        ("A.TIF", "a.Tfw"),
        ("a.tif", "a.tifw"),
        ("a.jpeg", "a.jpegw"),
        ("a.bmp", "a.bpw"),
        ("a.gif", "a.gfw"),
        ("a.tif", "a.TAB"),
        ("a.tif", "a_RPC.TXT"),
        ("a.tif", "a.RPB"),
        ("a.b.tif", "a.b_rpc.txt"),
        ("IMG_x_001_R1C1.TIF", "RPC_x_001.XML"),
        ("IMG-01-x.tif", "RPC-01-x.txt"),
        ("a.tif", "a.TIF.AUX.XML"),
        ("a.img", "a.ige"),
    ],
)
def test_the_tag_follows_all_that_gdal_reads_in_any_case_of_letters(tmp_path, raster, name):
    touch(tmp_path / raster, tmp_path / "other.tif")
    tags = []
    for content in (None, b"1", b"12"):
        if content:
            (tmp_path / name).write_bytes(content)
        sources = {source.source_id: source for source in find(tmp_path)[0]}
        assert set(sources) == {raster, "other.tif"}
        assert current_tag(sources[raster]) == sources[raster].tag
        tags.append((sources[raster].tag, sources["other.tif"].tag))
    assert len({tag for tag, _ in tags}) == 3
    assert len({tag for _, tag in tags}) == 1


def test_what_lies_beside_and_is_not_read_leaves_the_tag_alone(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "b.jpg")
    before = [source.tag for source in find(tmp_path)[0]]
    touch(
        *(
            tmp_path / name
            for name in ("a.txt", "a.json", "ab.tfw", "a_1.tfw", "b.xml", "b_rpc.txt", "a.tif.xml")
        )
    )
    assert [source.tag for source in find(tmp_path)[0]] == before


@pytest.mark.parametrize("glob", ["*", "a*"])
def test_a_glob_takes_no_sidecar_for_a_raster(tmp_path, glob):
    names = ("a.tif", "a.TFW", "a.tifw", "a.TAB", "a_RPC.TXT", "a.rpb", "a.jpgw", "a.WLD", "a.aux")
    touch(*(tmp_path / name for name in names))
    (source,), _ = find(tmp_path / glob)
    assert {file.rpartition("/")[2] for file in source.files} == set(names) - {"a.jpgw"}


def test_the_files_of_one_raster_of_several():
    files = ["/a/r.tif", "/a/R.TFW", "/a/r_RPC.TXT", "/a/r2.tif", "/a/r2.tfw", "/b/r.tfw", "/a/r.jgw"]
    assert beside("/a/r.tif", files) == ["/a/r.tif", "/a/R.TFW", "/a/r_RPC.TXT", "/a/r.jgw"]


@pytest.mark.parametrize("suffix", sorted(RASTER_SUFFIXES))
def test_no_raster_is_taken_for_a_sidecar(suffix):
    assert not is_sidecar(f"/in/a{suffix}")
    assert not is_sidecar(f"/in/a{suffix.upper()}")
