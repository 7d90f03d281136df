"""Rules of verdicts, and regions to judge."""

import dataclasses

import numpy as np
import pyarrow as pa
from polygons import whole_regions

from batchseg.job.recipe import Criterion, RegionSettings
from batchseg.job.settings import Interest
from batchseg.models.package import ClassInfo
from batchseg.output.photo_results import IMAGES
from batchseg.regions.inspected import valid_areas
from batchseg.regions.rows import PHOTO_COLUMNS

CLASSES = tuple(ClassInfo(name=name, color="#000000") for name in ("sound", "crack", "blowhole", "fray"))


REGIONS = RegionSettings()


def criterion(**changes):
    whole = Criterion(
        name="rule", then="FAIL", classes=None, min_area=0.0, count=1, min_confidence=0.0, interest=None
    )
    return dataclasses.replace(whole, **changes)


def box(left, top, right, bottom, unit="px"):
    return Interest(corners_xy=((left, top), (right, top), (right, bottom), (left, bottom)), unit=unit)


def regions_of(source_id, mask, scores):
    """Rows of PHOTO_COLUMNS, by rasterio; class 0 makes none."""
    wanted = (np.arange(256) > 0) & (np.arange(256) < 255)
    rows = []
    for region_id, (class_id, polygon) in whole_regions(mask, wanted).items():
        left, top, right, bottom = map(int, polygon.bounds)
        rows.append(
            dict.fromkeys(PHOTO_COLUMNS.names)
            | {
                "source_id": source_id,
                "region_id": region_id,
                "class_id": class_id,
                "area_px": int(polygon.area),
                "box_x": left,
                "box_y": top,
                "box_width": right - left,
                "box_height": bottom - top,
                "confidence": scores[class_id],
                "geometry": polygon.wkb,
            }
        )
    return rows


def tables_of(masks, scores=(0.0, 0.3, 0.6, 0.9)):
    """Regions in no particular order, and images."""
    rows = [row for name, mask in masks.items() for row in regions_of(name, mask, scores)]
    np.random.default_rng(3).shuffle(rows)
    return pa.Table.from_pylist(rows, schema=PHOTO_COLUMNS), images_of(masks)


def images_of(masks, rules=None):
    """What rules ask of images: 255 is no data; with rules also what of their parts has data."""
    rows = [
        {
            "source_id": name,
            "width": mask.shape[1],
            "height": mask.shape[0],
            "valid_pixels": int((mask != 255).sum()),
            "interests": rules.interests if rules else "",
            "interest_valid": valid_areas(rules, [mask], 255)[0].tolist() if rules else [],
        }
        for name, mask in masks.items()
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)
