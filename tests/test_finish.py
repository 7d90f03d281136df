import dataclasses
import hashlib
import math

import numpy as np
import pyproj
import pytest
import rasterio
from factories import make_facts, make_product, make_recipe, make_scene
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from batchseg.errors import OutputError
from batchseg.finish import discard_fragments, finish_scene, mask_path
from batchseg.geodesy import row_areas
from batchseg.grid import ShardGrid
from batchseg.scene import ControlPoint, Georeference
from batchseg.stitch import ShardMask
from batchseg.write import write_shards

HEIGHT, WIDTH = 1100, 730
UTM = CRS.from_epsg(32632).to_wkt()
WGS84 = CRS.from_epsg(4326).to_wkt()
TEN_METRES = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)


def georeference(wkt=UTM, transform=TEN_METRES, **changes) -> Georeference:
    place = Georeference(crs_wkt=wkt, transform=transform, gcps=(), gcps_crs_wkt=None, rpcs=())
    return dataclasses.replace(place, **changes)


def mask_of(recipe, seed=5, classes=4) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes, (HEIGHT // 10, WIDTH // 10 + 1))
    mask = coarse.repeat(10, axis=0).repeat(10, axis=1)[:HEIGHT, :WIDTH].astype(recipe.mask_dtype)
    mask[random.random(mask.shape) < 0.1] = recipe.mask_nodata
    mask[:400, :300] = recipe.mask_nodata
    return mask


def write(output, scene, recipe, mask, confidence=None):
    """Fragments of a mask in four shards, those without a valid pixel left out."""
    grid = ShardGrid(tiles=recipe.grid(scene.height, scene.width), tiles_hw=(40, 30))
    masks = []
    for shard in grid:
        at = shard.core.slices_within(grid.tiles.cores(0, 10**6, 0, 10**6))
        empty = (mask[at] == recipe.mask_nodata).all()
        layers = [None if empty or layer is None else layer[at].copy() for layer in (mask, confidence)]
        masks.append(
            ShardMask(shard=shard, classes=layers[0], confidence=layers[1], predicted=len(shard.tiles))
        )
    assert grid.count > 4
    assert any(m.classes is None for m in masks)
    return tuple(write_shards(str(output), scene, recipe, "40x30", "avx2", masks)[0])


def finished(output, scene, recipe, mask, product=None, confidence=None):
    shards = write(output, scene, recipe, mask, confidence)
    return finish_scene(str(output), scene, recipe, product or make_product(), shards)[0]


def counted(mask, recipe) -> dict[int, int]:
    ids, counts = np.unique(mask[mask != recipe.mask_nodata], return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def test_a_mask_holds_the_shards_pixels_and_the_scenes_place(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    mask = mask_of(recipe)
    record = finished(tmp_path, scene, recipe, mask)
    path = tmp_path / record.mask
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), mask)
        assert (dataset.nodata, dataset.dtypes) == (255, ("uint8",))
        assert dataset.crs == CRS.from_epsg(32632)
        assert tuple(dataset.transform)[:6] == TEN_METRES
        assert dataset.colormap(1)[0] == (0xA0, 0x52, 0x2D, 255)
        assert dataset.tags()["CLASS_1"] == "water"
        assert dataset.overviews(1)
    assert cog_validate(path, quiet=True)[0]
    assert record.mask == mask_path("scene.tif")
    assert record.mask_bytes == path.stat().st_size
    assert record.mask_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_record_counts_each_class(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    mask = mask_of(recipe)
    record = finished(tmp_path, scene, recipe, mask)
    expected = counted(mask, recipe)
    assert dict(zip(record.class_ids, record.class_pixels, strict=True)) == expected
    assert record.class_area_m2 == pytest.approx([count * 100.0 for count in expected.values()])
    assert record.valid_pixels == sum(expected.values())
    assert (record.status, record.height, record.width) == ("done", HEIGHT, WIDTH)
    assert (record.pixel, record.product) == (recipe.digest, make_product().digest)


@pytest.mark.parametrize("count", [3, 20, None])
def test_every_valid_pixel_is_counted_also_of_ids_that_the_job_does_not_name(tmp_path, count):
    recipe = make_recipe(
        output="classes", class_count=count, facts=make_facts(output="classes", class_count=None)
    )
    mask = mask_of(recipe, classes=6)
    record = finished(tmp_path, make_scene(HEIGHT, WIDTH), recipe, mask)
    assert dict(zip(record.class_ids, record.class_pixels, strict=True)) == counted(mask, recipe)
    assert record.class_area_m2 == ()


def test_areas_of_geographic_scenes_are_summed_row_by_row(tmp_path):
    place = georeference(WGS84, (0.001, 0.0, 7.0, 0.0, -0.002, 60.0))
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=place)
    mask = mask_of(recipe)
    record = finished(tmp_path, scene, recipe, mask)
    areas = row_areas(scene.georeference, height=scene.height, width=scene.width)
    expected = [float(((mask == class_id).sum(axis=1) * areas).sum()) for class_id in record.class_ids]
    assert record.class_area_m2 == pytest.approx(expected, rel=1e-12)


def test_masks_of_many_classes_have_16_bits(tmp_path):
    recipe = make_recipe(class_count=300)
    names = [f"class {number}" for number in range(300)]
    mask = mask_of(recipe, classes=300)
    record = finished(tmp_path, make_scene(HEIGHT, WIDTH), recipe, mask, make_product(*names))
    with rasterio.open(tmp_path / record.mask) as dataset:
        assert (dataset.dtypes, dataset.nodata) == (("uint16",), 65535)
        assert np.array_equal(dataset.read(1), mask)
    assert dict(zip(record.class_ids, record.class_pixels, strict=True)) == counted(mask, recipe)


def test_confidence_is_a_layer_of_its_own(tmp_path):
    recipe, scene = make_recipe(confidence=True), make_scene(HEIGHT, WIDTH, georeference=georeference())
    mask = mask_of(recipe)
    confidence = np.where(mask == 255, 0, 1 + mask * 60).astype(np.uint8)
    record = finished(tmp_path, scene, recipe, mask, confidence=confidence)
    assert record.mask.startswith("masks/")
    with rasterio.open(tmp_path / mask_path("scene.tif", "confidence")) as dataset:
        assert np.array_equal(dataset.read(1), confidence)
        assert dataset.nodata == 0


def test_a_scene_without_valid_pixel_is_all_nodata(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    record = finished(tmp_path, scene, recipe, np.full((HEIGHT, WIDTH), 255, np.uint8))
    with rasterio.open(tmp_path / record.mask) as dataset:
        assert (dataset.read(1) == 255).all()
    assert (record.class_ids, record.valid_pixels) == ((), 0)


def test_control_points_are_kept(tmp_path):
    points = tuple(
        ControlPoint(row=row, col=col, x=7 + col / 1000, y=50 - row / 1000, z=0.0, id=str(number))
        for number, (row, col) in enumerate([(0.0, 0.0), (0.0, 730.0), (1100.0, 0.5)])
    )
    place = georeference(None, None, gcps=points, gcps_crs_wkt=WGS84)
    recipe = make_recipe()
    record = finished(tmp_path, make_scene(HEIGHT, WIDTH, georeference=place), recipe, mask_of(recipe))
    with rasterio.open(tmp_path / record.mask) as dataset:
        gcps, crs = dataset.gcps
        assert crs == CRS.from_epsg(4326)
        assert [(p.row, p.col, p.x, p.y) for p in gcps] == [(p.row, p.col, p.x, p.y) for p in points]
        assert isinstance(gcps[0], GroundControlPoint)


def test_new_names_are_put_on_the_same_pixels(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    mask = mask_of(recipe)
    first = finished(tmp_path, scene, recipe, mask)
    discard_fragments(str(tmp_path), scene.source.source_id)
    product = make_product("earth", "sea", "plants", "roofs", compress="zstd")
    second, _ = finish_scene(str(tmp_path), scene, recipe, product, (first,))
    with rasterio.open(tmp_path / second.mask) as dataset:
        assert np.array_equal(dataset.read(1), mask)
        assert dataset.tags()["CLASS_1"] == "sea"
        assert dataset.compression.name == "zstd"
    changed = ("product", "mask_bytes", "mask_sha256")
    assert dataclasses.replace(second, **{key: getattr(first, key) for key in changed}) == first
    assert second.product == product.digest != first.product


def test_the_same_shards_give_the_same_bytes(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    records = [finished(tmp_path / name, scene, recipe, mask_of(recipe)) for name in ("one", "two")]
    assert records[0].mask_sha256 == records[1].mask_sha256


def test_finishing_leaves_the_mask_and_nothing_in_the_making(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    finished(tmp_path, scene, recipe, mask_of(recipe))
    discard_fragments(str(tmp_path), scene.source.source_id)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files <= {"masks/scene.tif.tif", "masks/scene.tif.tif.aux.xml"}


def test_a_missing_fragment_is_an_error_of_the_output(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH)
    shards = write(tmp_path, scene, recipe, mask_of(recipe))
    next((tmp_path / "_batchseg" / "fragments").rglob("mask-*.tif")).unlink()
    with pytest.raises(OutputError, match="recorded but missing"):
        finish_scene(str(tmp_path), scene, recipe, make_product(), shards)
    assert not (tmp_path / "masks").exists()


def test_a_damaged_fragment_is_an_error_of_the_output(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH)
    shards = write(tmp_path, scene, recipe, mask_of(recipe))
    fragment = next((tmp_path / "_batchseg" / "fragments").rglob("mask-*.tif"))
    fragment.write_bytes(fragment.read_bytes()[:200])
    with pytest.raises(OutputError, match=r"cannot assemble mask of scene\.tif"):
        finish_scene(str(tmp_path), scene, recipe, make_product(), shards)
    assert not (tmp_path / "masks").exists()


def pixel_area(crs, transform, row: int, col: int) -> float:
    """Of one pixel by geodesics, its parallels followed in many short steps."""
    a, b, c, d, e, f = transform
    steps = np.linspace(0, 1, 65)[:-1]
    along = np.concatenate([steps, np.ones(64), 1 - steps, np.zeros(64)]) + col
    down = np.concatenate([np.zeros(64), steps, np.ones(64), 1 - steps]) + row
    area, _ = crs.get_geod().polygon_area_perimeter(c + a * along + b * down, f + d * along + e * down)
    return abs(area)


@pytest.mark.parametrize("top", [89.9, 60.0, 0.05, -35.0])
@pytest.mark.parametrize("code", [4326, 4258, 4267])
def test_areas_of_degrees_are_those_of_the_ellipsoid(top, code):
    crs, transform = pyproj.CRS.from_epsg(code), (0.01, 0.0, 7.0, 0.0, -0.02, top)
    scene = make_scene(9, 5, georeference=georeference(crs.to_wkt(), transform))
    expected = [pixel_area(crs, transform, row, 2) for row in range(9)]
    np.testing.assert_allclose(row_areas(scene.georeference, height=scene.height, width=scene.width), expected, rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 10.0, 45.0, 89.0, 90.0, 180.0])
def test_areas_of_turned_rasters_are_those_at_the_middle_of_the_row(angle):
    turn = math.radians(angle)
    a, b, d, e = math.cos(turn), math.sin(turn), math.sin(turn), -math.cos(turn)
    if angle % 90 == 0:
        a, b, d, e = (float(round(v)) for v in (a, b, d, e))
    transform = (a * 1e-3, b * 1e-3, 7.0, d * 1e-3, e * 1e-3, 50.0)
    crs = pyproj.CRS.from_epsg(4326)
    scene = make_scene(6, 9, georeference=georeference(WGS84, transform))
    expected = [pixel_area(crs, transform, row, 4) for row in range(6)]
    np.testing.assert_allclose(row_areas(scene.georeference, height=scene.height, width=scene.width), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("crs", "unit"),
    [("EPSG:32632", 1.0), ("EPSG:2263", 1200 / 3937), ("EPSG:32632+5773", 1.0), ("EPSG:3035", 1.0)],
)
def test_areas_of_a_plane_are_in_metres_whatever_its_unit(crs, unit):
    transform = (3.0, 1.0, 0.0, 0.5, -2.0, 0.0)
    scene = make_scene(7, 5, georeference=georeference(pyproj.CRS(crs).to_wkt(), transform))
    np.testing.assert_allclose(row_areas(scene.georeference, height=scene.height, width=scene.width), np.full(7, 6.5 * unit**2), rtol=1e-9)


@pytest.mark.parametrize(
    "place",
    [georeference(None), georeference(UTM, None), georeference("no crs"), georeference('LOCAL_CS["plan"]')],
)
def test_without_a_known_place_there_is_no_area(place):
    assert _row_areas(make_scene(7, 5, georeference=place)) is None
