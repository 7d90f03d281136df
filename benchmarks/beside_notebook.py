"""Case i: the job of a beginner, beside the loop that an analyst writes in a notebook.

The job says what is read, by which model and where the masks go, bands and classes: of engine, precision,
tile size and halo nothing. The loop has batchseg's own conversion of the network to ONNX, made before; it
takes one scene after another, and leaves out what a job does beside masks: overviews, regions, a ledger.
Trials and derived graphs are kept in a folder of the case, which is empty before the first run: that one is
timed apart.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio

from benchmarks.options import Options
from benchmarks.peers import OTHERS, answer_of, empty
from benchmarks.record import Figure, in_turn
from benchmarks.rows import unset
from benchmarks.runs import Run, own_cache, run_afresh, write_job

TITLE = "Beside a notebook"

COUNTS = {"one scene": 1, "ten scenes": 10}

AFTER_START = 2.2
"""At least: how many times as fast as the loop the job is after start-up."""

TO_EXIT = {"one scene": 1.0, "ten scenes": 2.0}
"""The same from command to exit."""

SIDE = 512
"""Of the loop's windows: the conversion is for inputs of this size where it cannot be for all."""


@dataclass(frozen=True, slots=True)
class Network:
    """What the loop is given."""

    onnx: Path
    mean: str
    std: str


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one side on some scenes, in megapixels per second."""

    after_start: float
    to_exit: float


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case i."""
    folder, scene = options.folder("i"), options.need_aerial()
    settings = unset("landcover", options)
    network = converted(Path(settings["model"]), folder)
    scenes = {name: copies(scene, folder / name, count) for name, count in COUNTS.items()}
    jobs = {
        name: write_job(folder / f"{name}.yaml", inputs=name, output="results", **settings) for name in scenes
    }
    megapixels = pixels_of(scene) / 1e6
    cache = own_cache(folder)
    first = run_afresh(jobs["one scene"], noted=False, environment=cache)
    options.say(f"  the first run of the model: {first.seconds:.1f} s")
    loop(network, scenes["one scene"], folder)
    speeds: dict[tuple[str, str], list[Speed]] = {
        (name, side): [] for name in scenes for side in ("job", "loop")
    }
    runs: list[Run] = []

    def job_side(name: str) -> float:
        runs.append(run_afresh(jobs[name], noted=False, environment=cache))
        size = megapixels * COUNTS[name]
        speeds[name, "job"].append(Speed(size / runs[-1].work_seconds, size / runs[-1].seconds))
        return runs[-1].seconds

    def loop_side(name: str) -> float:
        seconds, whole = loop(network, scenes[name], folder)
        size = megapixels * COUNTS[name]
        speeds[name, "loop"].append(Speed(size / seconds, size / whole))
        return whole

    sides = {}
    for name in scenes:
        sides[f"{name}, loop, s"] = lambda name=name: loop_side(name)
        sides[f"{name}, job, s"] = lambda name=name: job_side(name)
    in_turn(options.rounds, sides, lambda text: options.say(f"  {text}"))
    figures = [
        figure for name in scenes for figure in _figures(name, speeds[name, "job"], speeds[name, "loop"])
    ]
    figures.append(
        Figure(
            what="one scene: the first run of the model here, command to exit",
            above=(first.seconds,),
            above_unit="s",
        )
    )
    said = settings | {"model": Path(settings["model"]).name}
    return figures, {"scene": scene.name, "chosen": runs[-1].summary["engine"], "settings": said}


def _figures(name: str, job: Sequence[Speed], beside: Sequence[Speed]) -> Iterator[Figure]:
    units = {"above_unit": "Mpx/s", "below_unit": "Mpx/s"}
    yield Figure(
        what=f"{name}: job / loop, after start-up",
        above=tuple(speed.after_start for speed in job),
        below=tuple(speed.after_start for speed in beside),
        at_least=AFTER_START,
        **units,
    )
    yield Figure(
        what=f"{name}: job / loop, from command to exit",
        above=tuple(speed.to_exit for speed in job),
        below=tuple(speed.to_exit for speed in beside),
        at_least=TO_EXIT[name],
        **units,
    )


def converted(model: Path, folder: Path) -> Network:
    """batchseg's own conversion of a Paddle network, and how its input is normalised."""
    from batchseg.engines.base import engine
    from batchseg.engines.graphs.derive import prepare_network
    from batchseg.models.package import ModelOptions
    from batchseg.models.reading import read_package

    package = read_package(ModelOptions(path=str(model)))
    network = prepare_network(
        package, engine=engine("onnxruntime"), bake=None, precision="fp32", device="cpu", size_hw=(SIDE, SIDE)
    )
    normalize = package.normalize
    mean, std = (
        ",".join(map(str, values or (0.5,)))
        for values in ((normalize.mean, normalize.std) if normalize else ((0.0,), (1.0,)))
    )
    return Network(Path(shutil.copyfile(network.path, folder / f"{model.name}.onnx")), mean, std)


def copies(scene: Path, folder: Path, count: int) -> list[Path]:
    """Files of their own in a folder of nothing else."""
    empty(folder)
    return [Path(shutil.copyfile(scene, folder / f"{number}.tif")) for number in range(count)]


def loop(network: Network, scenes: Sequence[Path], folder: Path) -> tuple[float, float]:
    """Seconds of the loop after start-up, and from command to exit."""
    output = empty(folder / "loop")
    command = [sys.executable, str(OTHERS / "notebook_loop.py"), str(network.onnx), str(output)]
    began = time.perf_counter()
    answer = answer_of([*command, network.mean, network.std, *map(str, scenes)], dict(os.environ))
    whole = time.perf_counter() - began
    shutil.rmtree(output)
    return answer["seconds"], whole


def pixels_of(scene: Path) -> int:
    with rasterio.open(scene) as dataset:
        return int(dataset.height * dataset.width)
