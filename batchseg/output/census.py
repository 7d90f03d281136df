"""What the strips of a scene's mask add up to: pixels and square metres of each class."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.output.overviews import Pixels
from batchseg.output.record import SceneRecord
from batchseg.regions.geodesy import row_areas


class Census:
    """What the strips of a scene's mask add up to."""

    def __init__(self, scene: Scene, recipe: Recipe) -> None:
        self._nodata = recipe.mask_nodata
        self._areas = row_areas(scene.georeference, height=scene.height, width=scene.width)
        self._constant = self._areas is None or bool(np.all(self._areas == self._areas[0]))
        self._pixels = np.zeros(self._nodata + 1, np.int64)
        self._square_metres = np.zeros(self._nodata + 1)

    def look(self, row_off: int, strip: Pixels) -> None:
        """Count one strip.

        Args:
            row_off: its first row in the mask.
            strip: (rows, width) class ids, uint8 or uint16.
        """
        counts = _histogram(strip, self._nodata + 1)
        self._pixels += counts
        if self._areas is None or self._constant:
            return
        counts[self._nodata] = 0
        for class_id in np.flatnonzero(counts):
            rows = np.count_nonzero(strip == class_id, axis=1)
            self._square_metres[class_id] += self._areas[row_off : row_off + len(rows)] @ rows

    def counted(self, record: SceneRecord) -> SceneRecord:
        """The record with what was counted."""
        pixels = self._pixels[: self._nodata]
        ids = np.flatnonzero(pixels)
        areas: tuple[float, ...] = ()
        if self._areas is not None:
            found = pixels[ids] * self._areas[0] if self._constant else self._square_metres[ids]
            areas = tuple(found.tolist())
        return replace(
            record,
            class_ids=tuple(ids.tolist()),
            class_pixels=tuple(pixels[ids].tolist()),
            class_area_m2=areas,
            valid_pixels=int(pixels.sum()),
        )


def _histogram(strip: Pixels, count: int) -> NDArray[np.int64]:
    if strip.dtype == np.uint8:  # numpy's own needs wide integers: four times the time
        return np.array(Image.fromarray(strip).histogram(), np.int64)
    counts: NDArray[np.int64] = np.zeros(count, np.int64)
    for row in strip:
        counts += np.bincount(row, minlength=count)
    return counts
