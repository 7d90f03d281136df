"""Bare predictors: processes of one thread each that run a network as its owner ships it, nothing baked.

They take the tiles of a job's first scene, cut and normalised before and held in memory; of the network's
answers they make nothing.
"""

import multiprocessing
import queue
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

LOOK_SECONDS = 1.0
"""How often processes are looked at that owe an answer."""


def bare(job: Path, part: int, parts: int, barrier, results) -> None:
    """One predictor on every `parts`-th tile of the scene: how many, seconds, CPU seconds."""
    from batchseg.driver.prepare import probe_model
    from batchseg.engines.base import engine
    from batchseg.engines.graphs.derive import prepare_network
    from batchseg.inputs.listing import list_inputs
    from batchseg.inputs.scene_rows import some_sources
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
    scene = read_header(some_sources(list_inputs(config, {})[0], config)[0])
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
    """Tiles a second of `count` bare predictors, and CPU seconds per tile.

    Raises:
        RuntimeError: one of them ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=bare, args=(job, i, count, barrier, results)) for i in range(count)]
    for process in processes:
        process.start()
    try:
        answers = _answers(processes, results)
    except RuntimeError:
        for process in processes:
            process.kill()  # the others wait for it
        raise
    finally:
        for process in processes:
            process.join()
    tiles = sum(answer[0] for answer in answers)
    rate = tiles / max(seconds for _, seconds, _ in answers)
    return rate, sum(cpu for _, _, cpu in answers) / tiles


def _answers(processes: Sequence[BaseProcess], results) -> list[tuple[int, float, float]]:
    answers: list[tuple[int, float, float]] = []
    while len(answers) < len(processes):
        try:
            answers.append(results.get(timeout=LOOK_SECONDS))
        except queue.Empty:
            if codes := [process.exitcode for process in processes if process.exitcode]:
                msg = f"a bare predictor ended with {codes[0]}"
                raise RuntimeError(msg) from None
    return answers
