"""Runs over photographs: what is drawn, what must come out, and a job to do it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize

from batchseg.output.layout import layer_path
from batchseg.output.state import load_state
from batchseg.tools.verify import verify

JobMaker = Callable[..., Path]


RULES = [
    {"name": "red", "class": "red", "min_area": 40},
    {"name": "much blue", "class": "blue", "min_area": 10, "count": 2, "then": "REVIEW"},
]


def photograph(seed: int, **spots: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, never square; `red=3` draws three red squares of 8 x 7 pixels."""
    rng = np.random.default_rng(seed)
    height, width = 90 + seed % 5 * 13, 130 + seed % 3 * 29
    image = rng.integers(20, 120, (height, width, 3), dtype=np.uint8)
    places = iter(rng.permutation((height // 12) * (width // 12)))
    for channel, name in enumerate(("red", "green", "blue")):
        for _ in range(spots.get(name, 0)):
            row, col = divmod(int(next(places)), width // 12)
            image[row * 12 : row * 12 + 8, col * 12 : col * 12 + 7] = 30
            image[row * 12 : row * 12 + 8, col * 12 : col * 12 + 7, channel] = 220
    return image


def save(path: Path, image: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def truth(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scores = np.stack([np.zeros(image.shape[:2]), *((image[..., k] - 150.0) / 16 for k in range(3))])
    return np.argmax(scores, axis=0).astype(np.uint8)


def verdict(image: NDArray[np.uint8]) -> tuple[str, str | None]:
    counts = [
        cv2.connectedComponents((truth(image) == k).astype(np.uint8), connectivity=4)[0] - 1 for k in (1, 3)
    ]
    if counts[0]:
        return "FAIL", "red"
    return ("REVIEW", "much blue") if counts[1] >= 2 else ("PASS", None)


def items(output: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(output / "items" / "items.parquet").to_pylist()
    assert len({row["source_id"] for row in rows}) == len(rows)
    return {row["source_id"]: row for row in rows}


def check(output: Path, images: dict[str, NDArray[np.uint8]]) -> None:
    """Every table and file shows these images, each once, and nothing else."""
    found = verify(str(output), quick=False, say=lambda line: None)
    assert (found.problems, found.unrecorded) == ((), ())
    state = load_state(str(output))
    assert state is not None
    rows = {key: row for key, row in items(output).items() if row["status"] == "done"}
    assert set(rows) == set(images)
    regions = pq.read_table(output / "annotations").to_pandas() if (output / "annotations").exists() else None
    shown = 0
    for name, image in images.items():
        expected, row = truth(image), rows[name]
        assert (row["verdict"], row["rule"]) == verdict(image)
        counted = {c["class_id"]: c["pixels"] for c in row["classes"]}
        ids, pixels = np.unique(expected, return_counts=True)
        assert counted == dict(zip(ids.tolist(), pixels.tolist(), strict=True))
        if regions is not None:
            mine = regions[regions.source_id == name]
            shown += len(mine)
            drawn = np.zeros(expected.shape, np.uint8)
            if len(mine):
                rasterize(list(zip(shapely.from_wkb(mine.geometry), mine.class_id, strict=True)), out=drawn)
            np.testing.assert_array_equal(drawn, expected)
            assert len(mine) == row["region_count"]
        path = layer_path(name, "mask", "png", names=state.mask_names)
        mask = output / path
        assert mask.exists() == (row["verdict"] != "PASS")
        assert row["mask"] == (path if mask.exists() else None)
        if mask.exists():
            np.testing.assert_array_equal(np.asarray(Image.open(mask)), expected)
    assert regions is None or shown == len(regions)


def night(tmp_path: Path, count: int = 14) -> dict[str, NDArray[np.uint8]]:
    images = {}
    for seed in range(count):
        image = photograph(seed, red=seed % 4 == 1, blue=2 * (seed % 3 == 2), green=seed % 2)
        name = f"line {seed % 2}/Prüf#{seed:02d} 10%中.png"
        save(tmp_path / "in" / name, image)
        images[name] = image
    return images
