"""Areas of interest against pixel centres brought to the area's own CRS one by one."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from conftest import UTM, Command, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from damage import corrupt, undecodable
from factories import make_config, make_recipe, make_scene, scene_of
from factories import write_job as write_minimal_job
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from runs import convolved, mask_bytes, run
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from batchseg.driver.begin import begin
from batchseg.driver.events import Event, ShardsDone
from batchseg.driver.job import run_job
from batchseg.driver.plan import wanted_tiles
from batchseg.errors import ConfigError, StoppedError
from batchseg.inputs.source import ControlPoint, Georeference, Scene
from batchseg.job.file import load_job
from batchseg.job.recipe import Area
from batchseg.job.settings import AreaFile, JobConfig
from batchseg.pixels.area import BLOCK, Footprint, footprint, misplacement, read_area
from batchseg.pixels.fit import mismatch, tile_grid
from batchseg.pixels.grid import ShardGrid, Window
from batchseg.pixels.read import read_shards

HEIGHT, WIDTH = 237, 311
NOWHERE = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())
ROTATED = Affine(8.0, 3.0, 600_000.125, 2.5, -7.0, 5_000_000.3)


def write_vector(
    path: Path, *geometries: BaseGeometry, crs: str | None = "EPSG:32633", **options: Any
) -> Path:
    kinds = {geometry.geom_type for geometry in geometries}
    pyogrio.raw.write(
        str(path),
        shapely.to_wkb(np.array(geometries, dtype=object)),
        field_data=[],
        fields=[],
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        crs=crs,
        **options,
    )
    return path


def area_of(path: Path, layer: str | None = None) -> Area:
    return read_area(AreaFile(uri=str(path), layer=layer))


def placed(crs: str, transform: Affine, height: int = HEIGHT, width: int = WIDTH) -> Scene:
    place = Georeference(
        crs_wkt=pyproj.CRS(crs).to_wkt(), transform=tuple(transform)[:6], gcps=(), gcps_crs_wkt=None, rpcs=()
    )
    return make_scene(height, width, georeference=place)


def whole(height: int, width: int) -> Window:
    return Window(row_off=0, col_off=0, height=height, width=width)


def inside(area: Area, scene: Scene) -> NDArray[np.bool_]:
    mask = footprint(area, scene).inside(whole(scene.height, scene.width))
    return np.ones((scene.height, scene.width), dtype=bool) if mask is None else mask


def by_centres(
    polygons: BaseGeometry, crs: str, scene: Scene
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which centres lie in the polygons, and each one's distance to their border in the area's units."""
    rows, cols = np.mgrid[0 : scene.height, 0 : scene.width] + 0.5
    x, y = Affine(*scene.georeference.transform) @ (cols, rows)
    back = pyproj.Transformer.from_crs(scene.georeference.crs_wkt, crs, always_xy=True)
    x, y = back.transform(x, y)
    points = shapely.points(x, y)
    return shapely.contains_xy(polygons, x, y), shapely.distance(polygons.boundary, points)


def in_utm(*pixels: tuple[float, float], transform: Affine = UTM) -> list[tuple[float, float]]:
    """Corners given as (column, row)."""
    return [transform @ pixel for pixel in pixels]


HOLED = Polygon(
    in_utm((20.2, 11.7), (290.4, 30.1), (250.6, 220.3), (45.5, 200.9)),
    [in_utm((100.3, 80.2), (180.8, 90.4), (150.1, 160.7))],
)
ISLAND = Polygon(in_utm((130.4, 100.2), (155.3, 104.8), (140.9, 130.1)))
FAR = Polygon(in_utm((900, 900), (950, 900), (950, 950)))
BOTH = shapely.MultiPolygon([HOLED, ISLAND])


def brought_to(crs: str, geometry: BaseGeometry) -> BaseGeometry:
    """The corners brought to another CRS; edges are straight there."""
    there = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    return shapely.transform(geometry, there.transform, interleaved=False)


SCENES = {
    "north-up": ("EPSG:32633", UTM),
    "rotated": ("EPSG:32633", ROTATED),
    "south-up": ("EPSG:32633", Affine(10, 0, 600_000, 0, 10, 4_997_000)),
    "coarse": ("EPSG:32633", Affine(700, 0, 500_000, 0, -700, 5_080_000)),
    "geographic": ("EPSG:4326", Affine(1.2e-4, 0, 16.26, 0, -9e-5, 45.16)),
    "other zone": ("EPSG:32632", Affine(10, 0, 1_071_700, 0, -10, 5_025_000)),
}


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
@pytest.mark.parametrize("name", SCENES)
def test_pixels_lie_inside_by_their_centres(tmp_path: Path, name: str, crs: str) -> None:
    scene = placed(*SCENES[name])
    pieces = HOLED, ISLAND, FAR
    if name == "coarse":  # edges of 200 km, which bend by many pixels between their ends
        pieces = (
            Polygon([(510_000, 4_930_000), (700_000, 4_940_000), (690_000, 5_070_000), (512_000, 5_060_000)]),
        )
    polygons = [brought_to(crs, piece) for piece in pieces]
    union = shapely.union_all(polygons)
    area = area_of(write_vector(tmp_path / "area.gpkg", *polygons, crs=crs))
    expected, distance = by_centres(union, crs, scene)
    assert 0.01 < expected.mean() < 0.99
    pixel = np.sqrt(abs(np.linalg.det(np.array(SCENES[name][1]).reshape(3, 3)[:2, :2])))
    if (crs == "EPSG:4326") != (name == "geographic"):
        pixel = pixel / 111e3 if crs == "EPSG:4326" else pixel * 7e4
    wrong = inside(area, scene) != expected
    assert not (wrong & (distance > 0.05 * pixel)).any()
    assert wrong.mean() < 1e-3


def test_long_edges_stay_true_in_large_scenes(tmp_path: Path) -> None:
    scene = placed("EPSG:32633", Affine(10, 0, 600_000, 0, -10, 5_000_000), 30_000, 40_000)
    box = shapely.box(16.5, 42.9, 21.0, 44.9)
    area = area_of(write_vector(tmp_path / "a.gpkg", box, crs="EPSG:4326"))
    there = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    for longitude in np.linspace(16.6, 20.3, 40):  # along the northern edge, a parallel
        x, y = there.transform(longitude, 44.9)
        col, row = ~UTM @ (x, y)
        at = Window(row_off=int(row) - 2, col_off=int(col), height=5, width=3)
        cols, rows = np.meshgrid(np.arange(at.width) + 0.5, np.arange(at.height) + 0.5)
        _, lat = there.transform(*(UTM @ (cols + at.col_off, rows + at.row_off)), direction="INVERSE")
        mask = footprint(area, scene).inside(at)
        assert mask is not None
        clear = np.abs(lat - 44.9) * 111_000 > 0.3  # metres: 0.03 pixels
        np.testing.assert_array_equal(mask[clear], (lat < 44.9)[clear])


def test_damage_counts_inside_the_area_whatever_the_shards(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", (reflectance(HEIGHT, WIDTH)[:3] // 40).astype(np.uint8))
    for row, col in ((0, 0), (1, 1), (3, 1), (3, 4)):
        corrupt(path, row, col)
    bad = undecodable(path, [1, 2, 3])
    area = area_of(write_vector(tmp_path / "area.gpkg", HOLED))
    recipe, scene = make_recipe(area=area, on_bad_block="nodata"), scene_of(path)
    wanted = inside(area, scene)
    tiles, (touched, _) = tile_grid(recipe, HEIGHT, WIDTH), wanted_tiles(scene, recipe)
    for tiles_hw in ((1, 1), (4, 5), (99, 99)):
        grid = ShardGrid(tiles=tiles, tiles_hw=tiles_hw, wanted=touched)
        read, _ = read_shards(scene, recipe, tuple(shard for shard in grid if shard.tiles))
        assert sum(held.bad_pixels for held in read) == np.count_nonzero(bad & wanted)
        for held in read:
            rows, cols = held.shard.read.slices_within(whole(HEIGHT, WIDTH))
            valid = np.ones_like(bad[rows, cols]) if held.valid is None else held.valid
            np.testing.assert_array_equal(valid, (wanted & ~bad)[rows, cols])


def valid_polygons(points: list[tuple[float, float]]) -> BaseGeometry:
    parts = shapely.get_parts(shapely.make_valid(Polygon(points)))
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"])


numbers = st.floats(-30, 1100, allow_nan=False)
corners = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=7)


@settings(deadline=None, max_examples=60)
@given(corners, st.tuples(st.integers(1, 1100), st.integers(1, 900)), st.data())
def test_a_windows_mask_is_that_slice_of_the_whole(
    points: list[tuple[float, float]], shape_hw: tuple[int, int], data: st.DataObject
) -> None:
    geometry = valid_polygons(points)
    height, width = shape_hw
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    at = Window(
        row_off=row,
        col_off=col,
        height=data.draw(st.integers(1, height - row)),
        width=data.draw(st.integers(1, width - col)),
    )
    area = Footprint(geometry)
    mask, part = area.inside(whole(*shape_hw)), area.inside(at)
    everything = np.ones(shape_hw, dtype=bool) if mask is None else mask
    expected = everything[at.row_off : at.row_stop, at.col_off : at.col_stop]
    np.testing.assert_array_equal(expected, True if part is None else part)
    # The blocks together are GDAL's own answer for the whole raster, but for rounding at borders.
    if not geometry.is_empty:
        burnt = rasterize([geometry], out_shape=shape_hw, dtype="uint8") != 0
        rows, cols = np.nonzero(burnt != everything)
        assert (shapely.distance(geometry.boundary, shapely.points(cols + 0.5, rows + 0.5)) < 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(corners, st.integers(3, 70), st.integers(0, 20))
def test_no_tile_with_a_pixel_inside_is_left_out(
    points: list[tuple[float, float]], core: int, halo: int
) -> None:
    recipe = make_recipe(tile_size=core + 2 * halo, halo=halo)
    area = Footprint(valid_polygons(points))
    tiles = list(ShardGrid(tiles=tile_grid(recipe, 150, 201), tiles_hw=(999, 999)).shard(0).tiles)
    mask = area.inside(whole(150, 201))
    for tile, touched in zip(tiles, area.touches([tile.core for tile in tiles]), strict=True):
        at = tile.core.slices_within(whole(150, 201))
        assert touched or not (mask is None or mask[at].any())


def test_a_raster_of_several_blocks_is_larger_than_one() -> None:
    assert BLOCK < 1100, "the property above must cross blocks"


def test_scenes_across_the_antimeridian_find_both_sides(tmp_path: Path) -> None:
    scene = placed("EPSG:32601", Affine(1000, 0, 100_000, 0, -1000, 7_300_000), 100, 400)
    west, east = shapely.box(178, 65.3, 180, 65.6), shapely.box(-180, 65.3, -178, 65.6)
    area = area_of(write_vector(tmp_path / "a.geojson", west, east, crs="EPSG:4326"))
    expected, distance = by_centres(shapely.union_all([west, east]), "EPSG:4326", scene)
    wrong = inside(area, scene) != expected
    assert expected.any()
    assert not (wrong & (distance > 1e-3)).any()


def test_an_area_of_the_whole_earth_holds_every_scene(tmp_path: Path) -> None:
    area = area_of(write_vector(tmp_path / "a.geojson", shapely.box(-180, -90, 180, 90), crs="EPSG:4326"))
    for place in SCENES.values():
        assert inside(area, placed(*place)).all()
    assert inside(area, placed("EPSG:3413", Affine(10_000, 0, -1e6, 0, -10_000, 1.2e6))).all()


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.geojson via memory"])
def test_formats_that_gdal_reads(tmp_path: Path, name: str) -> None:
    name, _, elsewhere = name.partition(" via ")
    crs = "EPSG:4326" if name.endswith("geojson") else "EPSG:32633"
    path = write_vector(tmp_path / name, brought_to(crs, HOLED), brought_to(crs, FAR), crs=crs)
    area = area_of(path)
    if elsewhere:
        import fsspec

        memory = fsspec.filesystem("memory")
        memory.pipe_file("/areas/a.geojson", path.read_bytes())
        try:
            assert read_area(AreaFile(uri="memory://areas/a.geojson", layer=None)) == area
        finally:
            memory.store.clear()
    scene = placed("EPSG:32633", UTM)
    expected, _ = by_centres(brought_to(crs, HOLED), crs, scene)
    assert (inside(area, scene) != expected).mean() < 1e-3


def test_a_layer_is_the_first_unless_named(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "a.gpkg", HOLED, layer="first")
    write_vector(path, FAR, layer="second", append=True)
    scene = placed("EPSG:32633", UTM)
    assert inside(area_of(path), scene).any()
    assert not inside(area_of(path, "second"), scene).any()
    with pytest.raises(ConfigError, match="layer third cannot be read"):
        area_of(path, "third")


def test_the_digest_is_of_the_polygons_and_the_crs(tmp_path: Path) -> None:
    first = area_of(write_vector(tmp_path / "a.gpkg", HOLED, FAR))
    assert area_of(write_vector(tmp_path / "b.fgb", FAR, HOLED)) == first
    others = [
        area_of(write_vector(tmp_path / "c.gpkg", HOLED)),
        area_of(write_vector(tmp_path / "d.gpkg", HOLED, FAR, crs="EPSG:32632")),
    ]
    assert len({area.digest for area in [first, *others]}) == 3
    recipe = make_recipe()
    assert "aoi" not in recipe.settings()
    digests = {make_recipe(area=area).digest for area in [first, *others]}
    assert len({recipe.digest, *digests}) == 4


def test_invalid_polygons_are_made_valid_and_other_shapes_left_out(tmp_path: Path) -> None:
    bow_tie = Polygon(in_utm((10, 10), (110, 110), (110, 10), (10, 110)))
    assert not bow_tie.is_valid
    line = shapely.LineString(in_utm((0, 200), (300, 200)))
    mixed = shapely.GeometryCollection([line, ISLAND])
    area = area_of(write_vector(tmp_path / "a.gpkg", bow_tie, line, mixed))
    mask = inside(area, placed("EPSG:32633", UTM))
    assert mask[60, 20]
    assert mask[60, 100]
    assert not mask[20, 60]
    assert mask[105, 140]
    assert not mask[200].any()


CROSSED = {
    "corners out of order": ([(10, 10), (110, 110), (110, 10), (10, 110)], True),
    "gone around twice": ([(60, 5), (95, 110), (5, 45), (115, 45), (25, 110)], True),
    "in order": ([(10, 10), (110, 10), (110, 110), (10, 110)], False),
    "a sliver": ([(10, 10), (110, 10), (110, 110), (10.01, 110), (9.99, 109.9), (10.01, 109)], False),
    "touching itself": ([(10, 10), (60, 60), (10, 110), (110, 110), (60, 60), (110, 10)], False),
    "there and back": ([(10, 10), (110, 10), (110, 150), (110, 110), (10, 110)], False),
}


@pytest.mark.parametrize("name", CROSSED)
def test_an_area_that_crosses_itself_is_told_by_plan_and_run(
    tmp_path: Path, write_job: JobWriter, command: Command, name: str
) -> None:
    corners, is_told = CROSSED[name]
    write_raster(tmp_path / "in" / "a.tif", reflectance(150, 150))
    write_vector(tmp_path / "a.gpkg", Polygon(in_utm(*corners)), Polygon(in_utm((0, 0), (9, 0), (9, 9))))
    job = write_job(aoi="a.gpkg", executor="inline")
    for step in ("plan", "run"):
        done = command(step, job)
        assert done.returncode == 0, done.stderr
        told = "aoi: 1 of its 2 polygons crosses itself near x 6" in done.stdout + done.stderr
        assert told is is_told


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        area_of(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_files_that_are_no_area_are_refused_in_words(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "none.gpkg")
    (tmp_path / "junk.gpkg").write_text("junk")
    assert "cannot be read" in refused(tmp_path / "junk.gpkg")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert "ogr2ogr area.gpkg table.csv" in refused(tmp_path / "table.csv")
    line = shapely.LineString([(0, 0), (1, 1)])
    assert "no polygon" in refused(write_vector(tmp_path / "line.gpkg", line))
    assert "no CRS" in refused(write_vector(tmp_path / "nowhere.fgb", HOLED, crs=None))


def test_without_pyogrio_the_remedy_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyogrio'] = None\n"
        "from batchseg.pixels.area import read_area\n"
        "from batchseg.job.settings import AreaFile\n"
        "read_area(AreaFile(uri='a.gpkg', layer=None))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install '.[vector]'" in done.stderr


def test_scenes_without_place_do_not_fit_a_job_with_an_area(tmp_path: Path) -> None:
    area = area_of(write_vector(tmp_path / "a.gpkg", HOLED))
    point = ControlPoint(row=0, col=0, x=0, y=0, z=0, id="1")
    sound = placed("EPSG:32633", UTM)
    places = {
        "no georeference": NOWHERE,
        "control points": dataclasses.replace(NOWHERE, gcps=(point,), gcps_crs_wkt="EPSG:4326"),
        "no CRS": dataclasses.replace(sound.georeference, crs_wkt=None),
        "geotransform": dataclasses.replace(sound.georeference, transform=(0.0, 0.0, 5.0, 0.0, 0.0, 5.0)),
        "cannot be brought": dataclasses.replace(
            sound.georeference, crs_wkt='LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
        ),
    }
    for words, place in places.items():
        scene = dataclasses.replace(sound, georeference=place)
        assert words in (misplacement(area, scene) or "")
        assert "aoi" in (mismatch(scene, make_recipe(area=area)) or "")
        assert mismatch(scene, make_recipe()) is None
    assert misplacement(area, sound) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 1e-320, 0.0])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:4978"])
def test_geotransforms_beyond_all_measure_are_their_scenes_problem(
    tmp_path: Path, crs: str, value: float
) -> None:
    area = area_of(write_vector(tmp_path / "a.gpkg", brought_to("EPSG:4326", HOLED), crs="EPSG:4326"))
    for at in range(6):
        numbers = [1e15, 0.0, 1e15, 0.0, -10.0, 1.0]
        numbers[at] = value
        scene = placed(crs, Affine(*numbers))
        assert "aoi" in (misplacement(area, scene) or "aoi")


def area_job(write_job: JobWriter, tmp_path: Path, crs: str, *pieces: BaseGeometry, **keys: Any) -> Path:
    path = write_vector(tmp_path / "area.gpkg", *(brought_to(crs, piece) for piece in pieces), crs=crs)
    return write_job(aoi=path.name, **keys)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_a_mask_is_numpys_inside_and_nodata_outside(tmp_path: Path, write_job: JobWriter, crs: str) -> None:
    pixels = reflectance(HEIGHT, WIDTH)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    job = area_job(write_job, tmp_path, crs, HOLED, ISLAND, tile_size=32, halo=4)
    area = inside(area_of(tmp_path / "area.gpkg"), placed("EPSG:32633", UTM))
    expected = spectral_mask(pixels, 10_000, area)
    cores = [
        area[row : row + 24, col : col + 24] for row in range(0, HEIGHT, 24) for col in range(0, WIDTH, 24)
    ]
    before: dict[str, bytes] = {}
    for shards in (1, 4, 99):
        report = run(job, f"shard_tiles={shards}")
        assert report.tally.predicted == sum(core.any() for core in cores) < 0.8 * len(cores)
        np.testing.assert_array_equal(read_mask(tmp_path / "out", "scene.tif"), expected)
        assert before in ({}, mask_bytes(tmp_path / "out"))
        before = mask_bytes(tmp_path / "out")
        (tmp_path / "out" / "masks" / "scene.tif").unlink()
    with pytest.raises(ConfigError, match=r"aoi: \"[0-9a-f]{16}\" -> null"):
        run(job, "aoi=null")


def test_an_area_changes_no_pixel_inside_it(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    keys = {"model": str(models / "conv"), "bands": [1, 2, 3], "scale": {"divide": 1}, "classes": None}
    run(area_job(write_job, tmp_path, "EPSG:32633", HOLED, tile_size=48, halo=3, **keys))
    area = inside(area_of(tmp_path / "area.gpkg"), placed("EPSG:32633", UTM))
    expected = np.where(area, convolved(pixels, 3), 255)
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "scene.tif"), expected)


def test_a_run_that_was_stopped_goes_on_with_the_same_area(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(HEIGHT, WIDTH)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    job = area_job(write_job, tmp_path, "EPSG:32633", HOLED, ISLAND, tile_size=32, halo=4)
    config = load_job(job, ["executor=inline", "workers=1", "shard_tiles=2"])
    done: list[ShardsDone] = []

    def count(event: Event) -> None:
        done.extend([event] if isinstance(event, ShardsDone) else [])

    with pytest.raises(StoppedError), begin(config) as begun:
        run_job(config, begun, listeners=[count], stop=lambda: "enough" if done else None, replace=False)
    report = run(job, "shard_tiles=7")
    area = inside(area_of(tmp_path / "area.gpkg"), placed("EPSG:32633", UTM))
    wanted = [
        area[row : row + 24, col : col + 24].any()
        for row in range(0, HEIGHT, 24)
        for col in range(0, WIDTH, 24)
    ]
    before = sum(event.tiles for event in done)
    assert 0 < before == sum(wanted) - report.tally.predicted
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "scene.tif"), spectral_mask(pixels, 10_000, area)
    )


def test_what_lies_outside_is_not_read(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(HEIGHT, WIDTH)
    path = write_raster(tmp_path / "in" / "scene.tif", pixels)
    away = write_raster(tmp_path / "in" / "away.tif", pixels, transform=Affine.translation(1e5, 0) @ UTM)
    for row in range(4):
        for col in range(5):
            corrupt(away, row, col)
            if col >= 2:
                corrupt(path, row, col)
    corner = Polygon(in_utm((5.5, 5.5), (95.2, 5.5), (5.5, 230.2)))
    report = run(area_job(write_job, tmp_path, "EPSG:32633", corner), "shard_tiles=3")
    assert (report.tally.done, report.refused) == (2, ())
    assert report.sums.tiles == report.tally.predicted
    area = inside(area_of(tmp_path / "area.gpkg"), placed("EPSG:32633", UTM))
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "scene.tif"), spectral_mask(pixels, 10_000, area)
    )
    nothing = read_mask(tmp_path / "out", "away.tif")
    assert (nothing == 255).all()
    with rasterio.open(tmp_path / "out" / "masks" / "away.tif") as mask:
        assert mask.shape == (HEIGHT, WIDTH)
        assert mask.crs == rasterio.CRS.from_epsg(32633)
    summary = json.loads((Path(report.log).parent / "summary.json").read_text())
    assert summary["tiles"] == report.tally.predicted
    assert run(tmp_path / "job.yaml").skipped == 2


def test_a_path_is_relative_to_the_job_file(tmp_path: Path) -> None:

    def aoi(value: object) -> AreaFile | None:
        config: JobConfig = load_job(write_minimal_job(tmp_path, aoi=value))
        return config.aoi

    assert aoi("areas/a.gpkg") == AreaFile(uri=str(tmp_path / "areas" / "a.gpkg"), layer=None)
    assert aoi({"file": "a.gpkg", "layer": "north"}) == AreaFile(uri=str(tmp_path / "a.gpkg"), layer="north")
    assert aoi("s3://bucket/a.gpkg") == AreaFile(uri="s3://bucket/a.gpkg", layer=None)
    assert aoi(None) is None
    assert make_config().aoi is None
