"""Permutations to their cycles, and ragged arrays: what numpy lacks for walks along borders."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def chain(follow: Ints, starts: Ints) -> Ints:
    """Nodes in the order of their chains.

    scipy's depth-first search does the walking: beside the nodes there is a spine of helpers, each with
    one of the starts and the next helper for children, so one search visits chain after chain.

    Args:
        follow: (nodes,) the node after each one; itself where a chain ends.
        starts: every chain must hold one, an open chain its first node. A chain begins with the
            first of its nodes that is named here.

    >>> chain(np.array([2, 1, 3, 0]), np.array([1, 3, 0])).tolist()
    [1, 3, 0, 2]
    """
    nodes, spine = len(follow), len(starts)
    if spine == 0:
        return np.empty(0, dtype=np.int64)
    from scipy.sparse import csr_array  # 0.1 s of CPU that jobs without regions are spared
    from scipy.sparse.csgraph import depth_first_order

    # A node has one child, the node after it. Helper k has two: the k-th start, then helper k + 1, to which
    # the search comes once it has walked that chain to its end. Starts visited by then are skipped.
    children = np.empty(nodes + 2 * spine, dtype=np.int32)
    children[:nodes] = follow
    children[nodes::2] = starts
    children[nodes + 1 :: 2] = np.arange(nodes + 1, nodes + spine + 1)
    bounds = np.concatenate([np.arange(nodes), np.arange(nodes, nodes + 2 * spine + 1, 2)])
    bounds[-1] -= 1  # the last helper has no other after it
    graph = csr_array(
        (np.ones(len(children) - 1), children[:-1], bounds.astype(np.int32)), shape=(nodes + spine,) * 2
    )
    order = depth_first_order(graph, nodes, return_predecessors=False)
    inner: Ints = order[order < nodes].astype(np.int64)
    return inner


def chain_heads(follow: Ints, order: Ints) -> Ints:
    """Positions in `order` where a chain begins."""
    if not len(order):
        return np.empty(0, dtype=np.int64)
    breaks = follow[order[:-1]] != order[1:]
    return np.concatenate([[0], np.flatnonzero(breaks) + 1])


def offsets_of(counts: Ints) -> Ints:
    """(parts + 1,) where the parts of a ragged array begin."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def pick(offsets: Ints, parts: Ints) -> tuple[Ints, Ints]:
    """Element indices of some parts of a ragged array, one after another, and their own offsets.

    >>> pick(np.array([0, 2, 3, 5]), np.array([2, 0]))[0].tolist()
    [3, 4, 0, 1]
    """
    starts = offsets[parts]
    picked = offsets_of(offsets[parts + 1] - starts)
    return np.arange(picked[-1]) + np.repeat(starts - picked[:-1], np.diff(picked)), picked


def following(offsets: Ints) -> Ints:
    """For each element of closed, non-empty parts the index of the one after it, the first after the last.

    >>> following(np.array([0, 3, 5])).tolist()
    [1, 2, 0, 4, 3]
    """
    after = np.arange(1, offsets[-1] + 1)
    after[offsets[1:] - 1] = offsets[:-1]
    return after
