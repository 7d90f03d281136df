"""Tiles per second of a whole run over those of as many bare predictors, in one benchmark.

    python benchmarks/predictor_bound.py SCENE.tif MODEL [--precision bf16] [--rounds 3]

The run is the console script on Ray, from its first lease to the last mask published, tail included.
The bare predictors are processes of one thread each that run the network alone on the same tiles,
cut and normalised beforehand and held in memory. Both are repeated in turn; the ratio is of medians.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml

from batchseg.config import load_job
from batchseg.engines import engine
from batchseg.graphs.derived import prepare_network
from batchseg.grid import ShardGrid, cut_tile
from batchseg.inputs import find_sources
from batchseg.prepare import Preparation
from batchseg.read import read_header, read_shards
from batchseg.resolve import make_recipe
from batchseg.settle import probe_model, read_package


def bare(job: Path, part: int, parts: int, barrier, results) -> None:
    """One predictor on every `parts`-th tile of the scene."""
    config = load_job(job)
    package = read_package(config.model)
    facts, device = probe_model(config, package)
    recipe = replace(make_recipe(config, package, facts, device), bake=None)
    scene = read_header(find_sources(config, {})[0][0])
    bare_network = prepare_network(
        package, engine=engine(recipe.engine), bake=None, precision=recipe.precision, device="cpu"
    )
    session = engine(recipe.engine).load(bare_network, precision=recipe.precision, device="cpu", threads=1)
    prepare = Preparation(recipe)
    tiles = []
    for shard in ShardGrid(tiles=recipe.grid(scene.height, scene.width), tiles_hw=(4, 4)):
        (held,), _ = read_shards(scene, recipe, (shard,))
        for tile in shard.tiles:
            batch = prepare.buffer(1)
            prepare(cut_tile(held.pixels, shard.read, tile), batch[0])
            tiles.append(batch)
    mine = tiles[part::parts]
    session.run(mine[0])
    barrier.wait()
    started = time.perf_counter()
    for batch in mine:
        session.run(batch)
    results.put((len(mine), time.perf_counter() - started))


def bare_rate(job: Path, count: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=bare, args=(job, i, count, barrier, results)) for i in range(count)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(tiles for tiles, _ in answers) / max(seconds for _, seconds in answers)


def run_rate(job: Path, output: Path) -> tuple[float, dict]:
    command = [Path(sys.executable).with_name("batchseg"), "run", job, "--quiet", "--set", f"output={output}"]
    subprocess.run(command, check=True)
    (summary,) = output.glob("_batchseg/runs/*/summary.json")
    document = json.loads(summary.read_text())
    return document["tiles"] / document["seconds_after_start"], document


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.yaml"
        job.write_text(
            yaml.safe_dump(
                {
                    "inputs": str(arguments.scene.resolve()),
                    "model": str(arguments.model.resolve()),
                    "output": "results",
                    "bands": [1, 2, 3],
                    "tile_size": 512,
                    "halo": 64,
                    "workers": arguments.workers,
                    "precision": arguments.precision,
                }
            )
        )
        bares, runs = [], []
        for number in range(arguments.rounds):
            bares.append(bare_rate(job, arguments.workers))
            rate, document = run_rate(job, Path(folder) / f"out{number}")
            runs.append(rate)
            steps = document["step_seconds"]
            print(f"round {number}: bare {bares[-1]:.2f} tiles/s, run {rate:.2f}, steps {steps}")
    ratio = statistics.median(runs) / statistics.median(bares)
    print(f"{arguments.precision}: run / bare = {ratio:.3f} (medians of {arguments.rounds})")


if __name__ == "__main__":
    main()
