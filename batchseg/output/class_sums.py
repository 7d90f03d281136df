"""How many pixels of which class sources have, summed over rows of the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSums:
    """Of sources that are done."""

    pixels: Mapping[int, int] = field(default_factory=dict)
    """By class id, ascending; classes without a pixel are left out."""
    sources: int = 0
    """That have a valid pixel."""
    alone: Mapping[int, int] = field(default_factory=dict)
    """Of them, those that have one class only, by its id, ascending."""

    @property
    def only_class(self) -> int | None:
        """The class that all pixels have; None where there are several, or no pixel."""
        return next(iter(self.pixels)) if len(self.pixels) == 1 else None


def class_sums(table: pa.Table, among: Any = None) -> ClassSums:
    """Sum up the classes of rows that are done.

    Args:
        table: rows of the ledger, the latest of each source.
        among: ids of the sources that count; None: all.
    """
    wanted: Any = pc.equal(table.column("status").cast(pa.string()), pa.scalar("done"))
    if among is not None:
        wanted = pc.and_(wanted, pc.is_in(table.column("source_id"), value_set=among))
    rows = table.select(["class_ids", "class_pixels"]).filter(wanted)
    counts: Any = pc.list_value_length(rows.column("class_ids"))
    classes: Any = pc.list_flatten(rows.column("class_ids"))
    pixels: Any = pc.list_flatten(rows.column("class_pixels"))
    ids, where = np.unique(classes.to_numpy(), return_inverse=True)
    sums = np.zeros(len(ids), np.int64)
    np.add.at(sums, where, pixels.to_numpy())
    in_source = counts.to_numpy()
    starts = np.cumsum(in_source) - in_source
    only, alone = np.unique(classes.to_numpy()[starts[in_source == 1]], return_counts=True)
    return ClassSums(
        pixels={int(c): int(n) for c, n in zip(ids, sums, strict=True) if n},
        sources=int(np.count_nonzero(in_source)),
        alone={int(c): int(n) for c, n in zip(only, alone, strict=True)},
    )
