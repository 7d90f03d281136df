"""How much of an image was inspected, against counting its pixels."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
from rules import box, criterion, images_of, tables_of

from batchseg.job.recipe import Ruleset
from batchseg.job.settings import Interest
from batchseg.output.photo_results import IMAGES
from batchseg.regions.inspected import are_known, reasons, uninspected, valid_areas, valid_shares
from batchseg.regions.verdicts import judge

HALF = box(0, 0, 0.5, 1, unit="share")
NEAR = box(0, 0, 4, 4)
SLOPE = Interest(corners_xy=((1, 0), (7, 2.5), (3, 6)))


def rules_of(*parts, **changes):
    return Ruleset(
        criteria=tuple(criterion(name=f"rule {n}", interest=part, **changes) for n, part in enumerate(parts))
    )


def masks():
    """All of data, none, a frame around data, every other pixel, one pixel missing."""
    found = {name: np.zeros((8, 12), np.uint8) for name in ("whole", "nothing", "framed", "dotted", "speck")}
    found["nothing"][:] = 255
    found["framed"][:] = 255
    found["framed"][2:6, 3:9] = 0
    found["dotted"][::2, 1::2] = 255
    found["speck"][7, 11] = 255
    return found


def test_areas_with_data_are_those_of_the_pixels():
    rules = rules_of(None, HALF, NEAR, SLOPE)
    areas = valid_areas(rules, list(masks().values()), 255)
    for mask, own in zip(masks().values(), areas.tolist(), strict=True):
        rows, cols = np.nonzero(mask != 255)
        pixels = shapely.box(cols, rows, cols + 1, rows + 1)
        for part, area in zip((HALF, NEAR, SLOPE), own, strict=True):
            unit = mask.shape[::-1] if part.unit == "share" else (1, 1)
            polygon = shapely.Polygon(np.array(part.corners_xy) * unit)
            assert area == pytest.approx(shapely.area(shapely.intersection(polygon, pixels)).sum())
    assert valid_areas(rules, [np.full((3, 5), 65535, np.uint16)], 65535).tolist() == [[0, 0, 0]]


def test_shares_are_those_of_the_parts():
    rules = rules_of(None, HALF, NEAR)
    shares = valid_shares(rules, images_of(masks(), rules))
    assert shares.T.tolist() == [
        [1, 1, 1],
        [0, 0, 0],
        [0.25, 0.25, 0.125],
        [0.75, 0.75, 0.75],
        [pytest.approx(95 / 96), 1, 1],
    ]
    # One who sees half of what he is to look at, as the image ends there, has seen half.
    wide = rules_of(box(0, 0, 24, 8))
    assert valid_shares(wide, images_of(masks(), wide))[1].tolist()[:2] == [0.5, 0]
    assert valid_shares(rules, IMAGES.empty_table()).shape == (3, 0)


@pytest.mark.parametrize(
    ("part", "least", "passing"),
    [
        (None, 1.0, {"whole"}),
        (None, 0.99, {"whole"}),
        (None, 0.98, {"whole", "speck"}),
        (None, 0.25, {"whole", "speck", "dotted", "framed"}),
        (None, 0.0, {"whole", "speck", "dotted", "framed"}),
        (HALF, 1.0, {"whole", "speck"}),
        (box(3, 2, 9, 6), 1.0, {"whole", "speck", "framed"}),
        (box(2.999, 2, 9, 6), 1.0, {"whole", "speck"}),
        (box(0.25, 0.25, 0.75, 0.75, unit="share"), 1.0, {"whole", "speck", "framed"}),
        (box(0, 0, 12.5, 8), 1.0, set()),
        (box(20, 20, 30, 30), 0.0, set()),
        (box(0, 0, 3, 8), 0.0, {"whole", "speck", "dotted"}),
    ],
)
def test_no_image_passes_of_which_a_rule_saw_too_little(part, least, passing):
    rules = rules_of(part, min_valid=least)
    regions, _ = tables_of(masks())
    judged = judge(rules, regions, images_of(masks(), rules)).to_pylist()
    for name, said in zip(masks(), judged, strict=True):
        expected = ("PASS", None) if name in passing else ("REVIEW", "min_valid")
        assert (said["verdict"], said["rule"]) == expected, name
        assert (said["review_reason"] is None) == (name in passing)


def test_every_rule_must_have_seen_enough_and_a_hit_goes_before():
    shown = masks()["framed"]
    shown[3, 4] = 1
    for strict, lenient in ((0, 1), (1, 0)):
        criteria = [criterion(name="all", classes=(2,)), criterion(name="any", classes=(2,), min_valid=0.0)]
        rules = Ruleset(criteria=(criteria[strict], criteria[lenient]))
        (said,) = judge(rules, *tables_of({"a": shown})).to_pylist()
        assert said["review_reason"] == "all: 25 % of the image has data, min_valid is 100 %"
    for then in ("FAIL", "REVIEW"):
        (said,) = judge(
            Ruleset(criteria=(criterion(name="hit", then=then),)), *tables_of({"a": shown})
        ).to_pylist()
        assert (said["verdict"], said["rule"], said["review_reason"]) == (then, "hit", None)
        assert (said["rule_px"], said["rule_class"]) == (1, 1)


def test_reasons_say_how_little_was_seen():
    rules = rules_of(None, HALF, box(0, 0, 24, 8), min_valid=0.9995)
    images = images_of(masks(), rules)
    found = uninspected(rules, images)
    assert found.tolist() == [2, 0, 0, 0, 0]
    assert reasons(rules, images, found) == [
        "rule 2: 50 % of the region of interest has data, min_valid is 99.95 %; it reaches beyond the image",
        "rule 0: nothing of the image has data",
        "rule 0: 25 % of the image has data, min_valid is 99.95 %",
        "rule 0: 75 % of the image has data, min_valid is 99.95 %",
        "rule 0: 98.9 % of the image has data, min_valid is 99.95 %",
    ]
    tiny = {"a": np.full((60, 60), 255, np.uint8)}
    tiny["a"][0, 0] = 0
    (said,) = judge(rules_of(None), *tables_of(tiny)).to_pylist()
    assert said["review_reason"].startswith("rule 0: less than 0.1 % of the image has data")


def test_what_was_not_recorded_is_not_known():
    """Rows of earlier versions, or of other regions of interest."""
    rules, other = rules_of(HALF), rules_of(NEAR)
    for images in (images_of(masks()), images_of(masks(), other), images_of(masks(), rules_of(NEAR, HALF))):
        assert are_known(rules, images).tolist() == [True, True, False, False, False]
        assert are_known(rules_of(None), images).all()
        judged = judge(rules, tables_of(masks())[0], images).to_pylist()
        assert [said["verdict"] for said in judged] == ["PASS", *["REVIEW"] * 4]
        assert judged[3]["review_reason"] == (
            "rule 0: it was not recorded how much of the region of interest has data"
        )
    assert are_known(rules, images_of(masks(), rules)).all()
    assert rules.interests != other.interests and not rules_of(None).interests
    # What a rule asks beside its region of interest changes nothing of what has data there.
    assert rules_of(HALF, min_area=9.0).interests == rules.interests


def test_a_ledgers_columns_may_be_dictionaries():
    rules = rules_of(HALF)
    images = images_of(masks(), rules)
    at = images.schema.get_field_index("interests")
    held = images.set_column(
        at, "interests", images["interests"].cast(pa.dictionary(pa.int32(), pa.string()))
    )
    assert valid_shares(rules, held).tolist() == valid_shares(rules, images).tolist()
