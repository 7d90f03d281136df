"""Draws a scene, segments it, and says what was found: python examples/first_steps.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import rasterio

import batchseg

FOLDER = Path(sys.argv[1])
MODEL = Path(__file__).resolve().parents[1] / "models" / "landcover"

pixels = np.random.default_rng(0).normal((70, 110, 60), 12, (600, 700, 3))  # a meadow
pixels[200:400, 100:500] = np.random.default_rng(1).normal((30, 60, 110), 4, (200, 400, 3))  # and a lake
place = rasterio.transform.from_origin(600_000, 5_000_000, 1, 1)
profile = {"width": 700, "height": 600, "count": 3, "dtype": "uint8", "crs": "EPSG:32633", "transform": place}
(FOLDER / "scenes").mkdir(parents=True)
with rasterio.open(FOLDER / "scenes" / "meadow.tif", "w", **profile) as scene:
    scene.write(pixels.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))

job = batchseg.Job(
    inputs=FOLDER / "scenes" / "*.tif",
    model=MODEL,
    output=FOLDER / "results",
    classes=["building", "land", "road", "vegetation", "water"],
    executor="inline",
)
report = batchseg.run(job, progress=True)
print(f"{report.tally.done} scene done")

output = batchseg.open(job)
print(output.masks()["meadow.tif"])
print(output.regions("EPSG:32633").groupby("class_name").area_m2.sum())
