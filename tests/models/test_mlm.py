import json

import pytest

from batchseg.errors import ModelError
from batchseg.models.mlm import pixel_size_beside


def item(path, *, bands=(), wanted=(), asset="net.onnx", **properties):
    named = {"mlm:name": "net", "mlm:input": [{"name": "x", "bands": list(wanted)}], **properties}
    document = {"type": "Feature", "properties": named, "assets": {"model": {"href": f"./{asset}"}}}
    document["assets"]["model"]["raster:bands"] = list(bands)
    path.write_text(json.dumps(document))


SENTINEL = [
    {"name": "B01", "spatial_resolution": 60},
    {"name": "B02", "spatial_resolution": 10},
    {"name": "B05"},
]


@pytest.mark.parametrize(
    ("said", "metres"),
    [
        ({"bands": SENTINEL, "wanted": ["B01", "B02", "B05"]}, 10.0),
        ({"bands": SENTINEL, "wanted": ["B01"]}, 60.0),
        ({"bands": SENTINEL, "wanted": [{"name": "B01"}]}, 60.0),
        ({"bands": SENTINEL}, 10.0),
        ({"gsd": 0.5}, 0.5),
        ({"bands": SENTINEL, "wanted": ["B02"], "gsd": 0.5}, 10.0),
        ({"bands": [{"name": "a", "raster:spatial_resolution": 3}]}, 3.0),
        ({}, None),
        ({"mlm:input": "none", "gsd": 2}, 2.0),
    ],
)
def test_the_finest_of_the_inputs_bands_counts_then_the_items_own(tmp_path, said, metres):
    item(tmp_path / "model.json", **said)
    assert pixel_size_beside(tmp_path / "net.onnx") == metres


def test_of_several_items_the_one_with_the_network_counts(tmp_path):
    item(tmp_path / "a.json", gsd=1)
    item(tmp_path / "b.json", gsd=2, asset="other.onnx")
    assert pixel_size_beside(tmp_path / "net.onnx") == 1.0
    assert pixel_size_beside(tmp_path / "third.onnx") is None


def test_other_json_is_no_item(tmp_path):
    assert pixel_size_beside(tmp_path / "net.onnx") is None
    for name, text in {
        "a": "[1]",
        "b": "{",
        "c": '{"type": "Feature"}',
        "d": '{"type": "Feature", "properties": {}}',
    }.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "big.json").write_bytes(b" " * (2**20 + 1))
    item(tmp_path / "net.json", gsd=1)
    assert pixel_size_beside(tmp_path / "net.json") is None  # it is the network itself
    assert pixel_size_beside(tmp_path / "net.onnx") == 1.0


@pytest.mark.parametrize("value", ["ten", 0, -1, True, [10]])
def test_a_size_that_is_none_is_refused(tmp_path, value):
    item(tmp_path / "model.json", gsd=value)
    with pytest.raises(ModelError, match=r"model.json: gsd is .*; expected metres, a number above 0"):
        pixel_size_beside(tmp_path / "net.onnx")
