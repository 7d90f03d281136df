"""Labels for the NAIP scenes of prairie lakes from their infrared band: water, not water, clear vegetation.

Four summers of one place (North Dakota, 5 m, bands red, green, blue, infrared). Water takes up infrared light
whatever colour it has, so the band that the network does not get tells where it is. The place is split by
columns and the year 2009 is never trained on, so that neither shores nor light of the figure are known.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import rasterio
from dubai import CLASSES, IGNORED, Example
from numpy.typing import NDArray

NOT_WATER = 254
"""Label of pixels of any class but water."""

WATER, VEGETATION = list(CLASSES).index("water"), list(CLASSES).index("vegetation")
DARK, LIGHT = 60, 90  # Infrared counts; water is below, what is no water above.
TRAINED = ("2014", "2018", "2020")
UNSEEN_YEAR = "2009"
WEST, EAST = slice(0, 560), slice(600, None)
"""Columns for training (2014, 2018, 2020) and validation (2009), and those for the figure (all years)."""


def water_label(bands: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label uint8 (H, W) of red, green, blue and infrared, uint8 (4, H, W).

    Shores, shallows and marsh in between are `IGNORED`.
    """
    red, green, _, infrared = bands.astype(np.float32)
    smooth = cv2.GaussianBlur(infrared, (0, 0), 0.8)
    water = ((smooth < DARK) & (green - infrared > 0.15 * (green + infrared))).astype(np.uint8)
    water = cv2.morphologyEx(water, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    shore = cv2.dilate(water, np.ones((5, 5), np.uint8)) > cv2.erode(water, np.ones((3, 3), np.uint8))
    label = np.full(red.shape, NOT_WATER, np.uint8)
    label[infrared - red > 0.35 * (infrared + red)] = VEGETATION
    label[water > 0] = WATER
    label[shore | ((smooth < LIGHT) & (water == 0)) | ~bands.any(axis=0)] = IGNORED
    return label


def examples(data: Path, years: tuple[str, ...], columns: slice) -> list[Example]:
    """Read the scenes of some years, cut to some columns.

    Args:
        data: The folder of the files, such as m_4709963_se_14_1_20140720.tif.
        years: Four digits each.
        columns: Of the scene.

    Raises:
        ValueError: If a year's scene is not there.
    """
    found = []
    for year in years:
        paths = sorted(data.glob(f"*_{year}????.tif"))
        if not paths:
            msg = f"no scene of {year} in {data}; expected a name such as m_4709963_se_14_1_20140720.tif"
            raise ValueError(msg)
        with rasterio.open(paths[0]) as scene:
            bands = scene.read()[:, :, columns]
        image = np.ascontiguousarray(bands[:3].transpose(1, 2, 0))
        found.append(Example(name=f"naip/{paths[0].stem}", image=image, label=water_label(bands)))
    return found
