import datetime as dt
import os
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_config, write_job, write_raster
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg import storage
from batchseg.config import load_job
from batchseg.errors import BatchsegError, ConfigError
from batchseg.inputs import InputRoot, current_tag, find_sources


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")


def find(*patterns, recorded=None, **changes):
    inputs = tuple(p if isinstance(p, tuple) else (None, str(p)) for p in patterns)
    return find_sources(make_config(inputs=inputs, **changes), recorded or {})


def ids(*patterns, **changes) -> list[str]:
    return [source.source_id for source in find(*patterns, **changes)[0]]


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


@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/etc", "a/../../.."])
def test_a_name_given_to_an_input_does_not_lead_out_of_the_output(tmp_path, name):
    touch(tmp_path / "scenes" / "a.tif")
    job = write_job(tmp_path, inputs={name: "scenes"})
    try:
        sources, _ = find_sources(load_job(job), {})
    except ConfigError as e:
        assert "inputs" in str(e)
    else:
        assert not {"", ".", ".."} & set(sources[0].source_id.split("/"))


def test_text_manifests_hold_one_path_per_line(tmp_path):
    touch(tmp_path / "in" / "a.tif", tmp_path / "in" / "deep" / "b.tif")
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"\ufeff# scenes\n\nin/a.tif\n  {tmp_path}/in/deep/b.tif  \n", encoding="utf-8")
    assert ids(manifest) == ["a.tif", "deep/b.tif"]


def test_parquet_manifests_have_a_column_uri(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    manifest = tmp_path / "list.parquet"
    pq.write_table(pa.table({"n": [1, 2], "uri": ["a.tif", str(tmp_path / "b.tif")]}), manifest)
    assert ids(manifest) == ["a.tif", "b.tif"]


@pytest.mark.parametrize(
    "table", [{"path": ["a.tif"]}, {"uri": [1, 2]}, {"uri": ["a.tif", None]}], ids=["name", "type", "null"]
)
def test_a_table_that_is_no_manifest_is_refused(tmp_path, table):
    manifest = tmp_path / "list.parquet"
    pq.write_table(pa.table(table), manifest)
    with pytest.raises(ConfigError, match="not a manifest"):
        find(manifest)


@pytest.mark.parametrize("name", ["list.txt", "list.parquet"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot read the manifest"):
        find(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not a manifest"):
        find(tmp_path / name)


def test_a_row_of_a_manifest_without_file_is_kept_for_the_reader_to_refuse(tmp_path):
    touch(tmp_path / "a.tif")
    (tmp_path / "list.txt").write_text("a.tif\ngone.tif\n")
    sources, _ = find(tmp_path / "list.txt")
    assert [source.source_id for source in sources] == ["a.tif", "gone.tif"]
    assert current_tag(sources[1]) is None


def test_a_manifest_can_name_files_of_several_storages(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/b.tif", b"x")
    touch(tmp_path / "a.tif")
    (tmp_path / "list.txt").write_text("a.tif\nmemory://bucket/b.tif\n")
    try:
        assert len(ids(tmp_path / "list.txt")) == 2
    finally:
        memory.store.clear()


ROW = st.lists(st.sampled_from(["a", "b", "..", "."]), max_size=3).map(lambda way: "/".join([*way, "x.tif"]))
ROWS = st.lists(ROW, min_size=1, max_size=4, unique=True)


def two_nights(folder, *nights):
    """What a manifest gives on each night, and the files that its rows name."""
    roots = {}
    for rows in nights:
        named = [*rows, *(f"{folder}/deep/er/{row}" for row in rows)]
        (folder / "list.txt").write_text("\n".join(named))
        sources, roots = find(folder / "list.txt", recorded=roots)
        yield sources, {os.path.normpath(folder / row) for row in named}


@settings(deadline=None, max_examples=40)
@given(ROWS, ROWS)
def test_rows_of_a_manifest_never_lead_out_of_the_output(tmp_path_factory, one, two):
    for sources, _ in two_nights(tmp_path_factory.mktemp("manifest"), one, two):
        assert all(not {"", ".", ".."} & set(source.source_id.split("/")) for source in sources)


@settings(deadline=None, max_examples=40)
@given(ROWS, ROWS)
def test_rows_of_a_manifest_do_not_hide_each_other(tmp_path_factory, one, two):
    for sources, files in two_nights(tmp_path_factory.mktemp("manifest"), one, two):
        assert {os.path.normpath(source.uri) for source in sources} == files


def test_inputs_whose_folders_share_a_name_get_different_ids(tmp_path):
    touch(tmp_path / "x" / "tiles" / "a.tif", tmp_path / "y" / "tiles" / "a.tif")
    sources, roots = find(tmp_path / "x" / "tiles", tmp_path / "y" / "tiles")
    assert [source.source_id for source in sources] == ["tiles-2/a.tif", "tiles/a.tif"]
    assert sorted(root.name for root in roots.values()) == ["tiles", "tiles-2"]


def test_ids_stay_when_the_order_of_the_inputs_changes(tmp_path):
    one, two = tmp_path / "x" / "tiles", tmp_path / "y" / "tiles"
    touch(one / "a.tif", two / "a.tif")
    before, roots = find(one, two)
    after, again = find(two, one, recorded=roots)
    assert {s.uri: s.source_id for s in after} == {s.uri: s.source_id for s in before}
    assert again == roots


def test_ids_stay_when_an_input_is_added(tmp_path):
    touch(tmp_path / "x" / "a.tif", tmp_path / "y" / "a.tif")
    before, roots = find(tmp_path / "x")
    after, _ = find(tmp_path / "x", tmp_path / "y", recorded=roots)
    assert [s.source_id for s in before] == ["a.tif"]
    assert {s.source_id for s in after} == {"a.tif", "y/a.tif"}


def test_an_added_input_does_not_hide_a_folder_of_the_first(tmp_path):
    touch(tmp_path / "x" / "new" / "a.tif", tmp_path / "new" / "a.tif")
    _, roots = find(tmp_path / "x")
    sources, _ = find(tmp_path / "x", tmp_path / "new", recorded=roots)
    assert len(sources) == 2


def test_ids_of_a_manifest_stay_when_rows_are_added_elsewhere(tmp_path):
    touch(tmp_path / "p" / "a.tif", tmp_path / "q" / "b.tif")
    manifest = tmp_path / "list.txt"
    manifest.write_text("p/a.tif\n")
    (before,), roots = find(manifest)
    manifest.write_text("p/a.tif\nq/b.tif\n")
    after, _ = find(manifest, recorded=roots)
    assert {s.uri: s.source_id for s in after}[before.uri] == before.source_id == "a.tif"
    assert len(after) == 2


def test_names_from_the_job_come_first_in_the_ids(tmp_path):
    touch(tmp_path / "x" / "a.tif")
    assert ids(("north", str(tmp_path / "x"))) == ["north/a.tif"]


def test_a_recorded_root_is_kept(tmp_path):
    touch(tmp_path / "x" / "a.tif")
    root = InputRoot(pattern=str(tmp_path / "x"), name="kept", prefix=str(tmp_path))
    assert ids(tmp_path / "x", recorded={root.pattern: root}) == ["kept/x/a.tif"]


def test_the_tag_is_stable_and_follows_the_content(tmp_path):
    path = tmp_path / "a.tif"
    touch(path)
    (source,), _ = find(tmp_path)
    assert find(tmp_path)[0] == [source]
    assert current_tag(source) == source.tag
    os.utime(path, (1000, 1000))
    assert current_tag(source) != source.tag


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


def vrt_of(path: Path, member: str, relative: int) -> None:
    path.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="3"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{member}</SourceFilename>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.mark.parametrize("relative", [0, 1])
def test_the_tag_of_a_vrt_follows_its_members(tmp_path, relative):
    member = write_raster(tmp_path / "parts" / "m.tif", np.zeros((1, 3, 5), np.uint8))
    vrt_of(tmp_path / "a.vrt", "parts/m.tif" if relative else str(member), relative)
    (before,), _ = find(tmp_path / "*.vrt")
    assert current_tag(before) == before.tag
    os.utime(member, (1000, 1000))
    (after,), _ = find(tmp_path / "*.vrt")
    assert current_tag(before) == after.tag != before.tag


def test_a_broken_vrt_is_left_to_the_reader(tmp_path):
    (tmp_path / "a.vrt").write_text("<VRTDataset")
    assert ids(tmp_path) == ["a.vrt"]


@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_a_linked_file_that_nobody_touched_has_not_changed(tmp_path, pattern):
    touch(tmp_path / "archive" / "a.tif")
    os.utime(tmp_path / "archive" / "a.tif", (1000, 1000))
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "a.tif").symlink_to(tmp_path / "archive" / "a.tif")
    (source,), _ = find(tmp_path / "night" / pattern)
    assert current_tag(source) == source.tag


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_no_defect(tmp_path):
    touch(tmp_path / "good.tif")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tif")).write_bytes(b"x")
    try:
        found = ids(tmp_path)
    except BatchsegError as e:
        assert "caf" in str(e)
    else:
        assert "good.tif" in found
        "".join(found).encode()


def test_another_spelling_of_the_same_folder_keeps_the_ids(tmp_path):
    touch(tmp_path / "x" / "deep" / "a.tif")
    before, roots = find(tmp_path / "x")
    after, _ = find(tmp_path / "x" / "**" / "*.tif", recorded=roots)
    assert [s.source_id for s in after] == [s.source_id for s in before] == ["deep/a.tif"]


def test_a_file_that_two_inputs_hold_is_one_source(tmp_path):
    touch(tmp_path / "x" / "a.tif", tmp_path / "x" / "b.tif")
    sources, _ = find(tmp_path / "x" / "a*.tif", tmp_path / "x")
    assert sorted(Path(s.uri).name for s in sources) == ["a.tif", "b.tif"]


def test_names_that_contradict_are_refused(tmp_path):
    touch(tmp_path / "x" / "a.tif")
    folder = str(tmp_path / "x")
    with pytest.raises(ConfigError, match="twice"):
        ids(("a", folder), ("b", folder))


def test_hidden_files_are_no_sources(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "._a.tif", tmp_path / ".b.tif")
    assert ids(tmp_path) == ["a.tif"]


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
        assert storage._modified({key: value}) == pytest.approx(now.timestamp())
    assert storage._modified({"last_modified": now.replace(tzinfo=None)}) == pytest.approx(now.timestamp())
    assert storage._modified({"size": 3, "updated": "yesterday"}) is None
