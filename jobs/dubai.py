"""The Dubai scenes of MBRSC and Humans in the Loop: 63 images of eight-bit RGB and their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = {
    "building": (60, 16, 152),
    "land": (132, 41, 246),
    "road": (110, 193, 228),
    "vegetation": (254, 221, 58),
    "water": (226, 169, 41),
}
"""Class names in the order of their ids, and their colours in the masks. Those in classes.json are others."""

IGNORED = 255
"""Label of the pixels without a class: 155,155,155 ("unlabeled") and 0,0,0 in the masks."""

TILES = ("Tile 1", "Tile 2", "Tile 3", "Tile 4", "Tile 5", "Tile 6")
HELD_OUT = "Tile 7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image and its labels."""

    name: str
    """Folder and file without suffix, such as "Tile 7/image_part_001"."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3), red, green, blue."""
    label: NDArray[np.uint8]
    """uint8 (H, W), class ids; `IGNORED` where there is no class."""


def examples(data: Path, tile: str) -> list[Example]:
    """Read the images of one tile, in the order of their names.

    Raises:
        ValueError: If the folder holds no images, or an image and its mask differ in size.
    """
    found = []
    for path in sorted((data / tile / "images").glob("*.jpg")):
        image = np.asarray(Image.open(path).convert("RGB"))
        label = read_label(data / tile / "masks" / f"{path.stem}.png")
        if image.shape[:2] != label.shape:
            msg = f"{path} has {image.shape[:2]} rows and columns, its mask {label.shape}"
            raise ValueError(msg)
        found.append(Example(name=f"{tile}/{path.stem}", image=image, label=label))
    if not found:
        msg = f"no images/*.jpg in {data / tile}; expected the folders {TILES[0]!r} to {HELD_OUT!r} in {data}"
        raise ValueError(msg)
    return found


def read_label(mask: Path) -> NDArray[np.uint8]:
    """Read a mask of colours as class ids: uint8 (H, W); any other colour is `IGNORED`."""
    rgb = np.asarray(Image.open(mask).convert("RGB"))
    label = np.full(rgb.shape[:2], IGNORED, np.uint8)
    for number, colour in enumerate(CLASSES.values()):
        label[(rgb == colour).all(axis=2)] = number
    return label
