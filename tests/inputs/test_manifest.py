import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import find, ids, touch
from factories import find_sources, make_config

from batchseg.errors import ConfigError
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.scene_rows import current_tag
from batchseg.job.settings import SceneSet


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


@pytest.mark.parametrize("table", [{"path": ["a.tif"]}, {"uri": [1, 2]}], ids=["name", "type"])
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


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_line_without_end_is_refused_by_its_number(tmp_path, name):
    (tmp_path / name).write_bytes(b"uri\na.tif\n" + b"a" * 2**21)
    with pytest.raises(ConfigError, match=r"not a manifest \(line 3 has more than 1,048,576 characters"):
        find(tmp_path / name)


def test_rows_without_a_path_are_left_out_and_told_by_number(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    (tmp_path / "LIST.CSV").write_text(
        "\ufeffuri,line\r\na.tif,1\r\n,\r\n\r\nb.tif\r\n  ,\r\n,3\r\n", encoding="utf-8"
    )
    left_out = LeftOut()
    sources, _ = find_sources(make_config(inputs=((None, f"{tmp_path}/LIST.CSV"),)), {}, left_out)
    assert [source.source_id for source in sources] == ["a.tif", "b.tif"]
    assert left_out.lines() == (
        "LIST.CSV: lines 3, 6, 7 are left out: no path",
        "LIST.CSV: line 5 has fewer cells than columns; the last columns count as empty",
    )
    pq.write_table(pa.table({"uri": ["a.tif", None, ""]}), tmp_path / "LIST.PARQUET")
    assert ids(tmp_path / "LIST.PARQUET") == ["a.tif"]


@pytest.mark.parametrize("ending", ["csv", "CSV", "parquet", "Parquet"])
def test_how_a_manifest_is_read_does_not_depend_on_the_case_of_its_name(tmp_path, ending):
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    path = tmp_path / f"list.{ending}"
    if ending.lower() == "csv":
        path.write_text("uri,red\na.tif,b.tif\n")
    else:
        pq.write_table(pa.table({"uri": ["a.tif"], "red": ["b.tif"]}), path)
    assert ids(path) == ["a.tif"]
    given = SceneSet(kind="manifest", path=str(path), columns=("red",))
    assert [s.source_id for s in find_sources(make_config(inputs=((None, given),)), {})[0]] == ["b.tif"]


def test_rows_of_scenes_without_name_or_path_are_left_out(tmp_path):
    touch(tmp_path / "r.tif")
    (tmp_path / "m.csv").write_text("name,red\na,r.tif\n,\n,r.tif\nb,\n")
    given = SceneSet(kind="manifest", path=f"{tmp_path}/m.csv", columns=("red",), id_column="name")
    left_out = LeftOut()
    sources, _ = find_sources(make_config(inputs=((None, given),)), {}, left_out)
    assert [(s.source_id, bool(s.problem)) for s in sources] == [("a", False), ("b", True)]
    assert left_out.lines() == ("m.csv: line 3 is left out: no path", "m.csv: line 4 is left out: no name")


def test_one_bad_row_of_scenes_costs_no_other_and_is_told(tmp_path):
    """In either kind of list: a quote left open, a letter of another encoding, a cell too many."""
    touch(tmp_path / "a.tif", tmp_path / "b.tif")
    text = 'id,uri,note\n1,a.tif,\n2,x.tif,"5 inch\n3,y.tif,früh\n4,z.tif,1,2\n5,b.tif,\n'
    (tmp_path / "m.csv").write_bytes(text.encode("cp1252"))
    told = (
        "m.csv: line 5 is left out: more cells than columns; put a cell that holds a comma in quotes",
        "m.csv: line 3 is left out: a quote opens there that nothing closes; close it, or leave it out",
        "m.csv: line 4 is left out: not UTF-8 (character 11 of line 4 is byte 0xfc); save the list as UTF-8",
    )
    scenes = SceneSet(kind="manifest", path=f"{tmp_path}/m.csv", columns=("uri",), id_column="id")
    for given, names in ((f"{tmp_path}/m.csv", ["a.tif", "b.tif"]), (scenes, ["1", "5"])):
        left_out = LeftOut()
        sources, _ = find_sources(make_config(inputs=((None, given),)), {}, left_out)
        assert [source.source_id for source in sources] == names
        assert left_out.lines() == told
