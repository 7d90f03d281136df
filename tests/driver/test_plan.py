import dataclasses

import numpy as np
import pyproj
import pytest
import shapely
from factories import (
    NOWHERE,
    find_sources,
    make_config,
    make_facts,
    make_recipe,
    make_scene,
    make_shard_record,
    make_source,
    write_raster,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_scenes import estimate, plan_of, planner_of, triage_of
from scene_runs import PRODUCT, done
from strategies import sizes

from batchseg.driver.plan import (
    SHARD_BYTES,
    SHARD_SECONDS,
    SHARD_TILES,
    Measured,
    bytes_per_pixel,
    in_flight_bound,
    make_plan,
    shard_bytes,
    shard_shape,
)
from batchseg.driver.stored_outputs import MASK_ALONE, WHOLE, StoredOutputs
from batchseg.inputs.source import Refusal
from batchseg.job.recipe import Area
from batchseg.job.settings import Scale
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.read import read_shards
from batchseg.system.machine import memory_bytes

properties = settings(deadline=None, max_examples=60)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(str(tmp_path / "out"))


def area_of(*corners) -> Area:
    """A polygon in the map coordinates of `placed`: x is the column, y the row turned down."""
    return Area(wkb=shapely.to_wkb(shapely.Polygon(corners)), crs="EPSG:32633", digest=str(hash(corners)))


def placed(height=270, width=430, **changes):
    place = dataclasses.replace(
        NOWHERE, crs_wkt=pyproj.CRS("EPSG:32633").to_wkt(), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    )
    return make_scene(height, width, georeference=place, **changes)


CORNER = area_of((0.2, -0.2), (105.3, -0.2), (0.2, -77.7))


def test_only_tiles_that_the_area_touches_are_read_and_counted(ledger):
    recipe, scene = make_recipe(area=CORNER), placed()
    for shard_tiles in (1, 3, 99):
        plan = plan_of([scene], ledger, recipe=recipe, shard_tiles=shard_tiles)
        (job,) = plan.jobs
        shards = job.open_shards()
        tiles = [tile for shard in shards for tile in shard.tiles]
        triangle = shapely.Polygon([(0.2, 0.2), (105.3, 0.2), (0.2, 77.7)])
        wanted = [
            tile
            for shard in ShardGrid(tiles=job.grid.tiles, tiles_hw=job.grid.tiles_hw)
            for tile in shard.tiles
            if triangle.intersects(
                shapely.box(tile.core.col_off, tile.core.row_off, tile.core.col_stop, tile.core.row_stop)
            )
        ]
        assert tiles == wanted
        assert len(shards) + len(job.outside_shards()) == job.grid.count
        for shard in shards:
            windows = [tile.window.clip(270, 430) for tile in shard.tiles]
            assert shard.read.row_off == min(window.row_off for window in windows)
            assert shard.read.row_stop == max(window.row_stop for window in windows)
            assert shard.read.col_off == min(window.col_off for window in windows)
            assert shard.read.col_stop == max(window.col_stop for window in windows)
        numbers = estimate(plan, recipe, 1, None)
        assert numbers.tiles == len(wanted)
        assert numbers.source_pixels == sum(tile.core.size for tile in wanted)
        assert numbers.bytes_in == 3 * sum(shard.read.size for shard in shards)


def test_shards_that_are_recorded_are_kept_even_if_the_area_no_longer_touches_them(ledger):
    recipe, scene = make_recipe(area=CORNER), placed()
    grid = ShardGrid(tiles=tile_grid(recipe, 270, 430), tiles_hw=(3, 3))
    ledger.append([make_shard_record(scene, recipe, grid.shard(n), "3x3") for n in (0, grid.count - 1)])
    (job,) = plan_of([scene], ledger, recipe=recipe).jobs
    assert len(job.committed) == 2
    assert len(job.open_shards()) + len(job.outside_shards()) == grid.count - 2


def test_a_scene_beside_the_area_has_nothing_to_read(ledger):
    recipe = make_recipe(area=area_of((9000, 0), (9100, 0), (9000, 100)))
    plan = plan_of([placed()], ledger, recipe=recipe)
    (job,) = plan.jobs
    assert job.is_outside
    assert (len(job.open_shards()), len(job.outside_shards())) == (0, job.grid.count)
    assert estimate(plan, recipe, 1, None).tiles == 0


scenes = st.builds(
    lambda size, dtype, striped: make_scene(
        *size, dtypes=(dtype,) * 3, block_hw=(1, size[1]) if striped else (128, 128)
    ),
    sizes(most=6000),
    st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    st.booleans(),
)
recipes = st.builds(
    lambda core, halo, seconds: make_recipe(
        tile_size=core + 2 * halo, halo=halo, facts=make_facts(seconds_per_tile=seconds)
    ),
    st.integers(1, 1000),
    st.integers(0, 100),
    st.floats(0.001, 20),
)


@properties
@given(scenes, recipes, st.integers(1, 200))
def test_a_shard_is_bounded_in_tiles_and_bytes_unless_it_is_one_tile(scene, recipe, share):
    down, across = shard_shape(scene, recipe, share, None)
    rows, cols = tile_grid(recipe, scene.height, scene.width).shape_hw
    assert 1 <= down <= rows
    assert 1 <= across <= cols
    if (tiles := down * across) > 1:
        assert tiles <= SHARD_TILES
        assert tiles <= share
        assert tiles * recipe.tile_size**2 * bytes_per_pixel(scene, recipe) <= SHARD_BYTES


@pytest.mark.parametrize(("count", "workers"), [(1, 8), (40, 8), (40, 512)])
def test_shards_share_out_the_whole_job_not_each_scene(ledger, count, workers):
    """With hundreds of predictors a scene would else be cut into single tiles, each a record of its own."""
    recipe = make_recipe(facts=make_facts(seconds_per_tile=0.001))
    scenes = [make_scene(400, 700, source=make_source(f"{n:02d}.tif")) for n in range(count)]
    plan = plan_of(scenes, ledger, recipe=recipe, workers=workers)
    shards = [shard for job in plan.jobs for shard in job.open_shards()]
    tiles = sum(shard.count for shard in shards)
    most = max(shard.count for shard in shards)
    share = tiles // (4 * workers)
    assert min(share, SHARD_TILES) / 2 <= most <= max(share, 1)


@pytest.mark.parametrize(("workers", "seconds"), [(1, SHARD_SECONDS), (512, 1.0)])
def test_a_shard_is_half_a_second_of_work_and_more_in_large_fleets(ledger, workers, seconds):
    recipe = make_recipe(facts=make_facts(seconds_per_tile=0.03))
    scenes = [make_scene(2000, 3000, source=make_source(f"{n}.tif")) for n in range(12)]
    plan = plan_of(scenes, ledger, recipe=recipe, workers=workers)
    most = max(shard.count for shard in plan.jobs[0].open_shards())
    assert 0.7 * seconds <= most * 0.03 <= seconds


def test_large_tiles_make_small_shards():
    recipe = make_recipe(tile_size=1024, halo=12, facts=make_facts(seconds_per_tile=0.001))
    scene = make_scene(30_000, 50_000, dtypes=("float32",) * 3)
    down, across = shard_shape(scene, recipe, 10**6, None)
    assert down * across == SHARD_BYTES // (1024**2 * 12) == 2


@properties
@given(scenes, recipes, st.integers(1, 100))
def test_the_jobs_own_shard_size_is_kept_within_the_scene(scene, recipe, shard_tiles):
    rows, cols = tile_grid(recipe, scene.height, scene.width).shape_hw
    assert shard_shape(scene, recipe, 4, shard_tiles) == (min(shard_tiles, rows), min(shard_tiles, cols))


def test_shards_of_striped_files_are_wide_and_others_nearly_square():
    recipe = make_recipe()
    assert shard_shape(make_scene(2000, 3000, block_hw=(1, 3000)), recipe, 16, None) == (1, 16)
    assert shard_shape(make_scene(2000, 3000), recipe, 16, None) == (4, 4)
    assert shard_shape(make_scene(2000, 50, block_hw=(1, 50)), recipe, 16, None) == (3, 5)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_bytes_per_pixel_are_those_that_reading_gives(tmp_path, dtype):
    write_raster(tmp_path / "in" / "a.tif", np.ones((3, 27, 43), dtype=dtype))
    (source,), _ = find_sources(make_config(inputs=((None, str(tmp_path / "in")),)), {})
    scene = read_header(source)
    recipe = make_recipe(scale=Scale(kind="divide", low=(0.0,), high=(100.0,)))
    shard = ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(2, 2)).shard(0)
    ((held,), _) = read_shards(scene, recipe, (shard,))
    assert held.pixels.nbytes == shard.read.size * bytes_per_pixel(scene, recipe)


def test_committed_shards_are_kept_with_their_grid(ledger):
    recipe, scene = make_recipe(), make_scene()
    grid = ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(2, 3))
    record = make_shard_record(scene, recipe, grid.shard(1), "2x3")
    ledger.append([record])
    (job,) = plan_of([scene], ledger, shard_tiles=1).jobs
    assert (job.grid.tiles_hw, job.grid_name, job.committed) == ((2, 3), "2x3", (record,))
    assert list(job.open_shards()) == [grid.shard(0), grid.shard(2), grid.shard(3)]


@pytest.mark.parametrize("change", [{"tag": "old"}, {"pixel": "other"}, {"cpu_class": "avx512"}], ids=str)
def test_shards_that_cannot_be_joined_are_done_again(ledger, change):
    recipe, scene = make_recipe(), make_scene()
    grid = ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(2, 3))
    ledger.append([make_shard_record(scene, recipe, grid.shard(1), "2x3", **change)])
    (job,) = plan_of([scene], ledger).jobs
    assert (job.committed, list(job.open_shards())) == ((), list(job.grid))


def test_jobs_stand_in_the_order_of_triage(ledger):
    recipe = make_recipe()
    scenes = [make_scene(source=make_source(f"{name}.tif")) for name in "cab"]
    grid = ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(1, 1))
    ledger.append([make_shard_record(scenes[0], recipe, grid.shard(0), "1x1")])
    plan = plan_of(scenes, ledger)
    assert [job.scene.source.source_id for job in plan.jobs] == ["c.tif", "a.tif", "b.tif"]


def test_refusals_are_kept_and_misfits_refused(ledger):
    refusal = Refusal(source=make_source("z.tif"), reason="cut off")
    misfit = make_scene(source=make_source("a.tif"), bands=5)
    plan = plan_of([refusal, misfit, make_scene()], ledger)
    assert [(r.source.source_id, r.mismatch) for r in plan.refusals] == [("a.tif", True), ("z.tif", False)]
    assert len(plan.jobs) == 1


@pytest.mark.parametrize(("there", "encoding"), [(WHOLE, "e"), (MASK_ALONE, "")])
def test_where_the_mask_stays_nothing_is_predicted(ledger, there, encoding):
    scene = make_scene()
    record = done(scene.source, product="old", encoding="e")
    ledger.append([record])
    stored = triage_of([scene.source], ledger, outputs_there=lambda _: np.array([there], np.int8))
    (job,) = plan_of([scene], ledger, triaged=stored).jobs
    assert job.encoded == dataclasses.replace(record, encoding=encoding)
    assert not job.open_shards()


@pytest.mark.parametrize("product", [PRODUCT, "old"], ids=["same product", "other product"])
def test_a_mask_that_was_deleted_is_predicted_again(ledger, tmp_path, product):
    scene = make_scene()
    ledger.append(
        [done(scene.source, product=product, outputs=(Output(path="masks/scene.tif", nbytes=1, sha256=""),))]
    )
    triaged = triage_of([scene.source], ledger, outputs_there=StoredOutputs(str(tmp_path / "out")))
    (job,) = plan_of([scene], ledger, triaged=triaged).jobs
    assert list(job.open_shards()) == list(job.grid)


@pytest.mark.parametrize("read", [2, 5])
def test_what_was_not_read_counts_as_the_mean_of_the_others(ledger, read):
    scenes = [make_scene(27, 43, source=make_source(f"{n}.tif")) for n in range(10)]
    triaged = triage_of([scene.source for scene in scenes], ledger)
    some = make_plan(triaged, list(enumerate(scenes[:read])), planner_of(ledger))
    assert some.unread == 10 - read
    assert estimate(some, make_recipe(), 1, None) == estimate(plan_of(scenes, ledger), make_recipe(), 1, None)


def test_an_estimate_counts_what_is_left(ledger):
    recipe, scene = make_recipe(), make_scene()
    grid = ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(2, 3))
    ledger.append([make_shard_record(scene, recipe, grid.shard(0), "2x3")])
    plan = plan_of([scene], ledger)
    numbers = estimate(plan, recipe, 2, None)
    left = [grid.shard(n) for n in (1, 2, 3)]
    assert numbers.tiles == sum(len(shard.tiles) for shard in left)
    assert numbers.source_pixels == sum(shard.core.size for shard in left)
    assert numbers.bytes_in == sum(shard.read.size for shard in left) * 3
    assert numbers.bytes_out >= 27 * 43
    assert numbers.seconds == pytest.approx(numbers.tiles * 0.1 / 2)


def test_where_masks_are_cleaned_what_was_predicted_is_written_too(ledger):
    plan, recipe = plan_of([make_scene()], ledger), make_recipe(confidence=True)
    plain, clean = (Measured(recipe, cleans=cleans) for cleans in (False, True))
    for measured in (plain, clean):
        measured.add(plan.jobs[0])
    out = [one.estimate(0, planner_of(ledger), None).bytes_out for one in (plain, clean)]
    assert out == [27 * 43 * layers * 4 // 3 for layers in (2, 3)]


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, in_flight_bound(6, None, memory_bytes())), (2**20, 2**20), (1, None)]
)
def test_the_bound_of_memory_holds_the_largest_shard(ledger, asked, expected):
    recipe, scene = make_recipe(), make_scene()
    plan = plan_of([scene], ledger, shard_tiles=2)
    largest = max(shard_bytes(shard.read, scene, recipe) for shard in plan.jobs[0].grid)
    assert estimate(plan, recipe, 2, asked).in_flight_bytes == (expected or largest)
