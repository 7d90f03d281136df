"""Verdicts against rules in plain Python on the masks that the regions are of."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
from factories import make_photographs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from polygons import whole_regions
from rules import CLASSES, REGIONS, box, criterion, images_of, tables_of
from strategies import sizes

from batchseg.errors import ConfigError
from batchseg.job.recipe import Criterion, RegionSettings, Ruleset
from batchseg.job.resolve import resolve_rules
from batchseg.job.settings import Interest, Rule
from batchseg.regions.rows import PHOTO_COLUMNS
from batchseg.regions.verdicts import decide, judge, measure

WANTED = (np.arange(256) > 0) & (np.arange(256) < 255)


def verdict_of(rules, mask, scores=(0.0, 0.3, 0.6, 0.9)):
    """One image's verdict and rule, region after region; boxes by counting pixels, polygons by shapely."""
    for then in ("FAIL", "REVIEW"):
        for one in rules.criteria:
            if one.then == then and hits(one, mask, scores) >= one.count:
                return then, one.name
    seen = all(inspected(one, mask) for one in rules.criteria)
    return ("PASS", None) if seen else ("REVIEW", "min_valid")


def inspected(one, mask):
    """Whether enough of a rule's part has data, pixel by pixel."""
    height, width = mask.shape
    unit = (width, height) if one.interest and one.interest.unit == "share" else (1, 1)
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    part = shapely.Polygon(np.array(one.interest.corners_xy) * unit if one.interest else corners)
    rows, cols = np.nonzero(mask != 255)
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    share = shapely.area(shapely.intersection(part, pixels)).sum() / part.area
    return share > 0 and share >= one.min_valid - 1e-6


def hits(one, mask, scores):
    found = 0
    for class_id, polygon in whole_regions(mask, WANTED).values():
        area = area_inside(one.interest, polygon, mask.shape)
        fits = one.classes is None or class_id in one.classes
        found += fits and area > 0 and area >= one.min_area and scores[class_id] >= one.min_confidence
    return found


def area_inside(interest, polygon, shape):
    height, width = shape
    if interest is None:
        return polygon.area
    unit = (width, height) if interest.unit == "share" else (1, 1)
    corners = np.array(interest.corners_xy) * unit
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if len(corners) == 4 and (corners == np.rint(corners)).all():  # a box, on pixel sides
        rows, cols = np.mgrid[0:height, 0:width] + 0.5
        part = (rows > top) & (rows < bottom) & (cols > left) & (cols < right)
        region = shapely.contains_xy(polygon, cols, rows)
        return int((part & region).sum())
    return shapely.Polygon(corners).intersection(polygon).area


@st.composite
def interests(draw):
    kind = draw(st.sampled_from(["whole", "box", "share", "polygon"]))
    if kind == "whole":
        return None
    if kind == "share":  # quarters: exact in floats, pixel sides where an image's sides are multiples of 4
        x, y = (sorted(draw(st.sets(st.integers(0, 4), min_size=2, max_size=2))) for _ in "xy")
        return box(x[0] / 4, y[0] / 4, x[1] / 4, y[1] / 4, unit="share")
    if kind == "box":
        x, y = (sorted(draw(st.sets(st.integers(0, 14), min_size=2, max_size=2))) for _ in "xy")
        return box(x[0], y[0], x[1], y[1])
    half = st.integers(0, 28).map(lambda n: n / 2)
    corners = st.lists(st.tuples(half, half), min_size=3, max_size=3, unique=True)
    return Interest(corners_xy=tuple(draw(corners.filter(lambda c: shapely.Polygon(c).area > 0))))


@st.composite
def rulesets(draw):
    def one(number):
        return st.builds(
            Criterion,
            name=st.just(f"rule {number}"),
            then=st.sampled_from(["FAIL", "REVIEW"]),
            classes=st.none() | st.sets(st.integers(1, 3), min_size=1).map(lambda ids: tuple(sorted(ids))),
            min_area=st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 7.0]),
            count=st.integers(1, 3),
            min_confidence=st.sampled_from([0.0, 0.5, 0.9]),
            interest=interests(),
            min_valid=st.sampled_from([0.0, 0.31, 0.9, 1.0]),
        )

    return Ruleset(criteria=tuple(draw(one(number)) for number in range(draw(st.integers(1, 3)))))


@st.composite
def photographs(draw):
    masks = {}
    for number in range(draw(st.integers(1, 3))):
        few = st.sampled_from([0, 0, 0, 1, 1, 2, 3, *([255] * draw(st.integers(0, 4)))])
        masks[f"line {number}/a.jpg"] = draw(hnp.arrays(np.uint8, draw(sizes(12)), elements=few))
    return masks


@settings(deadline=None, max_examples=150)
@given(rulesets(), photographs())
def test_verdicts_are_those_of_one_image_after_the_other(rules, masks):
    judged = judge(rules, tables_of(masks)[0], images_of(masks, rules))
    expected = [verdict_of(rules, mask) for mask in masks.values()]
    assert list(zip(judged["verdict"].to_pylist(), judged["rule"].to_pylist(), strict=True)) == expected


MASKS = {"a.png": np.uint8([[1, 1, 0, 2], [1, 0, 0, 2]]), "b.png": np.zeros((3, 5), np.uint8)}


def test_what_is_stricter_and_then_what_comes_first_decides():
    names = [("look", "REVIEW"), ("large", "FAIL"), ("any", "FAIL")]
    area = {"large": 3.0}
    rules = Ruleset(
        criteria=tuple(criterion(name=name, then=then, min_area=area.get(name, 0.0)) for name, then in names)
    )
    judged = judge(rules, *tables_of(MASKS))
    assert judged.select(["verdict", "rule"]).to_pylist() == [
        {"verdict": "FAIL", "rule": "large"},
        {"verdict": "PASS", "rule": None},
    ]


def test_without_rules_there_is_no_verdict():
    judged = judge(Ruleset(), *tables_of(MASKS))
    assert judged["verdict"].to_pylist() == judged["rule"].to_pylist() == [None, None]
    assert Ruleset().digest == ""


def test_a_table_without_rows_is_a_pass_for_all():
    rules = Ruleset(criteria=(criterion(interest=box(0, 0, 2, 2)),))
    judged = judge(rules, PHOTO_COLUMNS.empty_table(), tables_of(MASKS)[1])
    assert judged["verdict"].to_pylist() == ["PASS", "PASS"]


def test_a_region_outside_the_region_of_interest_does_not_count_however_small_the_rule():
    for part, verdict in ((box(2, 0, 3, 2), "PASS"), (box(0, 1, 1, 2), "FAIL"), (box(7, 7, 9, 9), "REVIEW")):
        judged = judge(Ruleset(criteria=(criterion(interest=part),)), *tables_of(MASKS))
        assert judged["verdict"][0].as_py() == verdict


def test_regions_of_other_images_are_left_aside():
    regions, images = tables_of(MASKS)
    judged = judge(Ruleset(criteria=(criterion(),)), regions, images.slice(1))
    assert judged["verdict"].to_pylist() == ["PASS"]


def test_pieces_of_a_cut_region_are_one_region():
    """A region of 6 px, cut into 4 of confidence 0.3 and 2 of 0.9: its mean is 0.5."""
    mask = np.ones((2, 3), np.uint8)
    regions, images = tables_of({"a.png": mask}, scores=(0, 0.3))
    (row,) = regions.to_pylist()
    pieces = [
        row | {"area_px": 4, "box_width": 2, "geometry": shapely.box(0, 0, 2, 2).wkb},
        row
        | {"area_px": 2, "box_x": 2, "box_width": 1, "confidence": 0.9}
        | {"geometry": shapely.box(2, 0, 3, 2).wkb},
    ]
    regions = pa.Table.from_pylist(pieces, schema=PHOTO_COLUMNS)

    def verdict(**changes):
        return judge(Ruleset(criteria=(criterion(**changes),)), regions, images)["verdict"][0].as_py()

    assert [verdict(min_area=6.0), verdict(min_area=7.0), verdict(count=2)] == ["FAIL", "PASS", "PASS"]
    assert [verdict(min_confidence=0.49), verdict(min_confidence=0.51)] == ["FAIL", "PASS"]
    part = box(1, 0, 3, 1)
    assert [verdict(min_area=2.0, interest=part), verdict(min_area=3.0, interest=part)] == ["FAIL", "PASS"]


def test_row_groups_measured_one_by_one_decide_as_one_table():
    random = np.random.default_rng(0)
    masks = {f"{n}.png": random.integers(0, 4, (6 + n % 3, 11)).astype(np.uint8) for n in range(9)}
    regions, images = tables_of(masks)
    rules = Ruleset(criteria=(criterion(min_area=5.0, count=2, interest=box(0, 0, 0.5, 1, unit="share")),))
    parts = [measure(rules, regions.slice(start, 7), images) for start in range(0, len(regions), 7)]
    whole = measure(rules, regions, images)
    decided, expected = decide(rules, parts, len(images)), decide(rules, [whole], len(images))
    for name in ("criterion", "px", "class_id"):
        assert getattr(decided, name).tolist() == getattr(expected, name).tolist()
    assert len(set(decided.criterion.tolist())) == 2


def test_areas_in_square_millimetres_are_pixels_by_the_pixel_size():
    """0.27 / 0.3**2 is more than 3 in floats, 0.3 / 0.1**2 less than 30."""
    for mm2, pixel_size, least in ((0.5, 0.05, 200), (0.3, 0.1, 30), (0.27, 0.3, 3), (2.0, 0.3, 23)):
        options = make_photographs(Rule(name="large", then="FAIL", min_area_mm2=mm2), pixel_size=pixel_size)
        rules = resolve_rules(options, CLASSES, REGIONS)
        for area, verdict in ((least, "FAIL"), (least - 1, "PASS")):
            judged = judge(rules, *tables_of({"a.png": np.ones((1, area), np.uint8)}))
            assert judged["verdict"].to_pylist() == [verdict]


def test_shares_of_whole_pixels_are_whole_in_spite_of_floats():
    """0.29 * 100 is 28.999999999999996."""
    rules = Ruleset(criteria=(criterion(min_area=29.0, interest=box(0, 0, 0.29, 1, unit="share")),))
    judged = judge(rules, *tables_of({"a.png": np.ones((1, 100), np.uint8)}))
    assert judged["verdict"].to_pylist() == ["FAIL"]


@pytest.mark.parametrize("least", [0.7, 0.6, 0.1])
def test_a_confidence_as_large_as_the_bound_is_enough(least):
    """Recorded as float32, which is less than 0.7 in float64."""
    tables = tables_of(MASKS, scores=(0, least, least))
    judged = judge(Ruleset(criteria=(criterion(min_confidence=least),)), *tables)
    assert judged["verdict"][0].as_py() == "FAIL"


def test_without_scores_no_region_is_certain_enough():
    tables = tables_of(MASKS, scores=(None,) * 3)
    judged = judge(Ruleset(criteria=(criterion(min_confidence=0.1),)), *tables)
    assert judged["verdict"].to_pylist() == ["PASS", "PASS"]


def test_rules_know_classes_by_name_and_by_id():
    named = Rule(name="r", then="REVIEW", classes=("fray", 1), min_area=30.0)
    rules = resolve_rules(make_photographs(named), CLASSES, REGIONS)
    assert rules.criteria == (criterion(name="r", then="REVIEW", classes=(1, 3), min_area=30.0),)


@pytest.mark.parametrize(
    ("changes", "regions", "words"),
    [
        (
            {"classes": ("crak",)},
            REGIONS,
            r"rules: r: class: 'crak' is not among .*Perhaps you meant 'crack'",
        ),
        ({"classes": (7,)}, REGIONS, r"class: 7 is no class id; there are 0\.\.3"),
        ({"classes": ("sound",)}, REGIONS, "'sound' makes no regions"),
        ({"classes": ("crack", "fray")}, RegionSettings(classes=(1, 2)), "'fray' makes no regions"),
        (
            {"interest": Interest(corners_xy=((0, 0), (4, 4), (4, 0), (0, 4)))},
            REGIONS,
            "region_of_interest: .*cross",
        ),
    ],
)
def test_rules_that_cannot_be_asked_are_refused(changes, regions, words):
    options = make_photographs(Rule(name="r", then="FAIL", **changes))
    with pytest.raises(ConfigError, match=words):
        resolve_rules(options, CLASSES, regions)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"then": "REVIEW"},
        {"classes": (1,)},
        {"min_area": 2.0},
        {"count": 2},
        {"min_valid": 0.99},
        {"min_confidence": 0.5},
        {"interest": box(0, 0, 1, 1)},
        {"interest": box(0, 0, 1, 1, unit="share")},
    ],
)
def test_the_digest_tells_rules_apart(changes):
    rules, other = Ruleset(criteria=(criterion(),)), Ruleset(criteria=(criterion(**changes),))
    assert len({rules.digest, other.digest, ""}) == 3
    assert rules.digest == Ruleset(criteria=(criterion(),)).digest
    both = Ruleset(criteria=rules.criteria + other.criteria)
    assert both.digest != Ruleset(criteria=other.criteria + rules.criteria).digest
