"""Case g: what people use, on the same part of a scene and on the same photographs.

Of PaddleSeg its sliding predict and the loop of deploy/python/infer.py; and a plain Ray Data pipeline with
the same predictor. Start-up counts for nobody: interpreters, weights and the first tile or image are there,
and of a run it is the time after start-up, its tail included. PaddleSeg's predict computes with one thread
unless OMP_NUM_THREADS says otherwise, and holds the scores of the whole image three times over as float64: a
part of the scene is taken.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import rasterio
from rasterio.windows import Window

from benchmarks.options import Options
from benchmarks.record import Figure, SkippedError, in_turn
from benchmarks.runs import Run, run_afresh, write_job

TITLE = "What people use"

OTHERS = Path(__file__).parent / "others"

ENGINES: Mapping[str, Mapping[str, object]] = {"fp32": {}, "chosen": {"engine": "auto"}}
"""Keys of the job by what the table calls it."""

WIDE = {f"{name}, tiles of 1024": {**keys, "tile_size": 1024} for name, keys in ENGINES.items()}
"""On the scene as well: of a wider tile the halo, which is predicted and dropped, is a smaller part."""

SIDE = 512
"""Pixels per side of a photograph: what the network takes, for none of both resizes any."""


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case g that the interpreters at hand allow."""
    model = options.need_model()
    folder = options.folder("g")
    scene, image, megapixels = cut_scene(options, folder)
    over_scene, chosen = _over_scene(options, model, scene, image, megapixels)
    if options.paddleseg is None:
        options.say("  PaddleSeg itself is left out: it needs --paddleseg, an interpreter that has it")
        return over_scene, chosen
    over_photographs, more = _over_photographs(options, model, image)
    return [*over_scene, *over_photographs], {**chosen, **more}


def cut_scene(options: Options, folder: Path) -> tuple[Path, Path, float]:
    """The scene's middle as a tiled GeoTIFF and as a PNG, and its megapixels."""
    with rasterio.open(options.need_scene()) as dataset:
        height, width = (min(options.peer_size, size) for size in dataset.shape)
        row_off, col_off = (
            (size - part) // 2 for size, part in zip(dataset.shape, (height, width), strict=True)
        )
        window = Window(col_off, row_off, width, height)
        pixels = dataset.read([1, 2, 3], window=window)
        place = {"crs": dataset.crs, "transform": dataset.window_transform(window)}
    scene, image = folder / "scene.tif", folder / "scene.png"
    coding = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    shape = {"height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(scene, "w", **coding, **shape, **place) as dataset:
        dataset.write(pixels)
    cv2.imwrite(str(image), pixels.transpose(1, 2, 0)[..., ::-1])
    return scene, image, height * width / 1e6


def _over_scene(
    options: Options, model: Path, scene: Path, image: Path, megapixels: float
) -> tuple[list[Figure], dict[str, object]]:
    folder = options.folder("g")
    kinds: Mapping[str, Mapping[str, object]] = {**ENGINES, **WIDE}
    runs: dict[str, list[Run]] = {name: [] for name in kinds}
    inference: dict[str, list[float]] = {}

    def batchseg(name: str, job: Path) -> float:
        runs[name].append(run_afresh(job, noted=False))
        return megapixels / runs[name][-1].work_seconds

    def sliding(way: str, threads: int) -> float:
        output = _empty(folder / "predict")
        answer = paddleseg(options, "paddleseg_predict.py", str(image), str(output), threads=threads)
        inference.setdefault(way, []).append(megapixels / answer["inference_seconds"])
        return megapixels / answer["seconds"]

    jobs = {
        name: write_job(
            folder / f"{name}.yaml",
            inputs=str(scene),
            model=str(model),
            output="results",
            bands=[1, 2, 3],
            halo=64,
            workers=options.workers,
            regions=False,
            **{"tile_size": 512, **keys},
        )
        for name, keys in kinds.items()
    }
    sides = {name: lambda name=name, job=job: batchseg(name, job) for name, job in jobs.items()}
    sides["Ray Data"] = lambda: megapixels / ray_data(jobs["fp32"], options.workers)
    if options.paddleseg is not None:
        sides["PaddleSeg"] = lambda: sliding("PaddleSeg", 1)
        sides["PaddleSeg, all cores"] = lambda: sliding("PaddleSeg, all cores", options.workers)
    for job in jobs.values():
        run_afresh(job, noted=False)  # graphs are derived and kept
    found = in_turn(options.rounds, sides, lambda text: options.say(f"  scene, {text}"))
    figures = []
    if options.paddleseg is not None:
        limits = {"fp32": (10, 12), "chosen": (18, 25)}
        what = "PaddleSeg's sliding predict, stride 384"
        figures += [
            _figure(name, what, found[name], found["PaddleSeg"], *limits[name.partition(",")[0]])
            for name in kinds
        ]
        what = f"the same with OMP_NUM_THREADS={options.workers}"
        figures += [_figure(name, what, found[name], found["PaddleSeg, all cores"]) for name in ENGINES]
        what = "its inference alone with one thread, nothing read or written"
        figures += [_figure(name, what, found[name], tuple(inference["PaddleSeg"])) for name in ENGINES]
    figures += [
        _figure(name, "a plain Ray Data pipeline, fp32", found[name], found["Ray Data"]) for name in ENGINES
    ]
    return figures, {"megapixels": megapixels, "chosen": runs["chosen"][-1].summary["engine"]}


def _over_photographs(options: Options, model: Path, image: Path) -> tuple[list[Figure], dict[str, object]]:
    folder = options.folder("g")
    images = cut_photographs(image, _empty(folder / "photographs"), options.peer_photographs)
    megapixels = images * SIDE * SIDE / 1e6
    chosen: list[object] = []

    def batchseg(job: Path) -> float:
        one = run_afresh(job, noted=False)
        chosen.append(one.summary["engine"])
        return megapixels / one.work_seconds

    def loop(*settings: str) -> float:
        output = str(_empty(folder / "infer"))
        given = (str(model), str(folder / "photographs"), output)
        return megapixels / paddleseg(options, "paddleseg_infer.py", *given, *settings)["seconds"]

    jobs = {
        name: write_job(
            folder / f"photographs-{name}.yaml",
            inputs="photographs",
            model=str(model),
            output="results",
            fit="resize",
            tile_size=SIDE,
            workers=options.workers,
            regions=False,
            **keys,
        )
        for name, keys in ENGINES.items()
    }
    sides = {name: lambda job=job: batchseg(job) for name, job in jobs.items()}
    sides["defaults"] = lambda: loop("10")
    sides["oneDNN"] = lambda: loop(str(options.workers), "mkldnn")
    for job in jobs.values():
        run_afresh(job, noted=False)
    found = in_turn(options.rounds, sides, lambda text: options.say(f"  photographs, {text}"))
    words = {"defaults": "with its defaults", "oneDNN": "with oneDNN and as many threads as cores"}
    figures = [
        _figure(name, f"deploy/python/infer.py {words[way]}, {images} photographs", found[name], found[way])
        for way in words
        for name in ENGINES
    ]
    return figures, {"chosen for photographs": chosen[-1]}


def _figure(
    name: str,
    other: str,
    ours: tuple[float, ...],
    theirs: tuple[float, ...],
    at_least: float | None = None,
    aim: float | None = None,
) -> Figure:
    engine = name.replace("chosen", "the engine that `auto` chooses")
    return Figure(
        what=f"batchseg, {engine} / {other}",
        above=ours,
        below=theirs,
        above_unit="Mpx/s",
        below_unit="Mpx/s",
        at_least=at_least,
        aim=aim,
    )


def cut_photographs(image: Path, folder: Path, count: int) -> int:
    """Squares of an image as JPEGs, taken again from its start where it has too few: how many."""
    pixels = cv2.imread(str(image))
    across, down = pixels.shape[1] // SIDE, pixels.shape[0] // SIDE
    for number in range(count):
        row, col = divmod(number % (across * down), across)
        square = pixels[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
        cv2.imwrite(str(folder / f"{number:04d}.jpg"), square, [cv2.IMWRITE_JPEG_QUALITY, 92 - number % 5])
    return count


def paddleseg(options: Options, script: str, *arguments: str, threads: int = 1) -> dict[str, float]:
    """A script in PaddleSeg's interpreter: the JSON of its last line. Raises SkippedError."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = str(threads)
    return _answer([str(options.paddleseg), str(OTHERS / script), *arguments], environment)


def ray_data(job: Path, workers: int) -> float:
    """Seconds from the first tile's reading to the mask's closing."""
    mask = job.with_suffix(".raydata.tif")
    command = [sys.executable, str(OTHERS / "ray_data.py"), str(job), str(mask), str(workers)]
    return _answer(command, dict(os.environ))["seconds_after_first"]


def _answer(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        msg = f"{Path(command[1]).name} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        raise SkippedError(msg)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))  # libraries print
    found: dict[str, float] = json.loads(line)
    return found


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
