"""The table items/: one row per source, made from the ledger."""

import io
from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchseg import publishing, storage
from batchseg.ledger import Record

_CLASS: dict[str, pa.DataType] = {
    "class_id": pa.int32(),
    "class_name": pa.string(),
    "pixels": pa.int64(),
    "area_m2": pa.float64(),  # null without a CRS
}
_COLUMNS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "uri": pa.string(),
    "status": pa.string(),  # done, quarantined or failed
    "error": pa.string(),  # null when done
    "mask": pa.string(),  # path below the output; null unless done
    "height": pa.int32(),
    "width": pa.int32(),
    "valid_share": pa.float64(),  # of all pixels, 0..1; null unless done
    "bad_pixels": pa.int64(),  # nodata because their blocks cannot be decoded; null unless done
    "classes": pa.list_(pa.struct(list(_CLASS.items()))),
    "tag": pa.string(),
    "gone": pa.bool_(),  # the last run did not find it any more; kept until `prune`
}
SCHEMA = pa.schema(_COLUMNS)


def write_items(
    output: str, records: Iterable[Record], class_names: tuple[str, ...], gone: Collection[str] = ()
) -> None:
    """Replace the table by the ledger's present state, sorted by source id.

    Args:
        output: root of the results.
        records: the latest of each source.
        class_names: by class id.
        gone: ids of sources that the inputs no longer hold.

    Raises:
        OutputError: it cannot be written.
    """
    absent = frozenset(gone)
    rows = [{**_row(record, class_names), "gone": record.source_id in absent} for record in records]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
    publishing.publish(storage.join(output, "items", "items.parquet"), sink.getvalue())


def _row(record: Record, class_names: tuple[str, ...]) -> dict[str, Any]:
    done = record.status == "done"
    size = record.height * record.width
    return {
        "source_id": record.source_id,
        "uri": record.uri,
        "status": record.status,
        "error": record.error or None,
        "mask": record.mask or None,
        "height": record.height or None,
        "width": record.width or None,
        "valid_share": record.valid_pixels / size if done else None,
        "bad_pixels": record.bad_pixels if done else None,
        "classes": _classes(record, class_names),
        "tag": record.tag,
    }


def _classes(record: Record, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    areas = record.class_area_m2 or (None,) * len(record.class_ids)
    return [
        {
            "class_id": class_id,
            "class_name": class_names[class_id] if class_id < len(class_names) else None,
            "pixels": pixels,
            "area_m2": area,
        }
        for class_id, pixels, area in zip(record.class_ids, record.class_pixels, areas, strict=True)
    ]
