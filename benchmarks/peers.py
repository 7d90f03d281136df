"""Case g: what people use, on the same part of a scene and on the same photographs.

Of PaddleSeg its sliding predict and the loop of deploy/python/infer.py; and a plain Ray Data pipeline with
the same predictor. Start-up counts for nobody: interpreters, weights and the first tile or image are there,
and of a run it is the time after start-up, its tail included. PaddleSeg's predict computes with one thread
unless OMP_NUM_THREADS says otherwise, and holds the scores of the whole image twice over as float64: a
part of the scene is taken, and the whole of it where the memory is there.

Jobs name no tile size and no halo. `fp32` names PaddleSeg's precision, `chosen` names nothing. Ray Data gets
the tiles and the engine of the network's own runtime, by name.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import rasterio
from rasterio.windows import Window

from benchmarks.options import Options
from benchmarks.record import Figure, SkippedError, in_turn
from benchmarks.runs import run_afresh, write_job

TITLE = "What people use"

OTHERS = Path(__file__).parent / "others"

PARTS = ("part", "whole", "photographs")
"""Of --only: the scene's middle, all of the scene, and photographs."""

ENGINES: Mapping[str, Mapping[str, object]] = {"fp32": {"precision": "fp32"}, "chosen": {}}
"""Keys of the job by what the table calls it."""

LIMITS = {"fp32": (10, 12), "chosen": (18, 25)}
"""At least, and aim: of PaddleSeg's sliding predict's speed."""

PLAIN = {"engine": "paddle", "precision": "fp32", "tile_size": 512, "halo": 64}

PREDICT_BYTES = 330
"""Of memory per pixel that PaddleSeg's predict takes at its peak, for 19 classes: measured on 1 and 9 Mpx."""

SIDE = 512
"""Pixels per side of a photograph: what the network takes, for none of both resizes any."""


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case g that the interpreters at hand allow."""
    model = options.need_model()
    figures: list[Figure] = []
    extra: dict[str, object] = {}
    left_out: list[str] = []
    for name, over in (("part", _over_part), ("whole", _over_whole), ("photographs", _over_photographs)):
        if options.only and name not in options.only:
            continue
        try:
            if name != "part" and options.paddleseg is None:
                msg = "it needs --paddleseg, an interpreter that has PaddleSeg"
                raise SkippedError(msg)
            found, extra[name] = over(options, model)
            figures += found
        except SkippedError as e:
            left_out.append(f"{name} left out: {e}")
            options.say(f"  {left_out[-1]}")
    if not figures:
        raise SkippedError("; ".join(left_out))
    return figures, {**extra, "left_out": left_out}


def cut_scene(options: Options, folder: Path, name: str, size: int | None) -> tuple[Path, Path, float]:
    """The scene's middle, or all of it, as a tiled GeoTIFF and as a PNG, and its megapixels."""
    with rasterio.open(options.need_scene()) as dataset:
        height, width = (min(size or side, side) for side in dataset.shape)
        row_off, col_off = (
            (side - part) // 2 for side, part in zip(dataset.shape, (height, width), strict=True)
        )
        window = Window(col_off, row_off, width, height)
        pixels = dataset.read([1, 2, 3], window=window)
        place = {"crs": dataset.crs, "transform": dataset.window_transform(window)}
    scene, image = folder / f"{name}.tif", folder / f"{name}.png"
    coding = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    shape = {"height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(scene, "w", **coding, **shape, **place) as dataset:
        dataset.write(pixels)
    cv2.imwrite(str(image), pixels.transpose(1, 2, 0)[..., ::-1])
    return scene, image, height * width / 1e6


class Scene:
    """The sides of the comparison on one scene, in megapixels per second."""

    def __init__(self, options: Options, model: Path, name: str, size: int | None) -> None:
        self._options, self._folder, self._name = options, options.folder("g"), name
        self.scene, self.image, self.megapixels = cut_scene(options, self._folder, name, size)
        self.jobs = {kind: self._job(kind, model, keys) for kind, keys in ENGINES.items()}
        self._plain = self._job("plain", model, PLAIN)
        self.inference: list[float] = []
        """Of PaddleSeg with one thread: its inference alone, nothing read or written."""
        self.engines: dict[str, object] = {}

    def _job(self, kind: str, model: Path, keys: Mapping[str, object]) -> Path:
        fixed = {"bands": [1, 2, 3], "workers": self._options.workers, "regions": False}
        path = self._folder / f"{self._name}-{kind}.yaml"
        return write_job(path, inputs=str(self.scene), model=str(model), output="results", **fixed, **keys)

    def batchseg(self, kind: str) -> float:
        one = run_afresh(self.jobs[kind], noted=False)
        self.engines[kind] = one.summary["engine"]
        return self.megapixels / one.work_seconds

    def sliding(self, threads: int) -> float:
        output = empty(self._folder / "predict")
        given = (str(self.image), str(output))
        answer = paddleseg(self._options, "paddleseg_predict.py", *given, threads=threads)
        if threads == 1:
            self.inference.append(self.megapixels / answer["inference_seconds"])
        return self.megapixels / answer["seconds"]

    def ray_data(self) -> float:
        return self.megapixels / ray_data(self._plain, self._options.workers)

    def in_turn(self, others: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, ...]]:
        """batchseg's jobs and others'."""
        sides = {kind: lambda kind=kind: self.batchseg(kind) for kind in ENGINES}
        for kind in ENGINES:
            self.batchseg(kind)  # engines are tried, graphs are derived and kept
        options, name = self._options, self._name
        return in_turn(options.rounds, {**sides, **others}, lambda text: options.say(f"  {name}, {text}"))

    def figures(self, found: Mapping[str, tuple[float, ...]]) -> list[Figure]:
        what = f"PaddleSeg's sliding predict, stride 384, {self.megapixels:.0f} Mpx"
        return [_figure(kind, what, found[kind], found["PaddleSeg"], *LIMITS[kind]) for kind in ENGINES]

    def extra(self) -> dict[str, object]:
        return {"megapixels": self.megapixels, "engines": self.engines}


def _over_part(options: Options, model: Path) -> tuple[list[Figure], dict[str, object]]:
    scene = Scene(options, model, "part", options.peer_size)
    others: dict[str, Callable[[], float]] = {"Ray Data": scene.ray_data}
    if options.paddleseg is None:
        options.say("  PaddleSeg itself is left out: it needs --paddleseg, an interpreter that has it")
    else:
        others["PaddleSeg"] = lambda: scene.sliding(1)
        others["PaddleSeg, all cores"] = lambda: scene.sliding(options.workers)
    found = scene.in_turn(others)
    figures = []
    if options.paddleseg is not None:
        figures += scene.figures(found)
        what = f"the same with OMP_NUM_THREADS={options.workers}"
        figures += [_figure(kind, what, found[kind], found["PaddleSeg, all cores"]) for kind in ENGINES]
        what = "its inference alone with one thread, nothing read or written"
        figures += [_figure(kind, what, found[kind], tuple(scene.inference)) for kind in ENGINES]
    what = "a plain Ray Data pipeline, fp32"
    figures += [_figure(kind, what, found[kind], found["Ray Data"]) for kind in ENGINES]
    return figures, scene.extra()


def _over_whole(options: Options, model: Path) -> tuple[list[Figure], dict[str, object]]:
    """PaddleSeg with one thread alone. Raises SkippedError where its memory is not there."""
    with rasterio.open(options.need_scene()) as dataset:
        needed = dataset.height * dataset.width * PREDICT_BYTES
    if needed > available_bytes():
        msg = f"PaddleSeg's predict takes {needed / 2**30:.0f} GiB of memory there"
        raise SkippedError(msg)
    scene = Scene(options, model, "whole", None)
    found = scene.in_turn({"PaddleSeg": lambda: scene.sliding(1)})
    return scene.figures(found), scene.extra()


def available_bytes() -> int:
    """Memory that programs can have without others' being moved to a disk."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _over_photographs(options: Options, model: Path) -> tuple[list[Figure], dict[str, object]]:
    folder = options.folder("g")
    _, image, _ = cut_scene(options, folder, "part", options.peer_size)
    images = cut_photographs(image, empty(folder / "photographs"), options.peer_photographs)
    megapixels = images * SIDE * SIDE / 1e6
    engines: dict[str, object] = {}

    def batchseg(name: str, job: Path) -> float:
        one = run_afresh(job, noted=False)
        engines[name] = one.summary["engine"]
        return megapixels / one.work_seconds

    def loop(*settings: str) -> float:
        output = str(empty(folder / "infer"))
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
    sides = {name: lambda name=name, job=job: batchseg(name, job) for name, job in jobs.items()}
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
    return figures, {"engines": engines}


def _figure(
    name: str,
    other: str,
    ours: tuple[float, ...],
    theirs: tuple[float, ...],
    at_least: float | None = None,
    aim: float | None = None,
) -> Figure:
    words = {"fp32": "fp32", "chosen": "what it chooses by itself"}
    return Figure(
        what=f"batchseg, {words[name]} / {other}",
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
    return answer_of([str(options.paddleseg), str(OTHERS / script), *arguments], environment)


def ray_data(job: Path, workers: int) -> float:
    """Seconds from the first tile's reading to the mask's closing."""
    mask = job.with_suffix(".raydata.tif")
    command = [sys.executable, str(OTHERS / "ray_data.py"), str(job), str(mask), str(workers)]
    return answer_of(command, dict(os.environ))["seconds_after_first"]


def answer_of(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """The JSON of a script's last line. Raises SkippedError."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        msg = f"{Path(command[1]).name} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        raise SkippedError(msg)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))  # libraries print
    found: dict[str, float] = json.loads(line)
    return found


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
