"""Where everything of an output lies. No other module spells the name of a folder.

    masks/<name>.tif                                a scene's mask; .png too for photographs
    confidence/<name>.tif                           the same, where the job says `confidence`
    values/<name>.tif                               the same, where it says `result: values`
    probabilities/<name>.tif                        the same, where it says `probabilities`: a band per class
    predicted/<name>.tif                            the mask before the job's `merge` and `sieve`
    annotations/crs=<code>/scene-<digest>.parquet   regions of one scene
    annotations/crs=<code>/part-<digest>.parquet    regions of many sources; crs=none of photographs
    items/items.parquet                             one row per source
    seams/seams.parquet                             one row per place that was predicted twice, and class

    _batchseg/output.json                           how the output is made
    _batchseg/ledger/segment-00000042.parquet       commits; snapshot-... what they add up to
    _batchseg/locks/epoch-00000007.json             who holds the output
    _batchseg/runs/<run id>/                        log, summary, profile of a run
    _batchseg/fragments/<digest>/<digest>/          predicted shards of scenes that are not finished
    _batchseg/networks/<sha256>.zip                 networks that were quantised for the output
    _batchseg/scratch/                              files in the making, of local outputs

The name is the source id's, by one of two rules (`mask_names`).

A "path" is relative to the output, as the ledger records it; a "file" or "folder" is its Location, whose
root is the output: whoever may write there must not lead a run elsewhere, so no link below it is followed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from batchseg.errors import OutputError
from batchseg.inputs.left_out import RECORDS
from batchseg.job.settings import MaskNames
from batchseg.output.mask_names import mask_name
from batchseg.system.location import Location, misplaced, shortened

if TYPE_CHECKING:
    from batchseg.job.recipe import Recipe

Layer = Literal["mask", "confidence", "values", "probabilities", "predicted"]
"""Which raster of a source: the class of each pixel, how sure the model is of it, the model's numbers, how
probable it takes each class for, or the classes as they were before the job's `merge` and `sieve`."""

MASKS, CONFIDENCE, VALUES, ANNOTATIONS = "masks", "confidence", "values", "annotations"
PROBABILITIES, PREDICTED = "probabilities", "predicted"
SHOWN = (MASKS, CONFIDENCE, VALUES, PROBABILITIES)
"""Folders of the rasters that people look at."""
RASTERS = (*SHOWN, PREDICTED)
RESULTS = (*RASTERS, ANNOTATIONS)
"""Folders of the files that the ledger records."""

ITEMS_TABLE = "items/items.parquet"
SEAMS_TABLE = "seams/seams.parquet"

_FOLDERS: dict[Layer, str] = {
    "mask": MASKS,
    "confidence": CONFIDENCE,
    "values": VALUES,
    "probabilities": PROBABILITIES,
    "predicted": PREDICTED,
}
_OWN = RECORDS
_SCRATCH = "scratch"
_NETWORKS = "networks"


def layers_of(recipe: Recipe) -> tuple[Layer, ...]:
    """The rasters that the network's answers make of each source."""
    asked: dict[Layer, bool] = {
        "mask": recipe.has_mask,
        "confidence": recipe.confidence,
        "values": recipe.values is not None,
        "probabilities": bool(recipe.probabilities),
    }
    return tuple(layer for layer, is_made in asked.items() if is_made)


def layer_path(source_id: str, layer: Layer, suffix: str = "tif", *, names: MaskNames) -> str:
    """The mask of a source, or another of its rasters, by the output's rule for names."""
    return f"{_FOLDERS[layer]}/{mask_name(source_id, suffix, names)}"


def is_layer(path: str) -> bool:
    """Whether a recorded path is a raster of a scene, rather than its sidecar or its regions."""
    return path.startswith(tuple(f"{folder}/" for folder in RASTERS)) and path.endswith(".tif")


def is_region_table(path: str) -> bool:
    return path.startswith(f"{ANNOTATIONS}/") and path.endswith(".parquet")


def scene_regions_path(crs: str, digest: str) -> str:
    """The regions of one scene; `crs` as in `geodesy.crs_code`, the digest of its id."""
    return f"{ANNOTATIONS}/crs={crs}/scene-{digest}.parquet"


def shared_regions_path(crs: str, digest: str) -> str:
    """The regions of many sources; the digest tells which."""
    return f"{ANNOTATIONS}/crs={crs}/part-{digest}.parquet"


def is_shared(path: str) -> bool:
    """Whether a region table is of many sources, by its name."""
    return path.rpartition("/")[2].startswith("part-")


def crs_of(path: str) -> str:
    """The CRS's code of a region table."""
    return path.split("/")[1].removeprefix("crs=")


def result_problem(path: str) -> str:
    """Why a recorded path is that of no result, in words; empty where it is one's."""
    if problem := misplaced(path):
        return problem
    folder, separator, _ = path.partition("/")
    return "" if separator and folder in RESULTS else f"it is not below {', '.join(RESULTS)}"


def result_file(output: str, path: str) -> Location:
    """A file that the ledger records. Raises OutputError where the path is that of no result."""
    if problem := result_problem(path):
        msg = f"{shortened(path)!r} is no result of {output}: {problem}"
        raise OutputError(msg)
    return Location.of(output).listed(path)


def result_folder(output: str, folder: str) -> Location:
    """One of RESULTS."""
    return Location.of(output).below(folder)


def folders(output: str) -> list[Location]:
    """All that a run writes in."""
    own = [
        locks_folder(output),
        ledger_folder(output),
        runs_folder(output),
        fragments_folder(output),
        networks_folder(output),
    ]
    results = [result_folder(output, name) for name in RESULTS]
    tables = [Location.of(output).below(path.partition("/")[0]) for path in (ITEMS_TABLE, SEAMS_TABLE)]
    return [own_folder(output), *own, scratch_folder(output), *results, *tables]


def items_file(output: str) -> Location:
    return Location.of(output).below(ITEMS_TABLE)


def seams_file(output: str) -> Location:
    return Location.of(output).below(SEAMS_TABLE)


def own_folder(output: str) -> Location:
    """What is batchseg's own business."""
    return Location.of(output).below(_OWN)


def state_file(output: str) -> Location:
    return own_folder(output).below("output.json")


def ledger_folder(output: str) -> Location:
    return own_folder(output).below("ledger")


LedgerPart = Literal["snapshot", "segment"]


def ledger_file(output: str, kind: LedgerPart, number: int) -> Location:
    return ledger_folder(output).below(f"{kind}-{number:08d}.parquet")


def ledger_number(uri: str, kind: LedgerPart) -> int | None:
    """The number of a part of the ledger; None where a file is no part of that kind."""
    match = re.search(rf"/{kind}-(\d{{8}})\.parquet$", uri)
    return int(match[1]) if match else None


def locks_folder(output: str) -> Location:
    return own_folder(output).below("locks")


def epoch_file(output: str, epoch: int) -> Location:
    return locks_folder(output).below(f"epoch-{epoch:08d}.json")


def epoch_number(uri: str) -> int | None:
    """The epoch whose file this is; None where it is none's."""
    match = re.fullmatch(r"epoch-(\d{8})\.json", uri.rpartition("/")[2])
    return int(match[1]) if match else None


def runs_folder(output: str) -> Location:
    return own_folder(output).below("runs")


LOG, LIBRARIES, PROFILE, SUMMARY = "log.txt", "libraries.txt", "profile.json", "summary.json"
"""Files of a run: its log, what libraries printed, when its steps ran, its numbers at the end."""


def run_folder(output: str, run_id: str) -> Location:
    return runs_folder(output).below(run_id)


def run_file(output: str, run_id: str, name: str) -> Location:
    """A file of one run."""
    return run_folder(output, run_id).below(name)


def fragments_folder(output: str) -> Location:
    return own_folder(output).below("fragments")


def fragment_file(folder: Location, layer: Layer, row_off: int, col_off: int) -> Location:
    """A layer of the shard whose core begins at this pixel of its scene."""
    return folder.below(f"{layer}-{row_off:08d}-{col_off:08d}.tif")


def strips_file(folder: Location, row_off: int, col_off: int) -> Location:
    """What the shard whose core begins at this pixel shares with its neighbours."""
    return folder.below(f"strips-{row_off:08d}-{col_off:08d}.arrow")


def networks_folder(output: str) -> Location:
    return own_folder(output).below(_NETWORKS)


def network_path(digest: str) -> str:
    """A quantised network by the sha256 of its file."""
    return f"{_OWN}/{_NETWORKS}/{digest}.zip"


def copies_folder(root: str) -> Location:
    """Where files of an output on other storages are made: below a folder of this machine."""
    return Location.of(root).below(_SCRATCH)


def scratch_folder(output: str) -> Location:
    """Where files of a local output are made, on its own file system."""
    return own_folder(output).below(_SCRATCH)
