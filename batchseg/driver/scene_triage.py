"""Which scenes are left to do, by the ledger and by which results are still there.

For photographs `photo_triage` answers the same in columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from batchseg.inputs.formats import VRT_REFUSED
from batchseg.inputs.source import Source
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import JobConfig
from batchseg.output import layout, publish, sidecar
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, SourceRecord
from batchseg.pixels.fit import RESOLUTION_REFUSED
from batchseg.pixels.gdal import UNDECODABLE
from batchseg.system import listing, storage
from batchseg.system.location import Location, join


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """Sources sorted by what the ledger says of them, before any header is read."""

    todo: tuple[Source, ...]
    done: int
    quarantined: int
    """In earlier runs, and unchanged since."""
    lost: frozenset[str]
    """Ids of `todo` that are done by the ledger, but their mask was deleted."""
    incomplete: frozenset[str]
    """Ids of `todo` whose mask is there, and something that is made of it is not."""
    vanished: tuple[str, ...]
    """Ids that the ledger knows and the inputs no longer hold; their outputs are kept."""
    failed: frozenset[str] = frozenset()
    """Ids of `todo` that failed when they were last tried, and have not changed since: they are done last."""
    young: int = 0
    """Sources with work to do that are left to a later run: they may still be written."""


def triage(
    sources: Sequence[Source],
    ledger: Ledger,
    pixel: str,
    product: str,
    outputs_there: Callable[[SourceRecord], Literal["all", "mask", "none"]] = lambda record: "all",
    *,
    try_again: Callable[[SourceRecord], bool] = lambda record: False,
) -> Triage:
    """Which sources need work: new, changed, unfinished, transiently failed, or to be encoded again.

    Args:
        sources: what the inputs hold now.
        ledger: what is committed.
        pixel: digest of the pixel settings.
        product: digest of names, colours and format.
        outputs_there: asked for sources that are done; somebody may have deleted or damaged results.
        try_again: asked for sources that are quarantined; True where the job now has a way with them.
    """
    todo = []
    failed: set[str] = set()
    missing: dict[str, set[str]] = {"mask": set(), "none": set()}
    done = quarantined = 0
    for source in sources:
        record = ledger.source(source.source_id)
        if record is None or record.tag != source.tag:
            todo.append(source)
        elif record.status == "failed":
            todo.append(source)
            failed.add(source.source_id)
        elif record.status == "quarantined":
            if try_again(record):
                todo.append(source)
            else:
                quarantined += 1
        elif (there := outputs_there(record)) != "all":
            todo.append(source)
            missing[there].add(source.source_id)
        elif (record.pixel, record.product) == (pixel, product):
            done += 1
        else:
            todo.append(source)
    present = {source.source_id for source in sources}
    known = ledger.table().column("source_id").to_pylist()
    vanished = tuple(str(source_id) for source_id in known if source_id not in present)
    ripe = tuple(source for source in todo if not source.young)
    return Triage(
        todo=ripe,
        done=done,
        quarantined=quarantined,
        lost=frozenset(missing["none"]),
        incomplete=frozenset(missing["mask"]),
        vanished=vanished,
        failed=frozenset(failed),
        young=len(todo) - len(ripe),
    )


def triage_job(
    config: JobConfig, sources: Sequence[Source], ledger: Ledger, recipe: Recipe, product: Product
) -> Triage:
    """Which scenes are left to do, by the ledger and by which results are still there.

    For photographs `photo_triage` answers the same in columns.
    """
    return triage(
        sources,
        ledger,
        recipe.digest,
        product.digest,
        outputs_there(config.output, product.class_names),
        try_again=partial(worth_another_try, config),
    )


def worth_another_try(config: JobConfig, record: SourceRecord) -> bool:
    """Whether a source was quarantined for what the job now allows: a damaged block, to be a VRT, its pixels'
    size on the ground.
    """
    error = record.error
    forgiven = config.on_bad_block == "nodata" and error.startswith(UNDECODABLE)
    taken = config.resolution == "any" and error.startswith(RESOLUTION_REFUSED)
    return forgiven or taken or (config.allow_vrt and error.startswith(VRT_REFUSED))


def outputs_there(
    output: str, class_names: tuple[str, ...]
) -> Callable[[SourceRecord], Literal["all", "mask", "none"]]:
    """What of a source's results is still there, by size. A bucket is listed once, a disk asked each time.

    A file of class names may have grown by what others wrote into it: it is there while it has the names.
    """
    size_of = _local_size if Location.of(output).is_local else _ListedSizes(output)

    def is_there(made: Output) -> bool:
        size = size_of(join(output, made.path))
        if size is None or size == made.nbytes or not made.path.endswith(sidecar.SUFFIX):
            return size == made.nbytes
        with publish.output_errors("read", output):
            found = sidecar.content_at(layout.result_file(output, made.path))
        return found is not None and sidecar.has_names(found, class_names)

    def there(record: SourceRecord) -> Literal["all", "mask", "none"]:
        whole = [is_there(made) for made in record.outputs]
        if not whole or not all(
            w for w, o in zip(whole, record.outputs, strict=True) if o.path in record.layers
        ):
            return "none"
        return "all" if all(whole) else "mask"

    return there


class _ListedSizes:
    """Sizes of a bucket's results, listed when the first one is asked for."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._sizes: dict[str, int] | None = None

    def __call__(self, uri: str) -> int | None:
        if self._sizes is None:
            roots = [layout.result_folder(self._output, folder) for folder in layout.RESULTS]
            with publish.output_errors("list", self._output):
                listed = storage.at_once(listing.list_below, roots, self._output)
            self._sizes = {info.uri: info.size or 0 for infos in listed for info in infos}
        return self._sizes.get(uri)


def _local_size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
