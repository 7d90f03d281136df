"""Outputs: what runs left, as values, and what is done to it between runs."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from batchseg.api.own_process import Host, call, is_lent
from batchseg.driver.begin import new_run_id
from batchseg.errors import ConfigError
from batchseg.job.file import load_job
from batchseg.job.settings import JobConfig
from batchseg.system import storage
from batchseg.system.escape import errors_shown
from batchseg.system.redact import hidden
from batchseg.system.utf8 import check_utf8

if TYPE_CHECKING:
    import geopandas
    import pyarrow as pa

    from batchseg.tools.maintain import Pruned
    from batchseg.tools.status import Status
    from batchseg.tools.verify import Verification

T = TypeVar("T")


def open(output: str | os.PathLike[str] | JobConfig) -> "Output":
    """An output that a run wrote, or is writing. Nothing is read before it is asked for.

    Args:
        output: its folder or URI; or its job, or the path of the job's file (.yaml or .yml), which know the
            options of its storage.

    Raises:
        batchseg.errors.ConfigError: the job file cannot be read, or is wrong; or this process takes names of
            files for another charset than UTF-8.
    """
    check_utf8()
    if isinstance(output, JobConfig):
        return Output(output.output, storage=output.storage)
    given = os.fspath(output)
    if given.endswith((".yaml", ".yml")) and Path(given).is_file():
        return open(load_job(Path(given)))
    return Output(given.rstrip("/") if "://" in given else str(Path(given).resolve()))


@dataclass(frozen=True, slots=True)
class Output:
    """An output: what it holds, and what is done to it between runs. `batchseg.open` makes it.

    Each method looks anew, so what it gives is of the moment.

    All of them raise `batchseg.errors.ConfigError` where no run has written, and `OutputError` where the
    output cannot be read.
    """

    uri: str
    """Root of the results, absolute."""
    storage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """The job's options of storages: they may be secrets."""

    def __repr__(self) -> str:
        return hidden(f"Output(uri={self.uri!r})")

    def status(self) -> "Status":
        """What is done, what is not and why, who works on it now, and what the last run waited for."""
        from batchseg.tools.status import read_status

        return self._read(read_status)

    def items(self) -> "pa.Table":
        """The table of sources: a row each, with its state, its mask, and the pixels of each class.

        Returns:
            The table as the last run wrote it; `.to_pandas()` makes a data frame of it.

        Raises:
            batchseg.errors.ConfigError: no run has come to its end yet.
        """
        from batchseg.tools.results import read_items

        return self._read(read_items)

    def regions(self, crs: str | None = None) -> "geopandas.GeoDataFrame":
        """All regions, as polygons.

        Args:
            crs: bring them to this one, such as `EPSG:32633`; None: as they are. Measures stay what they
                are: `area_m2` is of the ground.

        Returns:
            A row per region. Those of photographs have no CRS: their polygons are in pixels, x to the right
            and y down.

        Raises:
            batchseg.errors.ConfigError: there is no geopandas; or regions are in several CRS and none is
                named; or they have none and one is named.
        """
        try:
            import geopandas
        except ImportError as e:
            msg = "regions as a GeoDataFrame need geopandas: pip install geopandas"
            raise ConfigError(msg) from e
        from batchseg.tools.results import outlines_of, read_regions

        table, found = self._read(read_regions, crs)
        shapes = outlines_of(table, self.uri)
        columns = table.drop_columns("geometry").to_pandas()
        return geopandas.GeoDataFrame(columns, geometry=shapes, crs=found)

    def masks(self) -> dict[str, str]:
        """Paths or URIs of the masks, by source id: of sources that are done and whose mask is kept."""
        from batchseg.tools.results import mask_uris

        return self._read(mask_uris)

    def values(self) -> dict[str, str]:
        """Paths or URIs of the rasters of numbers, by source id; empty unless `result: values`."""
        from batchseg.tools.results import value_uris

        return self._read(value_uris)

    def verify(self, *, quick: bool = False, say: Callable[[str], None] | None = None) -> "Verification":
        """Compare every file and table row with the ledger.

        Args:
            quick: sizes and rows, not checksums.
            say: told of progress, in words.

        Returns:
            What was compared; its `problems` are empty where all is as recorded.
        """
        if is_lent() or self.storage:
            return call(_verify, self.uri, self.storage, quick, hear=say)
        from batchseg.tools.verify import verify

        with errors_shown():
            return verify(self.uri, quick=quick, say=say or (lambda line: None))

    def prune(self, *, dry_run: bool = False, everything: bool = False) -> "Pruned":
        """Remove the results of sources that the last run did not find any more.

        Args:
            dry_run: remove nothing, and say what would be removed.
            everything: also where the last run found no source at all.

        Raises:
            batchseg.errors.ConfigError: the last run found no source, and `everything` is not set; or what it
                did not find may be among rows of lists, or folders, that it could not read.
            batchseg.errors.LockedError: a run is under way.
        """
        from batchseg.tools.maintain import prune

        options = {"dry_run": dry_run, "everything": everything}
        pruned: Pruned = call(_act, self.storage, prune, self.uri, options)
        return pruned

    def retry(self, source_ids: str | Iterable[str] = ()) -> tuple[str, ...]:
        """Let the next run try quarantined sources again.

        Args:
            source_ids: one, or several; none: all that are quarantined.

        Returns:
            Their ids.

        Raises:
            batchseg.errors.ConfigError: a named source is not quarantined.
            batchseg.errors.LockedError: a run is under way.
        """
        from batchseg.tools.maintain import retry

        chosen = (source_ids,) if isinstance(source_ids, str) else tuple(source_ids)
        return call(_act, self.storage, retry, self.uri, {"source_ids": chosen})

    def _read(self, function: Callable[..., T], *args: Any) -> T:
        """Reading changes nothing, so it is done here, unless the options of storages must be set for it."""
        if is_lent() or self.storage:
            found: T = call(_with_options, self.storage, function, self.uri, args)
            return found
        with errors_shown():
            return function(self.uri, *args)


def _with_options(
    options: Mapping[str, Mapping[str, Any]],
    function: Callable[..., T],
    uri: str,
    args: tuple[Any, ...],
    host: Host,
) -> T:
    storage.configure(options)
    return function(uri, *args)


def _verify(uri: str, options: Mapping[str, Mapping[str, Any]], quick: bool, host: Host) -> "Verification":
    from batchseg.tools.verify import verify

    storage.configure(options)
    return verify(uri, quick=quick, say=host.tell)


def _act(
    options: Mapping[str, Mapping[str, Any]],
    function: Callable[..., T],
    uri: str,
    keywords: dict[str, Any],
    host: Host,
) -> T:
    storage.configure(options)
    return function(uri, new_run_id(), **keywords)
