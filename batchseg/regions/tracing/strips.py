"""What a strip leaves open, joined to the next strip's walks; and what is closed, as regions."""

from dataclasses import dataclass, replace

import numpy as np

from batchseg.regions.tracing.borders import Bools, Walks
from batchseg.regions.tracing.ragged import Ints, chain, chain_heads, offsets_of, pick
from batchseg.regions.tracing.rings import Edges, Regions, split_doubles

NO_ID = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of regions beside their borders; all (regions,) int64."""

    label: Ints
    confidence: Ints
    origin: Ints
    """Region id of a region that was cut, else NO_ID."""
    family: Ints
    """Shared by those that meet across diagonals, where that connects; else each has its own."""

    def pick(self, regions: Ints | Bools) -> "Found":
        return Found(
            label=self.label[regions],
            confidence=self.confidence[regions],
            origin=self.origin[regions],
            family=self.family[regions],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Borders of the regions that reach a strip's last row.

    Each strand begins where a side with its region to the right comes up through the border, and ends where a
    side with its region to the left goes down through it.
    """

    pieces: Edges
    """Strands, then closed walks."""
    start: Ints
    """(strands,) slots as on the upper border of the strip to come."""
    end: Ints
    """(strands,)"""
    region: Ints
    """(pieces,)"""
    found: Found
    """Of the regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Closed walks of finished regions, each of one or more pieces one after another."""

    pool: Edges
    pieces: Ints
    """Parts of `pool`; a walk of one piece begins with its first plus corner."""
    counts: Ints
    """(walks,) number of pieces."""
    region: Ints
    """(walks,)"""
    found: Found
    """Of the regions; there may be some without a walk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Where regions were cut: runs of pixels above a line; all (runs,)."""

    start: Ints
    """First column."""
    stop: Ints
    region_id: Ints


def nothing_open() -> Open:
    none = np.zeros(0, dtype=np.int64)
    edges = Edges(
        x=none.astype(np.int32),
        y=none.astype(np.int32),
        double=none.astype(np.uint8),
        offsets=offsets_of(none),
    )
    found = Found(label=none, confidence=none, origin=none, family=none)
    return Open(pieces=edges, start=none, end=none, region=none, found=found)


def join(
    carried: Open, walks: Walks, origins: Ints, width: int, contacts: Ints | None = None
) -> tuple[Closed, Open, Ints]:
    """What the strip before left open, and the next strip's walks.

    Args:
        carried: of the strip before.
        walks: of the next strip.
        origins: (pairs, 2) walks and the ids of cut regions that theirs go on with.
        width: of the raster.
        contacts: (pairs, 2) walks that meet across a diagonal, where that connects; None: it does not.

    Returns:
        What is closed, what is open, and (pairs, 2) ids that turned out to be one region's.
    """
    regions, olds = len(carried.found.label), len(carried.pieces)
    links, region_pairs = _link(carried, walks, border=2 * (width + 1))
    pairs = np.concatenate([region_pairs, regions + walks.links])
    group = _components(pairs, regions + len(walks.label))
    found, same = _combine(carried.found, walks, origins, group)
    if contacts is not None:
        found = replace(found, family=_families(carried.found.family, group, regions + contacts))
    group_of = np.concatenate([group[carried.region], group[regions:]])
    alone = np.concatenate([np.arange(len(carried.start), olds), olds + np.flatnonzero(walks.start < 0)])
    pieces = np.concatenate([alone, links.pieces])
    counts = np.concatenate([np.ones(len(alone), dtype=np.int64), links.counts])
    is_strand = np.concatenate([np.zeros(len(alone), dtype=bool), links.start >= 0])
    region = group_of[pieces[offsets_of(counts)[:-1]]]
    is_open = np.zeros(len(found.label), dtype=bool)
    is_open[found.family[region[is_strand]]] = True
    is_open = is_open[found.family]
    pool = carried.pieces + Edges(x=walks.x, y=walks.y, double=walks.double, offsets=walks.offsets)

    done = np.flatnonzero(~is_open[region])
    at, offsets = pick(offsets_of(counts), done)
    closed = Closed(pool=pool, pieces=pieces[at], counts=np.diff(offsets), region=region[done], found=found)
    kept = np.concatenate([np.flatnonzero(is_strand), np.flatnonzero(is_open[region] & ~is_strand)])
    at, offsets = pick(offsets_of(counts), kept)
    opened = Open(
        pieces=pool.pick(pieces[at]).merged(np.diff(offsets)),
        start=links.start[links.start >= 0],
        end=links.end[links.start >= 0],
        region=(np.cumsum(is_open) - 1)[region[kept]],
        found=found.pick(is_open),
    )
    return closed, opened, same


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """Walks made of strands, each of one or more pieces: carried ones, then the next strip's walks."""

    pieces: Ints
    counts: Ints
    start: Ints
    """(walks,) slot on the border below, counted as on the one above; -1 where the walk is closed."""
    end: Ints


def _link(carried: Open, walks: Walks, border: int) -> tuple[_Links, Ints]:
    """Strands end to end, and (pairs, 2) of a carried region and, counted after those, a walk."""
    olds, new = len(carried.start), np.flatnonzero(walks.start >= 0)
    from_above, to_above = (np.flatnonzero(slots[new] < border) for slots in (walks.start, walks.end))
    # A walk from above goes on where a carried strand ends; one that leads up goes on in a carried strand.
    before = _inverse(carried.end, border)[walks.start[new[from_above]]]
    after = _inverse(carried.start, border)[walks.end[new[to_above]]]
    follow = np.arange(olds + len(new))
    follow[before] = olds + from_above
    follow[olds + to_above] = after
    from_below = olds + np.flatnonzero(walks.start[new] >= border)
    order = chain(follow, np.concatenate([from_below, np.arange(len(follow))]))
    heads = chain_heads(follow, order)
    links = _Links(
        pieces=np.concatenate([np.arange(olds), len(carried.pieces) + new])[order],
        counts=np.diff(heads, append=len(order)),
        start=np.full(len(heads), -1),
        end=np.full(len(heads), -1),
    )
    # The search took the strands from below first, so the first chains are theirs.
    lasts = order[np.append(heads, len(order))[1 : len(from_below) + 1] - 1]
    links.start[: len(from_below)] = walks.start[new[from_below - olds]] - border
    links.end[: len(from_below)] = walks.end[new[lasts - olds]] - border
    regions = len(carried.found.label)
    pairs = [
        np.stack([carried.region[before], regions + new[from_above]], axis=1),
        np.stack([carried.region[after], regions + new[to_above]], axis=1),
    ]
    return links, np.concatenate(pairs)


def _inverse(slots: Ints, border: int) -> Ints:
    index = np.full(border, -1)
    index[slots] = np.arange(len(slots))
    return index


def _components(pairs: Ints, nodes: int) -> Ints:
    from scipy.sparse import coo_array  # 0.1 s of CPU that jobs without regions are spared
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(nodes, nodes))
    group: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return group


def _families(carried: Ints, group: Ints, contacts: Ints) -> Ints:
    """(groups,) which meet across diagonals, now or as carried regions did; in `group` walks follow those."""
    _, first, which = np.unique(carried, return_index=True, return_inverse=True)
    before = np.stack([np.arange(len(carried)), first[which]], axis=1)
    return _components(group[np.concatenate([before, contacts])], int(group.max(initial=-1)) + 1)


def _combine(carried: Found, walks: Walks, origins: Ints, group: Ints) -> tuple[Found, Ints]:
    """The groups' attributes, and pairs of ids of cut regions that met."""
    groups = int(group.max(initial=-1)) + 1
    found = Found(
        label=np.zeros(groups, dtype=np.int64),
        confidence=np.zeros(groups, dtype=np.int64),
        origin=np.full(groups, NO_ID),
        family=np.arange(groups),
    )
    np.maximum.at(found.label, group, np.concatenate([carried.label, walks.label]))
    np.add.at(found.confidence, group, np.concatenate([carried.confidence, walks.confidence]))
    known = np.flatnonzero(carried.origin != NO_ID)
    at = np.concatenate([group[known], group[len(carried.label) + origins[:, 0]]])
    ids = np.concatenate([carried.origin[known], origins[:, 1]])
    np.minimum.at(found.origin, at, ids)
    same = np.stack([found.origin[at], ids], axis=1)
    return found, same[same[:, 0] != same[:, 1]]


def cut(
    carried: Open, regions: Bools, line: int, width: int, integral: Ints | None = None
) -> tuple[Closed, Open, Cuts, Ints]:
    """Close regions along the line below the last strip, as if nothing of them followed.

    Args:
        carried: what is open.
        regions: (regions,) those to close.
        line: the one below the last strip.
        width: of the raster.
        integral: (width + 1,) sum of confidence above the line and left of each column.

    Returns:
        What is closed, what is still open, where the cuts are, and (pairs, 2) ids that turned out to be one
        region's.
    """
    strands, walks = len(carried.start), len(carried.pieces)
    found = _with_origin(carried, regions, width)
    hit = np.flatnonzero(regions[carried.region[:strands]])
    # From left to right a region's runs of pixels begin and end in turn.
    begins = hit[np.lexsort((carried.start[hit], carried.region[hit]))]
    ends = hit[np.lexsort((carried.end[hit], carried.region[hit]))]
    follow = np.arange(strands)
    follow[ends] = begins
    order = chain(follow, hit)
    heads = chain_heads(follow, order)
    lids = Edges(
        x=(carried.end // 2).astype(np.int32),
        y=np.full(strands, line, dtype=np.int32),
        double=np.zeros(strands, dtype=np.uint8),
        offsets=np.arange(strands + 1),
    )
    alone = strands + np.flatnonzero(regions[carried.region[strands:]])
    pieces = np.concatenate([alone, np.stack([order, walks + order], axis=1).ravel()])
    counts = np.concatenate([np.ones(len(alone), dtype=np.int64), 2 * np.diff(heads, append=len(order))])
    region = carried.region[np.concatenate([alone, order[heads]])]
    runs = carried.region[begins]
    cuts = Cuts(start=carried.start[begins] // 2, stop=carried.end[ends] // 2, region_id=found.origin[runs])
    if integral is not None:  # the lids' corners count as all others do
        np.add.at(found.confidence, runs, integral[cuts.stop] - integral[cuts.start])
    closed = Closed(pool=carried.pieces + lids, pieces=pieces, counts=counts, region=region, found=found)
    same = np.stack([found.origin, carried.found.origin], axis=1)
    same = same[(same[:, 0] != same[:, 1]) & (same[:, 1] != NO_ID)]
    return closed, _without(carried, regions), cuts, same


def _with_origin(carried: Open, regions: Bools, width: int) -> Found:
    """Cut regions take the id of their first pixel, unless they were cut before."""
    parts = np.flatnonzero(regions[carried.region])
    edges = carried.pieces.pick(parts)
    ids = edges.y.astype(np.int64) * width + edges.x
    origin = carried.found.origin.copy()
    np.minimum.at(origin, np.repeat(carried.region[parts], np.diff(edges.offsets)), ids)
    return replace(carried.found, confidence=carried.found.confidence.copy(), origin=origin)


def _without(carried: Open, regions: Bools) -> Open:
    kept = np.flatnonzero(~regions[carried.region])
    strands = kept[kept < len(carried.start)]
    return Open(
        pieces=carried.pieces.pick(kept),
        start=carried.start[strands],
        end=carried.end[strands],
        region=(np.cumsum(~regions) - 1)[carried.region[kept]],
        found=carried.found.pick(~regions),
    )


def to_regions(closed: Closed, width: int) -> tuple[Regions, Ints]:
    """Closed walks as polygons, ordered by last row, then region id.

    Returns:
        Regions, with labels for class ids, and (pairs, 2) ids that turned out to be one region's.
    """
    pool, part, region = _rings(closed)
    stride = width + 1
    # Not where a ring begins: strips decide that, and the order of holes would depend on them.
    key = _tops(pool, stride)[part]
    first, bottom = np.full(len(closed.found.label), NO_ID), np.zeros(len(closed.found.label), dtype=np.int64)
    np.minimum.at(first, region, key)
    np.maximum.at(bottom, region, _bottoms(pool)[part])
    here = np.flatnonzero(first != NO_ID)
    found, first, bottom = closed.found.pick(here), first[here], bottom[here]
    region_id, is_cut = np.minimum(first // stride * width + first % stride, found.origin), found.origin
    if (np.diff(found.family) <= 0).any():
        family = np.unique(found.family, return_inverse=True)[1]
        region_id, bottom = _least(region_id, family), -_least(-bottom, family)
        is_cut = _least(is_cut, family)
    ranked = np.lexsort((first, region_id, bottom))
    rank = np.empty(len(closed.found.label), dtype=np.int64)
    rank[here[ranked]] = np.arange(len(here))
    rings = _begun_at_top(pool.pick(part[np.lexsort((key, rank[region]))]), stride)
    found, region_id = found.pick(ranked), region_id[ranked]
    regions = Regions(
        region_id=region_id,
        class_id=found.label,
        confidence=found.confidence,
        cut=is_cut[ranked] != NO_ID,
        x=rings.x,
        y=rings.y,
        rings=rings.offsets,
        polygons=offsets_of(np.bincount(rank[region], minlength=len(here))),
    )
    same = np.stack([region_id, found.origin], axis=1)
    return regions, same[(found.origin != NO_ID) & (same[:, 0] != same[:, 1])]


def _least(values: Ints, family: Ints) -> Ints:
    """Of each one's family."""
    least = np.full(family.max(initial=-1) + 1, NO_ID)
    np.minimum.at(least, family, values)
    return least[family]


def _rings(closed: Closed) -> tuple[Edges, Ints, Ints]:
    """Edges, the parts of them that are rings, and the region of each; a shell comes out before its holes."""
    pool, heads = closed.pool, closed.pieces[offsets_of(closed.counts)[:-1]]
    ready = (closed.counts == 1) & ~_has_doubles(pool)[heads]
    rest = np.flatnonzero(~ready)
    at, offsets = pick(offsets_of(closed.counts), rest)
    rings, walk = split_doubles(pool.pick(closed.pieces[at]).merged(np.diff(offsets)))
    return (
        pool + rings,
        np.concatenate([heads[ready], len(pool) + np.arange(len(rings))]),
        np.concatenate([closed.region[ready], closed.region[rest[walk]]]),
    )


def _begun_at_top(rings: Edges, stride: int) -> Edges:
    """Each ring from its first edge of the top line on, wherever strips made it begin."""
    starts = rings.offsets[:-1]
    key = _positions(rings, stride)
    begun = key[starts] == np.minimum.reduceat(key, starts)
    if begun.all():
        return rings
    late = np.flatnonzero(~begun)
    at, offsets = pick(rings.offsets, late)
    lengths = np.diff(offsets)
    part = np.repeat(np.arange(len(late)), lengths)
    shift = np.lexsort((key[at], part))[offsets[:-1]] - offsets[:-1]
    turned = offsets[part] + (np.arange(len(at)) - offsets[part] + shift[part]) % lengths[part]
    order = np.arange(len(key))
    order[at] = at[turned]
    return Edges(x=rings.x[order], y=rings.y[order], double=rings.double[order], offsets=rings.offsets)


def _has_doubles(pool: Edges) -> Bools:
    held = np.flatnonzero(np.diff(pool.offsets))
    doubles = np.zeros(len(pool), dtype=bool)
    if len(held):
        doubles[held] = np.bitwise_or.reduceat(pool.double, pool.offsets[held]) != 0
    return doubles


def _positions(edges: Edges, stride: int) -> Ints:
    """(edges,) each edge's place in row-major order."""
    positions: Ints = edges.y.astype(np.int64) * stride + edges.x
    return positions


def _tops(pool: Edges, stride: int) -> Ints:
    """(parts,) the place of each part's first edge in row-major order, -1 of an empty part."""
    held = np.flatnonzero(np.diff(pool.offsets))
    tops = np.full(len(pool), -1)
    if len(held):
        tops[held] = np.minimum.reduceat(_positions(pool, stride), pool.offsets[held])
    return tops


def _bottoms(pool: Edges) -> Ints:
    """(parts,) the lowest line, -1 of an empty part."""
    held = np.flatnonzero(np.diff(pool.offsets))
    bottoms = np.full(len(pool), -1)
    if len(held):
        bottoms[held] = np.maximum.reduceat(pool.y, pool.offsets[held])
    return bottoms
