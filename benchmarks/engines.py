"""`batchseg model bench` over several models: speed, agreement, and what a run would take.

    python -m benchmarks.engines IMAGE MODEL[=IMAGE] [MODEL[=IMAGE] ...]

IMAGE is a raster of 8-bit RGB; the first three bands are used. Each model is a folder or an ONNX file; one
of text, say, is told little by a landscape, and may have an image of its own.
One without a deploy.yaml is fed (x / 255 - 0.5) / 0.5.
"""

import argparse
import json
import tempfile
from pathlib import Path

import yaml

from batchseg.cli.model_trials import bench_table
from batchseg.driver.dry_run import bench_job
from batchseg.errors import BatchsegError
from batchseg.job.file import load_job
from batchseg.job.settings import JobConfig
from batchseg.predict.choice import figures


def job_for(image: Path, model: Path, tile_size: int | None, folder: Path) -> JobConfig:
    """A job that leaves open what is tried. `tile_size`: None: that too."""
    job = {
        "inputs": str(image.resolve()),
        "model": str(model.resolve()),
        "output": str(folder / "results"),
        "bands": [1, 2, 3],
    }
    if tile_size is not None:
        job |= {"tile_size": tile_size, "halo": 64}
    if model.is_dir() and not any((model / name).is_file() for name in ("deploy.yaml", "inference.yml")):
        job["normalize"] = {"mean": [0.5], "std": [0.5]}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return load_job(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL[=IMAGE]")
    parser.add_argument("--tile-size", type=int, help="with a halo of 64; else both are found")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    document = {}
    for given in arguments.models:
        name, _, own_image = given.partition("=")
        model, image = Path(name), Path(own_image or arguments.image)
        print(f"\n## {model.name}\n")
        with tempfile.TemporaryDirectory() as folder:
            config = job_for(image, model, arguments.tile_size, Path(folder))
            try:
                found = bench_job(config, lambda line: print(f"  {line}", flush=True))
            except BatchsegError as e:
                print(e)
                continue
        print("\n".join(bench_table(found)))
        document[model.name] = {
            "trials": [figures(trial) for trial in found.trials],
            "chosen": found.chosen.name,
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
