"""Draws a scene, segments it, and says what was found: python examples/first_steps.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import rasterio

import batchseg

folder, model = Path(sys.argv[1]), Path(__file__).resolve().parents[1] / "models" / "landcover"
pixels = np.random.default_rng(0).normal([[[190]], [[170]], [[140]]], 12, (3, 600, 700))  # sand
pixels[:, 200:400, 100:500] -= [[[190]], [[80]], [[60]]]  # and a lagoon
place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(600_000, 5_000_000, 1, 1)}
(folder / "scenes").mkdir(parents=True)
with rasterio.open(
    folder / "scenes/coast.tif", "w", width=700, height=600, count=3, dtype="uint8", **place
) as scene:
    scene.write(pixels.clip(0, 255).astype(np.uint8))

names = ["building", "land", "road", "vegetation", "water"]
job = batchseg.Job(
    inputs=folder / "scenes", model=model, output=folder / "results", classes=names, executor="inline"
)
report = batchseg.run(job, progress=True)
print(f"{report.tally.done} scene done")
output = batchseg.open(job)
print(output.masks()["coast.tif"])
print(output.regions("EPSG:32633").groupby("class_name").area_m2.sum())
