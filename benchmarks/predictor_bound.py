"""Case a: a run that is bound by its predictors, against as many bare ones.

The run is the console script on a local Ray, from its first lease to the last mask and table published. The
bare predictors are processes of one thread each that run the network as its owner ships it, nothing baked, on
the same tiles, cut and normalised beforehand and held in memory; of its answers they make nothing.
"""

import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.options import Options
from benchmarks.record import Figure, in_turn
from benchmarks.runs import Run, run_afresh, write_job

TITLE = "Bound by the predictors"

NOTED_RUNS = 3
"""Beside the timed ones: looking at all processes ten times a second takes a twentieth of a core."""

LIMITS = {"fp32": (0.92, 0.97), "bf16": (0.87, 0.95)}


def bare(job: Path, part: int, parts: int, barrier, results) -> None:
    """One predictor on every `parts`-th tile of the scene: how many, seconds, CPU seconds."""
    from batchseg.driver.prepare import probe_model
    from batchseg.engines.base import engine
    from batchseg.engines.graphs.derive import prepare_network
    from batchseg.inputs.listing import find_sources
    from batchseg.job.file import load_job
    from batchseg.job.resolve import make_recipe
    from batchseg.models.reading import read_package
    from batchseg.pixels.fit import tile_grid
    from batchseg.pixels.grid import ShardGrid, cut_tile
    from batchseg.pixels.header import read_header
    from batchseg.pixels.read import read_shards
    from batchseg.predict.predictor import Preparation

    config = load_job(job)
    package = read_package(config.model)
    facts, device = probe_model(config, package)
    recipe = replace(make_recipe(config, package, facts, device), bake=None)
    scene = read_header(find_sources(config, {})[0][0])
    network = prepare_network(
        package, engine=engine(recipe.engine), bake=None, precision=recipe.precision, device="cpu"
    )
    session = engine(recipe.engine).load(network, precision=recipe.precision, device="cpu", threads=1)
    prepare = Preparation(recipe)
    mine, number = [], 0
    for shard in ShardGrid(tiles=tile_grid(recipe, scene.height, scene.width), tiles_hw=(4, 4)):
        (held,), _ = read_shards(scene, recipe, (shard,))
        for tile in shard.tiles:
            number += 1
            if number % parts == part:
                batch = prepare.buffer(1)
                prepare(cut_tile(held.pixels, shard.read, tile), batch[0])
                mine.append(batch)
    session.run(mine[0])
    barrier.wait()
    started, cpu = time.perf_counter(), time.process_time()
    for batch in mine:
        session.run(batch)
    results.put((len(mine), time.perf_counter() - started, time.process_time() - cpu))


def bare_rate(job: Path, count: int) -> tuple[float, float]:
    """Tiles a second of `count` bare predictors, and CPU seconds per tile."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=bare, args=(job, i, count, barrier, results)) for i in range(count)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    tiles = sum(answer[0] for answer in answers)
    rate = tiles / max(seconds for _, seconds, _ in answers)
    return rate, sum(cpu for _, _, cpu in answers) / tiles


def job_of(options: Options, case: str, precision: str, workers: int) -> Path:
    return write_job(
        options.folder(case) / f"{precision}-{workers}.yaml",
        inputs=str(options.need_scene()),
        model=str(options.need_model()),
        output="results",
        bands=[1, 2, 3],
        tile_size=512,
        halo=64,
        workers=workers,
        precision=precision,
        regions=False,
    )


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case a."""
    figures, extra = [], {}
    for precision in ("fp32", "bf16"):
        job = job_of(options, "a", precision, options.workers)
        found, steps = _measure(job, precision, options)
        figures += found
        extra[precision] = steps
    return figures, extra


def _measure(job: Path, precision: str, options: Options) -> tuple[list[Figure], Mapping[str, object]]:
    runs: list[Run] = []
    cpu: list[float] = []

    def run() -> float:
        runs.append(run_afresh(job, noted=False))
        return runs[-1].summary["tiles"] / runs[-1].work_seconds

    def predictors() -> float:
        rate, seconds = bare_rate(job, options.workers)
        cpu.append(seconds)
        return rate

    run_afresh(job, noted=False)  # graphs are derived and kept
    sides = in_turn(options.rounds, {"bare": predictors, "run": run}, _saying(options, f"{precision} "))
    with_regions = run_afresh(job, "--set", "regions=true", noted=False)
    noted = [run_afresh(job) for _ in range(min(options.rounds, NOTED_RUNS))]
    at_least, aim = LIMITS[precision]
    bound = {"at_most": 0.15, "aim": 0.08} if precision == "bf16" else {}
    within = tuple(one.predictors_cpu for one in noted)
    tiles = runs[0].summary["tiles"]
    found = [
        Figure(
            what=f"{precision}: run after start-up, tail included / bare predictors",
            above=sides["run"],
            below=sides["bare"],
            above_unit="tiles/s",
            below_unit="tiles/s",
            at_least=at_least,
            aim=aim,
        ),
        Figure(
            what=f"{precision}: CPU seconds of everything else / within the predictors",
            above=tuple(one.cpu - inside for one, inside in zip(noted, within, strict=True)),
            below=within,
            above_unit="s",
            below_unit="s",
            **bound,
        ),
        Figure(
            what=f"{precision}: all CPU seconds beyond the bare predictors' / theirs",
            above=tuple(one.cpu - tiles * bare for one, bare in zip(noted, cpu, strict=False)),
            below=tuple(tiles * bare for bare in cpu[: len(noted)]),
            above_unit="s",
            below_unit="s",
            note="what is made part of the graph counts as everything else",
        ),
        Figure(
            what=f"{precision}: the same run with regions / bare predictors",
            above=(with_regions.summary["tiles"] / with_regions.work_seconds,),
            below=(statistics.median(sides["bare"]),),
            above_unit="tiles/s",
            below_unit="tiles/s",
        ),
    ]
    return found, {"tiles": tiles, "step_seconds": [one.summary["step_seconds"] for one in runs]}


def _saying(options: Options, name: str):
    return lambda text: options.say(f"  {name}{text}")
