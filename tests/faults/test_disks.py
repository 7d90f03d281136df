"""What is promised of disks that are full: real file systems, where this machine lets us mount them."""

import errno
import logging
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely
from conftest import write_raster
from factories import make_config
from rasterio.errors import RasterioError

from batchseg.driver.begin import RunLog
from batchseg.driver.executors import start
from batchseg.driver.executors.start import describe_small_memory
from batchseg.engines.graphs.cache import cached_folder
from batchseg.errors import ModelError, OutputError, StoppedError
from batchseg.inputs.source import Source
from batchseg.models.package import ClassInfo
from batchseg.output.cog import sidecar_is_whole, write_cog
from batchseg.output.ledger import Ledger
from batchseg.output.lock import hold
from batchseg.output.overviews import find_damage, halve_classes, make_levels
from batchseg.output.publish import publish
from batchseg.pixels.header import read_header
from batchseg.system.disks import SHARED_MEMORY, describe, full_disk
from batchseg.system.location import Location
from batchseg.system.temp_folders import CACHE_VARIABLE
from batchseg.tools.export import _check
from batchseg.tools.verify import verify
from faults.context import Context
from faults.disks import trials
from faults.mounts import small_disk, why_not

needs_mounts = pytest.mark.skipif(bool(why_not()), reason=why_not())

T = Callable[[], object]


def alone(function: T) -> None:
    """In a thread, whose mounts nobody else sees."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as e:  # noqa: BLE001  it is raised below
            failed.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@contextmanager
def files_of_at_most(nbytes: int) -> Iterator[None]:
    """Writes beyond fail, as they do on a full disk, but need no mount."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_mask_whose_writing_failed_without_a_word_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ids = np.kron(random.integers(0, 5, (150, 140), dtype=np.uint8), np.ones((5, 5), dtype=np.uint8))
    mosaic = str(write_raster(tmp_path / "mosaic.tif", ids[None]))
    product, halve = _Deflate(), partial(halve_classes, nodata=255)
    pyramid = make_levels(mosaic, tmp_path, "mask", halve, None)
    whole, cut, silent = tmp_path / "whole.tif", tmp_path / "cut.tif", 0
    write_cog(mosaic, whole, product)
    only_full = type(pyramid)(levels=[], checksums=pyramid.checksums[:1])
    assert find_damage(whole, only_full) is None
    size = whole.stat().st_size
    for limit in range(3 * size // 4, size + 1, size // 60):
        try:
            with files_of_at_most(limit):
                write_cog(mosaic, cut, product)
        except (RasterioError, rasterio._err.CPLE_BaseError, SystemError):
            continue
        try:
            damage = find_damage(cut, only_full)
        except RasterioError:
            damage = "unreadable"
        assert bool(damage) == (cut.read_bytes() != whole.read_bytes())
        silent += bool(damage)
    assert silent, "GDAL notices by itself now: find_damage could go"


def test_class_names_that_were_cut_off_are_found(tmp_path: Path) -> None:
    cog, classes = tmp_path / "mask.tif", (ClassInfo(name="a & b", color="#112233"),)
    sidecar = tmp_path / "mask.tif.aux.xml"
    assert not sidecar_is_whole(cog, classes)
    text = "<PAMDataset><CategoryNames><Category>a &amp; b</Category></CategoryNames></PAMDataset>"
    for written, whole in ((text, True), (text[:-5], False), (text.replace("b<", "c<"), False)):
        sidecar.write_text(written)
        assert sidecar_is_whole(cog, classes) == whole


class _Deflate:
    compress = "deflate"


def test_an_export_without_its_end_is_found(tmp_path: Path) -> None:
    path, square = tmp_path / "all.geojsonl", shapely.box(0, 0, 1, 1)
    pyogrio.raw.write(
        path,
        geometry=np.array([square.wkb] * 30, dtype=object),
        field_data=[np.arange(30)],
        fields=["n"],
        geometry_type="Polygon",
        crs="EPSG:4326",
        driver="GeoJSONSeq",
    )
    _check(path, [("regions", 30)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(OSError, match="29 of 30 regions"):
        _check(path, [("regions", 30)])


def test_a_log_that_cannot_be_written_does_not_change_how_a_run_ends(tmp_path: Path) -> None:
    log, before = RunLog(str(tmp_path), "run"), list(logging.getLogger("batchseg").handlers)  # pytest's own
    with files_of_at_most(10), log.opened(tmp_path) as logger:
        logger.info("more than ten bytes")
    assert logging.getLogger("batchseg").handlers == before


@needs_mounts
def test_a_full_disk_is_named_with_what_is_left_and_what_to_do(tmp_path: Path) -> None:
    def look() -> None:
        with small_disk(tmp_path / "small", "size=64k") as disk:
            with pytest.raises(OutputError, match=r"small/file: No space.*0\.1 MiB free\); make room"):
                publish(Location.of(str(disk.folder)).below("file"), bytes(2**17))
            assert [path.name for path in disk.folder.iterdir()] == ["_batchseg"]
        with small_disk(tmp_path / "few", "size=100m,nr_inodes=3") as disk:
            (disk.folder / "one").touch()
            with pytest.raises(OutputError, match=r"0 of 3 files \(inodes\) free"):
                for number in range(3):
                    publish(Location.of(str(disk.folder)).below(f"{number}"), b"")

    alone(look)


@needs_mounts
@pytest.mark.parametrize("options", ["size=4k", "ro"])
def test_an_output_whose_disk_fails_is_not_called_a_wrong_job(tmp_path: Path, options: str) -> None:
    def look() -> None:
        with small_disk(tmp_path / "disk", options) as disk:
            again = pytest.raises(OutputError, match="run the same command again")
            with again, hold(str(disk.folder / "out"), "run"):
                publish(Location.of(str(disk.folder)).below("file"), bytes(2**17))

    alone(look)


@needs_mounts
def test_a_network_that_was_cut_off_by_a_full_disk_is_not_kept(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        """As Paddle, whose streams nobody asks whether they failed."""
        left = shutil.disk_usage(folder).free - 8192
        (folder / "network.pdiparams").write_bytes(bytes(left))

    def refuse(folder: Path) -> None:
        make(folder)
        raise ModelError("the process that baked it ended itself")

    def look() -> None:
        with small_disk(tmp_path / "cache", "size=256k") as disk:
            for function in (make, refuse):
                with pytest.raises(StoppedError, match=r"cache.*BATCHSEG_MODEL_CACHE.*make room"):
                    cached_folder("key", function, root=disk.folder)
                assert [path.name for path in disk.folder.iterdir()] == ["key.lock"]

    alone(look)


@needs_mounts
def test_no_source_is_blamed_for_a_copy_that_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, 300, 400), dtype=np.uint8)
    data = write_raster(tmp_path / "noise.tif", noise).read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/full/noise.tif", data)
    source = Source(
        source_id="noise.tif",
        uri="memory://full/noise.tif",
        tag="",
        size=len(data),
        files=("memory://full/noise.tif",),
    )

    def look() -> None:
        with small_disk(tmp_path / "copies", "size=64k,mode=700") as disk:
            monkeypatch.setenv(CACHE_VARIABLE, str(disk.folder))
            with pytest.raises(StoppedError, match=r"cannot copy memory://full/noise\.tif.*make room"):
                read_header(source)

    try:
        alone(look)
    finally:
        memory.rm("/full", recursive=True)


def test_what_is_no_full_disk_is_said_as_it_is(tmp_path: Path) -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "none"))
    assert describe(error) == "No such file or directory"
    assert describe(OSError("odd")) == "odd"
    assert full_disk(tmp_path) is None


def test_what_does_not_fit_into_shared_memory_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert describe_small_memory(make_config(executor="ray")) is None
    monkeypatch.setattr(start, "OBJECT_STORE_BYTES", 2**50)
    assert "--shm-size=" in str(describe_small_memory(make_config(executor="ray")))
    assert describe_small_memory(make_config(executor="inline")) is None


def test_an_output_of_a_run_that_stopped_before_it_recorded_anything_is_sound(tmp_path: Path) -> None:
    with hold(str(tmp_path), "run"):
        pass
    assert verify(str(tmp_path), quick=False, say=lambda line: None).problems == ()


@needs_mounts
def test_nobody_is_blamed_for_a_process_that_died_on_a_machine_without_room() -> None:
    """SIGBUS is what a process gets that touches shared memory on a full disk."""
    from ray.exceptions import OutOfDiskError, WorkerCrashedError

    from batchseg.driver.executors.ray.failures import failure_of

    def look() -> None:
        assert failure_of(WorkerCrashedError(), "read").kind == "crash"
        assert failure_of(WorkerCrashedError(), "read").fatal is None
        assert isinstance(failure_of(OutOfDiskError("over capacity"), "read").fatal, StoppedError)
        with small_disk(SHARED_MEMORY, "size=8m") as disk:
            (disk.folder / "filler").write_bytes(bytes(8 * 2**20 - 4096))
            failure = failure_of(WorkerCrashedError(), "read")
            assert isinstance(failure.fatal, StoppedError)
            assert "/dev/shm: 0.0 MiB of 8.0 MiB free" in failure.reason
        with small_disk(SHARED_MEMORY, "size=64k"):  # no room, never: decoders crash there as elsewhere
            assert failure_of(WorkerCrashedError(), "read").fatal is None

    alone(look)


@needs_mounts
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["output's disk fills up in mid-run", "output's disk turns read-only"])
def test_a_run_stops_and_the_next_one_finishes(tmp_path: Path, fault: str) -> None:
    def look() -> None:
        context = Context(seed=2, times=1, only=fault, work=tmp_path)
        assert [trial.found for trial in trials(context) if not trial.kept_promises] == []

    alone(look)


def test_a_table_that_a_stopped_run_did_not_come_to_record_is_no_damage(tmp_path: Path) -> None:
    part = tmp_path / "annotations" / "crs=none" / "part.parquet"
    part.parent.mkdir(parents=True)
    pq.write_table(pa.table({"source_id": ["a", "a"]}), part)
    with hold(str(tmp_path), "run"):
        Ledger(str(tmp_path)).claim("run")
    found = verify(str(tmp_path), quick=False, say=lambda line: None)
    assert found.problems == ()
    assert found.unrecorded == ("annotations/crs=none/part.parquet",)
