"""Networks that give a number a pixel: rasters of them, thresholds, and what resumes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import Command, JobWriter, batchseg, read_mask, write_raster
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from runs import interrupted, run, run_on_ray
from sieved import expected

from batchseg.driver import commit, scene_queue
from batchseg.errors import ConfigError, ModelError
from batchseg.job.cleaning import Cleaning
from batchseg.output.ledger import Ledger
from batchseg.tools.verify import verify

WEIGHTS = np.array([0.01, -0.02, 0.005], np.float32)


def write_height(path: Path, *, bands: int = 1, squeezed: bool = False) -> Path:
    """A network that mixes three bands into numbers of both signs."""
    weights = np.repeat(WEIGHTS.reshape(1, 3, 1, 1), bands, axis=0)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    shape: list[Any] = ["n", bands, "h", "w"]
    constants = [numpy_helper.from_array(weights, "w")]
    if squeezed:
        nodes.append(helper.make_node("Squeeze", ["y", "axis"], ["z"]))
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
        shape = ["n", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "height",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("z" if squeezed else "y", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def numbers(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.tensordot(WEIGHTS, pixels.astype(np.float32), axes=1).astype(np.float32)


@pytest.fixture
def scene(tmp_path: Path) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(5).integers(1, 256, (3, 150, 230), dtype=np.uint8)
    pixels[:, 20:60, 30:90] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    return pixels


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter, scene: NDArray[np.uint8]) -> Path:
    model = write_height(tmp_path / "height.onnx")
    return write_job(
        model=str(model), bands=None, classes=None, scale=None, normalize="none", result="values", halo=0
    )


def layers(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes()
        for folder in ("masks", "values", "annotations")
        for path in sorted((output / folder).rglob("*"))
        if path.is_file() and path.suffix != ".parquet"
    }


def item(output: Path) -> dict[str, Any]:
    (row,) = pq.read_table(output / "items" / "items.parquet").to_pylist()
    return dict(row)


@pytest.mark.parametrize("squeezed", [False, True])
def test_numbers_are_the_networks_and_nodata_is_nan(
    tmp_path: Path, job: Path, scene: NDArray[np.uint8], squeezed: bool
) -> None:
    write_height(tmp_path / "height.onnx", squeezed=squeezed)
    assert run(job).tally.done == 1
    expected = np.where(scene.any(axis=0), numbers(scene), np.nan)
    found = read_mask(tmp_path / "out", "scene.tif", "values")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with rasterio.open(tmp_path / "out" / "values" / "scene.tif") as values:
        assert np.isnan(values.nodata)
        assert (values.dtypes, values.crs.to_epsg()) == (("float32",), 32633)
        assert values.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert values.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
    assert not (tmp_path / "out" / "masks").exists()
    row = item(tmp_path / "out")
    assert (row["mask"], row["values"], row["clipped_pixels"]) == (None, "values/scene.tif", 0)
    told = [row["value_min"], row["value_mean"], row["value_max"]]
    np.testing.assert_allclose(told, [np.nanmin(found), np.nanmean(found), np.nanmax(found)], rtol=1e-6)
    assert row["valid_share"] == pytest.approx(1 - 40 * 60 / (150 * 230))
    checked = verify(str(tmp_path / "out"), quick=False, say=lambda line: None)
    assert (checked.problems, checked.unrecorded) == ((), ())
    again = run(job)
    assert (again.tally.done, again.skipped) == (0, 1)


def test_uint16_shows_real_numbers_and_tells_what_it_clipped(
    tmp_path: Path, job: Path, scene: NDArray[np.uint8]
) -> None:
    run(job, "values={dtype: uint16, scale: 0.0001, offset: -2}")
    valid, expected = scene.any(axis=0), numbers(scene)
    with rasterio.open(tmp_path / "out" / "values" / "scene.tif") as values:
        assert (values.dtypes, values.nodata, values.scales, values.offsets) == (
            ("uint16",),
            65535,
            (0.0001,),
            (-2.0,),
        )
        stored = values.read(1)
    assert (stored[~valid] == 65535).all()
    clipped = (expected < -2) & valid
    assert clipped.any()
    np.testing.assert_allclose(stored[valid & ~clipped] * 0.0001 - 2, expected[valid & ~clipped], atol=6e-5)
    assert (stored[clipped] == 0).all()
    assert item(tmp_path / "out")["clipped_pixels"] == np.count_nonzero(stored[valid] == 0)


@pytest.mark.slow
def test_tiles_shards_workers_and_executors_change_no_byte(
    tmp_path: Path, job: Path, ray_cluster: str
) -> None:
    threshold = "values={threshold: -0.5}"
    variants = (
        ("output=a", "tile_size=64", "shard_tiles=1"),
        ("output=b", "tile_size=96", "shard_tiles=2", "batch_size=3"),
        ("output=c", "tile_size=512", "workers=2"),
    )
    for variant in variants:
        run(job, threshold, *variant)
    run_on_ray(job, ray_cluster, threshold, "output=d", "tile_size=80", "shard_tiles=2")
    first = layers(tmp_path / "a")
    assert {name.partition("/")[0] for name in first} == {"masks", "values"}
    for name in "bcd":
        assert layers(tmp_path / name) == first


def test_a_threshold_makes_a_mask_and_regions(tmp_path: Path, job: Path, scene: NDArray[np.uint8]) -> None:
    run(job, "values={threshold: -0.5}", "classes=[low, high]")
    found = read_mask(tmp_path / "out", "scene.tif", "values")
    mask = read_mask(tmp_path / "out", "scene.tif")
    np.testing.assert_array_equal(mask, np.where(np.isnan(found), 255, found > np.float32(-0.5)))
    (part,) = (tmp_path / "out" / "annotations").rglob("*.parquet")
    regions = pq.read_table(part).to_pandas()
    assert set(regions["class_name"]) == {"high"}
    assert regions["area_px"].sum() == np.count_nonzero(mask == 1)
    run(job, "values={threshold: -0.5}", "classes=[low, tall]")
    assert set(pq.read_table(part).to_pandas()["class_name"]) == {"tall"}
    with pytest.raises(ConfigError, match=r"values: threshold: -0\.5 -> 0"):
        run(job, "values={threshold: 0}", "classes=[low, tall]")


def test_a_thresholds_mask_is_sieved_and_its_numbers_stay(tmp_path: Path, job: Path) -> None:
    keys = ("values={threshold: -0.5}", "classes=[low, high]")
    run(job, *keys)
    plain = layers(tmp_path / "out")
    mask = read_mask(tmp_path / "out", "scene.tif")
    run(job, *keys, "sieve=3")
    clean = read_mask(tmp_path / "out", "scene.tif")
    np.testing.assert_array_equal(clean, expected(mask, Cleaning(classes=(), sieve=3), 255))
    assert (clean != mask).any()
    assert layers(tmp_path / "out")["values/scene.tif"] == plain["values/scene.tif"]
    run(job, *keys)
    assert layers(tmp_path / "out") == plain


def test_numbers_alone_are_compressed_anew_without_predicting(tmp_path: Path, job: Path) -> None:
    run(job)
    before = read_mask(tmp_path / "out", "scene.tif", "values")
    row = item(tmp_path / "out")
    run(job, "compress=zstd")
    with rasterio.open(tmp_path / "out" / "values" / "scene.tif") as values:
        assert values.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "ZSTD"
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "scene.tif", "values"), before)
    assert item(tmp_path / "out") == row


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, job: Path, scene: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("values={threshold: -0.5}", "shard_tiles=1")
    run(job, *keys, "output=whole")
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(scene_queue, "LEASE_SECONDS", 0.0, raising=False)
    interrupted(job, *keys)
    assert Ledger(str(tmp_path / "out")).shards("scene.tif")
    report = run(job, *keys)
    assert (report.tally.done, report.skipped) == (1, 0)
    assert layers(tmp_path / "out") == layers(tmp_path / "whole")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"values": {"threshold": 1.0}, "result": "classes"}, "add result: values"),
        ({"confidence": True}, "confidence: numbers are no probabilities"),
        ({"num_classes": 3}, "num_classes: numbers have no classes"),
        ({"classes": ["a", "b"]}, "classes: needs values"),
        ({"classes": ["a", "b", "c"], "values": {"threshold": 1}}, "name these two"),
        ({"regions": {"min_area": 3}}, "regions: needs values"),
        ({"values": {"dtype": "uint16"}}, "dtype: uint16 needs a scale"),
        ({"values": {"scale": 2}}, "scale and offset are of dtype: uint16"),
        ({"values": {"threshold": {"percentile": 99, "of": "good"}}}, "measured on photographs"),
        ({"sieve": 9}, "sieve: needs values"),
        ({"merge": {"any": [0, 1]}}, "merge: needs values"),
        ({"precision": "int8"}, "networks are quantised by their classes"),
    ],
)
def test_keys_that_do_not_go_with_numbers_are_refused(
    job: Path, tmp_path: Path, write_job: JobWriter, keys: dict[str, Any], words: str
) -> None:
    plain = {
        "model": str(tmp_path / "height.onnx"),
        "bands": None,
        "classes": None,
        "scale": None,
        "normalize": "none",
        "result": "values",
        "halo": 0,
    }
    with pytest.raises(ConfigError, match=words):
        run(write_job(**(plain | keys)))


def test_networks_of_another_kind_are_refused(tmp_path: Path, job: Path) -> None:
    write_height(tmp_path / "height.onnx", bands=3)
    with pytest.raises(ModelError, match="gives 3 bands a pixel, and result: values is for one"):
        run(job)
    write_height(tmp_path / "height.onnx")
    with pytest.raises(ModelError, match=r"one band of scores outside 0..1; .* add result: values"):
        run(job, "result=classes")


@pytest.mark.slow
def test_an_engine_that_is_named_is_compared_by_its_numbers(tmp_path: Path, job: Path) -> None:
    pytest.importorskip("openvino")
    ended = batchseg(
        "run", job, "--set", "engine=openvino", "--set", "precision=fp32", "--executor", "inline"
    )
    assert ended.returncode == 0, ended.stderr
    assert "100.0000% equal" in ended.stderr + ended.stdout


def test_a_paddle_network_of_one_band(
    tmp_path: Path, write_job: JobWriter, models: Path, scene: NDArray[np.uint8]
) -> None:
    keys = {"bands": None, "classes": None, "scale": {"divide": 255}, "halo": 0, "result": "values"}
    assert run(write_job(model=str(models / "glow"), **keys)).tally.done == 1
    expected = 1 / (1 + np.exp(-8 * (scene.astype(np.float64).mean(axis=0) / 255 - 0.5)))
    found = read_mask(tmp_path / "out", "scene.tif", "values")
    np.testing.assert_allclose(found, np.where(scene.any(axis=0), expected, np.nan), atol=1e-5)
    with pytest.raises(ModelError, match="output_name: is of networks with several outputs"):
        run(write_job(model={"path": str(models / "glow"), "output_name": "x"}, **keys))


def test_numbers_without_a_threshold_have_no_regions_to_export(
    tmp_path: Path, job: Path, command: Command
) -> None:
    run(job)
    refused = command("export", tmp_path / "out", tmp_path / "all.gpkg")
    assert refused.returncode == 2
    assert (
        "holds numbers without a threshold, which make no regions; set values: {threshold: ...}"
        in refused.stderr
    )
    done = command("run", job, "--set", "values={threshold: 0}", "--replace", "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert command("export", tmp_path / "out", tmp_path / "all.gpkg").returncode == 0
    assert (tmp_path / "all.gpkg").exists()
