import copy
import pickle

from factories import make_recipe, make_scene, make_shard_record
from hypothesis import given, settings
from strategies import shard_grids

from batchseg.grid import Window
from batchseg.steps import Lease


@settings(deadline=None, max_examples=30)
@given(shard_grids())
def test_what_is_sent_arrives_as_it_was(grid):
    shards = tuple(grid)
    lease = Lease(id=7, scene=make_scene(), grid="1x2", cpu_class="avx2", shards=shards)
    arrived = pickle.loads(pickle.dumps(lease))
    assert arrived == lease
    assert arrived.shards[0].tiles == shards[0].tiles
    records = [make_shard_record(make_scene(), make_recipe(), shard, "1x2") for shard in shards]
    assert pickle.loads(pickle.dumps(records)) == records
    assert copy.deepcopy(records) == records


def test_a_shard_is_sent_without_its_tiles():
    from batchseg.grid import ShardGrid, TileGrid

    tiles = TileGrid(height=9000, width=11000, tile_size=512, halo=64)
    one, all_of_them = (ShardGrid(tiles=tiles, tiles_hw=hw).shard(0) for hw in ((1, 1), (20, 20)))
    assert len(pickle.dumps(all_of_them)) < len(pickle.dumps(one)) + 20
    window = Window(row_off=1, col_off=2, height=3, width=4)
    assert hash(pickle.loads(pickle.dumps(window))) == hash(window)
