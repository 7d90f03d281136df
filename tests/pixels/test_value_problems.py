"""What cannot be meant is refused; night, sea, snow and what is even are not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
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
    stretch,
)
from factories import make_package

from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.value_problems import hint_of, odd_sample, problem_of, trained_for

REFUSED = {
    "reflectance of 0..1 by 10000": (UNIT, divide(10000), LAND, "within 1 %"),
    "the same, only divided": (UNIT, divide(10000), None, "within 1 %"),
    "0..1 by 255": (UNIT, divide(255), None, "within 1 %"),
    "8 bits in 16 by 65535": (WIDE_BYTES, divide(65535), None, "within 1 %"),
    "a mean of 0..255 from 0..1": (BYTES, TRANSFORMS, IN_BYTES, "mean of 123.675 from values of 0..1"),
    "such a mean from a black frame": (np.zeros((3, 9), "uint8"), TRANSFORMS, IN_BYTES, "mean of 123.675"),
    "such a mean from reflectance": (UNIT, divide(1), IN_BYTES, "mean of 123.675"),
    "such a mean from integers": (SENTINEL, divide(10000), IN_BYTES, "mean of 123.675"),
    "divided twice by 255": (BYTES, TRANSFORMS, Normalize(mean=(0.0,) * 3, std=(255.0,) * 3), "within 1 %"),
    "0..10000 as it is": (SENTINEL.astype("float32"), divide(1), LAND, "of band 1 is more than 10 dev"),
    "0..10000 by 255": (SENTINEL.astype("float32"), divide(255), None, "half of the values are above"),
    "12 bits by 65535, less a wide deviation": (
        TWELVE,
        divide(65535),
        Normalize(mean=(0.5,) * 3, std=(1.0,) * 3),
        "a deviation of 0.01",
    ),
    "12 bits clipped at 255": (TWELVE + np.uint16(600), stretch(0, 255), None, "within 1 %"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name: str) -> None:
    raw, scale, normalize, words = REFUSED[name]
    one = held(raw, scale, normalize)
    assert words in str(problem_of(one, one.given()))


PASSES = {
    "bytes": (BYTES, TRANSFORMS, IMAGENET),
    "bytes as they are": (BYTES, Scale(kind="transforms", low=(0.0,), high=(1.0,)), None),
    "bytes less a mean of bytes": (BYTES, divide(1), IN_BYTES),
    "reflectance": (UNIT, divide(1), LAND),
    "integers": (SENTINEL, divide(10000), LAND),
    "integers less their own mean": (SENTINEL, divide(1), Normalize(mean=(1400.0,) * 3, std=(900.0,) * 3)),
    "a black frame": (pixels(0, 3, "uint8"), TRANSFORMS, IMAGENET),
    "a black frame, only divided": (pixels(0, 3, "uint8"), divide(255), None),
    "a dark frame of 16 bits": (pixels(90, 300, "uint16"), divide(65535), None),
    "all nodata that nothing tags": (np.full((3, 90), -9999.0), divide(1), LAND),
    "an even sheet": (np.full((3, 90), 200, "uint8"), TRANSFORMS, IMAGENET),
    "one pixel": (np.array([[193], [88], [107]], "uint8"), divide(1), None),
    "a coloured wall": (np.repeat([[200], [120], [40]], 90, axis=1).astype("uint8"), divide(255), None),
    "all sea": (pixels(60, 120, "uint16"), divide(10000), None),
    "all sea, as reflectance": (pixels(0.004, 0.009, "float32"), stretch(0, 1), None),
    "all cloud": (pixels(7000, 9000, "uint16"), stretch(0, 3000), None),
    "decibels": (pixels(-25, 1, "float32"), divide(1), Normalize(mean=(-12.0,) * 3, std=(5.0,) * 3)),
    "kelvin": (pixels(270, 310, "float32"), divide(1), Normalize(mean=(290.0,) * 3, std=(10.0,) * 3)),
    "a mean of 0..1 and a deviation that makes 0..255": (
        BYTES,
        TRANSFORMS,
        Normalize(mean=IMAGENET.mean, std=(1 / 255,) * 3),
    ),
    "reflectance between nodata that nothing tags": (
        np.concatenate([UNIT, np.full((3, 9000), -9999, "float32")], axis=1),
        divide(1),
        LAND,
    ),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_a_night_may_hold_is_not_refused(name: str) -> None:
    raw, scale, normalize = PASSES[name]
    one = held(raw, scale, normalize)
    assert problem_of(one, one.given()) is None


def test_untagged_nodata_does_not_hide_what_cannot_be_meant() -> None:
    raw = np.concatenate([SENTINEL.astype("float32"), np.zeros((3, 9000), "float32")], axis=1)
    one = held(raw, divide(1), LAND)
    assert "more than 10 deviations" in str(problem_of(one, one.given()))


def test_one_band_of_another_unit_is_named() -> None:
    raw = np.concatenate([UNIT[:2], pixels(270, 310, "float32")[:1]])
    one = held(raw, divide(1), LAND, bands=(4, 3, 9))
    assert "of band 9 is more than 10 deviations" in str(problem_of(one, one.given()))
    raw = np.concatenate([SENTINEL[:2].astype("float32"), UNIT[:1]])
    one = held(raw, divide(10000), LAND, bands=(4, 3, 9))
    assert "in band 9, which holds" in str(problem_of(one, one.given()))
    raw = np.concatenate([BYTES[:2].astype("uint16"), TWELVE[:1] + np.uint16(260)])
    one = held(raw, stretch(0, 255), None, bands=(4, 3, 9))
    assert "in band 9, which holds" in str(problem_of(one, one.given()))
    cloudy = np.concatenate([SENTINEL[:2], pixels(4000, 9000, "uint16")[:1]])
    one = held(cloudy, stretch(0, 3000), None)
    assert problem_of(one, one.given()) is None


def test_a_scene_of_another_unit_than_the_others_is_named() -> None:
    one = held([SENTINEL.astype("float32"), UNIT], divide(10000), LAND)
    assert problem_of(one, one.given()) is None
    assert str(odd_sample(one)).startswith("1.tif may be of another unit than the others: in each band")
    assert odd_sample(held([SENTINEL, SENTINEL], divide(10000), LAND)) is None


@pytest.mark.parametrize(
    ("raw", "scale", "normalize", "words"),
    [
        (TWELVE, divide(65535), None, "..0.0625"),
        (TWELVE, divide(65535), IMAGENET, "values that end at 4095 of 65535"),
        (SENTINEL, divide(1000), None, "..4.5"),
        (TWELVE, stretch(0, 65535), IMAGENET, "values that end at 4095 of 65535"),
        (TWELVE, divide(10000), LAND, "values of 12 bits, which end at 4095, for reflectance"),
    ],
)
def test_what_is_odd_is_told(raw: Any, scale: Scale, normalize: Normalize | None, words: str) -> None:
    one = held(raw, scale, normalize)
    assert problem_of(one, one.given()) is None
    assert words in str(hint_of(one, one.given()))


def test_metadata_that_say_another_scale_are_told() -> None:
    said = Scale(kind="metadata", low=(1000.0,) * 3, high=(11000.0,) * 3)
    one = held(SENTINEL, divide(10000), LAND)
    samples = [replace(sample, said=said) for sample in one.samples]
    one = replace(one, samples=tuple(samples))
    assert "0.1 off what `scale: metadata` says" in str(hint_of(one, one.given()))


def test_a_job_that_leaves_out_the_models_own_normalisation_is_refused() -> None:
    scale = Scale(kind="transforms", low=(0.0,), high=(1.0,))
    one = held(BYTES, scale, None, model=make_package())
    assert "files say that it normalises" in str(problem_of(one, one.given()))
    assert trained_for(one, one.given()) == "mean 0, deviation 1"
