"""What a night costs before its first prediction where 1,000,000 images are listed and 99 % are done.

    python benchmarks/million.py FOLDER [COUNT]

Makes COUNT (1,000,000) hard links to small JPEGs in FOLDER/lines, a manifest of them with three more
columns and a ledger in FOLDER/results; then, in one process each, lists the manifest, or the folder,
loads the ledger and compares the two, and prints seconds and peak memory. FOLDER is removed at the end.
"""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LINES, LINKS = 20, 50_000
"""Folders; names of one file at most: ext4 allows 65,000."""

DONE, FAILED = 0.99, 0.02
"""Shares: of the images that the ledger has, of these those with regions and a mask of their own."""

GROUP = 256
"""Images whose regions are in one table."""

PIXEL, PRODUCT = "a" * 16, "b" * 16
ROWS = 65_536


def make_images(folder: Path, count: int) -> pa.Table:
    """The manifest: uri, line, serial, shift."""
    import simplejpeg

    noise = np.random.default_rng(0)
    days = [folder / "lines" / f"line-{n // 28:02d}" / f"2026-11-{1 + n % 28:02d}" for n in range(28 * LINES)]
    for day in days:
        day.mkdir(parents=True)
    paths = [
        days[number * LINES // count * 28 + number % 28] / f"{number:07d}.jpg" for number in range(count)
    ]
    for number, path in enumerate(paths):
        if number % LINKS == 0:
            path.write_bytes(simplejpeg.encode_jpeg(noise.integers(0, 255, (24, 32, 3), dtype=np.uint8)))
        else:
            os.link(paths[number - number % LINKS], path)
    serial = np.arange(count)
    return pa.table(
        {
            "uri": [str(path.relative_to(folder)) for path in paths],
            "line": np.char.add("line-", (serial * LINES // count).astype(str)),
            "serial": serial + 40_000_000,
            "shift": np.array(["early", "late", "night"])[serial % 3],
        }
    )


def ledger_rows(folder: Path, manifest: Path, job: Any) -> Iterator[pa.Table]:
    """Rows as a run leaves them: the first 99 % of the listing done, masks and parts published."""
    from batchseg.ledger import SCHEMA
    from batchseg.photos.listing import list_photographs

    listing, _ = list_photographs(job(manifest), {})
    done = listing.slice(0, int(DONE * len(listing)))
    results = folder / "results"
    for start in range(0, len(done), ROWS):
        rows = done.slice(start, ROWS)
        outputs = [published(results, start + n, i) for n, i in enumerate(rows["source_id"].to_pylist())]
        given = {name: rows[name] for name in ("source_id", "uri", "tag", "attributes")}
        given["outputs"] = pa.array(outputs, SCHEMA.field("outputs").type)
        same = {"status": "done", "pixel": PIXEL, "product": PRODUCT, "cpu_class": "avx2"}
        given |= {name: pa.repeat(text, len(rows)) for name, text in same.items()}
        given |= {f.name: plain(f.type, len(rows)) for f in SCHEMA if f.name not in given}
        yield pa.table(given).select(SCHEMA.names).cast(SCHEMA)


def plain(kind: pa.DataType, count: int) -> pa.Array:
    """What most rows hold: no text, zeros, one class for all pixels."""
    if pa.types.is_list(kind):
        return pa.array([[0]] * count, kind)
    return pa.repeat("", count) if pa.types.is_string(kind) else pa.repeat(0, count).cast(kind)


def published(results: Path, number: int, source_id: str) -> list[dict[str, Any]]:
    if number % round(1 / FAILED):
        return []
    part = f"annotations/crs=none/part-{number // GROUP:032x}.parquet"
    mask = f"masks/{source_id}.png"
    outputs = []
    for path, data in ((mask, b"mask" * 20), (part, b"part" * 2000)):
        file = results / path
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        outputs.append({"path": path, "nbytes": len(data), "sha256": f"{number:064x}"})
    return outputs


def write_ledger(results: Path, tables: Iterator[pa.Table]) -> None:
    from batchseg.ledger import SCHEMA

    path = results / "_batchseg" / "ledger" / "snapshot-00000001.parquet"
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def load_ledger(results: Path) -> pa.Table:
    from batchseg.ledger import Ledger

    ledger = Ledger(str(results))
    return ledger.table()


def make_job(folder: Path) -> Callable[[Path], Any]:
    """Jobs that list `inputs`; the model is not looked at."""
    from batchseg.config import load_job

    def job(inputs: Path) -> Any:
        path = folder / "job.yaml"
        path.write_text(f"inputs: {inputs}\nmodel: model\noutput: results\n", encoding="utf-8")
        return load_job(path)

    return job


def compare(folder: Path, inputs: Path) -> None:
    """List, load, compare, and print; to be run in a process of its own."""
    from batchseg.photos.listing import list_photographs
    from batchseg.photos.triage import StoredOutputs, triage_photographs

    job = make_job(folder)(inputs)
    times = [time.monotonic()]
    before = memory("VmRSS")
    listing, _ = list_photographs(job, {})
    times.append(time.monotonic())
    listed = memory("VmRSS")
    known = load_ledger(folder / "results")
    times.append(time.monotonic())
    triage = triage_photographs(
        listing, known, pixel=PIXEL, product=PRODUCT, outputs_there=StoredOutputs(str(folder / "results"))
    )
    times.append(time.monotonic())
    seconds = [after - earlier for earlier, after in itertools.pairwise(times)]
    print(
        f"{inputs.name}: listed {seconds[0]:.1f} s, ledger {seconds[1]:.1f} s, compared {seconds[2]:.1f} s, "
        f"together {sum(seconds):.1f} s "
        f"({time.process_time():.1f} s of CPU, start included); {len(triage.todo):,} to do, "
        f"{triage.done:,} done, "
        f"{triage.changed_attributes.num_rows:,} with other attributes, {len(triage.vanished):,} gone"
    )
    print(
        f"  MiB: {before} at the start, {listed} with the listing "
        f"({listing.nbytes / len(listing):.0f} bytes per source), ledger {known.nbytes >> 20} "
        f"({known.nbytes / len(known):.0f} per source), "
        f"{memory('VmHWM')} at the peak"
    )


def memory(field: str) -> int:
    """MiB of this process: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) >> 10


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    if sys.argv[2:3] == ["compare"]:
        compare(folder, folder / sys.argv[3])
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    folder.mkdir(parents=True)
    try:
        manifest = folder / "manifest.parquet"
        pq.write_table(make_images(folder, count), manifest)
        write_ledger(folder / "results", ledger_rows(folder, manifest, make_job(folder)))
        for inputs in ("manifest.parquet", "lines"):
            subprocess.run([sys.executable, __file__, str(folder), "compare", inputs], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
