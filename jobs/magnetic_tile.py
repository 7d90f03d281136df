"""Photographs of magnetic tiles with their defects: 432 grey JPEGs, each with a mask, in a folder per class.

A name such as "exp5_num_5022" holds a setting of the lights and a running number. The pictures of one tile,
six as a rule, have neighbouring numbers; those of one tile are there three times, up to 2600 later. So whole
blocks of `BLOCK` numbers are held out, and no tile is on both sides. The nearest two numbers that the split
parts lie 1845 apart, and across blocks no two images look like one tile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("good", "blowhole", "break", "crack", "fray", "uneven")
"""Class names in the order of their ids."""

FOLDERS = ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")
"""Folders of the classes, in the same order. Their images and masks are in a folder "Imgs" each."""

BLOCK = 20_000
"""Running numbers that stay on one side of the split."""

VALIDATION = (3, 8, 13)
"""Blocks of the training side that validate: every defect is in them, by fewer images than in the others."""

MARKED = 127  # Masks are grey at their borders; above this a pixel belongs to the defect.
LEAST = 10  # Pixels; a mask of a defect with fewer has been lost (six of MT_Uneven have 0 to 3).


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One photograph and its labels."""

    name: str
    """Path below the data folder, such as "MT_Crack/Imgs/exp1_num_3191.jpg"."""
    image: NDArray[np.uint8]
    """uint8 (H, W), grey."""
    label: NDArray[np.uint8]
    """uint8 (H, W), class ids."""

    @property
    def folder(self) -> int:
        """The class of the folder that the image is in."""
        return FOLDERS.index(self.name.split("/")[0])

    @property
    def labelled(self) -> bool:
        """Whether the mask tells where the defect is, or that there is none."""
        return not self.folder or int(np.count_nonzero(self.label)) >= LEAST


def held_out(stem: str) -> bool:
    """Whether an image is held out, from its name alone, such as "exp1_num_51674".

    A block is held out if the digest of its number begins with a byte below 64. The text before the number
    was chosen, by names alone, so that every class has between 17 % and 33 % of its images held out.
    """
    block = int(stem.rsplit("_", 1)[1]) // BLOCK
    return hashlib.sha256(f"block {block}".encode()).digest()[0] < 64


def validates(stem: str) -> bool:
    """Whether an image of the training side is kept for validation, from its name alone."""
    return int(stem.rsplit("_", 1)[1]) // BLOCK in VALIDATION


def examples(data: Path, *, held: bool) -> list[Example]:
    """Read one side of the split, in the order of the classes and names.

    Args:
        data: The folder that holds "MT_Free" and the others.
        held: Read the held-out part; otherwise the one for training.

    Raises:
        ValueError: If there are none, or an image and its mask differ in size.
    """
    found = []
    for number, folder in enumerate(FOLDERS):
        for path in sorted((data / folder / "Imgs").glob("*.jpg")):
            if held_out(path.stem) == held:
                found.append(_read(path, number, data))
    if not found:
        msg = f"no images in {data}; expected the folders {FOLDERS[0]}/Imgs to {FOLDERS[-1]}/Imgs there"
        raise ValueError(msg)
    return found


def good_tiles(folder: Path, *, figure: bool) -> list[Example]:
    """Read one half of a folder of further good tiles, by the first digit of the SHA-256 of each file.

    Args:
        folder: Holds the JPEGs.
        figure: Read those that only the figure of false alarms is counted on (8 to f). Otherwise the half for
            training and validation, without the blocks that are held out.

    Raises:
        ValueError: If there are none.
    """
    found = []
    for path in sorted(folder.glob("*.jpg")):
        counted = int(hashlib.sha256(path.read_bytes()).hexdigest()[0], 16) >= 8
        if counted == figure and (figure or not held_out(path.stem)):
            image = np.asarray(Image.open(path).convert("L"))
            label = np.zeros(image.shape, np.uint8)
            found.append(Example(name=f"{FOLDERS[0]}/Imgs/{path.name}", image=image, label=label))
    if not found:
        msg = f"no images in {folder}; expected good tiles such as exp3_num_326615.jpg there"
        raise ValueError(msg)
    return found


def _read(path: Path, number: int, data: Path) -> Example:
    """Read one image and the mask beside it."""
    image = np.asarray(Image.open(path).convert("L"))
    mask = np.asarray(Image.open(path.with_suffix(".png")).convert("L"))
    if image.shape != mask.shape:
        msg = f"{path} has {image.shape} rows and columns, its mask {mask.shape}"
        raise ValueError(msg)
    label = np.where(mask > MARKED, number, 0).astype(np.uint8)
    return Example(name=str(path.relative_to(data)), image=image, label=label)
