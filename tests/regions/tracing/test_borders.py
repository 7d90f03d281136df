"""Walks against what can be seen of each pixel's four sides."""

import re

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from traced import SETTINGS, shapes

from batchseg.regions import tracing
from batchseg.regions.tracing.borders import DOUBLE_MINUS, DOUBLE_PLUS, Walks, walk_strip

FEWER = settings(SETTINGS, max_examples=40)
labels = st.one_of(
    *(
        arrays(np.uint8, shapes, elements=st.sampled_from(ids))
        for ids in ([0, 1], [1, 1, 1, 2, 3], [0, 1, 2, 3])
    )
)
BESIDE_A_HOLE = np.array([[2, 1, 1, 1], [2, 1, 3, 1], [2, 1, 1, 1]], dtype=np.uint8)


def strip_of(ids: np.ndarray, first: int, stop: int) -> np.ndarray:
    """Rows of a raster as `walk_strip` takes them; none above the first and below the last."""
    padded = np.pad(ids, ((1, 1), (1, 0)))
    return padded[first : stop + 1]


def whole(ids: np.ndarray) -> Walks:
    return walk_strip(strip_of(ids, 0, len(ids) + 1), line_off=0)


def corners_of(walks: Walks, number: int) -> list[tuple[int, int]]:
    """(column, line) of each plus corner and each minus corner of a closed walk, in turn."""
    start, stop = walks.offsets[number : number + 2]
    x, y = walks.x[start:stop].tolist(), walks.y[start:stop].tolist()
    after = [*x[1:], x[0]]
    return [corner for at in range(len(x)) for corner in ((x[at], y[at]), (after[at], y[at]))]


def sides_of(ids: np.ndarray) -> dict[int, list[tuple[int, int, int, int]]]:
    """By label the unit sides of its pixels that lie on a border, walked with the pixel to the right."""
    padded, sides = np.pad(ids, 1), {}
    for row, col in zip(*np.nonzero(padded), strict=True):
        r, c = int(row) - 1, int(col) - 1
        own = sides.setdefault(int(padded[row, col]), [])
        for other, side in (
            (padded[row - 1, col], (c, r, c + 1, r)),
            (padded[row, col + 1], (c + 1, r, c + 1, r + 1)),
            (padded[row + 1, col], (c + 1, r + 1, c, r + 1)),
            (padded[row, col - 1], (c, r + 1, c, r)),
        ):
            if other != padded[row, col]:
                own.append(side)
    return sides


def unit_sides(corners: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    sides = []
    for (x, y), (to_x, to_y) in zip(corners, [*corners[1:], corners[0]], strict=True):
        step_x, step_y = np.sign(to_x - x), np.sign(to_y - y)
        for _ in range(abs(to_x - x) + abs(to_y - y)):
            sides.append((x, y, x + step_x, y + step_y))
            x, y = x + step_x, y + step_y
    return sides


@FEWER
@given(labels)
def test_walks_pass_every_side_once_with_the_region_to_the_right(ids):
    walks, found = whole(ids), {}
    assert (walks.start == -1).all() and (walks.end == -1).all()
    for number, label in enumerate(walks.label.tolist()):
        corners = corners_of(walks, number)
        found.setdefault(label, []).extend(unit_sides(corners))
        firsts = corners[::2]
        assert min(firsts, key=lambda corner: corner[::-1]) == firsts[0]
    assert {label: sorted(sides) for label, sides in found.items()} == {
        label: sorted(sides) for label, sides in sides_of(ids).items()
    }


@FEWER
@given(labels)
@example(BESIDE_A_HOLE)
def test_links_make_one_group_of_each_region(ids):
    """A region's shell and the borders of its holes hang together, and nothing else does."""
    walks = whole(ids)
    group = list(range(len(walks.label)))
    for one, two in walks.links.tolist():
        group = [group[one] if g == group[two] else g for g in group]
    regions = sum(ndimage.label(ids == label)[1] for label in (1, 2, 3))
    assert len(set(group)) == regions


@FEWER
@given(labels, st.data())
def test_confidence_of_a_regions_walks_is_the_sum_over_its_pixels(ids, data):
    confidence = data.draw(arrays(np.uint8, ids.shape)).astype(np.int64)
    integral = np.pad(confidence.cumsum(axis=0).cumsum(axis=1), ((1, 1), (1, 0)), mode="constant")
    integral[-1] = integral[-2]
    walks = walk_strip(strip_of(ids, 0, len(ids) + 1), line_off=0, integral=integral)
    for label in (1, 2, 3):
        assert walks.confidence[walks.label == label].sum() == confidence[ids == label].sum()


@FEWER
@given(labels, st.data())
def test_strands_meet_in_the_slots_of_a_strip_border(ids, data):
    """What the upper strip leaves at its lower border, the lower strip takes up at its upper border."""
    at, width = data.draw(st.integers(1, len(ids))), ids.shape[1]
    upper = walk_strip(strip_of(ids, 0, at), line_off=0)
    lower = walk_strip(strip_of(ids, at, len(ids) + 1), line_off=at)
    border = 2 * (width + 1)
    assert sorted(upper.start[upper.start >= 0] - border) == sorted(lower.end[lower.end >= 0])
    assert sorted(upper.end[upper.end >= 0] - border) == sorted(lower.start[lower.start >= 0])
    row = np.pad(ids[at - 1], (1, 1))
    crossing = np.flatnonzero(row[1:] != row[:-1])
    expected = [2 * x for x in crossing if row[x]] + [2 * x + 1 for x in crossing if row[x + 1]]
    assert sorted([*lower.start[lower.start >= 0], *lower.end[lower.end >= 0]]) == sorted(expected)
    whole_edges = sorted(zip(whole(ids).x.tolist(), whole(ids).y.tolist(), strict=True))
    parts = [*zip(upper.x.tolist(), upper.y.tolist(), strict=True)]
    parts += zip(lower.x.tolist(), lower.y.tolist(), strict=True)
    assert sorted(parts) == whole_edges


def test_a_corner_that_two_pixels_of_a_label_share_is_double():
    def marked(ids):
        walks = whole(ids)
        return sorted(zip(walks.x.tolist(), walks.y.tolist(), walks.double.tolist(), strict=True))

    diagonal = np.eye(2, dtype=np.uint8)
    plus, minus = DOUBLE_PLUS, DOUBLE_MINUS
    assert marked(diagonal) == [(0, 0, 0), (1, 1, plus), (1, 1, plus), (2, 2, 0)]
    assert marked(diagonal[:, ::-1]) == [(0, 1, minus), (1, 0, 0), (1, 2, 0), (2, 1, minus)]
    assert marked(np.array([[1, 2], [3, 1]], np.uint8))[2:6].count((1, 1, plus)) == 2
    assert {double for *_, double in marked(np.array([[1, 2], [3, 0]], np.uint8))} == {0}


def test_the_packages_drawing_is_what_is_walked():
    lines = re.findall(r"^    (?:line \d|column) {4}(.*)$", tracing.__doc__ or "", re.MULTILINE)
    pixels = re.findall(r"^     row \d {4}(.*)$", tracing.__doc__ or "", re.MULTILINE)
    places = {int(word.group()): word.start() for word in re.finditer(r"\d", lines[0])}
    column_at = {at: column for column, at in places.items()}
    ids = np.array([[row[at + 2] == "A" for at in list(places.values())[:-1]] for row in pixels], np.uint8)
    assert ids.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    drawn = {
        kind: {(column_at[at], y) for y, line in enumerate(lines[1:]) for at in _places(line, kind)}
        for kind in "pm"
    }
    walks = whole(ids)
    corners = [corners_of(walks, number) for number in range(2)]
    assert {corner for found in corners for corner in found[::2]} == drawn["p"]
    assert {corner for found in corners for corner in found[1::2]} == drawn["m"]
    assert [found[::2] for found in corners] == [[(0, 0), (3, 3)], [(2, 1), (1, 2)]]
    upper = walk_strip(strip_of(ids, 0, 2), line_off=0)
    assert (upper.start - 8).tolist() == [1, 5]
    assert (upper.end - 8).tolist() == [6, 2]
    assert upper.y.tolist() == [0, 1]


def _places(line: str, kind: str) -> list[int]:
    return [found.start() for found in re.finditer(rf"\b{kind}\b", line.partition("  the strip")[0])]
