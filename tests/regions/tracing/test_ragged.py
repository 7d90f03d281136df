"""Ragged arrays against Python's lists of lists."""

import functools
import itertools
import operator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.regions.tracing.ragged import chain, chain_heads, following, offsets_of, pick

quick = settings(deadline=None, max_examples=60)
lists = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6)


@st.composite
def chains(draw):
    """Cycles, and open chains whose last node follows itself, of nodes in any order."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    nodes = draw(st.permutations(range(sum(lengths))))
    bounds = np.cumsum([0, *lengths]).tolist()
    parts = [nodes[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [(part, draw(st.booleans())) for part in parts]


@quick
@given(chains(), st.randoms(use_true_random=False))
def test_a_chain_begins_with_the_first_of_its_nodes_that_is_named(parts, random):
    follow = np.zeros(sum(len(part) for part, _ in parts), dtype=np.int64)
    starts = []
    for part, is_closed in parts:
        follow[part] = [*part[1:], part[0] if is_closed else part[-1]]
        starts += random.sample(part, random.randint(1, len(part))) if is_closed else part[:1]
    random.shuffle(starts)
    expected, seen = [], set()
    for start in starts:
        part, is_closed = next(found for found in parts if start in found[0])
        if tuple(part) not in seen:
            at = part.index(start)
            expected.append([*part[at:], *part[:at]] if is_closed else list(part))
            seen.add(tuple(part))
    order = chain(follow, np.array(starts))
    assert order.tolist() == functools.reduce(operator.iadd, expected, [])


@quick
@given(chains())
def test_heads_part_the_order_into_chains(parts):
    """Whatever a chain's last node is followed by, the next chain begins where nothing follows."""
    follow = np.zeros(sum(len(part) for part, _ in parts), dtype=np.int64)
    for part, is_closed in parts:
        follow[part] = [*part[1:], part[0] if is_closed else part[-1]]
    order = chain(follow, np.array([part[0] for part, _ in parts]))
    heads = chain_heads(follow, order)
    assert [found.tolist() for found in np.split(order, heads[1:])] == [list(part) for part, _ in parts]


def test_without_a_start_there_is_no_chain():
    none = np.zeros(0, dtype=np.int64)
    assert chain(none, none).tolist() == chain_heads(none, none).tolist() == []


@quick
@given(lists, st.data())
def test_parts_are_picked_as_lists_are(parts, data):
    values = np.array(functools.reduce(operator.iadd, parts, []), dtype=np.int64)
    offsets = offsets_of(np.array([len(part) for part in parts], dtype=np.int64))
    assert [values[a:b].tolist() for a, b in itertools.pairwise(offsets)] == parts
    numbers = data.draw(st.lists(st.sampled_from(range(len(parts))), max_size=6)) if parts else []
    at, picked = pick(offsets, np.array(numbers, dtype=np.int64))
    assert values[at].tolist() == functools.reduce(operator.iadd, [parts[number] for number in numbers], [])
    assert np.diff(picked).tolist() == [len(parts[number]) for number in numbers]


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_an_element_is_followed_by_the_next_of_its_part(lengths):
    offsets = offsets_of(np.array(lengths))
    after = following(offsets)
    for start, stop in itertools.pairwise(offsets):
        assert after[start:stop].tolist() == [*range(start + 1, stop), start]
