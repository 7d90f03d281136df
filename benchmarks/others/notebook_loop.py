"""Scenes segmented as in a notebook: windows through ONNX Runtime on all cores, one scene after another.

    python notebook_loop.py MODEL.onnx OUTPUT MEAN STD SCENE [SCENE ...]

MEAN and STD are PaddleSeg's, of values of 0 to 1: `0.5`, or `0.485,0.456,0.406` by band. Windows are of 512
with a halo of 64; beyond the scene's borders they are reflected, as batchseg does it. Prints JSON: seconds
from the first read to the last close, and pixels.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio
from rasterio.windows import Window

SIDE, HALO = 512, 64
CORE = SIDE - 2 * HALO


def segment(session: onnxruntime.InferenceSession, scene: str, mask: Path, mean, std) -> int:
    """Write the mask of a scene: its pixels."""
    name = session.get_inputs()[0].name
    with rasterio.open(scene) as source:
        height, width = source.shape
        coding = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512}
        place = {"height": height, "width": width, "crs": source.crs, "transform": source.transform}
        with rasterio.open(
            mask, "w", count=1, dtype="uint8", compress="deflate", **coding, **place
        ) as target:
            for row in range(0, height, CORE):
                for col in range(0, width, CORE):
                    top, left = max(row - HALO, 0), max(col - HALO, 0)
                    down, right = min(row - HALO + SIDE, height), min(col - HALO + SIDE, width)
                    pixels = source.read([1, 2, 3], window=Window(left, top, right - left, down - top))
                    rows = (top - row + HALO, row - HALO + SIDE - down)
                    cols = (left - col + HALO, col - HALO + SIDE - right)
                    window = np.pad(pixels, ((0, 0), rows, cols), mode="reflect")
                    batch = (window.astype(np.float32) / 255 - mean) / std
                    ids = session.run(None, {name: batch[None]})[0][0].argmax(axis=0).astype(np.uint8)
                    core = ids[HALO : HALO + min(CORE, height - row), HALO : HALO + min(CORE, width - col)]
                    target.write(core, 1, window=Window(col, row, core.shape[1], core.shape[0]))
    return height * width


def main(model: str, output: str, mean: str, std: str, *scenes: str) -> dict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    by_band = [np.float32(text.split(",")).reshape(-1, 1, 1) for text in (mean, std)]
    began = time.perf_counter()
    pixels = sum(
        segment(session, scene, Path(output, f"{Path(scene).stem}.tif"), *by_band) for scene in scenes
    )
    return {"seconds": time.perf_counter() - began, "pixels": pixels}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
