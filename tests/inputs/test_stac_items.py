import json

import pytest

from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.stac_items import by_items
from batchseg.job.settings import SceneSet

FAR = "https://landsatlook.example.org/data/X/"


def scenes(folder, item: dict, *assets: str):
    path = folder / "item.json"
    path.write_text(json.dumps({"type": "Feature", "id": "x", **item}))
    given = SceneSet(kind="stac", path=str(path), columns=assets)
    return list(by_items(given, LeftOut(), allow_vrt=False))


@pytest.mark.parametrize("name", ["red.tif", "a b.tif", "a%20b.tif"])
def test_a_file_beside_its_item_goes_before_its_address(tmp_path, name):
    (tmp_path / "red.tif").write_bytes(b"pixels")
    (tmp_path / "a b.tif").write_bytes(b"pixels")
    (scene,) = scenes(tmp_path, {"assets": {"red": {"href": FAR + name + "?sig=1#x"}}}, "red")
    assert [info.uri for info in scene.rasters] == [str(tmp_path / name.replace("%20", " "))]
    assert scene.problem == ""


@pytest.mark.parametrize("name", ["", "..", "%2e%2e", "%2fetc%2fpasswd", "%00", "a/../", "item.json/x"])
def test_addresses_name_nothing_outside_the_items_folder(tmp_path, monkeypatch, name):
    asked = []
    monkeypatch.setattr(
        "batchseg.inputs.one_scene.file_infos", lambda uris: asked.extend(uris) or dict.fromkeys(uris)
    )
    (scene,) = scenes(tmp_path, {"assets": {"red": {"href": FAR + name}}}, "red")
    assert asked == [FAR + name] or "\0" in name
    assert scene.rasters == ()


OLD = {
    "properties": {"eo:bands": [{"common_name": "blue"}, {"common_name": "red"}, {"name": "x"}]},
    "assets": {"B2": {"href": "b2.tif", "eo:bands": [0]}, "B4": {"href": "b4.tif", "eo:bands": [1]}},
}
NEW = {
    "assets": {
        "B2": {"href": "b2.tif", "eo:bands": [{"common_name": "blue"}]},
        "B4": {"href": "b4.tif", "bands": [{"eo:common_name": "red"}]},
    }
}
LISTS = {"B4": [9], "B5": [1], "a": [0, 1], "b": [-1], "c": [{"common_name": ["red"]}], "d": 5}
ODD = {
    "properties": {"eo:bands": [{"common_name": "blue"}, 5]},
    "assets": {name: {"href": "b4.tif", "eo:bands": bands} for name, bands in LISTS.items()},
}
TWICE = {"assets": {n: {"href": "b2.tif", "eo:bands": [{"common_name": "red"}]} for n in ("x", "y")}}


@pytest.mark.parametrize(("item", "found"), [(OLD, True), (NEW, True), (ODD, False), (TWICE, False)])
def test_an_asset_of_one_band_goes_by_its_common_name_too(tmp_path, item, found):
    for name in ("b2.tif", "b4.tif"):
        (tmp_path / name).write_bytes(b"pixels")
    (scene,) = scenes(tmp_path, item, "red", "blue")
    if found:
        assert [info.uri for info in scene.rasters] == [f"{tmp_path}/b4.tif", f"{tmp_path}/b2.tif"]
    else:
        assert "has no asset 'red'" in scene.problem


def test_a_key_goes_before_a_common_name(tmp_path):
    for name in ("b2.tif", "b4.tif"):
        (tmp_path / name).write_bytes(b"pixels")
    item = {"assets": NEW["assets"] | {"blue": {"href": "b4.tif"}}}
    (scene,) = scenes(tmp_path, item, "blue")
    assert scene.rasters[0].uri == f"{tmp_path}/b4.tif"
