"""How much masks change at the borders of tiles, counted."""

import numpy as np
from tile_borders import NODATA, Changes, changes


def test_changes_are_counted_across_borders_and_elsewhere() -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[:, 4:] = 1  # at the border of a core of 4
    mask[0, 1] = 2
    across, inside = changes(mask, 4)
    assert across == Changes(pairs=12, differ=6)
    assert inside == Changes(pairs=48, differ=3)
    mask[5] = NODATA
    across, inside = changes(mask, 4)
    assert across == Changes(pairs=11, differ=5)
    assert inside.pairs == 38
