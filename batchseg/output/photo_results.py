"""Masks of a group to what is published and recorded of it: regions, verdicts, mask files, ledger rows."""

import hashlib
import io
import json
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchseg.inputs.source import Georeference
from batchseg.job.cleaning import Cleaning
from batchseg.job.recipe import Product, Recipe
from batchseg.output import publish
from batchseg.output.cleaning import cleaned
from batchseg.output.layout import Layer, layer_path, result_file
from batchseg.output.lock import check_work_goes_on
from batchseg.output.photo_mask import encode_confidence, encode_mask, encode_values
from batchseg.output.record import SCHEMA, Output, PhotoRecord, to_table
from batchseg.output.region_parts import MEMBERS, part_path
from batchseg.output.value_layer import Spread, spread_of
from batchseg.predict.photo import Ids, PhotoMask, census
from batchseg.regions.inspected import valid_areas
from batchseg.regions.photo_table import Annotator, Traced
from batchseg.regions.rows import PHOTO_COLUMNS, region_schema
from batchseg.regions.verdicts import judge
from batchseg.system import storage

HELD_BYTES = 64 * 2**20
"""Masks that wait for their verdicts, at most; a larger one alone."""

NOWHERE = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())

Row = dict[str, Any]

_IMAGE = ("source_id", "height", "width", "valid_pixels", "interests", "interest_valid", "unlike")
IMAGES = pa.schema([SCHEMA.field(name) for name in _IMAGE])
"""What rules ask of photographs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One photograph whose mask is there."""

    row: Row
    """As it was listed."""
    mask: PhotoMask
    """As it was predicted; from `ResultWriter.add` on as it is published."""
    predicted: Ids | None = None
    """(H, W) class ids as they were predicted, where masks are cleaned."""
    content: str = ""
    same_as: str = ""
    unlike: str = ""
    """Why it may be of another unit than the output's first photographs; empty: it is alike."""
    recorded: int = 0
    """When the results that it is derived from were recorded; 0: it is new."""

    @property
    def nbytes(self) -> int:
        """In memory."""
        return self.mask.nbytes + (0 if self.predicted is None else self.predicted.nbytes)


class ResultWriter:
    """Takes a group's masks one by one, and gives the ledger rows once everything is published.

    Args:
        output: root of the results.
        recipe: the pixel settings.
        product: names, formats, regions, rules, and which masks are kept.
        cpu_class: of the predictor.
        epoch: of the run's lock: nothing is published for a run that ended or was taken for dead.
    """

    def __init__(self, output: str, recipe: Recipe, product: Product, cpu_class: str, epoch: int) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        self._epoch = epoch
        self._options = product.photo_options
        self._annotator = _annotator(recipe, product)
        self._cpu_class = cpu_class
        self._waiting: list[Finished] = []
        self._held = 0
        self._records: list[PhotoRecord] = []
        self._regions: list[pa.Table] = []
        self.seconds = 0.0
        """Spent publishing."""

    def add(self, finished: Finished) -> None:
        """Take a mask. Raises OutputError where one that waited cannot be written."""
        if self._product.cleaning is not None:
            finished = _clean(finished, self._product.cleaning, self._recipe.mask_nodata)
        self._waiting.append(finished)
        self._held += finished.nbytes
        if self._held >= HELD_BYTES:
            self._publish_waiting()

    def close(self) -> pa.Table:
        """Publish what is left, the regions' part too.

        Returns:
            Rows of `record.SCHEMA` in the order of the photographs.

        Raises:
            OutputError: a result cannot be written.
        """
        self._publish_waiting()
        regions = pa.concat_tables([PHOTO_COLUMNS.empty_table(), *self._regions])
        if regions.num_rows:
            made = self._publish_part(regions)
            self._records = [
                replace(record, outputs=(*record.outputs, made)) if record.region_count else record
                for record in self._records
            ]
        return to_table(self._records)

    def _publish_waiting(self) -> None:
        """Trace and judge those that wait, and write the masks that are wanted."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        records = [self._record(finished) for finished in waiting]
        if self._annotator is not None:
            traced = self._annotator.trace([finished.mask for finished in waiting])
            regions = self._annotator.rows(traced, [record.source_id for record in records])
            self._regions.append(regions)
            _add_regions(records, traced)
            records = self._judged(self._with_interests(records, waiting), regions)
        files: list[tuple[str, bytes]] = []
        for number, (finished, record) in enumerate(zip(waiting, records, strict=True)):
            layers = self._layers(finished, record)
            files += layers
            records[number] = replace(record, outputs=tuple(_made(path, data) for path, data in layers))
        self._publish(files)
        self._records += records

    def _with_interests(self, records: list[PhotoRecord], waiting: list[Finished]) -> list[PhotoRecord]:
        """With what has data in the regions of interest of those photographs of which not all has."""
        rules = self._product.rules
        partly = [n for n, one in enumerate(records) if 0 < one.valid_pixels < one.height * one.width]
        if rules is None or not rules.interests or not partly:
            return records
        masks = [waiting[number].mask.classes for number in partly]
        areas = valid_areas(rules, masks, self._recipe.mask_nodata).tolist()
        for number, valid in zip(partly, areas, strict=True):
            records[number] = replace(records[number], interests=rules.interests, interest_valid=tuple(valid))
        return records

    def _judged(self, records: list[PhotoRecord], regions: pa.Table) -> list[PhotoRecord]:
        if self._product.rules is None:
            return records
        images = to_table(records, IMAGES)
        judged = judge(self._product.rules, regions, images).to_pylist()
        return [
            replace(
                record,
                verdict=said["verdict"] or "",
                rule=said["rule"] or "",
                review_reason=said["review_reason"] or "",
                rule_px=said["rule_px"],
                rule_class=said["rule_class"],
            )
            for record, said in zip(records, judged, strict=True)
        ]

    def _layers(self, finished: Finished, record: PhotoRecord) -> list[tuple[str, bytes]]:
        """Paths and bytes of a photograph's rasters: those that are wanted of this verdict, and in any case
        what was predicted, which nothing else tells."""
        names = self._product.mask_names
        wanted = is_wanted(self._options.masks, record.verdict)
        layers = self._shown_layers(finished.mask) if wanted else []
        if finished.predicted is not None:
            classes, nodata = self._product.predicted_classes, self._recipe.mask_nodata
            data = encode_mask(finished.predicted, self._product, nodata, classes)
            layers.append(("predicted", self._options.mask_format, data))
        return [
            (layer_path(record.source_id, layer, suffix, names=names), data) for layer, suffix, data in layers
        ]

    def _shown_layers(self, mask: PhotoMask) -> list[tuple[Layer, str, bytes]]:
        """Suffixes and bytes of a photograph's mask and confidence, and of its numbers."""
        layers: list[tuple[Layer, str, bytes]] = []
        suffix = self._options.mask_format
        if self._recipe.has_mask:
            nodata, classes = self._recipe.mask_nodata, self._product.classes
            layers.append(("mask", suffix, encode_mask(mask.classes, self._product, nodata, classes)))
        if mask.confidence is not None:
            layers.append(("confidence", suffix, encode_confidence(mask.confidence, self._product)))
        if mask.values is not None and self._recipe.values is not None:
            data = encode_values(mask.values, self._product, self._recipe.values)
            layers.append(("values", "tif", data))
        return layers

    def _publish(self, files: list[tuple[str, bytes]]) -> None:
        before = time.perf_counter()
        # Not synced one by one: a run that finds one cut off by a power failure makes it again.
        placed = [(result_file(self._output, path), data) for path, data in files]
        if placed:
            self._check_run()
        storage.at_once(lambda file: publish.publish(*file, durable=False), placed, self._output)
        self.seconds += time.perf_counter() - before

    def _publish_part(self, regions: pa.Table) -> Output:
        before = time.perf_counter()
        members = to_table(record for record in self._records if record.region_count)
        ids = sorted(record.source_id for record in self._records if record.region_count)
        metadata = {**region_schema(NOWHERE).metadata, MEMBERS: json.dumps(ids).encode()}
        sink = io.BytesIO()
        # In one chunk: pages end where chunks do.
        whole = regions.combine_chunks().replace_schema_metadata(metadata)
        pq.write_table(whole, sink, compression="zstd")
        path, data = part_path("none", members), sink.getvalue()
        self._check_run()
        publish.publish(result_file(self._output, path), data)
        self.seconds += time.perf_counter() - before
        return _made(path, data)

    def _check_run(self) -> None:
        """A worker outlives its run where its cluster's head died. What it published then, the next run would
        not know of: readers of the folder would find regions twice, and masks of other settings."""
        check_work_goes_on(self._output, self._epoch)

    def _record(self, finished: Finished) -> PhotoRecord:
        """Without what follows from regions."""
        mask, listed = finished.mask, finished.row
        height, width = mask.classes.shape
        if (only := mask.only_class) is not None:
            ids, pixels = [only], [mask.classes.size]
        else:
            ids, pixels = census(mask.classes, self._recipe.mask_nodata)
        spread = Spread()
        if mask.values is not None and self._recipe.values is not None:
            spread = spread_of(mask.values, self._recipe.values)
        return PhotoRecord(
            status="done",
            source_id=listed["source_id"],
            tag=listed["tag"],
            uri=listed["uri"],
            attributes=listed["attributes"],
            pixel=self._recipe.digest,
            product=self._product.digest,
            encoding=self._product.encoding,
            cpu_class=self._cpu_class,
            judged=self._product.rules.digest if self._product.rules is not None else "",
            height=height,
            width=width,
            empty=not pixels,
            predicted=mask.tiles,
            valid_pixels=sum(pixels),
            class_ids=tuple(ids),
            class_pixels=tuple(pixels),
            class_area_m2=self._square_metres(pixels),
            class_regions=(0,) * len(ids),
            content=finished.content,
            same_as=finished.same_as,
            unlike=finished.unlike,
            recorded=finished.recorded,
            value_spread=spread.lowest_mean_highest,
            clipped_pixels=spread.clipped,
        )

    def _square_metres(self, pixels: list[int]) -> tuple[float, ...]:
        if self._options.pixel_size is None:
            return ()
        one = (self._options.pixel_size / 1000) ** 2
        return tuple(count * one for count in pixels)


def _clean(finished: Finished, cleaning: Cleaning, nodata: int) -> Finished:
    """With a clean mask beside what was predicted."""
    mask = finished.mask
    if mask.only_class is None:
        classes = cleaned(mask.classes, cleaning, nodata)
    else:  # one pixel stands for all of them
        classes = np.broadcast_to(cleaned(mask.classes[:1, :1], cleaning, nodata), mask.classes.shape)
    return replace(finished, mask=replace(mask, classes=classes), predicted=mask.classes)


def is_wanted(masks: str, verdict: str) -> bool:
    """Whether a photograph of this verdict keeps its mask."""
    return masks == "all" or (masks == "failed" and verdict != "PASS")


def _made(path: str, data: bytes) -> Output:
    return Output(path=path, nbytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _annotator(recipe: Recipe, product: Product) -> Annotator | None:
    if product.regions is None:
        return None
    return Annotator(
        product.regions,
        class_names=tuple(info.name for info in product.classes),
        nodata=recipe.mask_nodata,
        pixel_size=product.photo_options.pixel_size,
        with_confidence=recipe.confidence,
    )


def _add_regions(records: list[PhotoRecord], traced: Traced) -> None:
    """Put what records say of their photographs' regions in their places."""
    area, class_id, sums = traced.counts.area, traced.regions.class_id, traced.regions.confidence
    _, once, region = np.unique(traced.number, return_index=True, return_inverse=True)
    is_first = np.zeros(len(area), dtype=bool)
    is_first[once] = True
    if len(once) < len(area):  # each piece stands for its whole region
        area, sums = (np.bincount(region, values)[region].astype(np.int64) for values in (area, sums))
    confidence = sums / area / 255
    photos, starts = np.unique(traced.photo, return_index=True)
    bounds = [*starts.tolist(), len(area)]
    for number, (start, stop) in zip(photos.tolist(), pairwise(bounds), strict=True):
        largest = start + int(np.argmax(area[start:stop]))
        ids = list(records[number].class_ids)
        found = class_id[start:stop][is_first[start:stop]]
        counts = np.bincount(found, minlength=ids[-1] + 1)[ids]
        records[number] = replace(
            records[number],
            region_count=stop - start,
            class_regions=tuple(counts.tolist()),
            largest_px=int(area[largest]),
            largest_class=int(class_id[largest]),
            confidence=float(confidence[start:stop].max()),
        )
