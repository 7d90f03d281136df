"""Choose how large and how sure a region must be to fail an image, on images that are not held out.

Usage, over DATA and GOOD of jobs/train_magnetic_tile.py:
    batchseg run configs/magnetic-tile.yaml --set "inputs=DATA/MT_*/Imgs/*.jpg" --set output=RESULTS/all
    batchseg run configs/magnetic-tile.yaml --set "inputs=GOOD/*.jpg" --set output=RESULTS/good
    python jobs/defect_rules.py RESULTS/all RESULTS/good DATA GOOD

Of each defect a rule has a least area and a least mean confidence. They are taken in turn, each from a table,
from several starts until none is better: first as few misses as `RECALL` allows, then few alarms. Images
that validate count, those of training a tenth. What is held out, or kept for the figure of false alarms, is
not looked at. Images that the runs left out do not count.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import magnetic_tile
import pyarrow.parquet as pq
from defect_accuracy import read_items
from magnetic_tile import CLASSES

AREAS = (13, 20, 30, 40, 50, 70, 100, 140, 200, 280, 400, 560, 800, 1100, 1600, 2300, 3200, 4500)
CERTAINTIES = (0.0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
RECALL = 0.985
TRAINED = 0.1  # Weight of an image that the network was trained on.

Rule = tuple[int, float]
"""Least area in pixels, least mean confidence."""


@dataclass(slots=True, kw_only=True)
class Image:
    """One image: whether it is defective, its weight and its regions."""

    defective: bool
    weight: float
    regions: list[tuple[int, int, float]] = field(default_factory=list)
    """Class, area and mean confidence of each."""

    def fails(self, rules: dict[int, Rule]) -> bool:
        """Whether a region is as large and sure as the rule of its class wants."""
        return any(
            area >= rules[number][0] and sure >= rules[number][1]
            for number, area, sure in self.regions
            if number in rules
        )


def cost(images: list[Image], rules: dict[int, Rule]) -> float:
    """Share of alarms, and ten times what recall lacks of `RECALL`; half of the misses within it."""
    defective = sum(image.weight for image in images if image.defective)
    good = sum(image.weight for image in images if not image.defective)
    missed = alarms = 0.0
    for image in images:
        failed = image.fails(rules)
        missed += image.weight * (image.defective and not failed)
        alarms += image.weight * (failed and not image.defective)
    lacks = max(0.0, missed / defective - (1 - RECALL))
    return alarms / good + 10 * lacks + 0.5 * missed / defective


def chosen(images: list[Image]) -> dict[int, Rule]:
    """Rules by class id, each the best beside the others; the best of several starts."""
    found = [_from(images, (area, sure)) for area in AREAS[::4] for sure in CERTAINTIES[::4]]
    return min(reversed(found), key=lambda rules: cost(images, rules))


def _from(images: list[Image], start: Rule) -> dict[int, Rule]:
    """Take the rules in turn until none is better; the largest area and certainty of equals."""
    rules = dict.fromkeys(range(1, len(CLASSES)), start)
    options = [(area, sure) for sure in CERTAINTIES for area in AREAS]
    while True:
        before = dict(rules)
        for number in rules:
            costs = [cost(images, rules | {number: rule}) for rule in options]
            rules[number] = options[max(i for i, value in enumerate(costs) if value == min(costs))]
        if rules == before:
            return rules


def read(all_of: Path, good_of: Path, data: Path, good: Path) -> list[Image]:
    """Images that are not held out and that a run has judged, with the regions that it found."""
    judged = {further: read_items(of).keys() for further, of in ((False, all_of), (True, good_of))}
    found: dict[tuple[bool, str], Image] = {}
    known = [(e, False) for e in magnetic_tile.examples(data, held=False) if e.labelled]
    known += [(e, True) for e in magnetic_tile.good_tiles(good, figure=False)]
    for example, further in known:
        weight = 1.0 if magnetic_tile.validates(Path(example.name).stem) else TRAINED
        name = Path(example.name).name if further else example.name
        if name in judged[further]:
            found[further, name] = Image(defective=example.folder > 0, weight=weight)
    for results, further in ((all_of, False), (good_of, True)):
        for part in sorted((results / "annotations").rglob("*.parquet")):
            columns = ["source_id", "class_id", "area_px", "confidence"]
            for row in pq.read_table(part, columns=columns).to_pylist():
                image = found.get((further, row["source_id"]))
                if image is not None:
                    image.regions.append((row["class_id"], row["area_px"], row["confidence"]))
    return list(found.values())


def main() -> None:
    """Print the rules for the job, and what they do to the images that validate."""
    parser = argparse.ArgumentParser(description="Choose areas and confidences of the job's rules.")
    for name in ("all", "good", "data", "further"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    images = read(args.all, args.good, args.data, args.further)
    rules = chosen(images)
    for number, (area, sure) in rules.items():
        name = CLASSES[number]
        print(f"  - {{name: {name}, class: {name}, min_area: {area}, min_confidence: {sure}}}")
    for title, weight in (("validation", 1.0), ("training", TRAINED)):
        side = [image for image in images if image.weight == weight]
        bad = [image.fails(rules) for image in side if image.defective]
        fine = [image.fails(rules) for image in side if not image.defective]
        print(f"{title}: {sum(bad)} of {len(bad)} defective fail, {sum(fine)} of {len(fine)} good ones")


if __name__ == "__main__":
    main()
