"""Regions of a scene's mask as GeoParquet: one row per region, written while its strips are read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchseg.inputs.source import Scene
from batchseg.job.recipe import RegionSettings
from batchseg.regions.rows import RowMaker
from batchseg.regions.tracing.ragged import Ints
from batchseg.regions.tracing.rings import Regions, count, large_enough
from batchseg.regions.tracing.tracer import JoinedIds, RegionTracer

GROUP_ROWS = 2**16
GROUP_BYTES = 32 * 2**20
"""A row group has at most so many rows, and ends with the row that reaches so many bytes of geometry."""

BATCH_EDGES = 2**18
"""Regions are turned into rows so many edges at a time: an edge takes about 100 bytes on its way."""

REPETITIVE = ["source_id", "class_id", "class_name", "touches_edge"]
"""Columns worth a dictionary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionCounts:
    """What was written."""

    rows: int
    regions: tuple[tuple[int, int], ...]
    """(class id, number of regions), by class id; a region that was cut counts once."""


class RegionWriter:
    """Writes a scene's regions to one file.

    Rows are in order of the regions' last rows, then of their ids, whatever the strips are, and nothing
    of the run is in the file: the same mask and settings give the same bytes.

    Args:
        path: a local file; a partial one is left if the writer is never closed.
        scene: of the mask.
        settings: which regions, and how.
        class_names: by class id.
        nodata: the mask's, 255 or 65535; makes no regions.
        with_confidence: whether strips come with confidence.
    """

    def __init__(
        self,
        path: Path,
        scene: Scene,
        settings: RegionSettings,
        *,
        class_names: tuple[str, ...],
        nodata: int,
        with_confidence: bool = False,
    ) -> None:
        self._settings = settings
        self._tracer = RegionTracer(
            scene.height,
            scene.width,
            wanted=wanted_classes(settings, nodata),
            with_confidence=with_confidence,
            max_vertices=settings.max_vertices,
            connectivity=settings.connectivity,
        )
        self._rows = RowMaker(
            scene.georeference,
            height=scene.height,
            width=scene.width,
            source_id=scene.source.source_id,
            class_names=class_names,
            simplify=settings.simplify,
            with_confidence=with_confidence,
        )
        self._file = _RowGroups(path, self._rows.schema)
        self._counts: Counter[int] = Counter()
        self._cut: dict[int, int] = {}

    def feed(
        self, row_off: int, ids: NDArray[np.unsignedinteger[Any]], confidence: NDArray[np.uint8] | None = None
    ) -> None:
        """The next strip: (rows, width) class ids and, if the writer was made for it, confidence.

        Raises:
            ValueError: the strip is not the next one.
        """
        for regions in self._tracer.feed(row_off, ids, confidence):
            self._write(regions)

    def close(self) -> RegionCounts:
        """Write the regions on the last row and end the file.

        Raises:
            ValueError: strips are missing.
        """
        self._write(self._tracer.finish())
        self._file.close()
        joined = self._tracer.joined
        if joined:
            self._file.join(joined)
        ids = np.array(sorted(self._cut), dtype=np.int64)
        cut = dict(zip(joined.resolve(ids).tolist(), (self._cut[i] for i in ids.tolist()), strict=True))
        counts = self._counts + Counter(cut.values())
        return RegionCounts(rows=self._file.rows, regions=tuple(sorted(counts.items())))

    def _write(self, regions: Regions) -> None:
        counts = count(regions)
        # A piece of a cut region is part of a large one, however small it is itself.
        enough = large_enough(regions.region_id, counts.area, self._settings.min_area)
        kept = np.flatnonzero(enough | regions.cut)
        if len(kept) < len(regions):
            regions, counts = regions.pick(kept), counts.pick(kept)
        for batch in _batches(regions):
            part = regions if len(batch) == len(regions) else regions.pick(batch)
            self._file.write(self._rows(part, counts.pick(batch)))
        self._cut |= zip(
            regions.region_id[regions.cut].tolist(), regions.class_id[regions.cut].tolist(), strict=True
        )
        whole = np.flatnonzero(~regions.cut)
        if self._settings.connectivity == 8:  # all pieces of one are here
            whole = whole[np.unique(regions.region_id[whole], return_index=True)[1]]
        ids, numbers = np.unique(regions.class_id[whole], return_counts=True)
        self._counts.update(dict(zip(ids.tolist(), numbers.tolist(), strict=True)))


def wanted_classes(settings: RegionSettings, nodata: int) -> NDArray[np.bool_]:
    """(256,) or (65536,) by pixel value, whether it makes regions."""
    wanted = np.zeros(256 if nodata < 256 else 65536, dtype=bool)
    if settings.classes is None:
        wanted[1:] = True  # class 0 is background, unless the job names it
    else:
        wanted[[class_id for class_id in settings.classes if class_id < len(wanted)]] = True
    wanted[nodata] = False
    return wanted


def _batches(regions: Regions) -> Iterator[Ints]:
    """Consecutive regions of at most BATCH_EDGES edges together, or one of more."""
    ends = regions.rings[regions.polygons[1:]]
    begin = 0
    while begin < len(regions):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + BATCH_EDGES, side="right")))
        yield np.arange(begin, stop)
        begin = stop


class _RowGroups:
    """A Parquet file whose row groups depend on the rows alone, not on how they come."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._writer = _open(path, schema)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        self.rows += len(table)
        while len(table):
            room = GROUP_ROWS - self._waiting_rows
            sizes = np.cumsum(pc.binary_length(table["geometry"]).to_numpy())
            full = int(np.searchsorted(sizes, GROUP_BYTES - self._waiting_bytes)) + 1
            part = table.slice(0, min(room, full))
            self._waiting.append(part)
            self._waiting_rows += len(part)
            self._waiting_bytes += int(sizes[len(part) - 1])
            if len(part) == room or full <= len(table):
                self._flush()
            table = table.slice(len(part))

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def join(self, joined: JoinedIds) -> None:
        """Write the closed file again with the ids that regions have in the end."""
        renamed = self._path.with_name(self._path.name + ".joined")
        with pq.ParquetFile(self._path) as old, _open(renamed, self._schema) as writer:
            at = self._schema.get_field_index("region_id")
            for group in range(old.num_row_groups):
                table = old.read_row_group(group)
                ids = joined.resolve(table["region_id"].to_numpy())
                writer.write_table(table.set_column(at, self._schema.field(at), pa.array(ids)), GROUP_ROWS)
        renamed.replace(self._path)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks(), GROUP_ROWS)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


def _open(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=REPETITIVE,  # type: ignore[arg-type]
    )
