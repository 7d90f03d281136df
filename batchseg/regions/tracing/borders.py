"""The borders of a strip's regions: labels to walks along them.

A *line* is a lattice row between two pixel rows; line y lies above pixel row y. An *edge* is a longest
horizontal side of one region on one line. It is walked with the region to the right: east along the
region's upper side, west along its lower side, from the edge's *plus* corner to its *minus* corner. The
vertical side that follows leads to the next edge's plus corner, so that plus corners are enough to
know a walk: an edge's minus corner has the next edge's x.

    x   0   1   2   3
    y=0     P------->       pixels      . A A     The region's walk has three edges. Their plus corners P,
            ^ A   A |                   . A .     (1, 0), (3, 1) and (2, 2), are all that is kept of it.
    y=1     |   <---P
            | A |
    y=2     <---P

Which sides belong together is found by rank: along a line, and down a column, sides begin and end in
turn. Where four sides meet, each pixel keeps its own corner; `rings` splits what passes there twice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.regions.tracing.ragged import Ints, chain, chain_heads, offsets_of

Labels = NDArray[np.unsignedinteger[Any]]
Bools = NDArray[np.bool_]

DOUBLE_PLUS, DOUBLE_MINUS = 1, 2
"""Bits of `Walks.double`: at the edge's plus, or minus, corner four sides meet and both pixels of a
diagonal have the edge's label, so that its region may pass there twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """Ragged sequences of edges: closed walks, and strands from one slot on a strip's borders to another.

    Slot 2x + side is where a vertical side at column x, of the region to its left (side 0) or right (1),
    crosses the strip's upper border; the lower border's slots follow from 2 * (width + 1) on.
    """

    x: NDArray[np.int32]
    """(edges,) column of each edge's plus corner."""
    y: NDArray[np.int32]
    """(edges,) line of each edge."""
    double: NDArray[np.uint8]
    """(edges,) DOUBLE_PLUS | DOUBLE_MINUS."""
    offsets: Ints
    """(walks + 1,) edges of each walk; a strand may have none. A closed walk begins with its first plus
    corner in row-major order."""
    start: Ints
    """(walks,) slot, -1 for closed walks."""
    end: Ints
    """(walks,) slot, -1 for closed walks."""
    label: Ints
    """(walks,) 0 for a strand without edges."""
    confidence: Ints
    """(walks,) the walk's part in the sum over its region."""
    links: Ints
    """(links, 2) pairs of walks of one region: a hole's, and that of the border to its left."""

    def minus_x(self, width: int) -> Ints:
        """(edges,) column of each edge's minus corner; `width` of the raster."""
        held = np.flatnonzero(np.diff(self.offsets))
        first, last = self.offsets[held], self.offsets[held + 1] - 1
        minus_x = np.append(self.x[1:], 0)[: len(self.x)].astype(np.int64)
        side_x = (self.end[held] % (2 * width + 2)) // 2
        minus_x[last] = np.where(self.end[held] < 0, self.x[first], side_x)
        return minus_x

    def contacts(self, width: int) -> Ints:
        """(pairs, 2) walks of pixels with one label that meet across a diagonal; `width` of the raster."""
        walk = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        pairs = [np.zeros((0, 2), dtype=np.int64)]
        for bit, x in ((DOUBLE_PLUS, self.x), (DOUBLE_MINUS, self.minus_x(width))):
            at = np.flatnonzero(self.double & bit)
            # At one point there are two of each kind, one for each pixel of the diagonal.
            at = at[np.lexsort((x[at], self.y[at]))]
            pairs.append(walk[at].reshape(-1, 2))
        return np.concatenate(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vertices:
    """Lattice points with a corner, in row-major order; the upper border's slots first, the lower's last."""

    at: Ints
    """line * stride + x: stride is width + 1, the strip's first line 0, the upper border's slots on -1."""
    code: NDArray[np.uint8]
    """Bits for the sides N, S, W, E, then for a region at NW, NE, SW, SE."""
    by_column: Ints
    """The vertices in column-major order."""
    upper: int
    """Number of slots on the upper border."""
    lower: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """Edges (along upper sides, then lower sides), then slots where strands start, then where they end."""

    plus: Ints
    """(edges + ends,) vertices; what a vertical side leads to."""
    plus_left: Bools
    """That side has its region to the left: it goes south."""
    minus: Ints
    """(edges + starts,) vertices; what a vertical side comes from."""
    minus_left: Bools
    uppers: int
    edges: int

    @property
    def starts(self) -> int:
        return len(self.minus) - self.edges

    @property
    def plus_nodes(self) -> Ints:
        return np.concatenate([np.arange(self.edges), np.arange(len(self.minus), len(self))])

    def __len__(self) -> int:
        return len(self.minus) + len(self.plus) - self.edges


def walk_strip(labels: Labels, *, line_off: int, integral: Ints | None = None) -> Walks:
    """Walk along the borders of a strip's regions.

    Args:
        labels: (rows + 1, width + 1), the row above the strip first; column 0 is 0, and 0 is no region.
        line_off: number of the strip's first line.
        integral: (rows + 1, width + 1) sum of confidence above each line and left of each column.

    Returns:
        All walks; edges on the line below the strip are left to the next one.
    """
    stride = labels.shape[1]
    # In one line: what follows a row's last pixel is column 0 of the next row, which is no region.
    flat = np.append(labels.ravel(), labels.dtype.type(0))
    across = flat[1:] != flat[:-1]
    vertices = _find_vertices(flat, across, stride)
    nodes = _find_nodes(vertices)
    tops, top_nodes, follow = _find_sides(vertices, nodes)
    order = chain(follow, _chain_starts(nodes))
    heads = chain_heads(follow, order)
    walk_of = np.empty(len(order), dtype=np.int64)
    walk_of[order] = np.repeat(np.arange(len(heads)), np.diff(heads, append=len(order)))
    inner = order[order < nodes.edges]
    offsets = offsets_of(np.bincount(walk_of[: nodes.edges], minlength=len(heads)))
    at = vertices.at[nodes.plus[inner]]
    line = at // stride
    start, end = _slots(vertices, nodes, walk_of, len(heads))
    pair = _left_of_holes(across, vertices, nodes, _hole_tops(nodes, walk_of, start, order[heads]), tops)
    return Walks(
        x=(at - line * stride).astype(np.int32),
        y=(line + line_off).astype(np.int32),
        double=_doubles(flat, vertices, nodes)[inner],
        offsets=offsets,
        start=start,
        end=end,
        label=_labels(flat, vertices, nodes, inner, offsets),
        confidence=_confidence(integral, vertices, nodes, walk_of, len(heads)),
        links=walk_of[np.stack([pair[0], top_nodes[pair[1]]], axis=1)],
    )


def _find_vertices(flat: Labels, across: Bools, stride: int) -> _Vertices:
    inside = len(across) - stride
    down = flat[stride:] != flat[:-stride]
    north, south, west, east = across[:inside], across[stride:], down[:-1], down[1:]
    # A side that passes straight through (N and S alone, or W and E alone) has no corner here.
    at = np.flatnonzero((north ^ south) | (west ^ east) | (north & west))
    upper, lower = np.flatnonzero(across[:stride]), np.flatnonzero(across[inside:]) + inside
    nw, ne, sw, se = flat[at], flat[at + 1], flat[at + stride], flat[at + stride + 1]
    code = np.concatenate([
        _bits(flat[upper] != 0, 6) | _bits(flat[upper + 1] != 0, 7),
        _bits(nw != ne, 0) | _bits(sw != se, 1) | _bits(nw != sw, 2) | _bits(ne != se, 3)
        | _bits(nw != 0, 4) | _bits(ne != 0, 5) | _bits(sw != 0, 6) | _bits(se != 0, 7),
        _bits(flat[lower] != 0, 4) | _bits(flat[lower + 1] != 0, 5),
    ])  # fmt: skip
    at = np.concatenate([upper - stride, at, lower])
    return _Vertices(
        at=at,
        code=code,
        by_column=_by_column(at % stride),
        upper=len(upper),
        lower=len(lower),
        stride=stride,
    )


def _bits(is_set: Bools, bit: int) -> NDArray[np.uint8]:
    return is_set.view(np.uint8) << np.uint8(bit)


def _by_column(x: Ints) -> Ints:
    """Stable order by x: numpy sorts 16-bit integers by radix, many times faster than wider ones."""
    order = np.argsort(x.astype(np.uint16), kind="stable")
    high = x >> 16
    return order[np.argsort(high.astype(np.uint16)[order], kind="stable")] if high.any() else order


def _tables() -> dict[str, Bools]:
    """By code, whether an edge along an upper or a lower side begins (plus) or ends (minus) at a vertex."""
    n, s, w, e, nw, ne, sw, se = ((np.arange(256) >> bit & 1).astype(bool) for bit in range(8))
    # An upper side begins where a side goes east above a region, unless that side comes from the west and no
    # border parts SW from SE: then it is one side that goes on. The other three are that turned or mirrored.
    return {
        "upper plus": e & se & (s | ~w),
        "lower plus": w & nw & (n | ~e),
        "upper minus": w & sw & (s | ~e),
        "lower minus": e & ne & (n | ~w),
        "north": n,
        "south": s,
        "region at NW": nw,
        "region at NE": ne,
        "region at SW": sw,
        "region at SE": se,
    }


_TABLES = _tables()


def _find_nodes(vertices: _Vertices) -> _Nodes:
    """Edges by rank: in row-major order, the k-th to begin along upper sides is the k-th to end there."""

    def held(what: str, code: NDArray[np.uint8] = vertices.code) -> Ints:
        return np.flatnonzero(_TABLES[what][code])

    north, south, code = _TABLES["north"], _TABLES["south"], vertices.code
    upper_plus, lower_plus = held("upper plus"), held("lower plus")
    upper_minus, lower_minus = held("upper minus"), held("lower minus")
    first_lower = len(code) - vertices.lower
    above, below = code[: vertices.upper], code[first_lower:]
    starts = held("region at SW", above), held("region at NE", below) + first_lower
    ends = held("region at SE", above), held("region at NW", below) + first_lower
    starts_left = np.repeat([True, False], [len(at) for at in starts])
    ends_left = np.repeat([False, True], [len(at) for at in ends])
    return _Nodes(
        plus=np.concatenate([upper_plus, lower_plus, *ends]),
        minus=np.concatenate([upper_minus, lower_minus, *starts]),
        plus_left=np.concatenate([~south[code[upper_plus]], north[code[lower_plus]], ends_left]),
        minus_left=np.concatenate([south[code[upper_minus]], ~north[code[lower_minus]], starts_left]),
        uppers=len(upper_plus),
        edges=len(upper_plus) + len(lower_plus),
    )


def _find_sides(vertices: _Vertices, nodes: _Nodes) -> tuple[Ints, Ints, Ints]:
    """Vertical sides by rank: the k-th that begins in column-major order is the k-th that ends.

    Returns:
        Vertices (by column) and nodes at the upper ends of sides with their region to the right; and for
        each node the one that its side leads to, itself for end slots.
    """
    follow, plus_nodes = np.arange(len(nodes)), nodes.plus_nodes
    for left in (True, False):
        to, came = np.flatnonzero(nodes.plus_left == left), np.flatnonzero(nodes.minus_left == left)
        tops, ends = _sorted_by_column(vertices, nodes.plus[to], plus_nodes[to])
        _, begins = _sorted_by_column(vertices, nodes.minus[came], came)
        follow[begins] = ends
    return tops, ends, follow


def _sorted_by_column(vertices: _Vertices, at: Ints, nodes: Ints) -> tuple[Ints, Ints]:
    """(vertices, nodes) in column-major order; no two nodes are at one vertex."""
    node_at = np.full(len(vertices.at), -1)
    node_at[at] = nodes
    node_at = node_at[vertices.by_column]
    held = np.flatnonzero(node_at >= 0)
    return vertices.by_column[held], node_at[held]


def _chain_starts(nodes: _Nodes) -> Ints:
    """Start slots, then edges that are local tops (reached northward, left southward) in row-major order.

    Each closed walk has one, and the first of its tops is its first plus corner.
    """
    count = nodes.edges
    tops = np.flatnonzero(~nodes.plus_left[:count] & nodes.minus_left[:count])
    tops = tops[np.argsort(nodes.plus[tops], kind="stable")]
    return np.concatenate([np.arange(count, len(nodes.minus)), tops])


def _slots(vertices: _Vertices, nodes: _Nodes, walk_of: Ints, walks: int) -> tuple[Ints, Ints]:
    start, end = np.full((2, walks), -1)
    for slot, at, node_off, right_side in (
        (start, nodes.minus[nodes.edges :], nodes.edges, ~nodes.minus_left[nodes.edges :]),
        (end, nodes.plus[nodes.edges :], len(nodes.minus), ~nodes.plus_left[nodes.edges :]),
    ):
        lower = at >= vertices.upper
        x = vertices.at[at] % vertices.stride
        slot[walk_of[node_off : node_off + len(at)]] = 2 * (x + vertices.stride * lower) + right_side
    return start, end


def _hole_tops(nodes: _Nodes, walk_of: Ints, start: Ints, heads: Ints) -> Ints:
    """Edges that may be the top of a hole: of closed walks the first, of strands every one of that shape."""
    count = nodes.edges
    tops = np.flatnonzero(~nodes.plus_left[nodes.uppers : count] & nodes.minus_left[nodes.uppers : count])
    tops += nodes.uppers
    walk = walk_of[tops]
    may_be: Bools = (start[walk] >= 0) | (heads[walk] == tops)
    return np.asarray(tops[may_be])


def _left_of_holes(
    across: Bools, vertices: _Vertices, nodes: _Nodes, tops: Ints, side_tops: Ints
) -> tuple[Ints, Ints]:
    """The region around a hole begins, left of the hole's top, with a vertical side to its left.

    Returns:
        The tops (nodes) and the place of that side in `side_tops`.
    """
    stride = vertices.stride
    last = vertices.at[nodes.minus[tops]] + stride - 1
    sides = np.flatnonzero(across)
    at = sides[np.searchsorted(sides, last, side="right") - 1] - stride
    lines = len(across) // stride + 1
    line, x = np.divmod(vertices.at[side_tops], stride)
    side_keys = x * lines + line + 1
    line, x = np.divmod(at, stride)
    return tops, np.searchsorted(side_keys, x * lines + line + 1, side="right") - 1


def _labels(flat: Labels, vertices: _Vertices, nodes: _Nodes, inner: Ints, offsets: Ints) -> Ints:
    label = np.zeros(len(offsets) - 1, dtype=np.int64)
    full = np.flatnonzero(np.diff(offsets))
    first = inner[offsets[full]]
    pixel = np.where(first < nodes.uppers, vertices.stride + 1, 0)
    label[full] = flat[vertices.at[nodes.plus[first]] + pixel]
    return label


def _confidence(integral: Ints | None, vertices: _Vertices, nodes: _Nodes, walk_of: Ints, walks: int) -> Ints:
    """Each pixel set's sum is that of the integral at its plus corners less that at its minus corners."""
    total = np.zeros(walks, dtype=np.int64)
    if integral is not None:
        sums, count = integral.ravel(), nodes.edges
        part = sums[vertices.at[nodes.plus[:count]]] - sums[vertices.at[nodes.minus[:count]]]
        np.add.at(total, walk_of[:count], part)
    return total


def _doubles(flat: Labels, vertices: _Vertices, nodes: _Nodes) -> NDArray[np.uint8]:
    """(edges,) the corner where four sides meet is on the diagonal of the corner's label."""
    double = np.zeros(nodes.edges, dtype=np.uint8)
    crossing = (vertices.code & 15) == 15
    at = vertices.at[crossing]
    kind = np.zeros(len(vertices.at), dtype=np.uint8)
    kind[crossing] = DOUBLE_PLUS * (flat[at] == flat[at + vertices.stride + 1]) + DOUBLE_MINUS * (
        flat[at + 1] == flat[at + vertices.stride]
    )
    double |= kind[nodes.plus[: nodes.edges]] & DOUBLE_PLUS
    double |= kind[nodes.minus[: nodes.edges]] & DOUBLE_MINUS
    return double
