"""Case d: photographs a second beside a plain loop that only decodes them.

    python -m benchmarks.photographs FOLDER [--count 200000] [--megapixels 0.1] [--loop 20000]

Makes 40 JPEGs, one in ten with defects, and COUNT hard links to them in FOLDER/in, 2 % to those with
defects. Then, in one run: a multiprocessing loop over the first LOOP of them that does cv2.imread and no
more; `batchseg run` over all, masks of failures only, with a network that costs next to nothing; the same
again, with nothing new; and with 500 new ones. FOLDER/in and the output are removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from benchmarks.options import Options
from benchmarks.record import Figure, in_turn
from benchmarks.runs import NO_TRIALS, Run, run_afresh, write_job

TITLE = "Photographs"

KINDS, FAULTY = 40, 4
LINKS = 4000
"""Images per folder."""


def make_model(folder: Path) -> None:
    """Four classes by the brightness of a pixel's own bands; Paddle is loaded in this process alone."""
    import paddle

    class Spots(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            threshold = paddle.nn.initializer.Constant(150.0)
            self.threshold = self.create_parameter([1], default_initializer=threshold)

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            bright = (x - self.threshold) / 16
            return paddle.concat((paddle.zeros_like(bright[:, :1]), bright), axis=1)

    spec = [paddle.static.InputSpec([None, 3, None, None], "float32", name="x")]
    network = Spots()
    network.eval()
    paddle.jit.save(paddle.jit.to_static(network, input_spec=spec, full_graph=True), str(folder / "model"))
    deploy = {"model": "model.json", "params": "model.pdiparams", "transforms": []}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))


def make_image(rng: np.random.Generator, height: int, width: int, *, faulty: bool) -> np.ndarray:
    """Smooth grey shades with noise; a defect is a red disc of at least 30 pixels' diameter."""
    coarse = rng.integers(60, 125, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    image = np.clip(image + rng.integers(-8, 8, image.shape), 20, 130).astype(np.uint8)
    if faulty:
        centre = (int(rng.integers(60, width - 60)), int(rng.integers(60, height - 60)))
        cv2.circle(image, centre, int(rng.integers(15, 40)), (30, 30, 250), -1)
    return image


def make_images(folder: Path, count: int, megapixels: float) -> list[str]:
    height = round((megapixels * 1e6 * 0.8) ** 0.5)
    width = round(height / 0.8)
    rng = np.random.default_rng(0)
    (folder / "kinds").mkdir()
    kinds = [folder / "kinds" / f"{number}.jpg" for number in range(KINDS)]
    for number, path in enumerate(kinds):
        image = make_image(rng, height, width, faulty=number < FAULTY)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
    names = []
    for number in range(count):
        if number % LINKS == 0:
            day = folder / "in" / f"line {number // LINKS % 4}" / f"{number // LINKS:04d}"
            day.mkdir(parents=True)
        faulty = number % 50 == 7
        kind = kinds[number % FAULTY if faulty else FAULTY + number % (KINDS - FAULTY)]
        path = day / f"{number:07d}.jpg"
        os.link(kind, path)
        names.append(str(path))
    size = sum(path.stat().st_size for path in kinds) / KINDS
    print(f"{count:,} images of {width} x {height} pixels, {size / 1000:.0f} kB")
    return names


def decode(path: str) -> int:
    return int(cv2.imread(path).shape[0])


def loop(names: list[str]) -> float:
    """Images a second of the plain loop."""
    cores = len(os.sched_getaffinity(0))
    fresh = multiprocessing.get_context("spawn")  # a fork of OpenCV's threads hangs
    with fresh.Pool(cores, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        pool.map(decode, names[: 64 * cores])  # the processes are there, the files in the page cache
        started = time.monotonic()
        for _ in pool.imap_unordered(decode, names, chunksize=64):
            pass
        return len(names) / (time.monotonic() - started)


class Watch(threading.Thread):
    """The highest anonymous memory of a process."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status, self.peak = Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self) -> None:
        try:
            while True:
                for line in self._status.read_text().splitlines():
                    if line.startswith("RssAnon"):
                        self.peak = max(self.peak, int(line.split()[1]) * 1024)
                time.sleep(0.05)
        except OSError:
            return


def run(job: Path) -> tuple[float, int, dict[str, object]]:
    """Seconds from command to exit, the driver's peak memory, and what the run says of itself."""
    command = [str(Path(sys.executable).with_name("batchseg")), "run", str(job), "--quiet"]
    started = time.monotonic()
    process = subprocess.Popen(command)
    watch = Watch(process.pid)
    if process.wait() != 0:
        sys.exit(process.returncode)
    seconds = time.monotonic() - started
    runs = sorted((job.parent / "out" / "_batchseg" / "runs").iterdir())
    return seconds, watch.peak, json.loads((runs[-1] / "summary.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--megapixels", type=float, default=0.1)
    parser.add_argument("--loop", type=int, default=20_000)
    parser.add_argument("--tile-size", type=int, default=64)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True)
    names = prepare(folder, arguments.count, arguments.megapixels)
    job = make_job(folder, arguments.tile_size)
    try:
        nights(job, names, arguments.loop)
    finally:
        for part in ("in", "out", "kinds"):
            shutil.rmtree(folder / part, ignore_errors=True)


def prepare(folder: Path, count: int, megapixels: float) -> list[str]:
    """The network and the images of a new folder: their paths."""
    (folder / "model").mkdir(parents=True)
    maker = multiprocessing.get_context("spawn").Process(target=make_model, args=(folder / "model",))
    maker.start()
    maker.join()
    return make_images(folder, count, megapixels)


def make_job(folder: Path, tile_size: int) -> Path:
    """Masks of failures only; an image is a tile, whatever its size."""
    return write_job(
        folder / "job.yaml",
        inputs="in",
        model="model",
        output="out",
        fit="resize",
        tile_size=tile_size,
        classes=["good", "red", "green", "blue"],
        masks="failed",
        rules=[{"class": "red", "min_area": 50}],
        gate=NO_TRIALS,
    )


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case d: small images, and one tenth as many large ones."""
    figures, extra = [], {}
    for megapixels, count in ((0.1, options.photographs), (2.0, options.photographs // 10)):
        folder = options.work.resolve() / "d"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            found, steps = _measure(folder, count, megapixels, options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        figures += found
        extra[f"{megapixels} megapixels"] = steps
    return figures, extra


def _measure(
    folder: Path, count: int, megapixels: float, options: Options
) -> tuple[list[Figure], Sequence[object]]:
    names = prepare(folder, count, megapixels)
    job = make_job(folder, tile_size=64)
    runs: list[Run] = []

    def night() -> float:
        runs.append(run_afresh(job, noted=False))
        return count / runs[-1].work_seconds

    run_afresh(job, noted=False)  # files come into the page cache, graphs are derived and kept
    found = in_turn(
        options.rounds,
        {"loop": lambda: loop(names), "run": night},
        lambda text: options.say(f"  {megapixels} megapixels: {text}"),
    )
    rates = {
        "after start-up": found["run"],
        "command to exit": tuple(count / one.seconds for one in runs),
    }
    figures = [
        Figure(
            what=f"{count:,} JPEGs of {megapixels} megapixels, {words} / cv2.imread alone on all cores",
            above=rate,
            below=found["loop"],
            above_unit="images/s",
            below_unit="images/s",
        )
        for words, rate in rates.items()
    ]
    return figures, [one.summary["step_seconds"] for one in runs]


def nights(job: Path, names: list[str], loop_count: int) -> None:
    folder = job.parent
    plain = loop(names[:loop_count])
    print(f"cv2.imread in a multiprocessing loop: {plain:.0f} images/s", flush=True)
    seconds, peak, summary = run(job)
    count = len(names)
    print(
        f"batchseg run: {seconds:.1f} s, {count / seconds:.0f} images/s, {count / seconds / plain:.2f} of "
        f"the loop; verdicts {summary['verdicts']}; driver RssAnon {peak / 2**20:.0f} MiB at most",
        flush=True,
    )
    print(f"loop again: {loop(names[:loop_count]):.0f} images/s", flush=True)
    seconds, peak, _ = run(job)
    print(f"nothing new: {seconds:.1f} s, RssAnon {peak / 2**20:.0f} MiB", flush=True)
    new = folder / "in" / "new"
    new.mkdir()
    for number in range(500):
        os.link(folder / "kinds" / f"{number % KINDS}.jpg", new / f"{number}.jpg")
    seconds, _, summary = run(job)
    print(f"500 new: {seconds:.1f} s, {summary['done']} done, {summary['skipped']} done before", flush=True)


if __name__ == "__main__":
    main()
