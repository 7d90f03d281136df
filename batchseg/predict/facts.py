"""What a probe tile showed of a model, kept by content beside the networks derived from it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from batchseg.engines.base import Device, engine
from batchseg.engines.graphs.cache import cache_key, cached_folder
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import EngineName
from batchseg.models.package import ModelFacts, ModelPackage
from batchseg.predict.probe import probe
from batchseg.system.machine import cpu_class, has_gpu_nodes

VERSION = 1
"""Of what a probe looks at: another number, and nothing kept before is used."""

FACTS_FILE = "facts.json"


def probed_once(
    package: ModelPackage,
    *,
    channels: int | None,
    tile_size: int,
    device: Literal["auto", "cpu", "gpu"],
    engines: Sequence[EngineName] = (),
) -> tuple[ModelFacts, Device]:
    """As `probe.probe`, from the cache of models where the same question was answered on such a machine.

    A probe is a new interpreter that imports the engine and loads the network: half of the CPU time until
    the first tile. Encrypted models leave nothing on a disk. With a GPU the answer may change with its
    driver, and is asked for each time.

    Raises:
        ModelError: the model cannot be loaded, crashes, or is no segmentation network. That is not kept.
        StoppedError: the cache's disk is full or failing.
    """

    def ask() -> tuple[ModelFacts, Device]:
        return probe(package, channels=channels, tile_size=tile_size, device=device, engines=engines)

    if package.encrypted or has_gpu_nodes():
        return ask()

    def make(folder: Path) -> None:
        facts, where = ask()
        document = {"facts": dataclasses.asdict(facts), "device": where}
        (folder / FACTS_FILE).write_text(json.dumps(document), encoding="utf-8")

    names = sorted({reference_engine(package), *engines})
    said = dataclasses.replace(package, path="", network="", params=None, conversion=None)
    key = cache_key(
        {
            "what": "facts",
            "version": VERSION,
            "model": dataclasses.asdict(said),
            "channels": channels,
            "tile_size": tile_size,
            "device": device,
            "engines": {name: engine(name).version() for name in names},
            "cpu_class": cpu_class(),
        }
    )
    kept = json.loads((cached_folder(key, make) / FACTS_FILE).read_text(encoding="utf-8"))
    return ModelFacts(**kept["facts"]), kept["device"]
