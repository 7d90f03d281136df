"""The same bytes wherever the scenes come from and the results go to."""

import http.server
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
from chunked import chunked_server
from conftest import Command, JobWriter, batchseg, read_mask, reflectance, spectral_mask, write_raster
from runs import run, run_on_ray
from stored import put

from batchseg.errors import SourceIOError
from batchseg.output.ledger import Ledger
from batchseg.pixels import open
from batchseg.system import fetch, listing, retry
from batchseg.system.location import join


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, by ranges where they are asked for."""

    ranges = True
    failing = False

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if _Ranges.failing and not (asked and int(asked[1]) < 40_000):
            self.send_error(503, "slow down")
            return
        if not (self.ranges and asked and path.is_file()):
            super().do_GET()
            return
        data = path.read_bytes()
        start, stop = int(asked[1]), int(asked[2]) + 1 if asked[2] else len(data)
        part = data[start:stop]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *arguments: object) -> None:
        pass


class _Whole(_Ranges):
    """A plain web server, which knows only whole files."""

    ranges = False


@pytest.fixture(params=[_Ranges, _Whole], ids=["ranges", "whole files"])
def web(request, tmp_path: Path) -> Iterator[str]:
    handler = partial(request.param, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def by_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read as large ones are."""
    monkeypatch.setattr(open, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(open, "PAGE_BYTES", 4000)


@pytest.fixture
def archive(tmp_path: Path) -> list[Path]:
    """A tiled scene, a striped one with a mask beside it, and one in a folder of its own."""
    plain = write_raster(tmp_path / "in" / "a.tif", reflectance(170, 230, seed=1))
    striped = write_raster(
        tmp_path / "in" / "b.tif", reflectance(90, 130, seed=2), tiled=False, blockxsize=None, blockysize=None
    )
    import numpy as np
    import rasterio

    with rasterio.open(striped, "r+") as dataset:
        valid = np.full((90, 130), 255, dtype=np.uint8)
        valid[:, :40] = 0
        dataset.write_mask(valid)
    deep = write_raster(tmp_path / "in" / "deep" / "c.tif", reflectance(70, 60, seed=3))
    sidecar = striped.with_name("b.tif.msk")
    return [plain, striped, deep, *([sidecar] if sidecar.exists() else [])]


def results(output: str) -> dict[str, bytes]:
    """Masks and regions by path below the output."""
    found = {}
    for folder in ("masks", "annotations"):
        for info in listing.list_files(join(output, folder)):
            found[info.uri.removeprefix(output)] = fetch.read_bytes(info.uri)
    return found


def upload(archive: list[Path], tmp_path: Path, bucket: str) -> None:
    for path in archive:
        put(f"{bucket}/{path.relative_to(tmp_path)}", path.read_bytes())


def test_the_same_bytes_from_and_to_buckets(
    tmp_path: Path, write_job: JobWriter, archive: list[Path], bucket: str, by_ranges: None, ray_cluster: str
) -> None:
    job = write_job(inputs="in/**/*.tif", confidence=True)
    run(job)
    expected = results(str(tmp_path / "out"))
    assert len(expected) == 3 * 2 + 3
    upload(archive, tmp_path, bucket)

    run(job, f"output={bucket}/local-to-bucket")
    assert results(f"{bucket}/local-to-bucket") == expected
    run(job, f"inputs={bucket}/in/**/*.tif", f"output={bucket}/bucket-to-bucket")
    assert results(f"{bucket}/bucket-to-bucket") == expected
    run_on_ray(job, ray_cluster, f"inputs={bucket}/in", f"output={bucket}/on-ray", "workers=1")
    assert results(f"{bucket}/on-ray") == expected
    again = run(job, f"inputs={bucket}/in", f"output={bucket}/on-ray")
    assert (again.skipped, again.tally.predicted) == (3, 0)
    assert not list(Ledger(f"{bucket}/on-ray").unfinished())


def test_the_same_bytes_from_a_web_server(
    tmp_path: Path, write_job: JobWriter, archive: list[Path], web: str, by_ranges: None
) -> None:
    scenes = [path for path in archive[:1] + archive[2:] if path.suffix == ".tif"]
    (tmp_path / "urls.txt").write_text("\n".join(f"{web}/{p.relative_to(tmp_path)}" for p in scenes))
    (tmp_path / "paths.txt").write_text("\n".join(str(path) for path in scenes))
    job = write_job(inputs="paths.txt")
    run(job)
    run(job, f"inputs={tmp_path}/urls.txt", "output=web")
    local, remote = results(str(tmp_path / "out")), results(str(tmp_path / "web"))
    masks = [sorted(v for k, v in files.items() if k.startswith("/masks")) for files in (local, remote)]
    assert masks[0] == masks[1]
    assert len(masks[0]) == 2 * len(scenes)


@pytest.mark.slow
def test_options_in_the_job_file_reach_every_process(
    tmp_path: Path, write_job: JobWriter, archive: list[Path], s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FSSPEC_S3", "FSSPEC_S3A", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    options = {"endpoint": s3_server, "key": "${S3_KEY}", "secret": "testing"}
    fs = fsspec.filesystem("s3", endpoint_url=s3_server, key="testing", secret="testing")
    fs.mkdir("options")
    fs.put_file(str(archive[0]), "options/in/a.tif")
    job = write_job(inputs="s3://options/in/*.tif", output="s3://options/out", storage={"s3": options})
    monkeypatch.setenv("S3_KEY", "testing")
    done = batchseg("run", job, "--set", "workers=1")
    assert done.returncode == 0, done.stderr
    assert "1 scene done" in batchseg("status", job).stdout
    assert "all as recorded" in batchseg("verify", job).stdout
    assert fs.exists("options/out/masks/a.tif")


def test_a_storage_that_fails_in_mid_read_is_no_damaged_file(
    tmp_path: Path,
    write_job: JobWriter,
    archive: list[Path],
    web: str,
    by_ranges: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "LAST_BEGIN", 0.0)
    monkeypatch.setenv("BATCHSEG_PATIENCE", "0")  # of the fresh process
    (tmp_path / "urls.txt").write_text(f"{web}/in/a.tif")
    job = write_job(inputs="urls.txt", on_bad_block="nodata")
    _Ranges.failing = True
    try:
        report = run(job)
    finally:
        _Ranges.failing = False
    assert (report.tally.failed, report.tally.quarantined, report.tally.done) == (1, 0, 0)
    assert run(job).tally.done == 1


def test_a_bucket_that_does_not_exist_is_named(
    tmp_path: Path, write_job: JobWriter, bucket: str, command: Command
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(40, 50))
    done = command("run", write_job(output=f"{bucket}-none/out"), "--executor", "inline")
    assert done.returncode == 2
    assert f"{bucket}-none/out" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("run", write_job(inputs=f"{bucket}/nothing/*.tif"), "--executor", "inline")
    assert done.returncode == 2
    assert "matches no raster" in done.stderr


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"output": "s4://bucket/out"}, "Protocol not known: s4"),
        ({"output": "s3://b/o", "storage": {"s3": {"endpoint": "127.0.0.1:1"}}}, "Invalid endpoint"),
        ({"output": "s3://b/o", "storage": {"s3": {"endpint": "x"}}}, "endpint"),
        ({"inputs": "s3://b/*.tif", "storage": {"s3": {"profile": "nobody"}}}, "nobody"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path,
    write_job: JobWriter,
    keys: dict[str, object],
    words: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(40, 50))
    for name in [name for name in os.environ if name.startswith(("FSSPEC_", "AWS_"))]:
        monkeypatch.delenv(name)
    done = command("run", write_job(**keys), "--executor", "inline", "--quiet")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_listing_a_web_servers_file_fetches_nothing_of_it(tmp_path: Path) -> None:
    """A server that stalls in the middle of a file holds up who reads it, not the listing of all others."""
    (tmp_path / "a.tif").write_bytes(b"x" * 1000)
    fetched: list[str] = []

    class Counting(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}/a.tif"
    assert not listing.is_folder(uri)
    assert [(info.uri, info.size) for info in listing.list_files(uri)] == [(uri, 1000)]
    assert list(listing.list_files(uri.replace("a.tif", "b.tif"))) == []
    server.shutdown()
    server.server_close()
    with pytest.raises(SourceIOError):
        list(listing.list_files(uri))
    # fsspec asks with GET for what HEAD did not find.
    assert set(fetched) <= {"/b.tif"}


@pytest.mark.parametrize("etag", [True, False])
def test_a_server_that_says_no_length_gives_whole_scenes(
    tmp_path: Path, write_job: JobWriter, command: Command, etag: bool
) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(70, 80))
    (tmp_path / "in" / "empty.tif").touch()
    with chunked_server(tmp_path / "in", etag=etag) as web:
        (tmp_path / "list.txt").write_text(f"{web}/a.tif\n{web}/empty.tif\n")
        job = write_job(inputs="list.txt", executor="inline")
        done = command("run", job, "--quiet")
    assert (done.returncode, done.stdout.splitlines()[1:]) == (3, ["  empty.tif: the file is empty"])
    expected = spectral_mask(reflectance(70, 80), 10_000)
    assert (read_mask(tmp_path / "out", "a.tif") == expected).all()
