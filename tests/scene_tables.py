"""Region tables of scenes, and the masks that they are of."""

import numpy as np
import pyproj
from factories import make_scene

from batchseg.inputs.source import Georeference
from batchseg.job.recipe import RegionSettings
from batchseg.regions.scene_table import RegionWriter

HEIGHT, WIDTH = 90, 70
NODATA = 255
NAMES = ("soil", "water", "trees")
PLACES = {
    "north up": ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), 1.0),
    "south up": ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, 10.0, 5e6), 1.0),
    "turned": ("EPSG:32633", (8.0, 6.0, 5e5, 6.0, -8.0, 5e6), 1.0),
    "feet": ("EPSG:2263", (5.0, 0.0, 9e5, 0.0, -5.0, 2e5), 1200 / 3937),
}


def place_of(name: str) -> Georeference:
    code, transform, _ = PLACES[name]
    wkt = pyproj.CRS(code).to_wkt()
    return Georeference(crs_wkt=wkt, transform=transform, gcps=(), gcps_crs_wkt=None, rpcs=())


def mask_of(seed: int = 0, classes: int = 4) -> np.ndarray:
    random = np.random.default_rng(seed)
    mask = random.integers(0, classes, (HEIGHT // 3, WIDTH // 2)).astype(np.uint8)
    mask = mask.repeat(3, axis=0).repeat(2, axis=1)
    mask[random.random(mask.shape) < 0.1] = 2
    mask[random.random(mask.shape) < 0.05] = NODATA
    return mask


def write(path, mask, place, *, rows=25, confidence=None, settings=None, names=NAMES):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = make_scene(*mask.shape, georeference=place)
    writer = RegionWriter(
        path,
        scene,
        settings or RegionSettings(),
        class_names=names,
        nodata=NODATA,
        with_confidence=confidence is not None,
    )
    for row in range(0, len(mask), rows):
        writer.feed(row, mask[row : row + rows], None if confidence is None else confidence[row : row + rows])
    return writer.close()
