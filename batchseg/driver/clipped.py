"""Numbers that uint16 could not hold, in words."""

import numpy as np
import pyarrow as pa

from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.system.amounts import counted


def clipped_words(table: pa.Table, worked: Column) -> str:
    """How many numbers lie at an end of what uint16 holds; empty where none does.

    Args:
        table: of the ledger: source_id, valid_pixels, clipped_pixels.
        worked: ids of the sources that count.
    """
    rows = table.select(["source_id", "valid_pixels", "clipped_pixels"])
    rows = rows.filter(pc.is_in(rows["source_id"], value_set=worked))
    clipped = rows["clipped_pixels"].to_numpy()
    total = int(clipped.sum())
    if not total:
        return ""
    share = total / max(1, int(rows["valid_pixels"].to_numpy().sum()))
    where = counted(int(np.count_nonzero(clipped)), "source")
    return (
        f"{share:.2%} of the numbers, in {where}, lie at an end of what uint16 holds, and may have been "
        f"clipped: widen values: scale, or move its offset"
    )
