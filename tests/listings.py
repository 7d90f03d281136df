"""Listings of photographs and ledgers that know some of them."""

import pyarrow as pa
from factories import make_config, make_photographs

from batchseg.inputs.listing import list_inputs
from batchseg.inputs.source import LISTING
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, PhotoRecord

PART = Output(path="annotations/crs=none/part-1.parquet", nbytes=9, sha256="p")


def listing(*names):
    rows = [
        {
            "source_id": name,
            "uri": f"/in/{name}",
            "tag": "t",
            "size": 5,
            "young": False,
            "problem": "",
            "attributes": "",
            "more": "",
        }
        for name in names
    ]
    return pa.Table.from_pylist(rows, schema=LISTING)


def contents_of(contents):
    columns = {"source_id": list(contents), "content": list(contents.values())}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def done(name, content="", **changes):
    record = {"status": "done", "tag": "t", "pixel": "p", "product": "q", "outputs": (PART,)} | changes
    return PhotoRecord(source_id=name, content=content, **record)


def ledger_of(path, *records):
    ledger = Ledger(str(path))
    ledger.claim("run")
    ledger.append(records)
    return ledger


NAMES = ["a b.jpg", "50%.jpg", "no#1.jpg", "Prüfling ö.jpg", "照片.jpg", "a%20b.jpg", "q?x=1.jpg"]
"""What URLs and URIs trip over."""


def job(*inputs, **changes):
    given = tuple(i if isinstance(i, tuple) else (None, str(i)) for i in inputs)
    return make_config(inputs=given, photographs=make_photographs(), **changes)


def listed(*inputs, recorded=None, **changes) -> pa.Table:
    table = list_inputs(job(*inputs, **changes), recorded or {})[0]
    assert table.schema == LISTING
    ids = table["source_id"].to_pylist()
    assert ids == sorted(set(ids))
    return table
