import datetime as dt
import os
import time
from pathlib import Path

import fsspec
import pytest
from archives import find, ids, touch
from factories import find_sources, write_job

from batchseg.errors import ConfigError
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.source import Refusal
from batchseg.job.file import load_job
from batchseg.job.settings import Scale
from batchseg.pixels.header import read_header
from batchseg.system.file_info import modified_at


def test_a_folder_gives_its_rasters_at_any_depth(tmp_path):
    touch(*(tmp_path / name for name in ("b.tif", "a/c.JP2", "a/notes.txt", "b.tif.aux.xml", "d.prj")))
    assert ids(tmp_path) == ["a/c.JP2", "b.tif"]


def test_a_glob_gives_whatever_it_matches_relative_to_its_literal_part(tmp_path):
    touch(*(tmp_path / name for name in ("y1/a.dat", "y2/a.dat", "y2/b.tif", "y2/a.dat.ovr")))
    assert ids(tmp_path / "y*" / "a.*") == ["y1/a.dat", "y2/a.dat"]


def test_a_single_file_is_an_input(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    assert ids(tmp_path / "a.tif") == ["a.tif"]


def test_the_output_is_no_input(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "out" / "masks" / "a.tif", tmp_path / "outer.tif")
    assert ids(tmp_path, output=str(tmp_path / "out")) == ["a.tif", "outer.tif"]


def test_an_input_that_matches_nothing_is_refused_unless_allowed(tmp_path):
    touch(tmp_path / "notes.md")
    with pytest.raises(ConfigError, match="matches no raster"):
        find(tmp_path)
    assert ids(tmp_path, allow_empty=True) == []


@pytest.mark.parametrize("inputs", [[], {}])
def test_a_job_without_inputs_is_refused(tmp_path, inputs):
    with pytest.raises(ConfigError, match="inputs"):
        find_sources(load_job(write_job(tmp_path, inputs=inputs)), {})


def test_the_tag_is_stable_and_follows_the_content(tmp_path):
    path = tmp_path / "a.tif"
    touch(path)
    (source,), _ = find(tmp_path)
    assert find(tmp_path)[0] == [source]
    assert current_tag(source) == source.tag
    os.utime(path, (1000, 1000))
    assert current_tag(source) != source.tag


@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_a_linked_file_that_nobody_touched_has_not_changed(tmp_path, pattern):
    touch(tmp_path / "archive" / "a.tif")
    os.utime(tmp_path / "archive" / "a.tif", (1000, 1000))
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "a.tif").symlink_to(tmp_path / "archive" / "a.tif")
    (source,), _ = find(tmp_path / "night" / pattern)
    assert current_tag(source) == source.tag


@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_a_link_whose_file_is_not_there_is_a_source_that_is_gone(tmp_path, pattern):
    """As on a night on which a volume is not mounted: `prune` must not take its results for old ones."""
    touch(file := tmp_path / "archive" / "a.tif")
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "a.tif").symlink_to(file)
    (before,), roots = find(tmp_path / "night" / pattern)
    file.unlink()
    (after,), _ = find(tmp_path / "night" / pattern, recorded=roots)
    assert after.source_id == before.source_id
    assert after.tag != before.tag
    header = read_header(after)
    assert isinstance(header, Refusal)
    assert (header.reason, header.transient) == ("the file is gone", True)


def test_a_file_that_two_inputs_hold_is_one_source(tmp_path):
    touch(tmp_path / "x" / "a.tif", tmp_path / "x" / "b.tif")
    sources, _ = find(tmp_path / "x" / "a*.tif", tmp_path / "x")
    assert sorted(Path(s.uri).name for s in sources) == ["a.tif", "b.tif"]


def test_hidden_files_are_no_sources(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "._a.tif", tmp_path / ".b.tif")
    assert ids(tmp_path) == ["a.tif"]


def test_a_glob_on_a_web_server_is_refused():
    with pytest.raises(ConfigError, match="single URLs"):
        find("http://127.0.0.1:9/in/*.tif")


def test_files_in_a_sentinel_2_product_know_their_metadata_where_the_job_asks(tmp_path):
    touch(tmp_path / "a.SAFE" / "B04.jp2", tmp_path / "a.SAFE" / "MTD_MSIL2A.xml")
    metadata = Scale(kind="metadata", low=(0.0,), high=(1.0,))
    (plain,), _ = find(tmp_path / "a.SAFE")
    (asked,), _ = find(tmp_path / "a.SAFE", scale=metadata)
    assert (plain.metadata, plain.rasters) == ((), ())
    assert asked.metadata == (str(tmp_path / "a.SAFE" / "MTD_MSIL2A.xml"),)
    assert current_tag(asked) == asked.tag


def aged(path: Path, seconds: float) -> Path:
    """A file that changed so long ago."""
    touch(path)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.mark.parametrize(
    ("age", "min_age", "young"),
    [(30, 0, False), (30, 60, True), (90, 60, False), (-30, 60, True), (-90, 60, False)],
)
def test_a_file_is_young_until_its_age(tmp_path, age, min_age, young):
    aged(tmp_path / "a.tif", age)
    (source,) = find(tmp_path, min_age=min_age)[0]
    assert source.young == young


def test_a_source_is_as_young_as_the_youngest_of_its_files(tmp_path):
    aged(tmp_path / "a.tif", 999)
    aged(tmp_path / "b.tif", 999)
    aged(tmp_path / "b.tif.msk", 1)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "c.tif").symlink_to(aged(tmp_path / "new.dat", 1))
    sources, _ = find(tmp_path, min_age=60)
    assert [source.young for source in sources] == [False, True, True]


def test_storages_say_when_a_file_changed_or_it_is_old():
    now = dt.datetime.now(dt.UTC)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/young/a.tif", b"x")
    try:
        (source,) = find("memory://young/a.tif", min_age=60)[0]
        assert source.young
    finally:
        memory.store.clear()
    for key, value in (("LastModified", now), ("updated", now.isoformat()), ("mtime", now.timestamp())):
        assert modified_at({key: value}) == pytest.approx(now.timestamp())
    assert modified_at({"last_modified": now.replace(tzinfo=None)}) == pytest.approx(now.timestamp())
    assert modified_at({"size": 3, "updated": "yesterday"}) is None
