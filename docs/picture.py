"""The README's picture: a part of the demo's scene, and the mask that batchseg made of it.

Usage, after `make demo`:
    .venv/bin/python docs/picture.py
"""

from pathlib import Path

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from rasterio.windows import Window

REPOSITORY = Path(__file__).resolve().parent.parent
SCENE = REPOSITORY / "demo" / "scenes" / "generated.tif"
MASK = REPOSITORY / "demo" / "results" / "masks" / "generated.tif"
JOB = REPOSITORY / "configs" / "demo.yaml"
PICTURE = REPOSITORY / "docs" / "images" / "mask.webp"

PART = Window(col_off=1520, row_off=1060, width=930, height=800)
"""Town, lakes, river, road and fields of the scene, in pixels."""

WHITE = 4000
"""The digital number that is drawn white: reflectance 0.40."""
GAMMA = 1.7
OPACITY = 0.8
"""Of the classes over the scene: fields and blocks still show through."""
GAP, BAR, FONT = 12, 64, 30
"""Between the panels, height of the legend, size of its letters; pixels."""


def main() -> None:
    """Draw and save the picture."""
    picture = draw(SCENE, MASK, PART)
    PICTURE.parent.mkdir(exist_ok=True)
    picture.save(PICTURE, quality=74, method=6)
    print(f"{PICTURE.relative_to(REPOSITORY)}: {picture.width} x {picture.height} pixels")


def draw(scene_file: Path, mask_file: Path, part: Window) -> Image.Image:
    """A part of a scene; on its right the same part with the mask over it; a legend below."""
    names, colors = _classes()
    scene, ids = _natural_colors(scene_file, part), _class_ids(mask_file, part)
    over = _painted(scene, ids, colors)
    height, width = ids.shape
    picture = Image.new("RGB", (2 * width + GAP, height + BAR), "white")
    picture.paste(Image.fromarray(scene), (0, 0))
    picture.paste(Image.fromarray(over), (width + GAP, 0))
    _draw_legend(picture, height, width + GAP, names, colors)
    return picture


def _classes() -> tuple[list[str], list[tuple[int, ...]]]:
    """Names and RGB colours of the job's classes, by class id."""
    classes = yaml.safe_load(JOB.read_text())["classes"]
    return [c["name"] for c in classes], [ImageColor.getrgb(c["color"]) for c in classes]


def _natural_colors(scene_file: Path, part: Window) -> NDArray[np.uint8]:
    """The part of the scene, uint8 (H, W, 3)."""
    with rasterio.open(scene_file) as scene:
        bands = scene.read([1, 2, 3], window=part)
    bright = np.clip(bands / WHITE, 0, 1) ** (1 / GAMMA)
    return np.ascontiguousarray((255 * bright).astype(np.uint8).transpose(1, 2, 0))


def _class_ids(mask_file: Path, part: Window) -> NDArray[np.uint8]:
    """The same part of the mask, uint8 (H, W)."""
    with rasterio.open(mask_file) as mask:
        ids: NDArray[np.uint8] = mask.read(1, window=part)
    return ids


def _painted(
    scene: NDArray[np.uint8], ids: NDArray[np.uint8], colors: list[tuple[int, ...]]
) -> NDArray[np.uint8]:
    """The classes' colours over the scene; pixels of no class stay as they are."""
    palette = np.zeros((256, 3))
    palette[: len(colors)] = colors
    opacity = np.where(ids < len(colors), OPACITY, 0.0)[..., np.newaxis]
    over: NDArray[np.uint8] = (scene * (1 - opacity) + palette[ids] * opacity).astype(np.uint8)
    return over


def _draw_legend(
    picture: Image.Image, top: int, left: int, names: list[str], colors: list[tuple[int, ...]]
) -> None:
    """Below the scene what it shows, below the mask a field of colour and a name per class."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    middle = top + BAR // 2
    draw.text((10, middle), "scene: red, green, blue", fill="black", font=font, anchor="lm")
    at = float(left)
    for name, color in zip(names, colors, strict=True):
        draw.rectangle((at, middle - 15, at + 30, middle + 15), fill=color, outline="black")
        draw.text((at + 42, middle), name, fill="black", font=font, anchor="lm")
        at += 42 + draw.textlength(name, font=font) + 36


if __name__ == "__main__":
    main()
