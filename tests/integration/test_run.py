"""Whole runs against numpy on the whole raster."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import models as test_models
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import UTM, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from runs import BANDS, ROTATED, _rows, convolved, mask_bytes, run, run_on_ray, split, stac_items

from batchseg.errors import ConfigError, ModelError
from batchseg.output.ledger import Ledger


def collar(height: int, width: int) -> NDArray[np.bool_]:
    """A slanted footprint, True inside."""
    rows, cols = np.mgrid[0:height, 0:width]
    return (cols > rows // 3) & (cols < width - (height - rows) // 4)


def test_the_mask_is_numpys_whatever_the_tiles_shards_workers_and_executor(
    tmp_path: Path, write_job: JobWriter, ray_cluster: str
) -> None:
    pixels = reflectance(237, 311)
    valid = collar(237, 311)
    pixels[:, ~valid] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    job = write_job(confidence=True)
    expected = spectral_mask(pixels, 10_000, valid)
    assert set(np.unique(expected)) == {0, 1, 2, 3, 255}

    variants: Sequence[tuple[str, ...]] = (
        ("output=a", "tile_size=64", "halo=8", "shard_tiles=1"),
        ("output=b", "tile_size=96", "halo=0", "shard_tiles=2", "batch_size=3"),
        ("output=c", "tile_size=200", "halo=37"),
        ("output=d", "tile_size=512", "halo=64", "workers=2"),
    )
    for variant in variants:
        run(job, *variant)
    run_on_ray(job, ray_cluster, "output=e", "tile_size=80", "halo=16", "shard_tiles=2")
    first = mask_bytes(tmp_path / "a")
    for name in "abcde":
        np.testing.assert_array_equal(read_mask(tmp_path / name, "scene.tif"), expected)
        assert mask_bytes(tmp_path / name) == first


def conv_job(write_job: JobWriter, models: Path) -> Path:
    return write_job(
        model=str(models / "conv"),
        bands=[1, 2, 3],
        scale={"divide": 1},
        classes=["a", "b", "c"],
        tile_size=48,
    )


def test_a_halo_of_the_receptive_field_gives_the_whole_rasters_answer(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 133, 171), dtype=np.uint8)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    job = conv_job(write_job, models)
    expected = convolved(pixels, test_models.RADIUS)

    run(job, f"halo={test_models.RADIUS}", "output=enough")
    np.testing.assert_array_equal(read_mask(tmp_path / "enough", "scene.tif"), expected)

    run(job, f"halo={test_models.RADIUS - 1}", "output=little")
    wrong = read_mask(tmp_path / "little", "scene.tif") != expected
    assert 0 < wrong.mean() < 0.2


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 70), (5, 3), (47, 200)])
def test_rasters_smaller_than_a_tile(
    tmp_path: Path, write_job: JobWriter, models: Path, shape_hw: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (3, *shape_hw), dtype=np.uint8)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    run(conv_job(write_job, models), "halo=5")
    mask = read_mask(tmp_path / "out", "scene.tif")
    assert mask.shape == shape_hw
    if min(shape_hw) > 1:
        np.testing.assert_array_equal(mask, convolved(pixels, 5))


GEOREFERENCES = {
    "north-up": {"crs": "EPSG:32633", "transform": UTM},
    "rotated": {"crs": "EPSG:32633", "transform": ROTATED},
    "south-up": {"crs": "EPSG:26914", "transform": Affine(5.0, 0.0, 1.0 / 3.0, 0.0, 5.0, 4_000_000.7)},
    "geographic": {"crs": "EPSG:4326", "transform": Affine(0.1, 0.0, -12.3, 0.0, -0.1, 51.0)},
    "no CRS": {"crs": None, "transform": ROTATED},
    "nothing": {"crs": None, "transform": Affine.identity()},
    "feet": {"crs": "EPSG:2263", "transform": Affine(3.0, 0.0, 9e5, 0.0, -3.0, 2e5)},
}


@pytest.mark.parametrize("name", GEOREFERENCES)
def test_georeference_is_kept_exactly(tmp_path: Path, write_job: JobWriter, name: str) -> None:
    write_raster(tmp_path / "in" / "scene.tif", reflectance(70, 90), **GEOREFERENCES[name])
    run(write_job())
    with (
        rasterio.open(tmp_path / "in" / "scene.tif") as source,
        rasterio.open(tmp_path / "out" / "masks" / "scene.tif") as mask,
    ):
        assert mask.crs == source.crs
        assert mask.transform == source.transform
        assert mask.shape == source.shape


def test_ground_control_points_are_kept(tmp_path: Path, write_job: JobWriter) -> None:
    points = [
        GroundControlPoint(r, c, 11.0 + c / 7, 48.0 - r / 9, 3.5)
        for r, c in ((0, 0), (0, 90), (70, 0), (70, 90))
    ]
    path = write_raster(
        tmp_path / "in" / "scene.tif", reflectance(70, 90), crs=None, transform=Affine.identity()
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, CRS.from_epsg(4326))
    run(write_job())
    with rasterio.open(tmp_path / "out" / "masks" / "scene.tif") as mask:
        kept, crs = mask.gcps
    assert crs == CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y, p.z) for p in kept] == [(p.row, p.col, p.x, p.y, p.z) for p in points]


def test_the_mask_is_a_valid_cog_with_names_and_colours(tmp_path: Path, write_job: JobWriter) -> None:
    from rio_cogeo.cogeo import cog_validate

    write_raster(tmp_path / "in" / "scene.tif", reflectance(700, 1100))
    run(write_job(classes=["soil", {"name": "water", "color": "#0a0B0c"}, "vegetation", "bright"]))
    path = tmp_path / "out" / "masks" / "scene.tif"
    valid, errors, warnings = cog_validate(str(path))
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as mask:
        assert mask.profile["compress"] == "deflate"
        assert mask.nodata == 255
        assert mask.overviews(1)
        assert mask.colormap(1)[1] == (10, 11, 12, 255)
        assert mask.tags()["CLASS_1"] == "water"
        assert set(np.unique(mask.read(1, out_shape=(350, 550)))) <= {0, 1, 2, 3}
    assert "<Category>water</Category>" in path.with_name(path.name + ".aux.xml").read_text()


def mask_of(
    tmp_path: Path, write_job: JobWriter, pixels: NDArray[np.generic], **profile: object
) -> NDArray[np.uint8]:
    write_raster(tmp_path / "in" / "scene.tif", pixels, **profile)
    run(write_job())
    return read_mask(tmp_path / "out", "scene.tif")


def test_a_pixel_is_invalid_where_all_selected_bands_are_nodata(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(90, 70)
    pixels[:, 10:20, 5:50] = 7
    pixels[2, 40:50, 5:50] = 7
    mask = mask_of(tmp_path, write_job, pixels, nodata=7)
    invalid = np.zeros((90, 70), dtype=bool)
    invalid[10:20, 5:50] = True
    np.testing.assert_array_equal(mask == 255, invalid)


def test_nan_is_invalid_and_never_spreads(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 100, 130)).astype(np.float32)
    pixels[1, 30:33, 40:44] = np.nan
    pixels[0, 80, 100] = np.inf
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    run(conv_job(write_job, models), "halo=3")
    mask = read_mask(tmp_path / "out", "scene.tif")
    bad = ~np.isfinite(pixels).all(axis=0)
    np.testing.assert_array_equal(mask == 255, bad)
    filled = np.where(bad, 0, pixels).astype(np.uint8)
    np.testing.assert_array_equal(mask[~bad], convolved(filled, 3)[~bad])


def test_internal_masks_sidecar_masks_and_alpha_are_honoured(tmp_path: Path, write_job: JobWriter) -> None:
    pixels, valid = reflectance(90, 130), collar(90, 130)
    for name, internal in (("internal", True), ("sidecar", False)):
        path = write_raster(tmp_path / "in" / f"{name}.tif", pixels)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
    assert (tmp_path / "in" / "sidecar.tif.msk").exists()
    alpha = np.where(valid, 65535, 0).astype(np.uint16)[None]
    path = write_raster(tmp_path / "in" / "alpha.tif", np.concatenate((pixels, alpha)))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*dataset.colorinterp[:4], ColorInterp.alpha]
    run(write_job())
    for name in ("internal", "sidecar", "alpha"):
        mask = read_mask(tmp_path / "out", f"{name}.tif")
        np.testing.assert_array_equal(mask, spectral_mask(pixels, 10_000, valid))


def test_a_band_that_the_job_names_is_data_even_if_tagged_alpha(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(90, 130)
    pixels[3, 5:9] = 0
    path = write_raster(tmp_path / "in" / "scene.tif", pixels, photometric="rgb", alpha="yes")
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    run(write_job())
    mask = read_mask(tmp_path / "out", "scene.tif")
    np.testing.assert_array_equal(mask, spectral_mask(pixels, 10_000))


def test_bands_are_taken_by_number_and_order(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(80, 100)
    shuffled = np.concatenate((np.zeros_like(pixels[:1]), pixels[::-1]))
    write_raster(tmp_path / "in" / "scene.tif", shuffled)
    run(write_job(bands=[5, 4, 3, 2]))
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "scene.tif"), spectral_mask(pixels, 10_000))


def test_tiles_without_a_valid_pixel_are_not_predicted(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(96, 144)
    pixels[:, :, 48:] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    assert run(write_job()).tally.predicted == 2  # of 2 x 3


def test_a_class_id_that_collides_with_nodata_stops_the_run_and_num_classes_helps(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    pixels = np.arange(90 * 70, dtype=np.uint16).reshape(1, 90, 70) % 300
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    job = write_job(model=str(models / "ids"), bands=[1], scale={"divide": 1}, classes=None)
    with pytest.raises(ModelError, match="num_classes"):
        run(job)
    run(job, "num_classes=300", "output=wide")
    mask = read_mask(tmp_path / "wide", "scene.tif")
    np.testing.assert_array_equal(mask, pixels[0])
    assert mask.dtype == np.uint16


def test_items_hold_areas_of_projected_and_geographic_scenes(tmp_path: Path, write_job: JobWriter) -> None:
    for name in ("feet", "geographic", "nothing"):
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90), **GEOREFERENCES[name])
    run(write_job())
    rows = {
        row["source_id"]: row
        for row in pq.read_table(tmp_path / "out" / "items" / "items.parquet").to_pylist()
    }
    for name in ("feet", "geographic", "nothing"):
        classes = rows[f"{name}.tif"]["classes"]
        assert sum(c["pixels"] for c in classes) == 70 * 90
        assert [c["class_name"] for c in classes] == ["soil", "water", "vegetation", "bright"]
    us_foot = 1200 / 3937
    for c in rows["feet.tif"]["classes"]:
        assert c["area_m2"] == pytest.approx(c["pixels"] * (3 * us_foot) ** 2, rel=1e-12)
    assert {c["area_m2"] for c in rows["nothing.tif"]["classes"]} == {None}
    # 9 by 7 degrees from 51 north: the zone's area by pyproj's geodesic polygon with dense parallels.
    import pyproj

    lon, lat = np.linspace(-12.3, -3.3, 20_001), (51.0, 44.0)
    ring_lon = np.concatenate((lon, lon[::-1]))
    ring_lat = np.concatenate((np.full_like(lon, lat[1]), np.full_like(lon, lat[0])))
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(ring_lon, ring_lat)
    assert sum(c["area_m2"] for c in rows["geographic.tif"]["classes"]) == pytest.approx(area, rel=1e-7)


def test_a_second_run_does_nothing_and_a_third_only_what_changed(
    tmp_path: Path, write_job: JobWriter
) -> None:
    for name in "abc":
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90, seed=ord(name)))
    job = write_job()
    assert run(job).tally.done == 3
    before = mask_bytes(tmp_path / "out")
    again = run(job)
    assert (again.tally.done, again.tally.predicted, again.skipped) == (0, 0, 3)
    changed = reflectance(80, 90, seed=9)
    write_raster(tmp_path / "in" / "b.tif", changed)
    write_raster(tmp_path / "in" / "d.tif", reflectance(70, 90))
    third = run(job)
    assert (third.tally.done, third.skipped) == (2, 2)
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "b.tif"), spectral_mask(changed, 10_000))
    after = mask_bytes(tmp_path / "out")
    assert {k: v for k, v in after.items() if "a.tif" in k or "c.tif" in k}.items() <= before.items()


def test_other_pixel_settings_are_refused_with_the_difference_and_replace_accepts_them(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "scene.tif", reflectance(70, 90))
    job = write_job()
    run(job)
    with pytest.raises(ConfigError, match=r"halo: 8 -> 4") as caught:
        run(job, "halo=4")
    assert "--replace" in str(caught.value)
    assert run(job, "halo=4", replace=True).tally.done == 1
    assert run(job, "halo=4").skipped == 1


def test_new_class_names_are_written_without_predicting(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(70, 90)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    run(write_job(confidence=True))
    report = run(write_job(confidence=True, classes=["a", "b", "c", "d"]))
    assert (report.tally.done, report.tally.predicted) == (1, 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "scene.tif"), spectral_mask(pixels, 10_000))
    with rasterio.open(tmp_path / "out" / "masks" / "scene.tif") as mask:
        assert mask.tags()["CLASS_3"] == "d"


def test_files_that_are_still_written_are_left_to_a_later_run(tmp_path: Path, write_job: JobWriter) -> None:
    old, new = (write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90)) for name in ("old", "new"))
    os.utime(old, (1e9, 1e9))
    job = write_job(min_age="10m")
    report = run(job)
    assert (report.tally.done, report.young, report.refused) == (1, 1, ())
    assert "1 source changed less than 10 min ago; a later run does them" in Path(report.log).read_text()
    before = mask_bytes(tmp_path / "out")
    old.write_bytes(new.read_bytes()[:1000])  # being written again: its mask stays
    report = run(job)
    assert (report.tally.done, report.young, report.vanished, report.refused) == (0, 2, (), ())
    assert mask_bytes(tmp_path / "out") == before
    for path in (old, new):
        write_raster(path, reflectance(80, 90))
        os.utime(path, (1e9 + 1, 1e9 + 1))
    report = run(job)
    assert (report.tally.done, report.young) == (2, 0)
    assert read_mask(tmp_path / "out", "old.tif").shape == (80, 90)


def test_nothing_is_left_behind_but_what_is_documented(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "scene.tif", reflectance(70, 90))
    run(write_job())
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    outside_runs = {name for name in files if "/runs/" not in name and "/ledger/" not in name}
    assert outside_runs == {
        "_batchseg/locks/epoch-00000001.json",
        "_batchseg/output.json",
        "annotations/crs=EPSG-32633/scene-468309d3c1214716.parquet",
        "items/items.parquet",
        "seams/seams.parquet",
        "masks/scene.tif",
        "masks/scene.tif.aux.xml",
    }
    assert len(list((tmp_path / "out" / "_batchseg" / "ledger").iterdir())) == 1
    assert not list(Ledger(str(tmp_path / "out")).unfinished())


def csv_manifest(path: Path, scenes: dict[str, list[Path]]) -> None:
    with path.open("w") as file:
        writer = csv.DictWriter(file, fieldnames=["nir", "name", "blue", "green", "red"])
        writer.writeheader()
        writer.writerows(_rows(scenes))


def parquet_manifest(path: Path, scenes: dict[str, list[Path]]) -> None:
    pq.write_table(pa.Table.from_pylist(_rows(scenes)), path)


def test_a_scene_of_one_file_per_band_has_the_stacked_ones_mask_but_where_a_file_is_nodata(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write = {
        "patterns": lambda *_: None,
        "csv": csv_manifest,
        "parquet": parquet_manifest,
        "items": stac_items,
    }
    scenes: dict[str, dict[str, list[Path]]] = {kind: {} for kind in write}
    for number, scene in enumerate(("a", "b")):
        pixels, valid = reflectance(97, 131, seed=number), collar(97, 131)
        pixels[:, ~valid] = 0
        pixels[2, 50:60, 50:60] = 0  # nodata in one band alone is data, but of a file of its own
        path = write_raster(tmp_path / "in" / f"{scene}.tif", pixels, nodata=0)
        for kind in write:
            scenes[kind][scene] = split(path, tmp_path / kind)
    for kind, writer in write.items():
        writer(tmp_path / f"scenes.{kind}", scenes[kind])
    inputs: dict[str, object] = {
        "stacked": "in/*.tif",
        "patterns": {"bands": {name: f"patterns/{{scene}}_{name}.tif" for name in BANDS}},
        "csv": {"manifest": "scenes.csv", "columns": BANDS, "id": "name"},
        "parquet": {"manifest": "scenes.parquet", "columns": BANDS, "id": "name"},
        "items": {"stac": "scenes.items", "assets": BANDS},
    }
    job = write_job(inputs=inputs)
    assert run(job).tally.done == 10
    assert run(job).tally.done == 0
    # Its bands are numbered as one file's are.
    turned = {key: inputs[key] for key in ("stacked", "patterns")}
    run(write_job(bands=[4, 3, 2, 1], inputs=turned, output="turned"))
    for output, kinds in (("out", list(inputs)), ("turned", ["stacked", "patterns"])):
        for scene in "ab":
            split_kinds = [f"{kind}/{scene}" for kind in kinds if kind != "stacked"]
            folder = tmp_path / output / "masks"
            assert len({(folder / f"{kind}.mask.tif").read_bytes() for kind in split_kinds}) == 1
            mask = read_mask(tmp_path / output, f"stacked/{scene}.tif")
            assert (mask[50:60, 50:60] != 255).all()
            mask[50:60, 50:60] = 255
            np.testing.assert_array_equal(read_mask(tmp_path / output, split_kinds[0]), mask)
    assert not np.array_equal(
        read_mask(tmp_path / "out", "patterns/a"), read_mask(tmp_path / "turned", "patterns/a")
    )


def test_a_scene_that_lacks_a_file_waits_for_it(tmp_path: Path, write_job: JobWriter) -> None:
    files = split(write_raster(tmp_path / "whole.tif", reflectance(70, 90)), tmp_path / "s")
    late = files[3].rename(tmp_path / "late.tif")
    split(write_raster(tmp_path / "beside.tif", reflectance(40, 50)), tmp_path / "s")
    job = write_job(inputs={"bands": {name: f"s/{{scene}}_{name}.tif" for name in BANDS}})
    first = run(job)
    assert [(r.source_id, r.status) for r in first.refused] == [("whole", "quarantined")]
    assert "nir" in first.refused[0].error
    assert run(job).tally.quarantined == 0
    late.rename(files[3])
    assert run(job).tally.done == 1
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "whole"), spectral_mask(reflectance(70, 90), 10_000)
    )


def test_other_grids_without_resampling_are_refused_before_anything_is_done(
    tmp_path: Path, write_job: JobWriter
) -> None:
    files = split(write_raster(tmp_path / "whole.tif", reflectance(70, 90)), tmp_path / "s")
    coarse = Affine(20.0, 0.0, UTM.c, 0.0, -20.0, UTM.f)
    write_raster(files[3], reflectance(35, 45)[3:], transform=coarse)
    inputs: dict[str, object] = {"bands": {name: f"s/{{scene}}_{name}.tif" for name in BANDS}}
    job = write_job(inputs=inputs)
    with pytest.raises(
        ConfigError, match=r"whole_nir.tif: 45 x 35 pixels.*whole_nir.tif: 20 x 20.*resampling"
    ):
        run(job)
    assert not (tmp_path / "out").exists()
    assert run(write_job(inputs=inputs | {"resampling": "nearest"})).tally.done == 1
    pixels = reflectance(70, 90)
    pixels[3] = reflectance(35, 45)[3].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "whole"), spectral_mask(pixels, 10_000))


MTD = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<n1:General_Info><Product_Info><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
</Special_Values><Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
{offsets}</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>
"""


def write_safe(folder: Path, pixels: NDArray[np.uint16], offset: int | None) -> None:
    """A Sentinel-2 product's files: three bands of 10 m, one of 20 m, lossless."""
    granule = folder / "GRANULE" / "L2A_T33UUU_A1" / "IMG_DATA"
    lossless = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": "100"}
    for band, name in zip(pixels, ("B04", "B03", "B02", "B8A"), strict=True):
        every = 2 if name == "B8A" else 1
        write_raster(
            granule / f"R{10 * every}m" / f"T33UUU_20260101T100000_{name}_{10 * every}m.jp2",
            band[None, ::every, ::every],
            transform=Affine(10.0 * every, 0.0, UTM.c, 0.0, -10.0 * every, UTM.f),
            **lossless,
        )
    each = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{offset}</BOA_ADD_OFFSET>' for n in range(13))
    offsets = f"<BOA_ADD_OFFSET_VALUES_LIST>{each}</BOA_ADD_OFFSET_VALUES_LIST>" if offset is not None else ""
    baseline = "03.01" if offset is None else "05.11"
    (folder / "MTD_MSIL2A.xml").write_text(MTD.format(baseline=baseline, offsets=offsets))


def test_sentinel_2_of_either_processing_baseline_has_the_same_mask(
    tmp_path: Path, write_job: JobWriter
) -> None:
    pixels = reflectance(140, 166)
    valid = collar(140, 166)
    valid[:] = valid[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    write_safe(tmp_path / "in" / "old.SAFE", np.where(valid, pixels, 0), None)
    write_safe(tmp_path / "in" / "new.SAFE", np.where(valid, pixels + 1000, 0), -1000)
    image = "in/{scene}.SAFE/GRANULE/*/IMG_DATA"
    tens = {name: f"{image}/R10m/*_{name}_10m.jp2" for name in ("B04", "B03", "B02")}
    job = write_job(
        inputs={"bands": {**tens, "B8A": f"{image}/R20m/*_B8A_20m.jp2"}, "resampling": "nearest"},
        scale="metadata",
    )
    report = run(job)
    assert (report.tally.done, report.refused) == (2, ())
    assert run(job).tally.done == 0
    pixels[3] = pixels[3, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    expected = spectral_mask(pixels, 10_000, valid)
    assert set(np.unique(expected)) == {0, 1, 2, 3, 255}
    for scene in ("old", "new"):
        np.testing.assert_array_equal(read_mask(tmp_path / "out", scene), expected)


def test_files_that_say_their_own_scale_need_no_other(tmp_path: Path, write_job: JobWriter) -> None:
    path = write_raster(tmp_path / "in" / "a.tif", reflectance(70, 90))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.0001,) * 4, (0.0,) * 4
    write_raster(tmp_path / "in" / "b.tif", reflectance(70, 90))
    report = run(write_job(scale="metadata"))
    assert ["no scale and offset for band 1" in r.error for r in report.refused] == [True]
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "a.tif"), spectral_mask(reflectance(70, 90), 10_000)
    )
