import os
import sys
from pathlib import Path

import pytest
from archives import find, ids, touch
from factories import find_sources, write_job
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import BatchsegError, ConfigError
from batchseg.inputs.ids import InputRoot
from batchseg.job.file import load_job


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


def test_names_that_contradict_are_refused(tmp_path):
    touch(tmp_path / "x" / "a.tif")
    folder = str(tmp_path / "x")
    with pytest.raises(ConfigError, match="twice"):
        ids(("a", folder), ("b", folder))
