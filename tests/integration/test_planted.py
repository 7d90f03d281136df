"""What whoever may write to an output can plant there: nothing outside of it is touched, read or named."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import JobWriter, read_mask, reflectance, write_raster
from outputs import check
from runs import mask_bytes, run
from stored import put

from batchseg.errors import OutputError
from batchseg.output.layout import folders
from batchseg.system.fetch import read_bytes
from batchseg.system.listing import list_below
from batchseg.tools.maintain import prune, retry
from batchseg.tools.status import read_status


@pytest.fixture
def night(tmp_path: Path, write_job: JobWriter) -> tuple[Path, Path]:
    """A job of two scenes that is done, and its output."""
    for name in "ab":
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 110))
    job = write_job()
    run(job)
    return job, tmp_path / "out"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of somebody else, with the names of an output's."""
    for path in ("precious.txt", "sub/keep", "masks/a.tif", "0123456789abcdef/keep"):
        put(tmp_path / "victim" / path, b"keep")
    return tmp_path / "victim"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_rows(output: Path, change: Callable[[dict[str, object]], object]) -> None:
    (snapshot,) = (output / "_batchseg" / "ledger").glob("snapshot-*")
    table = pq.read_table(snapshot)
    rows = table.to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), snapshot)


def plant(output: Path, source_id: str, path: str) -> None:
    def add(row: dict[str, object]) -> None:
        if row["source_id"] == source_id:
            row["outputs"].append({"path": path, "nbytes": 4, "sha256": "0" * 64})  # type: ignore[attr-defined]

    change_rows(output, add)


PATHS = [
    "../victim/precious.txt",
    "masks/../../victim/precious.txt",
    "/tmp/precious.txt",
    "_batchseg/output.json",
    "masks/a\n.tif",
    "masks//a.tif",
    "masks/" + "a" * 4096,
]


@pytest.mark.parametrize("path", PATHS)
def test_a_recorded_path_that_leads_out_ends_every_command(night, victim, tmp_path, path):
    job, output = night
    plant(output, "a.tif", path)
    before = contents(victim), contents(output / "masks")
    (tmp_path / "in" / "a.tif").write_bytes(b"no raster any more")
    for act in (
        lambda: run(job),
        lambda: prune(str(output), "run", dry_run=False, everything=True),
        lambda: prune(str(output), "run", dry_run=True, everything=True),
        lambda: retry(str(output), "run", []),
        lambda: check(output),
        lambda: read_status(str(output)),
    ):
        with pytest.raises(OutputError, match=r"the row of a\.tif names the result"):
            act()
    assert (contents(victim), contents(output / "masks")) == before


def test_a_recorded_path_in_a_bucket_leads_to_no_other_key(bucket, tmp_path, write_job):
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110))
    job, out = write_job(output=f"{bucket}/night/out"), f"{bucket}/night/out"
    run(job)
    put(f"{bucket}/night/precious.txt", b"keep")
    local = tmp_path / "copy"
    (snapshot,) = [info.uri for info in list_below(f"{out}/_batchseg/ledger") if "snapshot" in info.uri]
    put(local / "_batchseg" / "ledger" / "snapshot-00000001.parquet", read_bytes(snapshot))
    plant(local, "a.tif", "../precious.txt")
    put(snapshot, (local / "_batchseg" / "ledger" / "snapshot-00000001.parquet").read_bytes())
    with pytest.raises(OutputError, match=r"the row of a\.tif names the result"):
        prune(out, "run", dry_run=False, everything=True)
    assert read_bytes(f"{bucket}/night/precious.txt") == b"keep"


FOLDERS = [place.uri.removeprefix("/out/") for place in folders("/out")]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_a_link_ends_a_run_before_it_begins(night, victim, tmp_path, name):
    job, output = night
    if (output / name).exists():
        (output / name).rename(tmp_path / "moved")
    (output / name).symlink_to(victim)
    (tmp_path / "in" / "a.tif").touch()
    before = contents(victim)
    for act in (lambda: run(job), lambda: prune(str(output), "run", dry_run=False, everything=True)):
        with pytest.raises(OutputError, match=f"{output}/{name} is a link"):
            act()
    assert contents(victim) == before


def test_the_output_itself_may_be_a_link(night, tmp_path):
    job, output = night
    expected = mask_bytes(output)
    output.rename(tmp_path / "elsewhere")
    output.symlink_to(tmp_path / "elsewhere")
    assert run(job).skipped == 2
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110, seed=1))
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110))
    assert run(job).tally.done == 1
    assert mask_bytes(output) == expected and check(output).problems == ()


VRT = """<VRTDataset rasterXSize="110" rasterYSize="70">
<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
<SourceFilename relativeToVRT="0">{}</SourceFilename>
<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>110</LineOffset>
</VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("kind", ["vrt", "link"])
def test_a_mask_that_leads_to_another_file_is_not_encoded_again(night, tmp_path, kind):
    job, output = night
    secret = np.random.default_rng(0).integers(0, 3, 70 * 110, dtype=np.uint8)
    put(tmp_path / "secret.bin", secret.tobytes())
    mask = output / "masks" / "a.tif"
    data = VRT.format(tmp_path / "secret.bin").encode()
    if kind == "vrt":
        mask.write_bytes(data)
    else:
        write_raster(tmp_path / "secret.tif", secret.reshape(1, 70, 110))
        data = (tmp_path / "secret.tif").read_bytes()
        mask.unlink()
        mask.symlink_to(tmp_path / "secret.tif")

    def record(row: dict[str, object]) -> None:
        for made in row["outputs"]:  # type: ignore[attr-defined]
            if made["path"] == "masks/a.tif":
                made |= {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    change_rows(output, record)
    if kind == "link":
        with pytest.raises(OutputError, match=f"{mask} is a link"):
            run(job, "compress=lzw")
        return
    assert run(job, "compress=lzw").tally.failed == 1
    assert mask.read_bytes() == data
    assert run(job, "compress=lzw").tally.done == 1
    assert not np.array_equal(read_mask(output, "a.tif").ravel(), secret)


def test_a_folder_of_fragments_that_is_swapped_meanwhile_leads_nowhere(night, victim, tmp_path):
    """The races of single calls are tested with `rooted`; here a run and prune go on beside the swapping."""
    job, output = night
    before, over = contents(victim), threading.Event()
    place, aside, link = output / "_batchseg" / "fragments", tmp_path / "aside", tmp_path / "link"
    place.mkdir(exist_ok=True)
    link.symlink_to(victim)

    def swap() -> None:
        while not over.is_set():
            for one, other in ((place, aside), (link, place), (place, link), (aside, place)):
                try:
                    one.rename(other)
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for seed in range(8):
            write_raster(tmp_path / "in" / "a.tif", reflectance(70, 110, seed=seed))
            for act in (lambda: run(job), lambda: prune(str(output), "run", dry_run=False, everything=True)):
                try:
                    act()
                except OutputError:
                    continue
    finally:
        over.set()
        thread.join()
    assert contents(victim) == before
