"""Compare a run's masks of the held-out magnetic tiles with the truth: the figures of the model's card.

Usage:
    batchseg run configs/magnetic-tile.yaml          # ARCHIVE is DATA
    python jobs/defect_accuracy.py RESULTS DATA

An image is called defective if its mask holds a region (4-connected pixels of one class) of a defect that has
at least the pixels of `magnetic_tile.LEAST_REGION`; the class with the most pixels in such regions is its
name. In truth it is defective if its folder is not MT_Free, also where the mask beside it has been lost. IoU
is counted over the pixels of all held-out images, clean ones included, except the two that lost their masks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import magnetic_tile
import numpy as np
import rasterio
from accuracy import NODATA, Accuracy, count_pairs, table
from magnetic_tile import CLASSES, LEAST_REGION
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was said of one image."""

    name: str
    """Path below the data folder."""
    truth: int
    """Class id of the image's folder; 0 is good."""
    called: int
    """Class id that the mask says; 0: no defect."""


def read_mask(results: Path, name: str) -> NDArray[np.uint8]:
    """Read the mask of an image, GeoTIFF or PNG: uint8 (H, W).

    Raises:
        FileNotFoundError: If the run left none.
    """
    for suffix in (".tif", ".png"):
        path = results / "masks" / f"{name}{suffix}"
        if path.exists():
            with rasterio.open(path) as dataset:
                mask: NDArray[np.uint8] = dataset.read(1)
                return mask
    msg = f"no mask of {name} in {results / 'masks'}; the run must cover all images and keep all masks"
    raise FileNotFoundError(msg)


def call(mask: NDArray[np.uint8]) -> int:
    """Class id of the defect that a mask shows by the rule of this script; 0 if none."""
    pixels = [0] * len(CLASSES)
    for number, name in enumerate(CLASSES):
        if name in LEAST_REGION:
            regions, _ = ndimage.label(mask == number)
            sizes = np.bincount(regions.ravel())[1:]
            pixels[number] = int(sizes[sizes >= LEAST_REGION[name]].sum())
    return int(np.argmax(pixels)) if any(pixels) else 0


def held_out(results: Path, data: Path) -> tuple[Accuracy, list[Judged]]:
    """Compare the masks of all held-out images.

    Args:
        results: Output of a run over the data folder.
        data: The folder that holds "MT_Free" and the others.
    """
    counts = np.zeros((256, 256), np.int64)
    judged = []
    for example in magnetic_tile.examples(data, held=True):
        mask = read_mask(results, example.name)
        judged.append(Judged(name=example.name, truth=example.folder, called=call(mask)))
        if example.labelled:
            counts += count_pairs(example.label, mask)
    known = len(CLASSES)
    unpredicted = int(counts[:known, NODATA].sum())
    return Accuracy(confusion=counts[:known, :known], unpredicted=unpredicted, unexpected=0), judged


def report(judged: list[Judged]) -> str:
    """Recall and precision of images, counts per class, and the names of the images that came out wrong."""
    missed = [image for image in judged if image.truth and not image.called]
    alarms = [image for image in judged if image.called and not image.truth]
    defective = sum(image.truth > 0 for image in judged)
    called = sum(image.called > 0 for image in judged)
    hits = defective - len(missed)
    lines = [
        f"images {len(judged)}, defective {defective}, called defective {called}, of those rightly {hits}",
        f"image-level recall     {hits / max(1, defective):.4f}",
        f"image-level precision  {hits / max(1, called):.4f}",
        "",
        f"{'class':<12}{'images':>8}{'called defective':>18}{'and by this name':>18}",
    ]
    for number, name in enumerate(CLASSES):
        of_class = [image.called for image in judged if image.truth == number]
        found = sum(said > 0 for said in of_class)
        lines.append(f"{name:<12}{len(of_class):>8}{found:>18}{of_class.count(number) if number else '':>18}")
    lines += [""] + [f"missed: {image.name}" for image in missed]
    lines += [f"false alarm: {image.name}, {CLASSES[image.called]}" for image in alarms]
    return "\n".join(lines).rstrip()


def main() -> None:
    """Print the figures of pixels and of images."""
    parser = argparse.ArgumentParser(
        description="Compare masks of the held-out magnetic tiles with the truth."
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    pixels, judged = held_out(args.results, args.data)
    defects = pixels.iou[1:]
    print(table(pixels, CLASSES))
    print(f"{'mean of the defects':<20}{np.nanmean(defects):.4f}\n\n{report(judged)}")


if __name__ == "__main__":
    main()
