"""What contradicts itself is refused where it is read, and no part of a sound source is."""

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
    stretch,
)
from factories import make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import MismatchError
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.own_values import VALUES_REFUSED, check_values, contradiction, own_problem
from batchseg.pixels.values import ValueSample


def asked(raw: Any, scale: Scale, normalize: Normalize | None, **recipe: Any) -> tuple[ValueSample, Recipe]:
    sample = ValueSample(source_id="a.tif", dtype=str(raw.dtype), pixels=raw, scale=scale)
    recipe.setdefault("model", make_package(declares_transforms=False, normalize=None))
    return sample, make_recipe(scale=scale, normalize=normalize, **recipe)


REFUSED = {
    "reflectance of 0..1 by 10000": (UNIT, divide(10000), LAND, "fractions"),
    "the same, only divided": (UNIT, divide(10000), None, "fractions"),
    "the same, stretched": (UNIT, stretch(0, 65535), None, "fractions"),
    "saturated 8 bits by 65535": (WIDE_BYTES, divide(65535), None, "end exactly at 255"),
    "saturated 8 bits stretched to 65535": (WIDE_BYTES, stretch(0, 65535), None, "end exactly at 255"),
    "0..10000 as it is": (SENTINEL.astype("float32"), divide(1), LAND, "more than 100 deviations"),
    "bytes as they are to a network of 0..1": (BYTES, divide(1), LAND, "more than 100 deviations"),
    "0..10000 by 255": (SENTINEL.astype("float32"), divide(255), None, "most of it beyond"),
    "12 bits clipped at 255": (TWELVE + np.uint16(600), stretch(0, 255), None, "most of it beyond"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused_unless_it_is_meant(name: str) -> None:
    raw, scale, normalize, words = REFUSED[name]
    sample, recipe = asked(raw, scale, normalize)
    assert words in str(own_problem(sample, recipe))
    with pytest.raises(MismatchError, match=VALUES_REFUSED) as refused:
        check_values(sample, recipe)
    assert "check_values: false" in str(refused.value)
    meant = asked(raw, scale, normalize, check_values=False)
    check_values(*meant)
    assert contradiction(*meant) == str(refused.value)  # for a later night that asks again
    assert meant[1].digest == recipe.digest


def test_the_remedy_is_what_the_source_holds() -> None:
    with pytest.raises(MismatchError, match=r"for which set scale: [{]divide: 1[}]"):
        check_values(*asked(UNIT, divide(10000), LAND))


def drawn(low: float, high: float, kind: str, shape: float, saturated: float, dark: float) -> Any:
    """A part that shows anything between two values, some of it saturated at `high`, some without light."""
    rng = np.random.default_rng(int(1000 * shape))
    values = low + (high - low) * rng.beta(shape, 3, (3, 900))
    values[:, : int(saturated * 900)] = high
    values[:, 900 - int(dark * 900) :] = low
    return values.astype(kind)


# Scale and normalisation that are right for data of 0..end.
SOUND = {
    "bytes": ("uint8", 255.0, TRANSFORMS, IMAGENET),
    "bytes less a mean of bytes": ("uint8", 255.0, divide(1), IN_BYTES),
    "12 bits": ("uint16", 4095.0, divide(4095), IMAGENET),
    "16 bits": ("uint16", 65535.0, divide(65535), None),
    "16 bits, stretched": ("uint16", 65535.0, stretch(0, 65535), IMAGENET),
    "reflectance in integers": ("uint16", 10000.0, divide(10000), LAND),
    "reflectance in integers, signed and only divided": ("int16", 10000.0, divide(10000), None),
    "such in floats": ("float32", 10000.0, divide(10000), LAND),
    "such, stretched for dark targets": ("uint16", 10000.0, stretch(0, 3000), None),
    "such, for darker ones": ("uint16", 10000.0, stretch(0, 250), None),
    "reflectance": ("float32", 1.0, divide(1), LAND),
    "bytes in floats": ("float32", 255.0, divide(255), IMAGENET),
    "kelvin": ("float32", 330.0, divide(1), Normalize(mean=(290.0,) * 3, std=(10.0,) * 3)),
}
SHARES = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SOUND)),
    st.tuples(SHARES, SHARES).map(sorted),
    st.sampled_from([0.3, 1.0, 1.5, 6.0]),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
)
def test_no_part_of_a_sound_source_is_refused(
    name: str, between: list[float], shape: float, saturated: float, dark: float
) -> None:
    """Night, sea, snow, cloud, an even field, saturation: all are values between some two of the range."""
    kind, end, scale, normalize = SOUND[name]
    low, high = (share * end for share in between)
    if kind == "float32" and end > 255:
        low, high = max(low, 3.0), max(high, 3.0)  # no sensor tells ten-thousandths of reflectance apart
    sample, recipe = asked(drawn(low, high, kind, shape, saturated, dark), scale, normalize)
    assert own_problem(sample, recipe) is None


@pytest.mark.parametrize(("kind", "value"), [("uint16", 65535), ("uint16", 0), ("float32", 0.5)])
def test_one_value_passes(kind: str, value: float) -> None:
    for scale in (divide(10000), stretch(0, 65535), divide(1)):
        assert own_problem(*asked(np.full((3, 90), value, kind), scale, LAND)) is None


def test_no_pixel_is_no_problem() -> None:
    assert own_problem(*asked(np.zeros((3, 0), "float32"), divide(10000), LAND)) is None
