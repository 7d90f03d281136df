import dataclasses
import json

from factories import make_package

from batchseg.cli.model import as_dict, describe
from batchseg.models.package import (
    ClassInfo,
    LimitLong,
    Normalize,
    Padding,
    Resize,
    ResizeByLong,
    ResizeByShort,
)

STEPS = (
    Resize(target_hw=(200, 300), keep_ratio=True, size_divisor=32, interp="area"),
    ResizeByShort(short_size=512, max_size=1024),
    ResizeByLong(long_size=800),
    LimitLong(max_long=900, min_long=100),
    Padding(target_hw=(640, 640), value=(127.5,)),
)

FULL = make_package(
    network="/models/land/model.json.enc",
    encrypted=True,
    conversion="/models/land/model.onnx",
    model_name="PP-LiteSeg-T",
    bands=4,
    size_hw=(512, None),
    batch=1,
    size_divisor=32,
    quantized=True,
    geometry=STEPS,
    normalize=Normalize(mean=(), std=(0.25, 0.5)),
    output="sigmoid",
    confidence_output=True,
    threshold=0.3,
    classes=(ClassInfo(name="soil", color="#a0522d"), ClassInfo(name="water", color="#1f77b4")),
    tile_size=512,
    halo=38,
    pixel_size=0.5,
    limits=("argmax is baked in: no confidence",),
)


def test_everything_that_is_known_is_said():
    assert describe(FULL).splitlines() == [
        "model    /models/land/model.json.enc (Paddle PIR program, encrypted)",
        "         /models/land/model.pdiparams",
        "         /models/land/model.onnx (its owner's conversion)",
        "         PP-LiteSeg-T, described by PaddleSeg's deploy.yaml",
        f"digest   {'0' * 64}",
        "input    4 bands, float32, NCHW, 512 x free pixels (height x width), batch 1",
        "         both sides multiples of 32",
        "         quantised by its owner",
        "before   Resize to 200 x 300 (area, ratio kept, up to multiples of 32), undone on the mask",
        "         ResizeByShort: the short side to 512, the long one at most 1024, undone on the mask",
        "         ResizeByLong: the long side to 800, undone on the mask",
        "         LimitLong: the long side at least 100 and at most 900, undone on the mask",
        "         Padding to 640 x 640 with 127.5, cut off the mask",
        "         0..255 to 0..1, then less mean (0.5), by std (0.25, 0.5)",
        "output   one band of scores in 0..1",
        "         a second output with the confidence",
        "         class 1 above 0.3",
        "classes  0 soil #a0522d",
        "         1 water #1f77b4",
        "advice   tile_size: 512, halo: 38",
        "         pixels of 0.5 m on the ground",
        "limits   argmax is baked in: no confidence",
    ]


def test_what_is_not_known_is_said_so():
    lines = describe(make_package(declares_transforms=False, normalize=None)).splitlines()
    assert lines[4:] == [
        "input    bands not declared, float32, NCHW, any size, any batch",
        "before   not declared",
        "output   not declared; a tile will tell",
    ]
    assert "before   not normalised" in describe(make_package(normalize=None))
    assert "raw pixels go in" in describe(make_package(origin="baked", normalize=None))


def test_the_dictionary_has_every_field_and_is_json():
    values = json.loads(json.dumps(as_dict(FULL)))
    assert set(values) == {field.name for field in dataclasses.fields(FULL)}
    kinds = ["Resize", "ResizeByShort", "ResizeByLong", "LimitLong", "Padding"]
    assert [step["type"] for step in values["geometry"]] == kinds
    assert values["geometry"][0]["target_hw"] == [200, 300]
    assert values["classes"][1] == {"name": "water", "color": "#1f77b4"}
