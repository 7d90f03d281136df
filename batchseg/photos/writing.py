"""Masks of a group to what is published and recorded of it: regions, verdicts, mask files, ledger rows."""

import hashlib
import io
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchseg import publishing, storage
from batchseg.ledger import SCHEMA
from batchseg.photos.annotate import Annotator, Traced
from batchseg.photos.fitting import PhotoMask
from batchseg.photos.maskfile import Layer, encode_confidence, encode_mask, mask_file
from batchseg.photos.rules import judge
from batchseg.photos.tables import ANNOTATIONS
from batchseg.recipe import Product, Recipe
from batchseg.rows import region_schema
from batchseg.scene import Georeference
from batchseg.tables import MEMBERS

HELD_BYTES = 64 * 2**20
"""Masks that wait for their verdicts, at most; a larger one alone."""

FOLDER = "annotations/crs=none"
NOWHERE = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One photograph whose mask is there."""

    row: Row
    """As it was listed."""
    mask: PhotoMask
    content: str = ""
    same_as: str = ""
    recorded: int = 0
    """When the results that it is derived from were recorded; 0: it is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    finished: Finished
    traced: Traced | None
    ledger_row: Row


class ResultWriter:
    """Takes a group's masks one by one, and gives the ledger rows once everything is published."""

    def __init__(self, output: str, recipe: Recipe, product: Product, cpu_class: str) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        assert product.photographs is not None
        self._options = product.photographs
        self._annotator = None if product.regions is None else Annotator(
            product.regions,
            class_names=tuple(info.name for info in product.classes),
            nodata=recipe.mask_nodata,
            pixel_size=self._options.pixel_size,
            with_confidence=recipe.confidence,
        )  # fmt: skip
        self._common = {
            "status": "done",
            "pixel": recipe.digest,
            "product": product.digest,
            "encoding": product.encoding,
            "cpu_class": cpu_class,
            "grid": "",
            "row_off": 0,
            "col_off": 0,
            "bad_pixels": 0,
            "fragment_bytes": 0,
            "error": "",
            "judged": product.rules.digest if product.rules is not None else "",
        }
        self._waiting: list[_Waiting] = []
        self._held = 0
        self._rows: list[Row] = []
        self._regions: list[pa.Table] = []
        self.seconds = 0.0
        """Spent publishing."""

    def add(self, finished: Finished) -> None:
        """Trace a mask. Raises OutputError where one that waited cannot be written."""
        mask = finished.mask
        traced = None if self._annotator is None else self._annotator.trace(mask.classes, mask.confidence)
        row = self._ledger_row(finished, traced)
        self._waiting.append(_Waiting(finished=finished, traced=traced, ledger_row=row))
        self._held += mask.classes.nbytes * (2 if mask.confidence is not None else 1)
        if self._held >= HELD_BYTES:
            self._settle()

    def close(self) -> pa.Table:
        """Publish what is left, the regions' part too. Ledger rows in the order of the photographs."""
        self._settle()
        regions = pa.concat_tables(self._regions) if self._regions else ANNOTATIONS.empty_table()
        if regions.num_rows:
            made = self._publish_part(regions)
            for row in self._rows:
                if row["region_count"]:
                    row["outputs"].append(made)
        return pa.Table.from_pylist(self._rows, schema=SCHEMA)

    def _settle(self) -> None:
        """Judge those that wait, and write the masks that are wanted."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        rows = [item.ledger_row for item in waiting]
        if self._annotator is not None:
            traced = [
                (item.ledger_row["source_id"], item.traced) for item in waiting if item.traced is not None
            ]
            regions = self._annotator.rows(traced)
            self._regions.append(regions)
            self._judge(rows, regions)
        wanted = (item for item in waiting if is_wanted(self._options.masks, item.ledger_row["verdict"]))
        self._publish([file for item in wanted for file in self._files(item)])
        self._rows += rows

    def _judge(self, rows: list[Row], regions: pa.Table) -> None:
        if self._product.rules is None:
            return
        images = pa.table({name: [row[name] for row in rows] for name in ("source_id", "height", "width")})
        verdicts = judge(self._product.rules, regions, images)
        for row, verdict, rule in zip(
            rows, verdicts["verdict"].to_pylist(), verdicts["rule"].to_pylist(), strict=True
        ):
            row["verdict"], row["rule"] = verdict or "", rule or ""

    def _files(self, item: _Waiting) -> list[tuple[str, bytes]]:
        """URIs and bytes of a photograph's mask and confidence, which its row then names."""
        mask, source_id = item.finished.mask, item.ledger_row["source_id"]
        layers: list[tuple[Layer, bytes]] = [
            ("masks", encode_mask(mask.classes, self._product, self._recipe.mask_nodata))
        ]
        if mask.confidence is not None:
            layers.append(("confidence", encode_confidence(mask.confidence, self._product)))
        named = [(mask_file(source_id, self._product, layer), data) for layer, data in layers]
        item.ledger_row["outputs"] += [_made(path, data) for path, data in named]
        return [(storage.join(self._output, path), data) for path, data in named]

    def _publish(self, files: list[tuple[str, bytes]]) -> None:
        before = time.perf_counter()
        # Not synced one by one: a run that finds one cut off by a power failure makes it again.
        storage.at_once(lambda file: publishing.publish(*file, durable=False), files, self._output)
        self.seconds += time.perf_counter() - before

    def _publish_part(self, regions: pa.Table) -> Row:
        before = time.perf_counter()
        members = sorted(row["source_id"] for row in self._rows if row["region_count"])
        key = json.dumps([[row["source_id"], row["tag"]] for row in self._rows] + [self._common["product"]])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = f"{FOLDER}/part-{digest}.parquet"
        geo = region_schema(NOWHERE).metadata
        schema = ANNOTATIONS.with_metadata({**geo, MEMBERS: json.dumps(members).encode()})
        sink = io.BytesIO()
        pq.write_table(regions.cast(schema), sink, compression="zstd")
        data = sink.getvalue()
        publishing.publish(storage.join(self._output, path), data)
        self.seconds += time.perf_counter() - before
        return _made(path, data)

    def _ledger_row(self, finished: Finished, traced: Traced | None) -> Row:
        mask, listed = finished.mask, finished.row
        height, width = mask.classes.shape
        ids, pixels = _census(mask.classes, self._recipe.mask_nodata)
        row = self._common | {
            "source_id": listed["source_id"],
            "tag": listed["tag"],
            "uri": listed["uri"],
            "attributes": listed["attributes"],
            "height": height,
            "width": width,
            "empty": not pixels,
            "predicted": mask.tiles,
            "valid_pixels": sum(pixels),
            "class_ids": ids,
            "class_pixels": pixels,
            "class_area_m2": self._square_metres(pixels),
            "class_regions": [0] * len(ids),
            "outputs": [],
            "region_count": 0,
            "verdict": "",
            "rule": "",
            "largest_px": 0,
            "largest_class": -1,
            "confidence": 0.0,
            "content": finished.content,
            "same_as": finished.same_as,
            "recorded": finished.recorded,
        }
        if traced is not None:
            row |= _of_regions(traced, ids)
        return row

    def _square_metres(self, pixels: list[int]) -> list[float]:
        if self._options.pixel_size is None:
            return []
        one = (self._options.pixel_size / 1000) ** 2
        return [count * one for count in pixels]


def is_wanted(masks: str, verdict: str) -> bool:
    """Whether a photograph of this verdict keeps its mask."""
    return masks == "all" or (masks == "failed" and verdict != "PASS")


def _made(path: str, data: bytes) -> Row:
    return {"path": path, "nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _census(classes: Any, nodata: int) -> tuple[list[int], list[int]]:
    """Class ids and their pixels, ascending; nodata is no class."""
    highest = int(classes.max())
    if highest == 0:
        return [0], [classes.size]
    rows = np.flatnonzero(classes.any(axis=1))  # a histogram takes long, and defects are small
    band = classes[rows[0] : rows[-1] + 1]
    counts = np.bincount(band.ravel(), minlength=nodata + 1)
    counts[0] += classes.size - band.size
    counts[nodata] = 0
    ids = np.flatnonzero(counts)
    return ids.tolist(), counts[ids].tolist()


def _of_regions(traced: Traced, ids: list[int]) -> Row:
    regions, area = traced.regions, traced.counts.area
    largest = int(np.argmax(area))
    of_class = np.bincount(regions.class_id, minlength=(ids[-1] if ids else 0) + 1)
    return {
        "region_count": len(regions),
        "class_regions": of_class[ids].tolist(),
        "largest_px": int(area[largest]),
        "largest_class": int(regions.class_id[largest]),
        "confidence": float((regions.confidence / area).max() / 255),
    }
