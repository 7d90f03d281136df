"""The rows of case a: trained networks and a random one, each in fp32 and bf16, with regions or without."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batchseg.system.machine import has_fast_bf16
from benchmarks.digest_jobs import PPOCR
from benchmarks.options import Options
from benchmarks.record import REPOSITORY, SkippedError
from benchmarks.runs import write_job

PPOCR_FOLDER = Path("models", "ppocrv4-det-paddle")
"""Of PP-OCR's detector, below the data folder."""

NEEDED = ("model", "bands", "scale", "normalize", "classes")
"""Keys of a job that nobody but its owner knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A network in one precision."""

    network: str
    precision: str
    regions: bool = False
    at_least: float | None = None
    """Of bare predictors' speed that a run reaches."""
    aim: float | None = None

    @property
    def name(self) -> str:
        return f"{self.network}-{self.precision}{'-regions' * self.regions}"


ROWS = (
    Row(network="landcover", precision="fp32", at_least=0.88, aim=0.93),
    Row(network="landcover", precision="fp32", regions=True, at_least=0.85, aim=0.91),
    Row(network="landcover", precision="bf16", at_least=0.84, aim=0.90),
    Row(network="landcover", precision="bf16", regions=True, at_least=0.78, aim=0.87),
    Row(network="ppocr", precision="fp32"),
    Row(network="ppocr", precision="bf16"),
    Row(network="ppliteseg", precision="fp32", at_least=0.90, aim=0.95),
    Row(network="ppliteseg", precision="bf16", at_least=0.84, aim=0.92),
)
"""Those of one network and precision stand together: they share the bare predictors of a round."""


def check(row: Row, options: Options) -> None:
    """Raises SkippedError where a row cannot be measured here."""
    if row.precision == "bf16" and not has_fast_bf16():
        msg = "bf16 needs a CPU with avx512_bf16 or AMX"
        raise SkippedError(msg)
    settings(row, options)


OWN_ENGINE = {"engine": "paddle", "precision": "fp32", "tile_size": 512, "halo": 64}
"""Of jobs of Paddle networks that are to be the same on all machines."""


def job_of(row: Row, options: Options, case: str, scene: Path, workers: int) -> Path:
    """The job file of a row. Raises SkippedError."""
    own = {
        "inputs": str(scene),
        "output": "results",
        "workers": workers,
        **OWN_ENGINE,
        "precision": row.precision,
    }
    path = options.folder(case) / f"{row.name}-{scene.stem}-{workers}.yaml"
    return write_job(path, **settings(row, options) | own)


def unset(network: str, options: Options) -> dict[str, Any]:
    """What a job of a row's network must say: nothing that batchseg can choose. Raises SkippedError."""
    found = settings(Row(network=network, precision="fp32"), options)
    return {key: found[key] for key in NEEDED if key in found}


def settings(row: Row, options: Options) -> Mapping[str, Any]:
    """What a row's network needs in a job: of land cover what configs/ says. Raises SkippedError."""
    if row.network == "landcover":
        path = REPOSITORY / "configs" / "landcover-rgb.yaml"
        shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
        model = {"model": str(path.parent / shipped["model"]), "resolution": "any", "confidence": False}
        model |= {"tile_size": 512, "halo": 64}
        return shipped | model | {"regions": row.regions and shipped["regions"]}
    if row.network == "ppocr":
        if options.data is None or not (options.data / PPOCR_FOLDER).is_dir():
            msg = f"PP-OCR needs --data, a folder that has {PPOCR_FOLDER}"
            raise SkippedError(msg)
        model = PPOCR["model"] | {"path": str((options.data / PPOCR_FOLDER).resolve())}
        return PPOCR | {"model": model, "regions": False}
    return {
        "model": str(options.need_model()),
        "bands": [1, 2, 3],
        "tile_size": 512,
        "halo": 64,
        "regions": False,
    }
