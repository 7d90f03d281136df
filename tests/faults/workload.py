"""The jobs that faults are put into: small archives of scenes and photographs, on a disk or in a bucket."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import rasterio
import yaml
from PIL import Image

from faults.commands import REPOSITORY, Place, kill, run, said
from faults.outcome import Outcome, outcome

Kind = Literal["scenes", "photographs"]

RULES = [
    {"name": "red", "class": "red", "min_area": 40},
    {"name": "much blue", "class": "blue", "min_area": 10, "count": 2, "then": "REVIEW"},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An archive, a job over it, and what an undisturbed run makes of it."""

    kind: Kind
    folder: Path
    """Of the archive (`in`), the models and the job files."""
    output_root: str
    """Where outputs are made: a folder or an s3:// URI."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """fsspec's, of the output's storage."""
    keys: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of the job file, beside or in place of the usual ones."""

    def job(self, name: str, **keys: Any) -> Path:
        """Write a job file whose output is `name`."""
        usual = _SCENES if self.kind == "scenes" else _PHOTOGRAPHS
        inputs = str(self.folder / "in" / ("*.tif" if self.kind == "scenes" else ""))
        values = {
            "inputs": inputs,
            "output": self.output(name),
            "model": str(self.folder / "models" / ("spectral" if self.kind == "scenes" else "spots")),
            "workers": 2,
            "gate": {"budget": 0},
        }
        values = {k: v for k, v in (values | usual | self.keys | keys).items() if v is not None}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    def output(self, name: str) -> str:
        return f"{self.output_root}/{name}"

    def outcome(self, name: str) -> Outcome:
        return outcome(self.output(name), **self.options)

    def remove(self, name: str) -> None:
        files, root = fsspec.core.url_to_fs(self.output(name), **self.options)
        if files.exists(root):
            files.rm(root, recursive=True)


_SCENES: dict[str, Any] = {
    "bands": [1, 2, 3, 4],
    "tile_size": 64,
    "halo": 8,
    "shard_tiles": 2,
    "scale": {"divide": 10000},
    "classes": ["soil", "water", "vegetation", "bright"],
    "confidence": True,
    "regions": {"min_area": 4},
}
_PHOTOGRAPHS: dict[str, Any] = {
    "fit": "tile",
    "tile_size": 64,
    "halo": 4,
    "classes": ["none", "red", "green", "blue"],
    "masks": "all",
    "rules": RULES,
}


def make_workload(
    kind: Kind, folder: Path, *, size: int = 6, output_root: str | None = None, **fields: Any
) -> Workload:
    """An archive of `size` scenes of about 100 tiles each, or of 20 times as many photographs.

    The same size gives the same files. Models are made once in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_models(folder / "models")
    if not (folder / "in").exists():
        (folder / "in").mkdir()
        for number in range(size if kind == "scenes" else 20 * size):
            (_write_scene if kind == "scenes" else _write_photograph)(folder / "in", number)
    root = output_root or str(folder)
    return Workload(kind=kind, folder=folder, output_root=root, **fields)


def make_models(folder: Path) -> None:
    """The networks of tests/models.py, unless they are there."""
    if folder.exists():
        return
    paths = os.pathsep.join((str(REPOSITORY / "jobs"), str(REPOSITORY / "tests")))
    subprocess.run(
        [sys.executable, "-W", "ignore", str(REPOSITORY / "tests" / "models.py"), str(folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
    )


def undisturbed(workload: Workload, name: str = "undisturbed", **keys: Any) -> tuple[Outcome, int, float]:
    """What a run without faults gives, the tiles that it predicts, and its seconds by its own summary.

    Raises:
        RuntimeError: it did not end with exit code 0.
    """
    workload.remove(name)  # an earlier campaign's in the same folder, or else there is nothing to do
    with place() as here:
        started = time.monotonic()
        if run(here, "run", workload.job(name, **keys)) != 0:
            raise RuntimeError(said(here))
        seconds = time.monotonic() - started
        return workload.outcome(name), len(here.predicted()), seconds


@contextmanager
def place() -> Iterator[Place]:
    """A place for one trial; its files and processes go with it."""
    with tempfile.TemporaryDirectory(prefix="bf-", dir="/tmp") as folder:
        inner = Path(folder) / "t"
        inner.mkdir()
        here = Place(inner)
        try:
            yield here
        finally:
            kill(here.processes())


def _write_scene(folder: Path, number: int) -> None:
    height, width = 400 + 48 * (number % 4) + 5, 480 + 48 * (number % 3) + 11
    random = np.random.default_rng(number)
    rows, cols = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + 4 * b)) * np.cos(cols / (13 - 2 * b)) for b in range(4)]
    values = np.clip(0.2 + 0.15 * np.array(waves) + random.normal(0, 0.02, (4, height, width)), 0.001, 1)
    pixels = (values * 10_000).astype(np.uint16)
    pixels[:, 40:45, 60:200] = 0
    profile: dict[str, Any] = {"driver": "GTiff", "count": 4, "dtype": "uint16", "compress": "deflate"}
    profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "nodata": 0, "crs": "EPSG:32633"}
    transform = rasterio.Affine(10.0, 0.0, 600_000.0 + 10_000 * number, 0.0, -10.0, 5_000_000.0)
    path = folder / f"scene-{number:02}.tif"
    with rasterio.open(path, "w", height=height, width=width, transform=transform, **profile) as dataset:
        dataset.write(pixels)


def _write_photograph(folder: Path, number: int) -> None:
    height, width = 90 + 10 * (number % 4), 150 + 10 * (number % 3)
    random = np.random.default_rng(number)
    pixels = random.integers(20, 140, (height, width, 3), dtype=np.uint8)
    for _ in range(number % 4):
        row, col = random.integers(0, height - 12), random.integers(0, width - 12)
        pixels[row : row + 9, col : col + 11, random.integers(0, 3)] = 230
    Image.fromarray(pixels).save(folder / f"line-{number % 3}-{number:04}.png")
