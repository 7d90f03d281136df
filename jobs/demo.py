"""`make demo`: a scene and a model made on the spot, the main job over them, and how right its mask is."""

import os
import subprocess
import sys
from pathlib import Path

import demo_scene
from accuracy import accuracy, table

import batchseg

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = REPOSITORY / "demo"
NAME = "generated.tif"


def main() -> None:
    scene, truth, model = DEMO / "scenes" / NAME, DEMO / "truth" / NAME, DEMO / "model"
    if not truth.exists():
        print(f"drawing a scene of four bands and its truth: {scene}")
        scene.parent.mkdir(parents=True, exist_ok=True)
        truth.parent.mkdir(parents=True, exist_ok=True)
        demo_scene.write_scene(scene, truth)
    if not (model / "model.pdiparams").exists():
        print(f"exporting the spectral model: {model}")
        export = [sys.executable, "-W", "ignore", str(REPOSITORY / "jobs" / "spectral.py"), str(model)]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    job = REPOSITORY / "configs" / "demo.yaml"
    command = Path(sys.executable).with_name("batchseg")
    print(f"$ {os.path.relpath(command)} run {os.path.relpath(job)}", flush=True)
    subprocess.run([str(command), "run", str(job)], check=True)
    mask = Path(batchseg.open(DEMO / "results").masks()[NAME])
    print(f"\nmask {mask} against the generator's truth:")
    print(table(accuracy(mask, truth)))


if __name__ == "__main__":
    main()
