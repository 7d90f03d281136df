"""Verdicts again from the recorded regions, after the rules changed: no image is read, nothing predicted."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchseg.errors import OutputError
from batchseg.job.recipe import Ruleset
from batchseg.output.columns import is_below, outputs_of
from batchseg.output.layout import ANNOTATIONS
from batchseg.output.region_parts import read_part, read_rows
from batchseg.regions.inspected import ALL_SEEN, CHECK_VALUES, MIN_VALID, are_known, uninspected
from batchseg.regions.verdicts import Decision, Measures, are_unlike, decide, measure, verdicts

LEFT_OUT = -2
"""In place of a criterion's number: an image whose regions are not there to be judged."""

_NUMBERS = ["source_id", "region_id", "class_id", "area_px", "confidence"]
_VALIDITY = ["height", "width", "valid_pixels", "interests", "interest_valid"]
_IMAGE = ["source_id", "height", "width", "region_count"]
_OUTLINES = ["box_x", "box_y", "box_width", "box_height", "geometry"]


class Recorded(Protocol):
    """A ledger, as far as it is needed here."""

    def table(self) -> pa.Table:
        """The latest row of each source: columns of `ledger.SCHEMA`."""


def rejudge(output: str, ledger: Recorded, rules: Ruleset, *, product: str | None = None) -> pa.Table:
    """New ledger rows for the photographs that were judged by other rules, or pass without inspection.

    Earlier versions let images pass of which nobody saw a pixel. One row group of one annotation part is in
    memory at a time, and numbers of one part's regions.

    Args:
        output: its root.
        ledger: of the output.
        rules: of the job.
        product: digest; rows of another product are left out, as their regions are to be made again first.
            None: all rows.

    Returns:
        Rows of the ledger's table whose status is done and whose verdict is due, with new columns as of
        `verdicts`, and `judged`. A row whose part is missing is left out: what is missing has to be made
        again. A row that does not tell how much of a region of interest has data gets no PASS.

    Raises:
        OutputError: a part cannot be read, or does not hold the regions that the ledger says.
    """
    rows = ledger.table()
    rows = rows.filter(pa.array(_are_due(rows, rules, product)))
    decided = Decision.none(len(rows))
    images = rows.select(_IMAGE).combine_chunks()
    for path, at in _by_part(rows):
        decided.put(at, _decided(output, path, images.take(at), rules))
    there = decided.criterion != LEFT_OUT
    if not there.all():
        rows, decided = rows.filter(pa.array(there)), decided.pick(there)
    return _judged(rows, rules, decided)


def lacks_validity(rows: pa.Table, rules: Ruleset | None) -> NDArray[np.bool_]:
    """Which rows do not tell how much has data of the parts that rules look at."""
    if rules is None or not rules.interests:
        return np.zeros(len(rows), dtype=bool)
    return ~are_known(rules, rows)


def review_counts(table: pa.Table) -> tuple[int, int]:
    """How many of those that are done are REVIEW only because too little of them has data, and how many only
    because they may be of another unit than the first ones."""
    why: Any = pc.not_equal(table["review_reason"], pa.scalar(""))
    judged = _is(table, "status", "done") & np.array(why)
    few, odd = (np.count_nonzero(judged & _is(table, "rule", name)) for name in (MIN_VALID, CHECK_VALUES))
    return int(few), int(odd)


def _are_due(rows: pa.Table, rules: Ruleset, product: str | None) -> NDArray[np.bool_]:
    """Which rows are done, and were judged by other rules, pass though too little was inspected or though
    they are unlike the first, or do not pass for that alone though the job no longer asks."""
    done = _is(rows, "status", "done")
    if product is not None:
        done &= _is(rows, "product", product)
    same = _is(rows, "judged", rules.digest)
    passed = np.flatnonzero(done & same & _is(rows, "verdict", "PASS"))
    unseen = uninspected(rules, rows.select(_VALIDITY).take(passed)) != ALL_SEEN
    due: NDArray[np.bool_] = done & ~same
    due[passed[unseen]] = True
    due[passed] |= are_unlike(rules, rows.select(["unlike"]).take(passed))
    if not rules.check_values:
        due |= done & _is(rows, "rule", CHECK_VALUES)
    return due


def _is(rows: pa.Table, column: str, value: str) -> NDArray[np.bool_]:
    """Where a column of words holds one."""
    return np.array(pc.equal(rows[column], pa.scalar(value)))


def _decided(output: str, path: str, images: pa.Table, rules: Ruleset) -> Decision:
    """What decides about each image whose regions one part holds."""
    try:
        measures = list(_measures(output, path, images, rules))
    except OutputError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            missing = Decision.none(len(images))
            missing.criterion[:] = LEFT_OUT
            return missing
        raise
    found, recorded = sum(len(some.image) for some in measures), pc.sum(images["region_count"]).as_py()
    if found != recorded:
        msg = (
            f"{path} holds {found} regions of {len(images)} images, and the ledger says {recorded}; "
            f"run `batchseg verify`"
        )
        raise OutputError(msg)
    return decide(rules, measures, len(images))


def _measures(output: str, path: str, images: pa.Table, rules: Ruleset) -> Iterator[Measures]:
    columns = _NUMBERS + (_OUTLINES if len(rules.parts) > 1 else [])
    part = read_part(output, path)
    for number in range(part.num_row_groups):
        regions = read_rows(part, path, columns, group=number)
        try:
            yield measure(rules, regions, images)
        except OutputError as e:
            msg = f"cannot judge by {path}: {e}"
            raise OutputError(msg) from e


def _by_part(rows: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Path of each annotation part that rows name, and which rows do; those that name none are left out."""
    outputs = outputs_of(rows)
    parts = np.flatnonzero(is_below(outputs["path"], ANNOTATIONS))
    row = outputs["row"].to_numpy()[parts]
    paths: Any = outputs["path"].cast(pa.string())
    named: Any = paths.take(pa.array(parts)).combine_chunks().dictionary_encode()
    codes = named.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(named.dictionary) + 1))
    for code, path in enumerate(named.dictionary.to_pylist()):
        yield path, row[order[starts[code] : starts[code + 1]]]


def _judged(rows: pa.Table, rules: Ruleset, decided: Decision) -> pa.Table:
    judged = verdicts(rules, decided, rows)
    judged = judged.append_column("judged", pa.array([rules.digest] * len(rows), pa.string()))
    for name in judged.column_names:
        field = rows.schema.field(name)
        column: Any = judged[name]
        if pa.types.is_string(column.type):
            column = pc.fill_null(column, pa.scalar(""))
        column = column.cast(field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows
