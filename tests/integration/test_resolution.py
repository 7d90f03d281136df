"""Scenes that are read at the model's resolution: their masks, where these lie, and what is refused."""

import json
from pathlib import Path
from typing import Any

import dubai
import geopandas
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import REPOSITORY, SHARED, JobWriter, read_mask, write_raster
from damage import corrupt
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window
from runs import interrupted, mask_bytes, run

from batchseg.api.plans import plan_scenes
from batchseg.driver import commit
from batchseg.driver.dry_run import dry_run
from batchseg.errors import ConfigError
from batchseg.job.file import load_job
from batchseg.output.ledger import Ledger
from batchseg.tools.verify import verify

METRE = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 4_600_000.0)

PLACES = {
    "north-up": METRE,
    "south-up": Affine(1.0, 0.0, 500_000.0, 0.0, 1.0, 4_600_000.0),
    "turned": Affine(0.8, 0.6, 500_000.125, 0.6, -0.8, 4_600_000.3),
}


def write_network(path: Path) -> Path:
    """Class 1 is brighter than the 13 x 13 pixels about it: which things are depends on the pixels' size."""
    weights = np.full((1, 1, 13, 13), -1 / 169, np.float32)
    weights[0, 0, 5:8, 5:8] += 1 / 9
    nodes = [
        helper.make_node("Conv", ["x", "weights"], ["spot"], pads=[6, 6, 6, 6]),
        helper.make_node("Sub", ["spot", "threshold"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Concat", ["below", "above"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.float32(8), "threshold")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()  # as Deepness has it: centimetres
    entry.key, entry.value = "resolution", "100"
    onnx.save(model, str(path))
    return path


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """(1, height, width) of hills some ten pixels across; no pixel is 0."""
    noise = np.fft.rfft2(np.random.default_rng(3).normal(size=(height, width)))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    field = np.fft.irfft2(noise * np.exp(-2 * (3.0 * np.pi) ** 2 * (down**2 + across**2)), (height, width))
    return np.clip(127 + 45 * field / field.std(), 1, 255).astype(np.uint8)[None]


def resized(pixels: NDArray[np.uint8], height: int, width: int, how: Resampling) -> NDArray[np.uint8]:
    """By GDAL, which shares no code with what is tested."""
    profile = {"driver": "GTiff", "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(count=len(pixels), **profile) as target:
            target.write(pixels)
        with memory.open() as dataset:
            made: NDArray[np.uint8] = dataset.read(out_shape=(len(pixels), height, width), resampling=how)
    return made


SHAPE_HW = 150, 240


def write_scenes(folder: Path, place: Affine = METRE) -> None:
    """One scene at 1 m, 0.3 m and 2 m."""
    pixels, (height, width) = smooth(*SHAPE_HW), SHAPE_HW
    write_raster(folder / "1m.tif", pixels, transform=place)
    fine = resized(pixels, height * 10 // 3, width * 10 // 3, Resampling.bilinear)
    write_raster(folder / "0.3m.tif", fine, transform=place @ Affine.scale(0.3))
    coarse = resized(pixels, height // 2, width // 2, Resampling.average)
    write_raster(folder / "2m.tif", coarse, transform=place @ Affine.scale(2))


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter) -> Path:
    model = write_network(tmp_path / "spots.onnx")
    return write_job(
        model=str(model),
        bands=None,
        classes=["ground", "spot"],
        scale={"divide": 1},
        normalize="none",
        halo=8,
        resolution="model",
        confidence=True,
    )


def spots_in_common(one: NDArray[Any], other: NDArray[Any]) -> float:
    """IoU of class 1, at the centres of the larger pixels."""
    shape_hw = min(one.shape, other.shape)
    one, other = (at_centres(mask, shape_hw) for mask in (one, other))
    return float(((one == 1) & (other == 1)).sum() / ((one == 1) | (other == 1)).sum())


def at_centres(mask: NDArray[Any], shape_hw: tuple[int, int]) -> NDArray[Any]:
    """The pixels of a mask in which the centres of a coarser grid lie."""
    rows, cols = (
        (2 * np.arange(wanted) + 1) * own // (2 * wanted)
        for wanted, own in zip(shape_hw, mask.shape, strict=True)
    )
    return mask[rows[:, None], cols]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_masks_of_finer_and_coarser_scenes_agree_with_those_of_the_models_resolution(
    tmp_path: Path, job: Path, place: Affine
) -> None:
    write_scenes(tmp_path / "in", place)
    run(job)
    run(job, "resolution=any", "output=as-they-are")
    reference = read_mask(tmp_path / "out", "1m.tif")
    assert 0.1 < (reference == 1).mean() < 0.5
    shares = {}
    for name in ("0.3m.tif", "2m.tif"):
        mask, plain = (read_mask(tmp_path / output, name) for output in ("out", "as-they-are"))
        with (
            rasterio.open(tmp_path / "in" / name) as source,
            rasterio.open(tmp_path / "out/masks" / name) as made,
        ):
            assert (made.shape, made.crs, made.transform) == (source.shape, source.crs, source.transform)
        shares[name] = spots_in_common(mask, reference)
        assert spots_in_common(plain, reference) < 0.7, name
    assert shares["0.3m.tif"] > 0.97, shares
    assert shares["2m.tif"] > 0.93, shares


def test_a_scene_within_a_hundredth_has_the_bytes_of_a_run_without_the_key(tmp_path: Path, job: Path) -> None:
    for name, metres in (("a", 1.0), ("b", 1.008)):
        write_raster(tmp_path / "in" / f"{name}.tif", smooth(90, 130), transform=METRE @ Affine.scale(metres))
    run(job)
    run(job, "resolution=any", "output=plain")
    assert mask_bytes(tmp_path / "out") == mask_bytes(tmp_path / "plain")


def test_shards_executors_and_an_interruption_leave_no_trace(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path / "in")
    pixels = resized(smooth(*SHAPE_HW), 600, 960, Resampling.bilinear)
    pixels[:, 200:330, 300:500] = 0
    path = write_raster(tmp_path / "in" / "0.25m.tif", pixels, nodata=0, transform=METRE @ Affine.scale(0.25))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    run(job, "shard_tiles=9")
    whole = mask_bytes(tmp_path / "out")
    assert len(whole) == 12
    run(job, "output=small", "shard_tiles=1", "batch_size=3")
    run(job, "output=processes", "shard_tiles=2", "executor=processes", "workers=2")
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 0.0)
    config = interrupted(job, "shard_tiles=1", "output=resumed")
    assert Ledger(config.output).unfinished()
    run(job, "output=resumed", "shard_tiles=1")
    for name in ("small", "processes", "resumed"):
        assert mask_bytes(tmp_path / name) == whole, name


def test_a_mask_may_stay_on_the_models_grid(tmp_path: Path, job: Path) -> None:
    write_scenes(tmp_path / "in", PLACES["turned"])
    run(job, "mask_resolution=model")
    for name in ("0.3m.tif", "2m.tif"):
        with (
            rasterio.open(tmp_path / "in" / name) as source,
            rasterio.open(tmp_path / "out/masks" / name) as made,
        ):
            assert made.shape == SHAPE_HW
            corners = [(0, 0), (1, 0), (0, 1)]
            for col, row in corners:
                here = made.transform @ (col * made.width, row * made.height)
                there = source.transform @ (col * source.width, row * source.height)
                np.testing.assert_allclose(here, there, rtol=1e-14)
    assert (
        spots_in_common(read_mask(tmp_path / "out", "0.3m.tif"), read_mask(tmp_path / "out", "1m.tif")) > 0.95
    )


@pytest.mark.parametrize("grid", ["scene", "model"])
def test_what_is_counted_traced_and_made_again_is_of_the_mask(tmp_path: Path, job: Path, grid: str) -> None:
    write_scenes(tmp_path / "in")
    run(job, f"mask_resolution={grid}")
    table = pq.read_table(tmp_path / "out/items/items.parquet").to_pylist()
    rows = {row["source_id"]: row for row in table}
    found = geopandas.read_parquet(tmp_path / "out" / "annotations")
    regions = found.groupby("source_id")["area_m2"].sum()
    spots = []
    for name, row in rows.items():
        with rasterio.open(tmp_path / "out/masks" / name) as made:
            ids = made.read(1)
        assert (row["height"], row["width"]) == ids.shape
        assert [one["pixels"] for one in row["classes"]] == np.bincount(ids.ravel()).tolist()
        areas = [one["area_m2"] for one in row["classes"]]
        assert sum(areas) == pytest.approx(SHAPE_HW[0] * SHAPE_HW[1], rel=0.01)
        assert regions[name] == pytest.approx(areas[1], rel=1e-3)
        spots.append(areas[1])
    assert max(spots) < 1.05 * min(spots)
    before = {name: read_mask(tmp_path / "out", name) for name in rows}
    report = run(job, f"mask_resolution={grid}", "classes=[ground, dot]")
    assert (report.tally.done, report.tally.predicted) == (3, 0)
    for name, ids in before.items():
        np.testing.assert_array_equal(read_mask(tmp_path / "out", name), ids)
    assert verify(str(tmp_path / "out"), quick=False, say=lambda line: None).problems == ()


def test_what_is_too_far_away_or_nowhere_is_refused_until_the_job_has_a_way(
    tmp_path: Path, job: Path
) -> None:
    write_raster(tmp_path / "in" / "1m.tif", smooth(90, 130), transform=METRE)
    write_raster(tmp_path / "in" / "far.tif", smooth(90, 130), transform=METRE @ Affine.scale(10))
    write_raster(tmp_path / "in" / "lost.tif", smooth(90, 130), transform=METRE, crs=None)

    def errors() -> dict[str, str]:
        table = pq.read_table(tmp_path / "out" / "items" / "items.parquet").to_pylist()
        return {row["source_id"]: row["error"] for row in table if row["error"]}

    assert run(job).tally.quarantined == 2
    assert errors() == {
        "far.tif": "cannot be read at 1 m (max_ratio 8): its pixels of 10 m are 10 times larger; set "
        "max_ratio: 11 to have it all the same",
        "lost.tif": "cannot be read at 1 m (max_ratio 8): it has no CRS that says how large its pixels are; "
        "write it into the file (gdal_edit.py -a_srs), or set resolution: any to take every scene as it is",
    }
    assert run(job).tally.quarantined == 0  # they are known
    report = run(job, "max_ratio=11")
    assert (report.tally.done, report.tally.quarantined) == (1, 1)
    assert read_mask(tmp_path / "out", "far.tif").shape == (90, 130)
    assert run(job, "resolution=any", replace=True).tally.done == 3
    assert errors() == {}


def test_the_refusal_of_a_job_without_the_key_names_a_way_that_works(tmp_path: Path, job: Path) -> None:
    write_raster(tmp_path / "in" / "a.tif", smooth(90, 130), transform=METRE @ Affine.scale(10))
    bare = tmp_path / "bare.yaml"
    bare.write_text(job.read_text().replace("resolution: model", ""))
    with pytest.raises(ConfigError, match="set resolution: model and max_ratio: 11 to have it read at that"):
        run(bare)
    assert run(bare, "resolution=model", "max_ratio=11").tally.done == 1


def test_a_model_that_says_no_resolution_cannot_be_asked_for_its_own(
    tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "a.tif", np.ones((4, 90, 130), np.uint16), transform=METRE)
    with pytest.raises(ConfigError, match="model's files say none; write the metres"):
        run(write_job(resolution="model"))


def test_the_area_of_interest_ends_where_it_does_on_the_scenes_own_grid(tmp_path: Path, job: Path) -> None:
    write_scenes(tmp_path / "in")
    # Pixels of a metre that lie across its edges have their centres outside.
    left, bottom, right, top = 500_020.6, 4_599_900.7, 500_130.4, 4_599_960.3
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    area = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": shape}],
    }
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    run(job)
    whole = {name: read_mask(tmp_path / "out", name) for name in ("0.3m.tif", "1m.tif", "2m.tif")}
    run(job, f"aoi={tmp_path}/area.geojson", "output=cut")
    for name, expected in whole.items():
        with rasterio.open(tmp_path / "cut" / "masks" / name) as made:
            ids, transform = made.read(1), made.transform
        rows, cols = np.mgrid[: ids.shape[0], : ids.shape[1]] + 0.5
        x, y = transform.c + transform.a * cols, transform.f + transform.e * rows
        inside = (left < x) & (x < right) & (bottom < y) & (y < top)
        np.testing.assert_array_equal(ids, np.where(inside, expected, 255))


def test_a_plan_says_at_what_scenes_are_read_and_what_they_have(tmp_path: Path, job: Path) -> None:
    write_scenes(tmp_path / "in")
    planned = dry_run(load_job(job), lambda line: None)
    text = str(plan_scenes(planned))
    assert (
        "ground   0.3 to 2 m per pixel, read at 1 m (2 scenes; 1 as they are); masks on the scene's grid"
        in text
    )
    seen = SHAPE_HW[0] * SHAPE_HW[1]
    assert planned.numbers.source_pixels == 3 * seen
    own = (seen * 100 // 9, seen, seen // 4)
    assert planned.numbers.bytes_out == sum(2 * pixels * 4 // 3 for pixels in own)  # a mask, and confidence
    assert planned.numbers.bytes_in == pytest.approx(sum(own), rel=0.5)  # and the halos
    (warning,) = planned.warnings
    assert warning.startswith("resolution: 1 of 3 scenes are coarser than 1 m (2m.tif)")
    assert run(job).warnings == planned.warnings
    other = dry_run(load_job(job, ["resolution=3", "output=other"]), lambda line: None).warnings
    assert "scenes are read at 3 m, and the model was made for 1 m" in other[0]


def test_damaged_blocks_are_counted_in_pixels_of_the_mask(tmp_path: Path, job: Path) -> None:
    fine = resized(smooth(64, 96), 256, 384, Resampling.bilinear)
    path = write_raster(tmp_path / "in" / "a.tif", fine, transform=METRE @ Affine.scale(0.25))
    corrupt(path, 1, 2)
    for grid, pixels in (("scene", 64 * 64), ("model", 16 * 16)):
        run(job, "on_bad_block=nodata", f"mask_resolution={grid}", f"output={grid}")
        (row,) = pq.read_table(tmp_path / grid / "items" / "items.parquet").to_pylist()
        assert row["bad_pixels"] == pixels == (read_mask(tmp_path / grid, "a.tif") == 255).sum()


LANDCOVER = REPOSITORY / "configs" / "landcover-rgb.yaml"
TILE = SHARED / "dubai-mbrsc" / "Semantic segmentation dataset" / dubai.HELD_OUT
CROP = Window(256, 1536, 480, 360)


@pytest.mark.skipif(not TILE.is_dir(), reason="no Dubai scenes: set BATCHSEG_DATA")
def test_land_cover_of_a_finer_scene_is_that_of_a_scene_of_a_metre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("RESULTS", str(tmp_path))
    with rasterio.open(TILE / "images" / "image_part_005.jpg") as image:
        pixels = image.read(window=CROP)
    write_raster(tmp_path / "archive" / "1m.tif", pixels, transform=METRE)
    fine = resized(pixels, 1200, 1600, Resampling.bilinear)
    write_raster(tmp_path / "archive" / "0.3m.tif", fine, transform=METRE @ Affine.scale(0.3))
    keys = ("confidence=false", "gate={budget: 0}", "regions=false")
    run(LANDCOVER, *keys, "resolution=model", f"output={tmp_path}/read")
    run(LANDCOVER, *keys, f"output={tmp_path}/plain")
    reference = read_mask(tmp_path / "read", "1m.tif")
    same, plain = (
        float((at_centres(read_mask(tmp_path / name, "0.3m.tif"), reference.shape) == reference).mean())
        for name in ("read", "plain")
    )
    assert same > 0.93, (same, plain)
    assert plain < same - 0.1, (same, plain)
