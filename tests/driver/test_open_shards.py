"""Who gets which of a scene's shards: each once, neighbours to the same predictor."""

from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver.open_shards import MOST_RUNS, OpenShards
from batchseg.pixels.grid import AllShards, ShardGrid, TileGrid


def of(*shards):
    made = OpenShards()
    made.put(shards)
    return made


def take(shards, slot):
    first = shards.first(slot)
    assert shards.take(slot) == first
    return first


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200),
)
def test_each_shard_is_given_once_whatever_is_put_back(count, steps):
    shards, taken = of(*range(count)), []
    for slot, puts_back in steps:
        if puts_back and taken:
            shards.put([taken.pop()])
        elif shards:
            taken.append(take(shards, slot))
        assert sorted([*taken, *shards.rest]) == list(range(count))
        assert bool(shards) == (len(taken) < count)


def test_a_scene_that_nobody_began_with_is_given_out_as_its_grid():
    whole = AllShards(ShardGrid(tiles=TileGrid(height=40, width=50, tile_size=16, halo=2), tiles_hw=(1, 2)))
    shards = OpenShards()
    shards.put(whole)
    assert (shards.rest, bool(shards)) == (whole, True)
    assert take(shards, 1) == whole[0]
    assert sorted(shards.rest, key=lambda shard: (shard.core.row_off, shard.core.col_off)) == list(whole[1:])
    shards.put([whole[0]])
    assert take(shards, 2) == whole[0]
    shards.clear()
    assert (shards.rest, bool(shards)) == ((), False)


def test_a_predictor_alone_takes_all_in_order():
    shards = of(*range(9))
    assert [take(shards, 3) for _ in range(9)] == list(range(9))
    assert not shards
    assert not shards.goes_on(3)


def test_predictors_begin_far_from_each_other_and_go_on_where_they_were():
    shards = of(*range(12))
    assert [take(shards, slot) for slot in (1, 2, 1, 2, 1, 2)] == [0, 6, 1, 7, 2, 8]
    assert shards.goes_on(1)


def test_who_is_through_takes_half_of_the_longest_that_is_left():
    shards = of(*range(12))
    assert take(shards, 1) == 0
    assert [take(shards, 2) for _ in range(6)] == [6, 7, 8, 9, 10, 11]
    assert not shards.goes_on(2)
    assert [take(shards, 2) for _ in range(3)] == [3, 4, 5]
    assert [take(shards, 2), take(shards, 1)] == [2, 1]


def test_what_is_put_back_comes_before_what_others_have():
    shards = of(*range(8))
    first = take(shards, 1)
    shards.put([first])
    assert take(shards, 2) == 0
    assert take(shards, 1) == 1


def test_many_predictors_share_runs():
    shards = of(*range(400))
    for slot in range(200):
        take(shards, slot)
    assert len(shards._runs) == MOST_RUNS
    taken = []
    while shards.goes_on(0) and len(taken) < 5:
        taken.append(take(shards, 0))
    assert len(taken) == 5, "a lease is as long as it was"
