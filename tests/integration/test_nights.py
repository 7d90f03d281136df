"""The same command night after night, over an archive that changes."""

from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio.features
import shapely
from conftest import UTM, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from rasterio.transform import Affine
from runs import ROTATED, mask_bytes, run, run_on_ray

from batchseg.errors import ConfigError
from batchseg.tools.maintain import prune, retry
from batchseg.tools.verify import verify


def check(output: Path) -> None:
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())


def tables(output: Path, classes: tuple[int, ...] = (1, 2, 3)) -> tuple[list[str], geopandas.GeoDataFrame]:
    """Source ids of the items, each once, and the regions of these classes, as analysts read them."""
    items = pq.read_table(output / "items").to_pylist()
    ids = [row["source_id"] for row in items]
    assert len(set(ids)) == len(ids)
    regions = geopandas.read_parquet(output / "annotations")
    assert not regions.duplicated(["source_id", "region_id"]).any()
    assert set(regions.source_id) == {row["source_id"] for row in items if row["status"] == "done"}
    for row in items:
        mine = regions[regions.source_id == row["source_id"]]
        counted = {c["class_id"]: c["pixels"] for c in row["classes"] if c["class_id"] in classes}
        if row["status"] == "done" and mine.area_px.min() == 1:
            assert mine.groupby("class_id").area_px.sum().to_dict() == counted
    return ids, regions


def published(output: Path) -> dict[str, bytes]:
    folders = (output / name for name in ("masks", "confidence", "annotations"))
    return {str(p): p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}


def scene(folder: Path, name: str, seed: int, height: int = 90) -> Path:
    pixels = reflectance(height, 130, seed=seed)
    return write_raster(folder / "in" / f"{name}.tif", pixels)


def tiles_of(height: int) -> int:
    return -(-height // 48) * -(-130 // 48)


def test_three_nights(tmp_path: Path, write_job: JobWriter) -> None:
    output = tmp_path / "out"
    for number, name in enumerate(("stays", "changes", "goes")):
        scene(tmp_path, name, number)
    broken = tmp_path / "in" / "broken.tif"
    broken.write_bytes(b"II*\0 half a file")
    job = write_job()
    first = run(job)
    assert (first.tally.done, first.tally.quarantined) == (3, 1)
    assert first.tally.predicted == 3 * tiles_of(90)
    ids, regions = tables(output)
    assert ids == ["broken.tif", "changes.tif", "goes.tif", "stays.tif"]
    check(output)
    unchanged = (output / "masks" / "stays.tif").stat().st_mtime_ns

    broken.unlink()
    scene(tmp_path, "new", 10)
    scene(tmp_path, "changes", 11, height=70)
    scene(tmp_path, "broken", 12)
    (tmp_path / "in" / "goes.tif").unlink()
    second = run(job)
    assert (second.tally.done, second.skipped) == (3, 1)
    assert second.tally.predicted == 2 * tiles_of(90) + tiles_of(70)
    assert second.vanished == ("goes.tif",)
    ids, _ = tables(output)
    assert ids == ["broken.tif", "changes.tif", "goes.tif", "new.tif", "stays.tif"]
    expected = spectral_mask(reflectance(70, 130, seed=11), 10_000)
    np.testing.assert_array_equal(read_mask(output, "changes.tif"), expected)
    check(output)
    prune(str(output), "prune", dry_run=False, everything=False)
    ids, _ = tables(output)
    assert ids == ["broken.tif", "changes.tif", "new.tif", "stays.tif"]
    check(output)

    masks = mask_bytes(output)
    third = run(job, "regions.min_area=4")
    assert (third.tally.done, third.tally.predicted) == (4, 0)
    _, kept = tables(output)
    assert kept.area_px.min() == 4
    assert (
        len(kept[kept.source_id == "stays.tif"])
        == ((regions.source_id == "stays.tif") & (regions.area_px >= 4)).sum()
    )
    assert mask_bytes(output) == masks
    assert (output / "masks" / "stays.tif").stat().st_mtime_ns == unchanged
    check(output)
    assert run(job, "regions.min_area=4").skipped == 4


def test_other_classes_names_and_no_regions_are_derived_from_the_masks(
    tmp_path: Path, write_job: JobWriter
) -> None:
    scene(tmp_path, "a", 1)
    output = tmp_path / "out"
    job = write_job()
    run(job)
    run(job, "regions.classes=[soil, 3]")
    _, regions = tables(output, (0, 3))
    assert set(regions.class_id) == {0, 3}
    renamed = run(write_job(classes=["earth", "sea", "plants", "roofs"]))
    assert renamed.tally.predicted == 0
    _, regions = tables(output)
    assert set(regions.class_name) == {"sea", "plants", "roofs"}
    check(output)
    run(write_job(regions=False))
    assert not list((output / "annotations").rglob("*.parquet"))
    check(output)


def test_a_source_that_moves_to_another_crs_has_its_rows_once(tmp_path: Path, write_job: JobWriter) -> None:
    path = scene(tmp_path, "a", 1)
    scene(tmp_path, "b", 2)
    job, output = write_job(), tmp_path / "out"
    run(job)
    write_raster(path, reflectance(90, 130, seed=3), crs="EPSG:26914")
    run(job)
    parts = {p.parent.name: set(pq.read_table(p)["source_id"].to_pylist()) for p in output.rglob("scene-*")}
    assert parts == {"crs=EPSG-26914": {"a.tif"}, "crs=EPSG-32633": {"b.tif"}}
    assert geopandas.read_parquet(output / "annotations" / "crs=EPSG-26914").crs.to_epsg() == 26914
    check(output)


def test_small_tables_are_joined_and_stay_right(tmp_path: Path, write_job: JobWriter) -> None:
    names = [f"s{number:02d}" for number in range(20)]
    for number, name in enumerate(names):
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(40, 50, seed=number))
    job, output = write_job(), tmp_path / "out"
    run(job)
    (part,) = output.rglob("annotations/**/*.parquet")
    assert part.name.startswith("part-")
    ids, before = tables(output)
    assert len(ids) == 20
    check(output)

    write_raster(tmp_path / "in" / "s03.tif", reflectance(40, 50, seed=99))
    (tmp_path / "in" / "s05.tif").write_bytes(b"broken")
    (tmp_path / "in" / "s07.tif").unlink()
    report = run(job)
    assert (report.tally.done, report.tally.quarantined, report.tally.predicted) == (1, 1, 2)
    _, after = tables(output)
    assert "s05.tif" not in set(after.source_id)
    same = after[~after.source_id.isin(["s03.tif"])].sort_values(["source_id", "region_id"])
    old = before[~before.source_id.isin(["s03.tif", "s05.tif"])].sort_values(["source_id", "region_id"])
    assert same.geometry.to_wkb().tolist() == old.geometry.to_wkb().tolist()
    check(output)
    prune(str(output), "prune", dry_run=False, everything=False)
    assert "s07.tif" not in set(tables(output)[1].source_id)
    check(output)


def test_a_failure_that_may_pass_keeps_the_old_results(tmp_path: Path, write_job: JobWriter) -> None:
    path = scene(tmp_path, "a", 1)
    job, output = write_job(), tmp_path / "out"
    run(job)
    retry(str(output), "retry", [])
    masks = mask_bytes(output)
    write_raster(path, reflectance(90, 130, seed=5))
    path.chmod(0)
    try:
        if path.stat().st_mode & 0o444 == 0 and not _is_root():
            assert run(job).tally.failed == 1
            assert mask_bytes(output) == masks
            check(output)
    finally:
        path.chmod(0o644)
    assert run(job).tally.done == 1
    check(output)


def _is_root() -> bool:
    import os

    return os.geteuid() == 0


def whole_mask_regions(mask: np.ndarray, transform: Affine) -> dict[tuple[int, bytes], int]:
    """Polygons of a whole mask by rasterio, transformed last: (class, geometry) and how often."""
    found: dict[tuple[int, bytes], int] = {}
    shapes = rasterio.features.shapes(mask, mask=(mask != 0) & (mask != 255), connectivity=4)
    for shape, value in shapes:
        polygon = shapely.transform(shapely.geometry.shape(shape), lambda xy: placed(xy, transform))
        key = int(value), shapely.to_wkb(shapely.normalize(polygon))
        found[key] = found.get(key, 0) + 1
    return found


def placed(xy: np.ndarray, transform: Affine) -> np.ndarray:
    a, b, c, d, e, f = tuple(transform)[:6]
    return np.stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f], axis=1)


SOUTH_UP = Affine(5.0, 0.0, 1.0 / 3.0, 0.0, 5.0, 4_000_000.7)


@pytest.mark.parametrize(
    "transform",
    [UTM, pytest.param(ROTATED, marks=pytest.mark.slow), pytest.param(SOUTH_UP, marks=pytest.mark.slow)],
    ids=["north-up", "rotated", "south-up"],
)
def test_regions_are_those_of_the_whole_mask_whatever_the_shards(
    tmp_path: Path, write_job: JobWriter, ray_cluster: str, transform: Affine
) -> None:
    pixels = reflectance(237, 311)
    pixels[:, 100:130, 20:290] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0, transform=transform)
    job = write_job()
    for tiles in (1, 2, 3):
        run(job, f"shard_tiles={tiles}", f"output=out{tiles}")
    outputs = ["out1", "out2", "out3"]
    if transform is UTM:
        run_on_ray(job, ray_cluster, "shard_tiles=2", "output=ray")
        outputs.append("ray")
    written = {name: next((tmp_path / name).rglob("scene-*.parquet")).read_bytes() for name in outputs}
    assert len(set(written.values())) == 1

    mask = read_mask(tmp_path / "out1", "scene.tif")
    regions = geopandas.read_parquet(tmp_path / "out1" / "annotations")
    expected = whole_mask_regions(mask, transform)
    found = {
        (class_id, shapely.to_wkb(shapely.normalize(polygon))): 1
        for class_id, polygon in zip(regions.class_id, regions.geometry, strict=True)
    }
    assert found == expected
    assert regions.geometry.is_valid.all()
    assert regions.groupby("class_id").area_px.sum().to_dict() == {
        class_id: int((mask == class_id).sum()) for class_id in (1, 2, 3)
    }


def test_results_that_are_missing_are_made_again_from_the_mask(tmp_path: Path, write_job: JobWriter) -> None:
    scene(tmp_path, "a", 1)
    scene(tmp_path, "b", 2)
    job, output = write_job(confidence=True), tmp_path / "out"
    run(job)
    before = published(output)
    part = next(output.rglob("scene-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    (output / "masks" / "b.tif.aux.xml").unlink()
    report = run(job)
    assert report.tally.predicted == 0
    assert 1 <= report.tally.done <= 2
    check(output)
    assert published(output) == before
    (output / "confidence" / "a.tif").unlink()
    assert run(job).tally.predicted == tiles_of(90)
    check(output)


def test_nothing_is_derived_from_a_damaged_mask(tmp_path: Path, write_job: JobWriter) -> None:
    scene(tmp_path, "a", 1)
    scene(tmp_path, "b", 2)
    job, output = write_job(), tmp_path / "out"
    run(job)
    mask = output / "masks" / "a.tif"
    sound = mask.read_bytes()
    mask.write_bytes(sound[:-40] + b"Z" * 40)
    report = run(job, "regions.min_area=5")
    assert (report.tally.done, report.tally.failed, report.tally.predicted) == (1, 1, 0)
    assert "checksum" in report.refused[0].error
    again = run(job, "regions.min_area=5")
    assert (again.tally.done, again.tally.predicted, again.skipped) == (1, tiles_of(90), 1)
    assert mask.read_bytes() == sound
    check(output)


def test_one_band_that_is_not_mounted_takes_nothing_away(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(90, 130)
    for number in range(4):
        write_raster(tmp_path / f"b{number}" / "s.tif", pixels[number : number + 1])
    patterns = {f"b{number}": f"b{number}/{{scene}}.tif" for number in range(4)}
    job, output = write_job(inputs={"bands": patterns}), tmp_path / "out"
    run(job)
    before = mask_bytes(output)
    (tmp_path / "b2").rename(tmp_path / "unmounted")
    with pytest.raises(ConfigError, match=r"nothing matches .*b2/\{scene\}\.tif.*mounted"):
        run(job)
    assert mask_bytes(output) == before
    check(output)
