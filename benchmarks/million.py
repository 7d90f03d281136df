"""What a night costs before its first prediction where 1,000,000 images are listed and 99 % are done.

    python -m benchmarks.million FOLDER [COUNT]

Makes COUNT (1,000,000) hard links to small JPEGs in FOLDER/lines, a manifest of them with three more
columns and a ledger in FOLDER/results; then, in one process each, lists the manifest,
loads the ledger and compares the two, and prints seconds and peak memory. Last the whole command does the
manifest: seconds to the first new prediction, and the driver's peak memory until then and in all. FOLDER is
removed at the end.
"""

import itertools
import multiprocessing
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

from benchmarks.photographs import Watch, make_model

LINES, LINKS = 20, 50_000
"""Folders; names of one file at most: ext4 allows 65,000."""

DONE, FAILED = 0.99, 0.02
"""Shares: of the images that the ledger has, of these those with regions and a mask of their own."""

MASK = b"mask" * 20

SETTINGS = """\
model: model
output: results
fit: resize
tile_size: 32
classes: [good, red, green, blue]
rules: [{class: red, min_area: 50}]
masks: failed
"""

FIRST = 40
"""Images that are really done, so that the ledger has the settings' digests."""

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


def settings_of(results: Path) -> dict[str, str]:
    """Digests of the settings that an output was made with, by column of its ledger."""
    from batchseg.output.ledger import Ledger

    row = next(Ledger(str(results)).sources())
    names = ("pixel", "product", "encoding", "cpu_class", "judged")
    return {name: getattr(row, name) for name in names}


def ledger_rows(folder: Path, manifest: Path, job: Any, digests: dict[str, str]) -> Iterator[pa.Table]:
    """Rows as a run leaves them: the first 99 % of the listing done, masks and parts published."""
    from batchseg.inputs.listing import list_inputs
    from batchseg.output.record import SCHEMA
    from batchseg.output.state import load_state

    state = load_state(str(folder / "results"))
    listing, _ = list_inputs(job(manifest), state.roots if state else {})
    done = listing.slice(0, int(DONE * len(listing)))
    results = folder / "results"
    for start in range(0, len(done), ROWS):
        rows = done.slice(start, ROWS)
        outputs = [published(results, start + n, i) for n, i in enumerate(rows["source_id"].to_pylist())]
        given = {name: rows[name] for name in ("source_id", "uri", "tag", "attributes")}
        given["outputs"] = pa.array(outputs, SCHEMA.field("outputs").type)
        same = {"status": "done", "verdict": "PASS", **digests}
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
    mask = f"masks/{source_id}.png"
    file = results / mask
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(MASK)
    return [{"path": mask, "nbytes": len(MASK), "sha256": f"{number:064x}"}]


def write_ledger(results: Path, tables: Iterator[pa.Table]) -> None:
    from batchseg.output.record import SCHEMA

    path = results / "_batchseg" / "ledger" / "snapshot-00001000.parquet"
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def load_ledger(results: Path) -> pa.Table:
    from batchseg.output.ledger import Ledger

    ledger = Ledger(str(results))
    return ledger.table()


def make_job(folder: Path) -> Callable[[Path], Any]:
    """Jobs that list `inputs`; the model is not looked at."""
    from batchseg.job.file import load_job

    def job(inputs: Path) -> Any:
        path = folder / "job.yaml"
        path.write_text(f"inputs: {inputs}\n{SETTINGS}", encoding="utf-8")
        return load_job(path)

    return job


def compare(folder: Path, inputs: Path) -> None:
    """List, load, compare, and print; to be run in a process of its own."""
    from batchseg.driver.stored_outputs import StoredOutputs
    from batchseg.driver.triage import triage
    from batchseg.inputs.listing import list_inputs
    from batchseg.output.state import load_state

    job = make_job(folder)(inputs)
    times = [time.monotonic()]
    before = memory("VmRSS")
    state = load_state(str(folder / "results"))
    listing, _ = list_inputs(job, state.roots if state else {})
    times.append(time.monotonic())
    listed = memory("VmRSS")
    known = load_ledger(folder / "results")
    times.append(time.monotonic())
    digests = settings_of(folder / "results")
    triaged = triage(
        listing,
        known,
        pixel=digests["pixel"],
        product=digests["product"],
        outputs_there=StoredOutputs(str(folder / "results")),
    )
    times.append(time.monotonic())
    seconds = [after - earlier for earlier, after in itertools.pairwise(times)]
    print(
        f"{inputs.name}: listed {seconds[0]:.1f} s, ledger {seconds[1]:.1f} s, compared {seconds[2]:.1f} s, "
        f"together {sum(seconds):.1f} s "
        f"({time.process_time():.1f} s of CPU, start included); {len(triaged.todo):,} to do, "
        f"{triaged.done:,} done, "
        f"{triaged.changed_attributes.num_rows:,} with other attributes, {len(triaged.vanished):,} gone"
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


def night(folder: Path, command: list[str]) -> None:
    """The whole command, and what it took until the first group of new images was done."""
    runs = folder / "results" / "_batchseg" / "runs"
    before = set(runs.iterdir())
    started = time.monotonic()
    process = subprocess.Popen(command)
    watch = Watch(process.pid)
    first, peak = 0.0, 0
    while process.poll() is None:
        if not first and any("photographs (" in text for text in logs(set(runs.iterdir()) - before)):
            first, peak = time.monotonic() - started, watch.peak
        time.sleep(0.1)
    print(
        f"whole command: first new predictions after {first:.1f} s, the driver at {peak / 2**20:.0f} MiB; "
        f"exit {process.returncode} after {time.monotonic() - started:.1f} s, "
        f"{watch.peak / 2**20:.0f} MiB at most"
    )


def logs(runs: set[Path]) -> Iterator[str]:
    for folder in runs:
        if (log := folder / "log.txt").exists():
            yield log.read_text(encoding="utf-8")


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    if sys.argv[2:3] == ["compare"]:
        compare(folder, folder / sys.argv[3])
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    folder.mkdir(parents=True)
    try:
        manifest = folder / "manifest.parquet"
        images = make_images(folder, count)
        (folder / "model").mkdir()
        maker = multiprocessing.get_context("spawn").Process(target=make_model, args=(folder / "model",))
        maker.start()
        maker.join()
        pq.write_table(images.slice(0, FIRST), manifest)
        job = make_job(folder)
        command = [str(Path(sys.executable).with_name("batchseg")), "run", job(manifest).path, "--quiet"]
        subprocess.run(command, check=True)
        pq.write_table(images, manifest)
        write_ledger(folder / "results", ledger_rows(folder, manifest, job, settings_of(folder / "results")))
        subprocess.run([sys.executable, __file__, str(folder), "compare", manifest.name], check=True)
        job(manifest)
        night(folder, command)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
