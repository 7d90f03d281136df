"""What a second night costs over many small scenes: start-up, listings, objects below _batchseg.

    python -m benchmarks.many_scenes FOLDER [COUNT]

Makes COUNT (10,000) scenes of 96 x 112 pixels in FOLDER/in, segments them twice on two workers, and
prints. It needs FOLDER/model, an export of jobs/spectral.py.
"""

import collections
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
import yaml
from rasterio.transform import Affine

from batchseg.inputs import scene_sets
from batchseg.system import listing

HEIGHT, WIDTH = 96, 112


def make_scenes(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 100:02d}" / f"{number:06d}.tif"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(100, 6000, (4, HEIGHT // 16, WIDTH // 16), dtype=np.uint16)
        pixels = pixels.repeat(16, axis=1).repeat(16, axis=2)
        where = Affine(10, 0, 500_000 + 2000 * (number % 100), 0, -10, 5_000_000 - 2000 * (number // 100))
        profile = {"driver": "GTiff", "count": 4, "height": HEIGHT, "width": WIDTH, "dtype": "uint16"}
        with rasterio.open(path, "w", crs="EPSG:32633", transform=where, **profile) as dataset:
            dataset.write(pixels)


def run(job: Path, *options: str) -> float:
    started = time.monotonic()
    batchseg = str(Path(sys.executable).with_name("batchseg"))
    subprocess.run([batchseg, "run", str(job), *options], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def count_listings(job: Path) -> collections.Counter[str]:
    """Listing calls of a run with nothing to do, in this process."""
    from batchseg.driver.begin import begin
    from batchseg.driver.job import run_job
    from batchseg.job.file import load_job

    calls: collections.Counter[str] = collections.Counter()
    homes = [(listing, name) for name in ("list_files", "list_folder", "list_subfolders")]
    for home, name in (*homes, (listing, "file_info"), (scene_sets, "file_info")):
        real = getattr(home, name)

        def counted(*arguments, _name=name, _real=real):
            calls[_name] += 1
            return _real(*arguments)

        setattr(home, name, counted)
    config = load_job(job)
    with begin(config) as begun:
        run_job(config, begun, listeners=[], stop=lambda: None, replace=False)
    return calls


def objects(output: Path) -> dict[str, int]:
    """Files by folder below _batchseg, and of the region tables."""
    private = output / "_batchseg"
    counts = {
        str(folder.relative_to(output)): sum(1 for p in folder.rglob("*") if p.is_file())
        for folder in sorted(private.iterdir())
        if folder.is_dir()
    }
    return {**counts, "annotations": sum(1 for p in (output / "annotations").rglob("*.parquet"))}


def main() -> None:
    folder, count = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    make_scenes(folder / "in", count)
    job = folder / "many.yaml"
    settings = {
        "inputs": "in",
        "model": "model",
        "output": "out",
        "bands": [1, 2, 3, 4],
        "tile_size": 128,
        "halo": 8,
        "scale": {"divide": 10000},
        "classes": ["soil", "water", "vegetation", "bright"],
    }
    job.write_text(yaml.safe_dump(settings))
    print(f"first run, {count} scenes: {run(job):.1f} s")
    print(f"files: {objects(folder / 'out')}")
    print(f"second run, nothing to do: {run(job):.1f} s, command to exit")
    print(f"calls of a run with nothing to do: {dict(count_listings(job))}")
    print(f"files: {objects(folder / 'out')}")


if __name__ == "__main__":
    main()
