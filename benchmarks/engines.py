"""Engines and precisions on several models: tiles per second, agreement, and which one `auto` takes.

    python -m benchmarks.engines IMAGE MODEL[=IMAGE] [MODEL[=IMAGE] ...]

IMAGE is a raster of 8-bit RGB; the first three bands are used. Each model is a folder or an ONNX file; one
of text, say, is told little by a landscape, and may have an image of its own.
One without a deploy.yaml is fed (x / 255 - 0.5) / 0.5. Beside the engines, Paddle is measured with one
predictor of as many threads as there are workers. Ratios are to Paddle fp32.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import yaml

from batchseg.cli.model import bench_table
from batchseg.driver.dry_run import bench_job
from batchseg.driver.executors.start import worker_count
from batchseg.driver.prepare import probe_model
from batchseg.errors import BatchsegError
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.file import load_job
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe
from batchseg.job.settings import JobConfig
from batchseg.models.reading import read_package
from batchseg.predict.choice import figures
from batchseg.predict.engine_trials import Bench, save_samples, tiles_per_second
from batchseg.predict.samples import sample_tiles


def job_for(image: Path, model: Path, tile_size: int, tiles: int, folder: Path) -> JobConfig:
    job = {
        "inputs": str(image.resolve()),
        "model": str(model.resolve()),
        "output": str(folder / "results"),
        "bands": [1, 2, 3],
        "tile_size": tile_size,
        "gate": {"tiles": tiles},
    }
    if model.is_dir() and not any((model / name).is_file() for name in ("deploy.yaml", "inference.yml")):
        job["normalize"] = {"mean": [0.5], "std": [0.5]}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return load_job(path)


def many_threads(config: JobConfig, seconds: float) -> dict[str, float | str]:
    """Paddle as one predictor of all threads."""
    package = read_package(config.model)
    facts, device = probe_model(config, package)
    recipe: Recipe = make_recipe(config, package, facts, device)
    samples = sample_tiles(recipe, some_sources(list_inputs(config, {})[0], config), config.gate.tiles)
    found: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = save_samples(samples, Path(folder))
        for precision in ("fp32", "bf16"):
            try:
                found[precision] = tiles_per_second(
                    replace(recipe, precision=precision),
                    path,
                    workers=1,
                    seconds=seconds,
                    limit=300.0,
                    threads=worker_count(config),
                )
            except Exception as e:  # noqa: BLE001  a precision that fails is a line of the table
                found[precision] = str(e)
    return found


def show(name: str, found: Bench, threads: dict[str, float | str]) -> None:
    print(f"\n## {name}\n")
    for line in bench_table(found):
        print(line)
    for precision, speed in threads.items():
        one = next((t for t in found.trials if (t.engine, t.precision) == ("paddle", precision)), None)
        if one and one.tiles_per_second and isinstance(speed, float):
            ratio = one.tiles_per_second / speed
            print(
                f"paddle {precision}, one predictor of {found.workers} threads: {speed:.2f} tiles/s; "
                f"{found.workers} of one thread: {ratio:.2f} of that"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL[=IMAGE]")
    parser.add_argument("--tile-size", type=int, default=512)
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    document = {}
    for given in arguments.models:
        name, _, own_image = given.partition("=")
        model, image = Path(name), Path(own_image or arguments.image)
        with tempfile.TemporaryDirectory() as folder:
            config = job_for(image, model, arguments.tile_size, arguments.tiles, Path(folder))
            try:
                found = bench_job(config, lambda line: print(f"  {line}", flush=True))
                threads = many_threads(config, config.gate.seconds)
            except BatchsegError as e:
                print(f"\n## {model.name}\n\n{e}")
                continue
            show(model.name, found, threads)
            document[model.name] = {
                "trials": [figures(trial) for trial in found.trials],
                "chosen": found.chosen.name,
                "one_predictor_of_all_threads": threads,
            }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
