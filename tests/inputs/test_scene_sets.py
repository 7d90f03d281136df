import json
import os
import re
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import touch
from factories import find_sources, make_config

from batchseg.errors import ConfigError
from batchseg.inputs import metadata_places, scene_sets
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.source import BandMetadata
from batchseg.job.settings import SceneSet
from batchseg.system import listing


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
        def counted(uri, *others, **options):
            asked.append(uri)
            return function(uri, *others, **options)

        return counted

    for name in ("list_files", "list_folder"):
        monkeypatch.setattr(listing, name, counting(getattr(listing, name)))
    monkeypatch.setattr(scene_sets, "selected_files", counting(scene_sets.selected_files))
    monkeypatch.setattr(metadata_places, "file_info", counting(metadata_places.file_info))
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
    left_out = LeftOut()
    sources, _ = find_sources(make_config(inputs=((None, given),)), {}, left_out)
    if not sources:
        assert "no file can have that name" in left_out.lines()[0]
    for source in sources:
        assert not {"", ".", ".."} & set(source.source_id.split("/"))
        assert source.source_id.isprintable()


def test_scenes_of_one_name_have_a_problem_and_the_same_scene_twice_is_one(tmp_path):
    touch(tmp_path / "r.tif", tmp_path / "s.tif")
    path = tmp_path / "items.json"
    twice = [item("a", red="r.tif"), item("a", red="r.tif"), item("c", nir="r.tif"), item("c", nir="r.tif")]
    sources, _ = find_set(stac(path, twice, "red"))
    assert [s.source_id for s in sources] == ["a", "c"]
    given = stac(path, [item("a", red="r.tif"), item("a", red="s.tif"), item("b", red="s.tif")], "red")
    problems = {s.source_id: s.problem for s in find_set(given)[0]}
    assert "would both be called a; give every scene" in problems.pop("a")
    assert not any(problems.values())


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


@pytest.mark.parametrize(
    "change",
    [
        {"links": 7},
        {"properties": [1]},
        {"assets": {"red": {"href": "r.tif", "raster:bands": [{"scale": 0}]}}},
        {"assets": {"red": {"href": "r.tif", "raster:bands": [{"scale": 10**400}]}}},
        {"assets": {"red": {"href": "r.tif", "raster:bands": [{"scale": 1, "offset": float("nan")}]}}},
    ],
)
def test_an_item_made_wrongly_is_no_other_items_problem(tmp_path, change):
    touch(tmp_path / "r.tif")
    features = [item("a", red="r.tif") | change, item("b", red="r.tif")]
    sources, _ = find_set(stac(tmp_path / "items.json", features, "red"))
    problems = {source.source_id: source.problem for source in sources}
    assert problems["b"] == ""
    assert "not made as STAC says" in problems["a"]


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
        ('{"type": "FeatureCollection", "features": [{"assets": {}}]}', "feature 1 is left out: no id"),
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
        ("red,nir,name\na.tif,b.tif,\n", "line 2 is left out: no name"),
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


def test_patterns_find_world_files_and_polynomials_in_any_case_of_letters(tmp_path):
    touch(*(tmp_path / "a" / name for name in ("a_red.tif", "a_nir.tif")))
    before = find_set(bands(tmp_path))[0][0]
    touch(*(tmp_path / "a" / name for name in ("a_red.TFW", "a_nir_RPC.TXT", "a_red_note.txt")))
    (source,), _ = find_set(bands(tmp_path))
    assert {file.rpartition("/")[2] for file in source.files} == {
        *("a_red.tif", "a_nir.tif", "a_red.TFW", "a_nir_RPC.TXT"),
    }
    assert source.tag != before.tag
