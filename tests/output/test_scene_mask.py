import dataclasses
import hashlib
import tempfile

import numpy as np
import pytest
import rasterio
from factories import make_facts, make_product, make_recipe, make_scene
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from batchseg.errors import OutputError
from batchseg.inputs.source import ControlPoint, Georeference
from batchseg.job.recipe import RegionSettings
from batchseg.output.fragments import shard_record, write_shards
from batchseg.output.layout import layer_path
from batchseg.output.scene_mask import discard_fragments, finish_scene, scratch_folder
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.stitch import ShardMask
from batchseg.regions.geodesy import row_areas
from batchseg.system import rooted
from batchseg.system.temp_folders import CACHE_VARIABLE

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
    """Fragments of a mask in some shards, those without a valid pixel left out."""
    masks = shards_of(scene, recipe, mask, confidence)
    return tuple(write_shards(str(output), scene, recipe, "40x30", "avx2", masks)[0])


def shards_of(scene, recipe, mask, confidence=None) -> list[ShardMask]:
    grid = ShardGrid(tiles=tile_grid(recipe, scene.height, scene.width), tiles_hw=(40, 30))
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
    return masks


def finished(output, scene, recipe, mask, product=None, confidence=None):
    shards = write(output, scene, recipe, mask, confidence)
    return finish_scene(str(output), scene, recipe, product or make_product(), shards, 1)[0]


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
    assert record.mask == layer_path("scene.tif", "mask", names="kept")
    for made in record.outputs:
        content = (tmp_path / made.path).read_bytes()
        assert (made.nbytes, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("scores", [False, True])
def test_pixels_that_never_were_fragments_give_the_same_files_and_the_same_record(tmp_path, scores):
    recipe, scene = make_recipe(confidence=scores), make_scene(HEIGHT, WIDTH, georeference=georeference())
    mask, product = mask_of(recipe), make_product(regions=RegionSettings())
    confidence = np.random.default_rng(3).integers(1, 256, mask.shape, np.uint8) if scores else None
    shards = write(tmp_path / "stored", scene, recipe, mask, confidence)
    stored, _ = finish_scene(str(tmp_path / "stored"), scene, recipe, product, shards, 1)
    masks = shards_of(scene, recipe, mask, confidence)
    records = tuple(shard_record(scene, recipe, "40x30", "avx2", one) for one in masks)
    held, _ = finish_scene(str(tmp_path / "held"), scene, recipe, product, records, 1, masks)
    assert held == stored
    assert {made.path.split("/")[0] for made in held.outputs} >= {"masks", "annotations"}
    for made in held.outputs:
        assert (tmp_path / "held" / made.path).read_bytes() == (tmp_path / "stored" / made.path).read_bytes()
    assert not (tmp_path / "held" / "_batchseg" / "fragments").exists()


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
    with rasterio.open(tmp_path / layer_path("scene.tif", "confidence", names="kept")) as dataset:
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
    second, _ = finish_scene(str(tmp_path), scene, recipe, product, (first,), 1)
    with rasterio.open(tmp_path / second.mask) as dataset:
        assert np.array_equal(dataset.read(1), mask)
        assert dataset.tags()["CLASS_1"] == "sea"
        assert dataset.compression.name == "zstd"
    changed = ("product", "encoding", "outputs")
    assert dataclasses.replace(second, **{key: getattr(first, key) for key in changed}) == first
    assert second.product == product.digest != first.product


def test_the_same_shards_give_the_same_bytes(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    records = [finished(tmp_path / name, scene, recipe, mask_of(recipe)) for name in ("one", "two")]
    assert records[0].outputs == records[1].outputs


def test_finishing_leaves_the_mask_and_nothing_in_the_making(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH, georeference=georeference())
    finished(tmp_path, scene, recipe, mask_of(recipe))
    discard_fragments(str(tmp_path), scene.source.source_id)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files <= {"masks/scene.tif", "masks/scene.tif.aux.xml"}


def test_a_missing_fragment_is_an_error_of_the_output(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH)
    shards = write(tmp_path, scene, recipe, mask_of(recipe))
    next((tmp_path / "_batchseg" / "fragments").rglob("mask-*.tif")).unlink()
    with pytest.raises(OutputError, match="recorded but missing"):
        finish_scene(str(tmp_path), scene, recipe, make_product(), shards, 1)
    assert not (tmp_path / "masks").exists()


def test_a_damaged_fragment_is_an_error_of_the_output(tmp_path):
    recipe, scene = make_recipe(), make_scene(HEIGHT, WIDTH)
    shards = write(tmp_path, scene, recipe, mask_of(recipe))
    fragment = next((tmp_path / "_batchseg" / "fragments").rglob("mask-*.tif"))
    fragment.write_bytes(fragment.read_bytes()[:200])
    with pytest.raises(OutputError, match=r"cannot assemble the mask of scene\.tif"):
        finish_scene(str(tmp_path), scene, recipe, make_product(), shards, 1)
    assert not (tmp_path / "masks").exists()


def test_a_local_output_needs_no_folder_for_copies(tmp_path, monkeypatch):
    """It would stay on the other hosts of a cluster."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with scratch_folder(str(tmp_path / "out")) as folder:
        assert folder.resolve().parent == tmp_path / "out" / "_batchseg" / "scratch"
        assert not list((tmp_path / "tmp").iterdir())
    with scratch_folder("s3://bucket/out") as folder:
        assert folder.resolve().is_relative_to(tmp_path / "tmp")


def test_on_a_disk_without_owners_files_are_made_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    real = rooted._check_own

    def without_owners(descriptor, shown):
        if "_batchseg" in shown:
            raise rooted.NotOwnError(shown)
        real(descriptor, shown)

    monkeypatch.setattr(rooted, "_check_own", without_owners)
    with scratch_folder(str(tmp_path / "out")) as folder:
        assert folder.resolve().is_relative_to(tmp_path / "tmp")
