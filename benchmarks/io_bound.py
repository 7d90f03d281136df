"""Case b: a network that costs next to nothing, over large generated scenes, against GDAL alone.

GDAL alone is one fresh process that reads all bands in strips and writes one COG band with as many threads
as cores (others/gdal_alone.py); its seconds are from opening to closing, those of the run from its first
lease to the last mask and table published. Files are in the page cache.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.networks import spectral
from benchmarks.options import Options
from benchmarks.record import Figure, in_turn
from benchmarks.runs import NO_TRIALS, Run, run_afresh, write_job
from benchmarks.scenes import Kind, make_scene

TITLE = "Bound by reading and writing"

KINDS = (
    Kind(dtype="uint8", bands=3, compress="deflate"),
    Kind(dtype="uint8", bands=3, compress="jpeg"),
    Kind(dtype="uint16", bands=4, compress="deflate"),
)


def spectral_job(folder: Path, kind: Kind, inputs: str, workers: int) -> Path:
    """A job of the spectral network, whose pixels see themselves alone: it has no halo."""
    return write_job(
        folder / f"{kind.name}.yaml",
        inputs=inputs,
        model=str(spectral(folder, kind.bands)),
        output="results",
        bands=list(range(1, kind.bands + 1)),
        tile_size=512,
        halo=0,
        scale={"divide": 255 if kind.dtype == "uint8" else 10_000},
        workers=workers,
        regions=False,
        gate=NO_TRIALS,
    )


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case b."""
    folder = options.folder("b")
    figures, extra = [], {}
    for kind in KINDS:
        size = options.uint8_size if kind.dtype == "uint8" else options.uint16_size
        scene = make_scene(folder, kind, (size, size), options.data)
        job = spectral_job(folder, kind, str(scene), options.workers)
        runs: list[Run] = []
        gdal_alone(scene)  # into the page cache

        def run(job: Path = job, runs: list[Run] = runs) -> float:
            runs.append(run_afresh(job, noted=False))
            return runs[-1].work_seconds

        sides = in_turn(
            options.rounds,
            {"gdal": lambda scene=scene: gdal_alone(scene), "run": run},
            lambda text, kind=kind: options.say(f"  {kind.name} {text}"),
        )
        noted = run_afresh(job)
        megapixels = size * size / 1e6
        figures.append(
            Figure(
                what=f"{size:,} x {size:,} x {kind.bands} {kind.dtype}, {kind.compress}: run / GDAL alone",
                above=tuple(megapixels / seconds for seconds in sides["run"]),
                below=tuple(megapixels / seconds for seconds in sides["gdal"]),
                above_unit="Mpx/s",
                below_unit="Mpx/s",
                at_least=0.70,
                aim=0.90,
                note="" if options.data else "generated content",
            )
        )
        extra[kind.name] = {
            "bytes": scene.stat().st_size,
            "bits_per_value": round(8 * scene.stat().st_size / (size * size * kind.bands), 2),
            "step_seconds": [one.summary["step_seconds"] for one in runs],
            "cpu_seconds": round(noted.cpu, 2),
            "predictors_cpu_seconds": round(noted.predictors_cpu, 2),
        }
    return figures, extra


def gdal_alone(scene: Path) -> float:
    mask = scene.with_suffix(".gdal.tif")
    command = [sys.executable, str(Path(__file__).parent / "others" / "gdal_alone.py"), str(scene), str(mask)]
    try:
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        mask.unlink(missing_ok=True)
