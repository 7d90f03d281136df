"""Draw the pictures of a model's card: the curve of its training, and masks beside images and truth.

Usage:
    python jobs/model_pictures.py curve RUN/training.json models/landcover/curve.png
    python jobs/model_pictures.py scenes configs/landcover-rgb.yaml OUT.png IMAGE,TRUTH,MASK ...

TRUTH is a mask of class ids, or of this repository's data sets; "-" where there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import dubai
import magnetic_tile
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from batchseg.system.json_text import parse_json
from batchseg.system.yaml_text import parse_yaml

WIDTH, HEIGHT, MARGIN = 640, 300, 40
EDGE = 256  # Pixels of the longer side of a picture of a row.
SHADES = ("#2b6cb0", "#c0392b", "#3f8f3f", "#b08020", "#7040a0", "#606060", "#20a0a0")


def curve(rows: Sequence[dict[str, float]]) -> Image.Image:
    """Scores over minutes, one line each, from 0 to 1, and the loss, its largest being 1."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    inner_w, inner_h = WIDTH - 3.5 * MARGIN, HEIGHT - 2 * MARGIN
    last = max(row["minutes"] for row in rows) or 1.0

    def at(minutes: float, value: float) -> tuple[float, float]:
        return MARGIN + inner_w * minutes / last, HEIGHT - MARGIN - inner_h * value

    for tenth in range(0, 11, 2):
        draw.line([at(0, tenth / 10), at(last, tenth / 10)], fill="#dddddd")
        draw.text((12, at(0, tenth / 10)[1] - 6), f"{tenth / 10:.1f}", fill="black")
    for part in range(5):
        minutes = last * part / 4
        draw.text((at(minutes, 0)[0] - 8, HEIGHT - MARGIN + 6), f"{minutes:.0f}", fill="black")
    draw.text((MARGIN + inner_w - 50, HEIGHT - 18), "minutes", fill="black")
    names = [name for name in rows[-1] if name not in ("minutes", "step")]
    for place, (name, shade) in enumerate(zip(names, SHADES * 3, strict=False)):
        scale = max(row.get(name, 0) for row in rows) if name == "loss" else 1.0
        points = [at(row["minutes"], row[name] / (scale or 1.0)) for row in rows if name in row]
        draw.line(points, fill=shade, width=3 if name == "score" else 1)
        text = f"{name} / {scale:.2f}" if name == "loss" else name
        draw.text((WIDTH - 2.3 * MARGIN, MARGIN + 14 * place), text, fill=shade)
    return picture


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 (H, W, 3): the first three bands, or grey thrice."""
    with rasterio.open(path) as raster:
        bands = raster.read(list(range(1, min(3, raster.count) + 1)))
    colours = bands if len(bands) == 3 else np.repeat(bands[:1], 3, axis=0)
    return np.ascontiguousarray(colours.transpose(1, 2, 0))


def read_truth(path: Path) -> NDArray[np.uint8]:
    """Class ids uint8 (H, W) of a mask of the Dubai scenes, of the magnetic tiles, or of ids."""
    if "masks" in path.parts and path.suffix == ".png" and Image.open(path).mode != "L":
        return dubai.read_label(path)
    if path.parts[-2:-1] == ("Imgs",):
        number = magnetic_tile.FOLDERS.index(path.parts[-3])
        marked = np.asarray(Image.open(path).convert("L")) > magnetic_tile.MARKED
        return np.where(marked, number, 0).astype(np.uint8)
    with rasterio.open(path) as raster:
        return np.asarray(raster.read(1), np.uint8)


def coloured(ids: NDArray[np.uint8], colours: Sequence[str]) -> NDArray[np.uint8]:
    """Class ids as colours, uint8 (H, W, 3); white where there is no class."""
    table = np.full((256, 3), 255, np.uint8)
    for number, colour in enumerate(colours):
        table[number] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return table[ids]


def row(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size beside each other, reduced to `EDGE` pixels, white between them."""
    height, width = parts[0].shape[:2]
    scale = EDGE / max(height, width)
    size = (round(width * scale), round(height * scale))
    first, *others = parts
    small = [cv2.resize(first, size, interpolation=cv2.INTER_AREA)]
    small += [cv2.resize(part, size, interpolation=cv2.INTER_NEAREST) for part in others]
    canvas = np.full((size[1] + 6, 3 * (EDGE + 6), 3), 255, np.uint8)
    for place, part in enumerate(small):
        canvas[: size[1], place * (EDGE + 6) : place * (EDGE + 6) + size[0]] = part
    return canvas


def scenes(job: Path, triples: Sequence[str]) -> Image.Image:
    """A row of image, truth and mask for each."""
    settings = parse_yaml(job.read_text())
    colours = [known["color"] for known in settings["classes"]]
    rows = []
    for triple in triples:
        image, truth, mask = triple.split(",")
        pixels = read_image(Path(image))
        ids = read_truth(Path(truth)) if truth != "-" else np.full(pixels.shape[:2], 255, np.uint8)
        with rasterio.open(mask) as raster:
            predicted = np.asarray(raster.read(1), np.uint8)
        rows.append(row([pixels, coloured(ids, colours), coloured(predicted, colours)]))
    return Image.fromarray(np.vstack(rows))


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description="Draw the pictures of a model's card.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_curve = kinds.add_parser("curve")
    of_curve.add_argument("history", type=Path)
    of_curve.add_argument("output", type=Path)
    of_scenes = kinds.add_parser("scenes")
    of_scenes.add_argument("job", type=Path)
    of_scenes.add_argument("output", type=Path)
    of_scenes.add_argument("triples", nargs="+", metavar="IMAGE,TRUTH,MASK")
    args = parser.parse_args()
    if args.kind == "curve":
        curve(parse_json(args.history.read_text())).save(args.output, optimize=True)
    else:
        picture = scenes(args.job, args.triples)
        picture.quantize(96, dither=Image.Dither.NONE).save(args.output, optimize=True)


if __name__ == "__main__":
    main()
