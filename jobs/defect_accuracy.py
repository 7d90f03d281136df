"""Compare a run over the magnetic tiles with the truth of the held-out ones: the figures of the model's card.

Usage:
    batchseg run configs/magnetic-tile.yaml --set gate.budget=0      # ARCHIVE is DATA, RESULTS a folder
    batchseg run configs/magnetic-tile.yaml --set "inputs=GOOD/*.jpg" --set output=RESULTS/good
    python jobs/defect_accuracy.py RESULTS/magnetic-tile DATA --good RESULTS/good GOOD

An image is called defective if its verdict is FAIL, and the rule that decided names the defect. In truth it
is defective if its folder is not MT_Free, also where the mask beside it has been lost. IoU is counted over
the pixels of all held-out images, clean ones included, except the two that lost their masks. GOOD is a folder
of further good tiles; those whose SHA-256 begins with 8 to f count, and apart the ones among them from
held-out blocks: of the lots of the others training has seen some.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import magnetic_tile
import numpy as np
import pyarrow.parquet as pq
from accuracy import NODATA, Accuracy, count_pairs, table
from magnetic_tile import CLASSES
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was said of one image."""

    name: str
    """Path below the data folder."""
    truth: int
    """Class id of the image's folder; 0 is good."""
    called: int
    """Class id that the rule of its verdict is for; 0: PASS."""


def called(verdict: str | None, rule: str | None) -> int:
    """Class id that a verdict stands for.

    Raises:
        ValueError: If it is none of a job whose rules are named by the defects.
    """
    if verdict == "PASS":
        return 0
    if verdict != "FAIL" or rule not in CLASSES[1:]:
        msg = f"verdict {verdict} by rule {rule}; expected PASS, or FAIL by one of {', '.join(CLASSES[1:])}"
        raise ValueError(msg)
    return CLASSES.index(rule)


def read_items(results: Path) -> dict[str, dict[str, str | None]]:
    """The columns verdict, rule and mask of the items table, by image."""
    columns = ["source_id", "verdict", "rule", "mask"]
    rows = pq.read_table(results / "items" / "items.parquet", columns=columns).to_pylist()
    return {row["source_id"]: row for row in rows}


def held_out(results: Path, data: Path) -> tuple[Accuracy, list[Judged]]:
    """Compare verdicts and masks of all held-out images.

    Args:
        results: Output of a run over the data folder.
        data: The folder that holds "MT_Free" and the others.

    Raises:
        ValueError: If the run left out one of them, or kept no mask of it.
    """
    items = read_items(results)
    counts = np.zeros((256, 256), np.int64)
    judged = []
    for example in magnetic_tile.examples(data, held=True):
        item = items.get(example.name, {})
        if not item.get("mask"):
            msg = f"no mask of {example.name} in {results}; the run must cover all images and keep all masks"
            raise ValueError(msg)
        call = called(item["verdict"], item["rule"])
        judged.append(Judged(name=example.name, truth=example.folder, called=call))
        if example.labelled:
            counts += count_pairs(example.label, np.asarray(Image.open(results / str(item["mask"]))))
    known = len(CLASSES)
    unpredicted = int(counts[:known, NODATA].sum())
    return Accuracy(confusion=counts[:known, :known], unpredicted=unpredicted, unexpected=0), judged


def good_tiles(results: Path, folder: Path) -> tuple[list[Judged], list[Judged]]:
    """What was said of the good tiles that count, and of those among them from blocks that are held out.

    Args:
        results: Output of a run over the folder.
        folder: Holds the JPEGs.

    Raises:
        ValueError: If the run left out one of them.
    """
    items = read_items(results)
    judged = []
    for example in magnetic_tile.good_tiles(folder, figure=True):
        item = items.get(Path(example.name).name)
        if item is None:
            msg = f"no row of {Path(example.name).name} in {results}; the run must cover the whole folder"
            raise ValueError(msg)
        call = called(item["verdict"], item["rule"])
        judged.append(Judged(name=example.name, truth=0, called=call))
    return judged, [image for image in judged if magnetic_tile.held_out(Path(image.name).stem)]


def report(judged: list[Judged]) -> str:
    """Recall and precision of images, counts per class, and the names of the images that came out wrong."""
    missed = [image for image in judged if image.truth and not image.called]
    alarms = [image for image in judged if image.called and not image.truth]
    defective = sum(image.truth > 0 for image in judged)
    failed = sum(image.called > 0 for image in judged)
    hits = defective - len(missed)
    lines = [
        f"images {len(judged)}, defective {defective}, called defective {failed}, of those rightly {hits}",
        f"image-level recall     {hits / max(1, defective):.4f}",
        f"image-level precision  {hits / max(1, failed):.4f}",
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
        description="Compare a run with the truth of the held-out magnetic tiles."
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--good", type=Path, nargs=2, metavar=("RESULTS", "GOOD"))
    args = parser.parse_args()
    pixels, judged = held_out(args.results, args.data)
    defects = pixels.iou[1:]
    print(table(pixels, CLASSES))
    print(f"{'mean of the defects':<20}{np.nanmean(defects):.4f}\n")
    print("share of each true class by predicted class, in %")
    for name, row in zip(CLASSES, pixels.confusion, strict=True):
        shares = 100 * row / max(1, row.sum())
        print(f"{name:<12}" + "".join(f"{share:>10.1f}" for share in shares))
    print(f"\n{report(judged)}")
    if args.good:
        for name, images in zip(("further good", "of held-out lots"), good_tiles(*args.good), strict=True):
            alarms = [image.called for image in images if image.called]
            by_name = ", ".join(f"{alarms.count(k)} {CLASSES[k]}" for k in sorted(set(alarms)))
            share = len(alarms) / max(1, len(images))
            print(f"{name:<18}{len(alarms):>4} of {len(images)} fail, {share:.4f}  {by_name}")


if __name__ == "__main__":
    main()
