import datetime as dt
import json
import os
import re
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

from batchseg.errors import BatchsegError, ConfigError
from batchseg.inputs.ids import InputRoot
from batchseg.inputs.listing import current_tag, find_sources
from batchseg.inputs.source import BandMetadata, Refusal
from batchseg.job.file import load_job
from batchseg.job.settings import Scale, SceneSet
from batchseg.pixels.header import read_header
from batchseg.system import storage


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
    (before,), _ = find(tmp_path / "*.vrt", allow_vrt=True)
    assert current_tag(before) == before.tag
    os.utime(member, (1000, 1000))
    (after,), _ = find(tmp_path / "*.vrt", allow_vrt=True)
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


def bands(folder: Path, **changes) -> SceneSet:
    """Red and nir by pattern: FOLDER/<scene>/<scene>_red.tif, ..."""
    patterns = tuple((name, f"{folder}/{{scene}}/{{scene}}_{name}.tif") for name in ("red", "nir"))
    return SceneSet(kind="bands", **({"patterns": patterns} | changes))


def stac(path: Path, items: list[dict], *assets: str) -> SceneSet:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return SceneSet(kind="stac", path=str(path), columns=assets or ("red", "nir"))


def item(name: str, own: str = "", **assets: str) -> dict:
    links = [{"rel": "self", "href": own}] if own else []
    return {
        "type": "Feature",
        "id": name,
        "links": links,
        "assets": {k: {"href": v} for k, v in assets.items()},
    }


def find_set(*given: SceneSet, recorded=None, **changes):
    return find_sources(make_config(inputs=tuple((None, one) for one in given), **changes), recorded or {})


def test_patterns_put_the_files_of_a_scene_together_in_their_order(tmp_path):
    for scene in "ab":
        touch(*(tmp_path / scene / f"{scene}_{name}.tif" for name in ("blue", "nir", "red")))
    sources, _ = find_set(bands(tmp_path))
    assert [s.source_id for s in sources] == ["a", "b"]
    assert sources[0].rasters == (str(tmp_path / "a" / "a_red.tif"), str(tmp_path / "a" / "a_nir.tif"))
    assert [s.problem for s in sources] == ["", ""]
    assert [current_tag(s) for s in sources] == [s.tag for s in sources]


@pytest.mark.parametrize(
    ("pattern", "names", "scenes"),
    [
        ("{scene}_B4.tif", ["a_B4.tif", "b_c_B4.tif", "a_B5.tif", "d/a_B4.tif"], ["a", "b_c"]),
        ("**/{scene}_B4.tif", ["a_B4.tif", "d/e/b_B4.tif"], ["a", "b"]),
        ("y*/{scene}.SAFE/*/B4.jp2", ["y1/a.SAFE/g/B4.jp2", "z/b.SAFE/g/B4.jp2", "y1/c.SAFE/B4.jp2"], ["a"]),
        ("{scene}/{scene}_B?.tif", ["a/a_B4.tif", "a/b_B4.tif", "b/b_B44.tif"], ["a"]),
        ("{scene}_[34].tif", ["a_3.tif", "b_4.tif", "c_5.tif"], ["a", "b"]),
        ("[[]x]/{scene}.tif", ["[x]/a.tif", "x/b.tif"], ["a"]),
        ("{scene}/*", ["a/x.dat", "b/.x.dat", "b/y.dat.msk"], ["a"]),
        ("{scene}.+(1).tif", ["a.+(1).tif", "a..(1).tif"], ["a"]),
    ],
)
def test_a_pattern_is_a_glob_with_a_name_in_it(tmp_path, pattern, names, scenes):
    touch(*(tmp_path / name for name in names))
    sources, _ = find_set(bands(tmp_path, patterns=(("red", f"{tmp_path}/{pattern}"),)))
    assert [source.source_id for source in sources] == scenes
    assert [source.problem for source in sources] == [""] * len(scenes)


def test_each_pattern_is_listed_once(tmp_path, monkeypatch):
    for number in range(9):
        safe = tmp_path / f"s{number}.SAFE"
        touch(safe / "MTD_MSIL2A.xml", *(safe / f"{name}.jp2" for name in ("B04", "B08")))
    asked = []

    def counting(function):
        def counted(uri):
            asked.append(uri)
            return function(uri)

        return counted

    for name in ("list_files", "file_info", "list_folder", "is_folder"):
        monkeypatch.setattr(storage, name, counting(getattr(storage, name)))
    patterns = tuple((name, f"{tmp_path}/{{scene}}.SAFE/{name}.jp2") for name in ("B04", "B08"))
    sources, _ = find_set(bands(tmp_path, patterns=patterns))
    assert len(asked) == 4  # two patterns, and either name of the metadata
    assert {source.metadata for source in sources} == {
        (f"{tmp_path}/s{n}.SAFE/MTD_MSIL2A.xml",) * 2 for n in range(9)
    }


@pytest.mark.parametrize("kind", ["bands", "manifest", "stac"])
def test_a_scene_that_lacks_a_file_says_which_and_changes_when_it_comes(tmp_path, kind):
    touch(tmp_path / "a" / "a_red.tif")
    (tmp_path / "list.csv").write_text("red,nir\na/a_red.tif,a/a_nir.tif\n")
    given = {
        "bands": bands(tmp_path),
        "manifest": SceneSet(kind="manifest", path=f"{tmp_path}/list.csv", columns=("red", "nir")),
        "stac": stac(tmp_path / "items.json", [item("a", red="a/a_red.tif", nir="a/a_nir.tif")]),
    }[kind]
    if kind == "bands":  # a whole scene beside it: a band that no scene has is a mistake, not a gap
        touch(tmp_path / "b" / "b_red.tif", tmp_path / "b" / "b_nir.tif")
    (before, *_), roots = find_set(given)
    assert "nir" in before.problem
    assert "a_nir.tif" in before.problem
    touch(tmp_path / "a" / "a_nir.tif")
    (after, *_), _ = find_set(given, recorded=roots)
    assert after.problem == ""
    assert after.tag != before.tag
    assert after.source_id == before.source_id == ("a_red.tif" if kind == "manifest" else "a")


def test_a_pattern_without_any_file_is_refused_as_an_input_without_any(tmp_path):
    for scene in "ab":
        touch(tmp_path / scene / f"{scene}_red.tif")
    with pytest.raises(ConfigError, match=r"nothing matches .*_nir\.tif.*mounted"):
        find_set(bands(tmp_path))
    with pytest.raises(ConfigError, match="matches no raster"):
        find_set(bands(tmp_path / "elsewhere"))


def test_a_glob_on_a_web_server_is_refused():
    with pytest.raises(ConfigError, match="single URLs"):
        find("http://127.0.0.1:9/in/*.tif")


def test_two_files_for_one_band_are_both_named(tmp_path):
    touch(*(tmp_path / name for name in ("a_red_1.tif", "a_red_2.tif", "a_nir.tif")))
    patterns = (("red", f"{tmp_path}/{{scene}}_red_*.tif"), ("nir", f"{tmp_path}/{{scene}}_nir.tif"))
    (before,), _ = find_set(bands(tmp_path, patterns=patterns))
    assert all(word in before.problem for word in ("a_red_1.tif", "a_red_2.tif", "red"))
    (tmp_path / "a_red_1.tif").unlink()
    (after,), _ = find_set(bands(tmp_path, patterns=patterns))
    assert (after.problem, after.tag == before.tag) == ("", False)


def test_an_empty_file_an_empty_cell_and_a_missing_asset_are_problems(tmp_path):
    touch(tmp_path / "r.tif")
    (tmp_path / "n.tif").touch()
    (tmp_path / "list.csv").write_text("name,red,nir\none,r.tif,n.tif\ntwo,r.tif,\nthree,,\n")
    columns = {"columns": ("red", "nir"), "id_column": "name"}
    sources, _ = find_set(SceneSet(kind="manifest", path=f"{tmp_path}/list.csv", **columns))
    problems = {source.source_id: source.problem for source in sources}
    assert problems == {
        "one": "the file n.tif is empty",
        "two": "has no path in column 'nir'",
        "three": "has no path in column 'red'",
    }
    (source,), _ = find_set(stac(tmp_path / "items.json", [item("a", red="r.tif", nir08="n.tif")]))
    assert source.problem == "has no asset 'nir'; it has nir08, red"


def test_the_tag_of_a_scene_follows_sidecars_and_metadata(tmp_path):
    safe = tmp_path / "a.SAFE"
    files = [
        safe / "B04.jp2",
        safe / "B08.jp2",
        safe / "B08.jp2.msk",
        safe / "B04.j2w",
        safe / "MTD_MSIL1C.xml",
    ]
    touch(*files)
    patterns = tuple((name, f"{tmp_path}/{{scene}}.SAFE/{name}.jp2") for name in ("B04", "B08"))
    (source,), _ = find_set(bands(tmp_path, patterns=patterns))
    assert set(source.files) == set(map(str, files))
    assert source.metadata == (str(files[-1]),) * 2
    for file in files:
        os.utime(file, (1000, 1000))
        (after,), _ = find_set(bands(tmp_path, patterns=patterns))
        assert current_tag(source) == after.tag != source.tag
        source = after


def test_ids_stay_when_a_scene_set_is_known(tmp_path):
    touch(*(tmp_path / "a" / f"a_{name}.tif" for name in ("red", "nir")))
    (first,), roots = find_set(bands(tmp_path))
    (root,) = roots.values()
    assert root.pattern == bands(tmp_path).key == bands(tmp_path, resampling="cubic").key
    (other,), more = find_set(bands(tmp_path, resampling="cubic"), recorded=roots)
    assert more == roots
    assert (first.source_id, first.tag == other.tag) == (other.source_id, False)
    turned = bands(tmp_path, patterns=tuple(reversed(bands(tmp_path).patterns)))
    (turned_source,), _ = find_set(turned, recorded=roots)
    assert turned_source.source_id == first.source_id


def test_scene_sets_and_files_live_beside_each_other(tmp_path):
    touch(*(tmp_path / "a" / f"a_{name}.tif" for name in ("red", "nir")), tmp_path / "one" / "b.tif")
    config = make_config(inputs=(("set", bands(tmp_path)), ("files", f"{tmp_path}/*/*.tif")))
    sources, _ = find_sources(config, {})
    assert [s.source_id for s in sources] == [
        "files/a/a_nir.tif",
        "files/a/a_red.tif",
        "files/one/b.tif",
        "set/a",
    ]
    (tmp_path / "a" / "a_nir.tif").unlink()
    touch(*(tmp_path / "c" / f"c_{name}.tif" for name in ("red", "nir")))
    sources, _ = find_sources(config, {})  # what a scene lacks is no reason to leave out its files
    names = [s.source_id for s in sources if not s.source_id.startswith("files/c")]
    assert names == ["files/a/a_red.tif", "files/one/b.tif", "set/a", "set/c"]


@pytest.mark.parametrize("name", ["..", "../../x", "/etc/x", "a/../../..", "x\u0000y", "\ud800", "x" * 250])
def test_the_name_of_a_scene_does_not_lead_out_of_the_output(tmp_path, name):
    touch(tmp_path / "r.tif")
    given = stac(tmp_path / "items.json", [item(name, red="r.tif")], "red")
    try:
        sources, _ = find_set(given)
    except ConfigError as e:
        assert "cannot name a file" in str(e)
    else:
        parts = sources[0].source_id.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert sources[0].source_id.isprintable()


def test_scenes_of_one_name_are_refused_and_the_same_scene_twice_is_one(tmp_path):
    touch(tmp_path / "r.tif", tmp_path / "s.tif")
    path = tmp_path / "items.json"
    twice = [item("a", red="r.tif"), item("a", red="r.tif"), item("c", nir="r.tif"), item("c", nir="r.tif")]
    sources, _ = find_set(stac(path, twice, "red"))
    assert [s.source_id for s in sources] == ["a", "c"]
    with pytest.raises(ConfigError, match="would both be called a; give every scene"):
        find_set(stac(path, [item("a", red="r.tif"), item("a", red="s.tif")], "red"))


@pytest.mark.parametrize(
    ("own", "href"),
    [
        ("", "data/r.tif"),
        ("", "{folder}/data/r.tif"),
        ("", "file://{folder}/data/r.tif"),
        ("./data/a/a.json", "../r.tif"),
        ("{folder}/data/a.json", "./r.tif"),
        ("https://example.org/c/items.json", "./data/r.tif"),
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_hrefs_are_relative_to_the_item(tmp_path, own, href, single):
    touch(tmp_path / "data" / "r.tif")
    feature = item("a", own.format(folder=tmp_path), red=href.format(folder=tmp_path))
    given = stac(tmp_path / "items.json", [feature], "red")
    if single:
        (tmp_path / "items.json").write_text(json.dumps(feature))
    (source,), _ = find_set(given)
    assert source.rasters == (str(tmp_path / "data" / "r.tif"),)
    assert source.problem == ""


def test_what_an_item_says_of_its_bands_is_kept_and_tagged(tmp_path):
    touch(tmp_path / "r.tif")
    tags = set()
    for offset in (0, -0.1):
        feature = item("a", red="r.tif", nir="r.tif")
        feature["assets"]["red"]["raster:bands"] = [{"scale": 0.0001, "offset": offset}]
        (source,), _ = find_set(stac(tmp_path / "items.json", [feature]))
        assert source.said == ((BandMetadata(scale=0.0001, offset=offset),), ())
        assert current_tag(source) == source.tag
        tags.add(source.tag)
    assert len(tags) == 2
    (tmp_path / "items.json").write_text((tmp_path / "items.json").read_text() + " ")
    assert current_tag(source) == source.tag  # another item of the collection is no change of this one


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot list"),
        ("[]", "is a list"),
        ('{"type": "Collection"}', "is a Collection"),
        ('{"type": "FeatureCollection", "features": [{"assets": {}}]}', "feature 1 has no id"),
        ('{"type": "Feature", "id": "a", "assets": {"red": {}}}', "not made as STAC says.*href"),
        ('{"type": "Feature", "id": "a", "assets": ["red"]}', "not made as STAC says"),
        ('{"type": "Feature", "id": "a", "assets": []}', "has no asset 'red'"),
    ],
)
def test_what_is_no_stac_is_refused(tmp_path, text, word):
    (tmp_path / "items.json").write_text(text)
    given = SceneSet(kind="stac", path=f"{tmp_path}/items.json", columns=("red",))
    try:
        (source,), _ = find_set(given)
    except ConfigError as e:
        assert re.search(word, str(e))
    else:
        assert re.search(word, source.problem)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name,red\n", "has no column 'nir'; it has name, red"),
        ("", "it has none"),
        ("red,nir,name\na.tif,b.tif,\n", "row 1 has no name"),
        (b"\xff\xfe", "cannot list"),
        (None, "cannot list"),
    ],
)
def test_a_table_without_the_columns_is_refused(tmp_path, text, word):
    if text is not None:
        (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    given = SceneSet(kind="manifest", path=f"{tmp_path}/list.csv", columns=("red", "nir"), id_column="name")
    with pytest.raises(ConfigError, match=word):
        find_set(given)


def test_columns_of_a_parquet_manifest_hold_paths(tmp_path):
    touch(tmp_path / "r.tif", tmp_path / "n.tif")
    pq.write_table(
        pa.table({"n": [1, 2], "red": ["r.tif", "r.tif"], "nir": ["n.tif", None]}), tmp_path / "l.parquet"
    )
    given = SceneSet(kind="manifest", path=f"{tmp_path}/l.parquet", columns=("nir", "red"), id_column="n")
    sources, _ = find_set(given)
    assert [(s.source_id, len(s.rasters), bool(s.problem)) for s in sources] == [
        ("1", 2, False),
        ("2", 1, True),
    ]
    wrong = SceneSet(kind="manifest", path=f"{tmp_path}/l.parquet", columns=("n",))
    with pytest.raises(ConfigError, match="row 1, column n: expected a path, found 1"):
        find_set(wrong)


def test_scenes_on_other_storages_are_listed(tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        for name in ("a_red.tif", "a_nir.tif", "b_red.tif"):
            memory.pipe_file(f"/bucket/{name}", b"x")
        patterns = tuple((name, f"memory://bucket/{{scene}}_{name}.tif") for name in ("red", "nir"))
        sources, _ = find_set(bands(tmp_path, patterns=patterns))
        assert [(s.source_id, bool(s.problem)) for s in sources] == [("a", False), ("b", True)]
        assert current_tag(sources[0]) == sources[0].tag
        memory.pipe_file("/bucket/scenes.csv", b"red,nir\na_red.tif,a_nir.tif\n")
        given = SceneSet(kind="manifest", path="memory://bucket/scenes.csv", columns=("red", "nir"))
        (source,), _ = find_set(given)
        assert source.problem == ""
    finally:
        memory.store.clear()


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
        assert storage._modified({key: value}) == pytest.approx(now.timestamp())
    assert storage._modified({"last_modified": now.replace(tzinfo=None)}) == pytest.approx(now.timestamp())
    assert storage._modified({"size": 3, "updated": "yesterday"}) is None
