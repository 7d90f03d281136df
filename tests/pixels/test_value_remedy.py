"""Each remedy is true: a job that follows it gets what the network was trained for."""

import re
from typing import Any

import numpy as np
import pytest
import yaml
from drawn_values import (
    BYTES,
    IMAGENET,
    IN_BYTES,
    LAND,
    SENTINEL,
    TRANSFORMS,
    TWELVE,
    UNIT,
    WIDE_BYTES,
    divide,
    held,
    pixels,
)
from factories import make_package

from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.fit import out_of_scale
from batchseg.pixels.value_problems import hint_of, problem_of
from batchseg.pixels.value_remedy import remedy_for

AS_IT_IS = Scale(kind="transforms", low=(0.0,), high=(1.0,))
LANDSAT = pixels(7400, 22000, "uint16")
FULL = pixels(100, 65535, "uint16")

REMEDIES: dict[str, tuple[Any, Scale, Normalize | None, str]] = {
    "reflectance by 10000": (UNIT, divide(10000), LAND, "scale: {divide: 1}"),
    "reflectance by 255": (UNIT, TRANSFORMS, LAND, "scale: {divide: 1}"),
    "reflectance, only divided": (UNIT, divide(10000), None, "scale: {divide: 1}"),
    "per cent": (100 * UNIT, divide(1), LAND, "scale: {divide: 100}"),
    "integers as they are": (SENTINEL.astype("float32"), divide(1), LAND, "scale: {divide: 10000}"),
    "bytes by 65535": (BYTES, divide(65535), IMAGENET, "scale: {divide: 255}"),
    "bytes by 10000": (BYTES, divide(10000), None, "scale: {divide: 255}"),
    "bytes in 16 bits": (WIDE_BYTES, divide(65535), None, "scale: {stretch: [0, 255]}"),
    "12 bits": (TWELVE, TRANSFORMS, IMAGENET, "scale: {divide: 4095}"),
    "16 bits": (FULL, TRANSFORMS, IMAGENET, "scale: {divide: 65535}"),
    "a mean of bytes": (
        BYTES,
        TRANSFORMS,
        IN_BYTES,
        "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    ),
    "a mean of integers": (
        SENTINEL,
        divide(10000),
        Normalize(mean=(1400.0,) * 3, std=(900.0,) * 3),
        "scale: {divide: 1}",
    ),
    "a mean of integers from reflectance": (
        UNIT,
        divide(1),
        Normalize(mean=(3000.0,) * 3, std=(1700.0,) * 3),
        "scale: {divide: 0.0001}",
    ),
    "Landsat Collection 2": (LANDSAT, TRANSFORMS, LAND, "scale: {stretch: [7272.727, 43636.364]}"),
}


def followed(remedy: str) -> dict[str, Any]:
    """The keys that a remedy names first."""
    said = remedy.split(" the network then gets")[0].split(" or scale")[0]
    found = re.findall(r"(scale|normalize): (\{.*?\})(?=[: ]|$)", said)
    return {key: yaml.safe_load(value) for key, value in found}


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_gives_what_the_network_was_trained_for(name: str) -> None:
    raw, scale, normalize, words = REMEDIES[name]
    one = held(raw, scale, normalize)
    remedy = str(remedy_for(one, plain=False))
    assert words in remedy
    keys = followed(remedy)
    if value := keys.get("scale"):
        scale = (
            divide(value["divide"])
            if "divide" in value
            else Scale(kind="stretch", low=(value["stretch"][0],), high=(value["stretch"][1],))
        )
    if value := keys.get("normalize"):
        normalize = Normalize(mean=tuple(value["mean"]), std=tuple(value["std"]))
    assert out_of_scale(str(raw.dtype), scale) is None
    again = held(raw, scale, normalize)
    assert problem_of(again, again.given()) is None
    assert hint_of(again, again.given()) is None


def test_bits_and_reflectance_are_both_named_where_only_the_owner_can_tell() -> None:
    remedy = str(remedy_for(held(TWELVE.clip(0, 4090).astype("float64"), divide(1e9), None), plain=False))
    assert "{divide: 10000} for reflectance in integers or scale: {divide: 4095} for 12 bits" in remedy


def test_photographs_hold_bits() -> None:
    one = held(TWELVE, TRANSFORMS, IMAGENET, fit="tile")
    assert str(remedy_for(one, plain=False)).startswith("set scale: {divide: 4095}: the network then gets")


def test_where_no_usual_scale_helps_none_is_named() -> None:
    odd = Normalize(mean=(0.5,) * 3, std=(127.5,) * 3)
    assert str(remedy_for(held(TWELVE, TRANSFORMS, odd), plain=False)).startswith("look at `normalize`")


def test_bytes_are_never_told_10000() -> None:
    for normalize in (None, IMAGENET, LAND, IN_BYTES):
        assert "10000" not in str(remedy_for(held(BYTES, divide(65535), normalize), plain=False))


def test_of_a_network_without_normalisation_both_units_are_named() -> None:
    nobody_says = str(remedy_for(held(UNIT, AS_IT_IS, None), plain=True))
    assert "{divide: 0.0039215686} if the network takes 0..255" in nobody_says
    assert "{divide: 1} if it takes 0..1" in nobody_says
    model = make_package(normalize=None)
    assert "0..1)" not in str(remedy_for(held(UNIT, AS_IT_IS, None, model=model), plain=True))
    twelve = str(remedy_for(held(TWELVE, AS_IT_IS, None, model=model), plain=True))
    high = float(re.findall(r"divide: ([0-9.]+)", twelve)[0])
    assert np.isclose(high, 4095 / 255)
    assert out_of_scale("uint16", divide(high)) is None


def test_where_the_model_says_how_it_normalises_the_job_needs_not() -> None:
    remedy = remedy_for(held(BYTES, AS_IT_IS, None, model=make_package()), plain=True)
    assert str(remedy).startswith("leave `normalize` out")
