import math

import numpy as np
import pytest

from batchseg.errors import ModelError
from batchseg.models.package import LimitLong, Normalize, Padding, Resize, ResizeByLong, ResizeByShort
from batchseg.models.transforms import TRAINING_ONLY, read_transforms

IMAGENET = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def refusal(*transforms) -> str:
    with pytest.raises(ModelError) as caught:
        read_transforms(list(transforms), "deploy.yaml")
    assert str(caught.value).startswith("model: deploy.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("item", "step"),
    [
        ({"type": "Resize"}, Resize(target_hw=(512, 512))),
        ({"type": "Resize", "target_size": [300, 200]}, Resize(target_hw=(200, 300))),
        (
            {
                "type": "Resize",
                "target_size": [9, 5],
                "keep_ratio": True,
                "size_divisor": 32,
                "interp": "AREA",
            },
            Resize(target_hw=(5, 9), keep_ratio=True, size_divisor=32, interp="area"),
        ),
        ({"type": "ResizeByShort", "short_size": 512}, ResizeByShort(short_size=512)),
        (
            {"type": "ResizeByShort", "short_size": 512, "max_size": 1e10},
            ResizeByShort(short_size=512, max_size=10**10),
        ),
        ({"type": "ResizeByLong", "long_size": 800}, ResizeByLong(long_size=800)),
        ({"type": "LimitLong", "max_long": 9}, LimitLong(max_long=9)),
        ({"type": "LimitLong", "min_long": 4, "max_long": 9}, LimitLong(max_long=9, min_long=4)),
        ({"type": "Padding", "target_size": [300, 200]}, Padding(target_hw=(200, 300), value=(127.5,))),
        (
            {"type": "Padding", "target_size": 64, "im_padding_value": [1, 2, 3], "label_padding_value": 9},
            Padding(target_hw=(64, 64), value=(1.0, 2.0, 3.0)),
        ),
    ],
)
def test_a_step_is_read_with_paddleseg_s_defaults_and_widths_first(item, step):
    assert read_transforms([item, IMAGENET], "deploy.yaml") == (
        (step,),
        Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    )


def test_steps_keep_their_order_and_what_concerns_labels_is_left_out():
    labels = {"type": "AddMultiLabelAuxiliaryCategory", "whatever": 1}
    long, pad = {"type": "ResizeByLong", "long_size": 8}, {"type": "Padding", "target_size": [8, 8]}
    steps, normalize = read_transforms([labels, long, {"type": "Normalize"}, pad], "deploy.yaml")
    assert [type(step) for step in steps] == [ResizeByLong, Padding]
    assert normalize == Normalize(mean=(), std=())


@pytest.mark.parametrize("normalize", [IMAGENET, {"type": "Normalize"}])
def test_a_padding_after_normalisation_is_what_normalises_to_its_value(normalize):
    value = [-0.5, 0.0, 1.25]
    padding = {"type": "Padding", "target_size": [8, 8], "im_padding_value": value}
    (step,), _ = read_transforms([normalize, padding], "deploy.yaml")
    mean, std = (np.array(normalize.get(key, [0.5])) for key in ("mean", "std"))
    np.testing.assert_allclose((np.array(step.value) / 255 - mean) / std, value, atol=1e-12)
    (before,), _ = read_transforms([padding, normalize], "deploy.yaml")
    assert before.value == tuple(value)


@pytest.mark.parametrize("transforms", [[], None])
def test_no_transforms_are_none(transforms):
    assert read_transforms(transforms, "deploy.yaml") == ((), None)


@pytest.mark.parametrize("kind", sorted(TRAINING_ONLY))
def test_a_step_for_training_is_refused_as_such(kind):
    assert "for training; remove it" in refusal({"type": kind})


@pytest.mark.parametrize("item", ["Resize", {"type": "PaddingByAspectRatio"}, {"type": None}, 7, {}, None])
def test_another_step_is_refused_by_name(item):
    kind = item.get("type") if isinstance(item, dict) else item
    assert f"the transform {kind!r}" in refusal(item)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "Resize", "target_size": [512]}, "target_size"),
        ({"type": "Resize", "target_size": "512"}, "target_size"),
        ({"type": "Resize", "target_size": [512, 0]}, "target_size"),
        ({"type": "Resize", "interp": "RANDOM"}, "interp"),
        ({"type": "Resize", "size_divisor": 1.5}, "size_divisor"),
        ({"type": "Resize", "target": [5, 5]}, "no key 'target'"),
        ({"type": "ResizeByShort"}, "short_size"),
        ({"type": "ResizeByShort", "short_size": [300, 400]}, "short_size"),
        ({"type": "ResizeByLong", "long_size": -1}, "long_size"),
        ({"type": "LimitLong", "max_long": 3, "min_long": 4}, "min_long"),
        ({"type": "Padding"}, "target_size"),
        ({"type": "Padding", "target_size": [5, 5], "im_padding_value": "black"}, "im_padding_value"),
        ({"type": "Padding", "target_size": [5, 5], "im_padding_value": []}, "im_padding_value"),
        ({"type": "Normalize", "std": [0.5, 0, 1]}, "std"),
        ({"type": "Normalize", "mean": "0.5"}, "mean"),
        ({"type": "Normalize", "mean": [math.nan]}, "mean"),
        ({"type": "Normalize", "std": [10**400]}, "std"),
        ({"type": "Normalize", 1: 2, "a": 3}, "no key 1"),
        ({"type": "Resize", "size_divisor": math.nan}, "size_divisor"),
        ({"type": "Resize", "target_size": [512, 10**9]}, "target_size"),
        ({"type": "ResizeByShort", "short_size": math.inf}, "short_size"),
        ({"type": "ResizeByShort", "short_size": 512, "max_size": -math.inf}, "max_size"),
        ({"type": "ResizeByLong", "long_size": 2**17}, "long_size"),
        ({"type": "Padding", "target_size": [5, 5], "im_padding_value": 1e300}, "im_padding_value"),
    ],
)
def test_a_value_of_another_form_is_refused_by_its_key(item, words):
    assert words in refusal(item)


def test_two_normalisations_and_what_is_no_list_are_refused():
    assert "twice" in refusal(IMAGENET, IMAGENET)
    with pytest.raises(ModelError, match="transforms wants a list"):
        read_transforms({"type": "Normalize"}, "deploy.yaml")
