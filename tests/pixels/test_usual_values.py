"""Another camera is told from the first sources' values, and scenery is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn_values import BYTES, SENTINEL, TWELVE, UNIT, divide, pixels

from batchseg.job.settings import Scale
from batchseg.pixels.usual_values import ends_exactly, odd_one, reach_of, unlike, usual_of
from batchseg.pixels.values import ValueSample

SIXTEEN, TEN = pixels(400, 65535, "uint16"), pixels(8, 1023, "uint16")


def sample(raw: Any, high: float = 1, source_id: str = "a.tif") -> ValueSample:
    return ValueSample(source_id=source_id, dtype=str(raw.dtype), pixels=raw, scale=divide(high))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (SIXTEEN, TWELVE, "end at 4095, those of this output's first sources at 65535"),
        (TWELVE, SIXTEEN, "end at 65535, those of this output's first sources at 4095"),
        (TWELVE, TEN, "several pixels lie at 1023"),
        (SIXTEEN, SIXTEEN // 16, "may be of another unit"),
        (TWELVE, (TWELVE // 4) * 16, "all are multiples of 16"),
        (SENTINEL, UNIT, "they are fractions"),
        (UNIT, SENTINEL.astype("float32"), "those are fractions"),
        (SIXTEEN, SIXTEEN // 40, "or the light failed"),
    ],
)
def test_another_unit_is_told(before: Any, now: Any, words: str) -> None:
    assert words in unlike(reach_of(sample(now)), usual_of([sample(before)]))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (SIXTEEN, SIXTEEN // 3),
        (SIXTEEN, np.full((3, 90), 4000, "uint16")),
        (SIXTEEN, pixels(40, 90, "uint16")),
        (SIXTEEN, BYTES),
        (BYTES, BYTES // 30),
        (TWELVE, (TWELVE // 4).clip(0, 1000)),
    ],
)
def test_what_is_alike_dark_even_or_of_bytes_is_not(before: Any, now: Any) -> None:
    assert unlike(reach_of(sample(now)), usual_of([sample(before)])) == ""


def test_of_scenes_the_values_must_show_it_themselves() -> None:
    usual = usual_of([sample(SENTINEL)])
    sea = reach_of(sample(pixels(130, 300, "uint16")))
    assert unlike(sea, usual) and not unlike(sea, usual, surely=True)
    assert unlike(reach_of(sample(UNIT)), usual, surely=True)
    # Or fill the range of another unit in each band: 8 bits in a wider type, percent.
    for other in (pixels(5, 230, "uint16"), UNIT * 100):
        assert unlike(reach_of(sample(other)), usual, surely=True)
    blue_sea = np.concatenate([pixels(180, 200, "uint16")[:2], pixels(5, 230, "uint16")[2:]])
    assert not unlike(reach_of(sample(blue_sea)), usual, surely=True)


def of_metadata(reflectance: Any, factor: float, offset: float) -> ValueSample:
    """As a file holds it whose metadata say reflectance = raw * factor + offset."""
    raw = np.rint((reflectance - offset) / factor).astype("uint16")
    scale = Scale(kind="metadata", low=(-offset / factor,), high=((1 - offset) / factor,))
    return ValueSample(source_id="a.tif", dtype="uint16", pixels=raw, scale=scale)


LANDSAT_2, SENTINEL_2, SENTINEL_2_EARLY = (2.75e-5, -0.2), (1e-4, -0.1), (1e-4, 0.0)


@pytest.mark.parametrize("before", [LANDSAT_2, SENTINEL_2, SENTINEL_2_EARLY])
@pytest.mark.parametrize("now", [LANDSAT_2, SENTINEL_2, SENTINEL_2_EARLY])
@pytest.mark.parametrize("surely", [True, False])
def test_scenes_of_scales_of_their_own_are_compared_in_reflectance(
    before: Any, now: Any, surely: bool
) -> None:
    land = UNIT.astype("float64")
    usual = usual_of([of_metadata(land, *before)])
    assert usual
    for share in (1, 0.3):  # land, and a darker one
        assert unlike(reach_of(of_metadata(land * share, *now)), usual, surely=surely) == ""
    doubled = of_metadata(land, *now)
    wrong = replace(doubled, scale=replace(doubled.scale, low=(0.0,), high=(1.0,)))
    assert "those are fractions" in unlike(reach_of(wrong), usual, surely=surely)


def test_raw_values_that_an_output_remembers_are_not_compared_with_reflectance() -> None:
    here = of_metadata(UNIT.astype("float64"), *LANDSAT_2)
    assert unlike(reach_of(here), usual_of([sample(here.pixels)])) == ""
    assert unlike(reach_of(sample(SENTINEL)), usual_of([here])) == ""


@pytest.mark.parametrize("odd", [UNIT, UNIT * 100, pixels(5, 230, "uint16")])
@pytest.mark.parametrize("place", range(3))
def test_a_source_of_another_unit_is_not_remembered(odd: Any, place: int) -> None:
    others = [sample(SENTINEL), sample(pixels(300, 9000, "uint16"))]
    first = [*others[:place], sample(odd, source_id="odd.tif"), *others[place:]]
    assert usual_of(first) == usual_of(others)
    assert odd_one(first, surely=True).startswith("odd.tif: its values end at")
    assert odd_one(others, surely=True) == ""


def test_a_night_of_two_cameras_is_told() -> None:
    both = [sample(raw, source_id=f"{n}.tif") for n, raw in enumerate((SIXTEEN, TWELVE) * 3)]
    usual = usual_of(both)
    found = [unlike(reach_of(one), usual) != "" for one in both]
    assert found in ([False, True] * 3, [True, False] * 3)
    assert odd_one(both, surely=False)


def test_a_defect_among_the_first_moves_nothing() -> None:
    """Good ones end at a quarter of the range, two of six are bright by a defect."""
    good, bright = pixels(400, 15700, "uint16"), pixels(400, 59500, "uint16")
    usual = usual_of([sample(raw) for raw in (good, bright, good, good, bright, good)])
    assert unlike(reach_of(sample(good // 16)), usual)
    assert not unlike(reach_of(sample(bright)), usual) and not unlike(reach_of(sample(good // 3)), usual)


@pytest.mark.parametrize("value", [-9999.0, -3.4e38, -1e20, -32768.0])
@pytest.mark.parametrize("before", [UNIT, UNIT * np.float32(60_000), SIXTEEN])
def test_untagged_nodata_is_told(value: float, before: Any) -> None:
    usual, odd = usual_of([sample(before)]), before.astype("float32")
    odd[:, : odd.shape[1] // 2] = value
    reason = unlike(reach_of(sample(odd)), usual)
    assert f"holds values down to {np.float32(value):.9g}, this" in reason
    assert f"-a_nodata {np.float32(value):.9g})" in reason
    assert "-a_nodata" in unlike(reach_of(sample(np.full_like(odd, value))), usual)
    assert not unlike(reach_of(sample(odd)), usual, surely=True)


def test_a_signed_type_is_told_and_noise_below_zero_is_not() -> None:
    usual = usual_of([sample(SIXTEEN)])
    signed = SIXTEEN.astype("float32") - 32768
    signed[0, 50] = -33500
    assert "of a signed type: if so, convert it" in unlike(reach_of(sample(signed)), usual)
    assert not unlike(reach_of(sample(signed)), usual_of([sample(signed)]))
    assert "-a_nodata -1)" in unlike(reach_of(sample(np.full_like(UNIT, -1))), usual_of([sample(UNIT)]))
    dark = UNIT * np.float32(60_000)
    usual = usual_of([sample(dark)])
    dark[:, 5] = -3000  # one dead pixel of a thousand
    dark[:, 6:200] = np.linspace(-500, 100, 194, dtype="float32")
    assert not unlike(reach_of(sample(dark)), usual)
    # The first ones of a camera whose dark is taken off have such noise, too.
    noisy = UNIT - np.float32(0.02)
    noisy[:, :99] = np.linspace(-0.02, 0.01, 99, dtype="float32")
    assert not unlike(reach_of(sample(noisy * 2)), usual_of([sample(noisy)]))


def test_the_end_of_the_jobs_own_range_is_no_other_unit() -> None:
    usual = usual_of([sample((TWELVE // 4).clip(0, 1000), high=4095)])
    assert unlike(reach_of(sample(TWELVE, high=4095)), usual) == ""
    assert "several pixels lie at 4095" in unlike(reach_of(sample(TWELVE, high=65535)), usual)


def test_parts_of_one_source_are_joined() -> None:
    usual = usual_of([sample(SIXTEEN)])
    dark, bright = reach_of(sample(SIXTEEN // 100)), reach_of(sample(SIXTEEN))
    assert unlike(dark, usual) and not unlike(dark.joined(bright), usual)
    assert bright.joined(None) == bright


def test_dark_and_even_sources_tell_nothing() -> None:
    assert usual_of([sample(pixels(40, 90, "uint16")), sample(np.full((3, 9), 7, "uint16"))]) == ()
    (one,) = usual_of([sample(pixels(40, 90, "uint16")), sample(TWELVE)])
    assert (one.dtype, one.end, one.top) == ("uint16", 4095, 4095)


def test_saturation_is_no_chance() -> None:
    assert ends_exactly(TWELVE) == 4095
    assert ends_exactly(np.array([[4095, 4095, 4000]])) == 0
    noise = np.random.default_rng(0).normal(230, 8, (3, 3000)).clip(0, 255).round()
    assert ends_exactly(np.minimum(noise, 254).astype("uint16")) == 0
    assert reach_of(sample(np.full((3, 0), 1.0))).top == 0
