"""`batchseg export OUTPUT coco.json`: images and regions in COCO's format, written as a stream."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.errors import ConfigError
from batchseg.output.publish import replaced
from batchseg.regions.wkb import read_polygons
from batchseg.tools.tables import Items, class_name, column_of, is_done, open_items, recorded_parts, rows_of

_IMAGE_COLUMNS = (
    *("source_id", "uri", "status", "height", "width"),
    *("verdict", "rule", "review_reason", "same_as"),
)
_REGION_COLUMNS = (
    *("source_id", "class_id", "area_px", "box_x", "box_y", "box_width", "box_height"),
    *("confidence", "geometry"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedCoco:
    """What was written."""

    path: str
    images: int
    annotations: int


def export_coco(output: str, target: Path, *, classes: tuple[str, ...] = ()) -> ExportedCoco:
    """Write an output's images and regions; neither is held in memory but for ids and sizes.

    Corners of polygons lie between pixels, as `pycocotools` wants them: the first pixel is the square
    from (0, 0) to (1, 1). It gives back `area_px` pixels exactly, and the boxes (27,000 regions compared). A
    region with holes is a run-length mask, because COCO's polygons have none.

    Args:
        output: root of the results.
        target: ends in .json; replaced where it exists.
        classes: names or ids; none: all.

    Raises:
        ConfigError: there are no results of photographs, or a class is not known.
        OutputError: a table cannot be read, or the file cannot be written.
    """
    items = open_items(output)
    wanted = _class_ids(items, classes)
    with replaced(target) as making, making.open("w", encoding="ascii") as file:
        written = _write(items, wanted, file)
    return ExportedCoco(path=str(target), images=written[0], annotations=written[1])


def _class_ids(items: Items, classes: tuple[str, ...]) -> pa.Int32Array | None:
    """Ids of the chosen classes; None: all."""
    if not classes:
        return None
    names = items.state.classes
    unknown = [name for name in classes if name not in names and not name.isdigit()]
    if unknown:
        msg = f"--class {unknown[0]!r}: expected an id, or one of {items.state.class_list}"
        raise ConfigError(msg)
    return pa.array([names.index(name) if name in names else int(name) for name in classes], pa.int32())


def _write(items: Items, wanted: pa.Int32Array | None, file: IO[str]) -> tuple[int, int]:
    """Returns how many images and annotations were written."""
    info = {"description": items.output, "version": "1.0", "contributor": "batchseg"}
    file.write(f'{{"info": {json.dumps(info)},\n"images": [')
    images = _list(file, _images(items))
    file.write('],\n"annotations": [')
    seen: set[int] = set()
    annotations = _list(file, _annotations(items, wanted, seen))
    # Last, because only now it is known which classes there are beside those that have names.
    named = [number for number, name in enumerate(items.state.classes) if number and name]
    chosen = named if wanted is None else wanted.to_pylist()
    categories = [{"id": i, "name": class_name(items.state, i)} for i in sorted({*chosen, *seen})]
    file.write(f'],\n"categories": {json.dumps(categories)}}}\n')
    return images, annotations


def _list(file: IO[str], entries: Iterable[dict[str, Any]]) -> int:
    written = 0
    for entry in entries:
        file.write(",\n" if written else "\n")
        file.write(json.dumps(entry))  # in ASCII: readers on Windows do not take UTF-8 for granted
        written += 1
    return written


def _images(items: Items) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for table in items.batches([*_IMAGE_COLUMNS, *items.attributes]):
        for row in table.filter(is_done(table)).to_pylist():
            image = {
                "id": next(numbers),
                "file_name": row["source_id"],
                "width": row["width"],
                "height": row["height"],
                "uri": row["uri"],
                "verdict": row["verdict"],
                "rule": row["rule"],
                "review_reason": row["review_reason"],
                "same_as": row["same_as"],
                "attributes": {name: row[name] for name in items.attributes if row[name] is not None},
            }
            yield {key: value for key, value in image.items() if value not in (None, "", {})}


def _annotations(items: Items, wanted: pa.Int32Array | None, seen: set[int]) -> Iterator[dict[str, Any]]:
    table = items.read(["source_id", "status", "height", "width"])
    table = table.filter(is_done(table)).combine_chunks()
    sizes = np.stack([table.column(name).to_numpy() for name in ("height", "width")], axis=1)
    parts = recorded_parts(items.output)
    # -1: recorded after the table of items was written, by a run that is still under way.
    known: Any = pc.index_in(parts.source_ids, value_set=column_of(table, "source_id"))
    images = pc.fill_null(known, -1).to_numpy()
    numbers = count(1)
    for number, path in enumerate(parts.paths):
        members = parts.members(number)
        for rows in rows_of(items.output, path, members, _REGION_COLUMNS):
            if wanted is not None:
                rows = rows.filter(pc.is_in(rows.column("class_id"), value_set=wanted))
            seen.update(pc.unique(column_of(rows, "class_id")).to_pylist())
            at = pc.index_in(rows.column("source_id"), value_set=members).to_numpy()
            for annotation in _of_rows(rows, images[parts.starts[number] + at], sizes, path):
                yield {"id": next(numbers), **annotation}


def _of_rows(
    rows: pa.Table, images: NDArray[Any], sizes: NDArray[Any], path: str
) -> Iterator[dict[str, Any]]:
    """Annotations without ids.

    Args:
        rows: of region tables.
        images: (rows,) index of each row's image.
        sizes: (images, 2) height and width.
        path: of their table.
    """
    polygons = read_polygons(rows.column("geometry"), path)
    measures = rows.drop_columns(["geometry"]).to_pylist()
    for row, polygon, image in zip(measures, polygons, images.tolist(), strict=True):
        if image < 0:
            continue
        holed = bool(shapely.get_num_interior_rings(polygon))
        height, width = sizes[image].tolist()
        annotation = {
            "image_id": image + 1,
            "category_id": row["class_id"],
            "segmentation": run_lengths(polygon, (height, width)) if holed else [outer_ring(polygon)],
            "bbox": [row["box_x"], row["box_y"], row["box_width"], row["box_height"]],
            "area": row["area_px"],
            "iscrowd": int(holed),
        }
        if row["confidence"] is not None:
            annotation["score"] = round(row["confidence"], 6)
        yield annotation


def outer_ring(polygon: shapely.Polygon) -> list[float]:
    """[x, y, x, y, ...] of the shell, without its first corner's repetition."""
    corners = shapely.get_coordinates(shapely.get_exterior_ring(polygon))[:-1]
    whole = corners.astype(np.int64)
    flat: list[float] = (whole if np.array_equal(whole, corners) else corners.round(2)).ravel().tolist()
    return flat


def run_lengths(polygon: shapely.Polygon, size_hw: tuple[int, int]) -> dict[str, Any]:
    """COCO's uncompressed run-length mask of the pixels whose centres lie in a polygon.

    Runs go down the columns, from the left one to the right one; the first is of pixels outside. Only
    the polygon's bounding box is drawn.

    Args:
        polygon: in pixels.
        size_hw: of the image.
    """
    height, width = size_hw
    left, top = np.floor(shapely.bounds(polygon)[:2]).astype(int).clip(0).tolist()
    right, bottom = np.minimum(np.ceil(shapely.bounds(polygon)[2:]), (width, height)).astype(int).tolist()
    inside = rasterio.features.rasterize(
        [polygon], (bottom - top, right - left), transform=Affine.translation(left, top), dtype=np.int8
    )
    framed = np.pad(inside, ((1, 1), (0, 0))).T
    steps = np.diff(framed, axis=1)
    cols, starts = np.nonzero(steps > 0)
    _, stops = np.nonzero(steps < 0)
    begin = (cols + left) * height + top
    bounds = np.stack([begin + starts, begin + stops], axis=1).ravel()
    kept = np.ones(len(bounds), dtype=bool)
    meet = np.flatnonzero(
        bounds[1:-1:2] == bounds[2::2]
    )  # a run to a column's foot goes on at the next's head
    kept[2 * meet + 1] = kept[2 * meet + 2] = False
    counts = np.diff(bounds[kept], prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": counts.tolist()}
