"""Case c: a scene in a bucket, with time added to each request; the output is in the bucket too.

The server is the user's; requests go through slow_proxy.py, also where it adds nothing.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.io_bound import spectral_job
from benchmarks.options import Options
from benchmarks.record import Figure, SkippedError, in_turn
from benchmarks.runs import Run, batchseg
from benchmarks.scenes import Kind, make_scene

TITLE = "From S3, with time added to each request"

DELAYS = (0, 20, 80)
"""Milliseconds."""

BUCKET = "batchseg-benchmarks"

KIND = Kind(dtype="uint16", bands=4, compress="deflate")


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case c."""
    if options.s3 is None:
        msg = "needs --s3, the endpoint of an S3 server (http://host:port), and its keys in the environment"
        raise SkippedError(msg)
    os.environ["AWS_ENDPOINT_URL"] = options.s3
    size = options.uint16_size
    bucket = _bucket(options.s3)
    scene = make_scene(options.folder("b"), KIND, (size, size), options.data)
    uri = f"{BUCKET}/in/{scene.name}"
    if not bucket.exists(uri) or bucket.size(uri) != scene.stat().st_size:
        bucket.put_file(str(scene), uri)
    job = spectral_job(options.folder("c"), KIND, f"s3://{uri}", options.workers)
    runs: dict[int, list[Run]] = {delay: [] for delay in DELAYS}
    with contextlib.ExitStack() as stack:
        ports = {delay: stack.enter_context(proxy(options.s3, delay)) for delay in DELAYS}

        def run(delay: int) -> float:
            runs[delay].append(_run(job, bucket, ports[delay]))
            return runs[delay][-1].work_seconds

        run(0)  # graphs are derived and kept
        runs[0].clear()
        sides = {f"{delay} ms": lambda delay=delay: run(delay) for delay in DELAYS}
        in_turn(options.rounds, sides, lambda text: options.say(f"  {text}"))
    return _figures(runs, size * size / 1e6), {
        str(delay): [one.summary["step_seconds"] for one in found] for delay, found in runs.items()
    }


def _figures(runs: Mapping[int, Sequence[Run]], megapixels: float) -> list[Figure]:
    def rates(delay: int, seconds: str) -> tuple[float, ...]:
        return tuple(megapixels / getattr(one, seconds) for one in runs[delay])

    units = {"above_unit": "Mpx/s", "below_unit": "Mpx/s"}
    return [
        Figure(
            what=f"{delay} ms / 0 ms, {words}",
            above=rates(delay, seconds),
            below=rates(0, seconds),
            **units,
            **({"at_least": 0.90, "aim": 0.95} if (delay, seconds) == (80, "work_seconds") else {}),
        )
        for seconds, words in (("work_seconds", "after start-up"), ("seconds", "from command to exit"))
        for delay in DELAYS[1:]
    ]


def _run(job: Path, bucket: Any, port: int) -> Run:
    output = f"{BUCKET}/out"
    if bucket.exists(output):
        bucket.rm(output, recursive=True)
    return batchseg(
        job, f"s3://{output}", noted=False, environment={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    )


def _bucket(endpoint: str) -> Any:
    """The server's file system, and our bucket in it."""
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    return files


@contextlib.contextmanager
def proxy(server: str, milliseconds: int) -> Iterator[int]:
    """A port of loopback behind which the server is, at a distance."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = urllib.parse.urlsplit(server).netloc
    script = str(Path(__file__).with_name("slow_proxy.py"))
    process = subprocess.Popen([sys.executable, script, str(port), place, str(milliseconds)])
    try:
        _await(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            msg = "the proxy did not start within 30 s"
            raise TimeoutError(msg)
        time.sleep(0.05)
