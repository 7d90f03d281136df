"""Storage that fails: requests to an S3 server spoiled on their way, objects that change or vanish."""

import contextlib
import io
import itertools
import os
import random
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pyarrow.parquet as pq
import rasterio
from PIL import Image, ImageOps

from faults.commands import Place, run, said, start, wait_for
from faults.context import Context
from faults.outcome import Outcome, differences
from faults.proxy import TRANSIENT, Kind, Proxy, Spoiling, proxied
from faults.record import Trial
from faults.workload import Workload, make_workload, place, undisturbed

MOST_RUNS = 6
LIMIT_SECONDS = 600.0
"""No single run may take longer."""

READ_TIMEOUT = 3
"""Seconds, in trials of stalls that are many: the client's own is longer, and passes as slowly."""

What = Literal["scenes", "large scene", "photographs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of the S3 server, reached behind the proxy's back."""

    name: str
    proxy: Proxy

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """fsspec's, of the server itself."""
        return {"endpoint_url": f"http://{self.proxy.server}", **_keys(), "use_listings_cache": False}

    @property
    def files(self) -> Any:
        return fsspec.filesystem("s3", **self.options)

    def job_options(self, **more: Any) -> dict[str, Any]:
        """The job's `storage`: through the proxy."""
        return {"s3": {"endpoint": self.proxy.url, **_keys(), **more}}


def _keys() -> dict[str, str]:
    return {
        "key": os.environ.get("AWS_ACCESS_KEY_ID", "testkey"),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY", "testsecret"),
    }


@contextlib.contextmanager
def bucket_behind(server: str) -> Iterator[Bucket]:
    """An empty bucket and a proxy before it; both go at the end."""
    with proxied(server) as proxy:
        bucket = Bucket(name=f"faults-{uuid.uuid4().hex[:12]}", proxy=proxy)
        bucket.files.mkdir(bucket.name)
        try:
            yield bucket
        finally:
            with contextlib.suppress(FileNotFoundError):
                bucket.files.rm(bucket.name, recursive=True)


def in_bucket(what: What, work: Path, bucket: Bucket, *, size: int = 3, **keys: Any) -> Workload:
    """An archive in a bucket, and an output there too.

    Photographs are named by a manifest that lies in the bucket as well.
    """
    kind: Literal["scenes", "photographs"] = "photographs" if what == "photographs" else "scenes"
    folder = work / f"proxied-{what.replace(' ', '-')}-{size}"
    workload = make_workload(kind, folder, size=size)
    if what == "large scene":
        _write_large_scene(folder / "in" / "scene-large.tif")
    archive = f"{bucket.name}/archive/{what.replace(' ', '-')}"
    names = sorted(path.name for path in (folder / "in").iterdir())
    for name in names:
        bucket.files.put_file(str(folder / "in" / name), f"{archive}/{name}")
    inputs = f"s3://{archive}/*.tif"
    if kind == "photographs":
        rows = "".join(f"{name},line {n % 3}\n" for n, name in enumerate(names))
        bucket.files.pipe_file(f"{archive}/night.csv", f"uri,line\n{rows}".encode())
        inputs = f"s3://{archive}/night.csv"
    usual = {"inputs": inputs, "executor": "inline", "workers": 1, "storage": bucket.job_options()}
    if what == "large scene":
        usual |= {"tile_size": 256, "halo": 16}
    return replace(workload, output_root=bucket.uri, options=bucket.options, keys=usual | keys)


def _on_one(what: What, work: Path) -> Workload:
    """An archive on a disk, and an output there too."""
    kind: Literal["scenes", "photographs"] = "photographs" if what == "photographs" else "scenes"
    keys = {"executor": "inline", "workers": 1}
    return make_workload(kind, work / f"proxied-disk-{kind}", size=3, keys=keys)


@cache
def _expected(folder: Path, kind: str) -> tuple[Outcome, int, float]:
    return undisturbed(_on_one("photographs" if kind == "photographs" else "scenes", folder.parent))


def _known(workload: Workload) -> tuple[Outcome, int, float]:
    return _expected(workload.folder, workload.kind)


def _write_large_scene(path: Path) -> None:
    """Of 20 MB: it is read by ranges."""
    if path.exists():
        return
    height, width = 1510, 1670
    pixels = np.random.default_rng(5).integers(1, 9_000, (4, height, width), dtype=np.uint16)
    pixels[:, 300:420, 200:900] = 0
    profile: dict[str, Any] = {"driver": "GTiff", "count": 4, "dtype": "uint16", "tiled": True}
    profile |= {"blockxsize": 128, "blockysize": 128, "nodata": 0, "crs": "EPSG:32633"}
    transform = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    with rasterio.open(path, "w", height=height, width=width, transform=transform, **profile) as dataset:
        dataset.write(pixels)


def trials(context: Context) -> Iterator[Trial]:
    """All of the section; those over S3 need a server."""
    yield from _on_disk(context)
    if context.s3_endpoint is None:
        print("proxied: no --s3 URL, so nothing over S3 is tried", file=sys.stderr)  # noqa: T201
        return
    with bucket_behind(context.s3_endpoint) as bucket:
        yield from _over_s3(context, bucket)


def _on_disk(context: Context) -> Iterator[Trial]:
    kinds: tuple[What, ...] = ("scenes", "photographs")
    for what, action in itertools.product(kinds, ("changes", "vanishes")):
        name = f"a file {action} between plan and read: {what} on a disk"
        for seed, chance in context.seeds(name, 4):
            workload = _on_one(what, context.work)
            archive = _OnDisk(workload, chance.random())
            yield replaced(
                workload, _known(workload), archive, name, seed, chance, vanishes=action == "vanishes"
            )


def _over_s3(context: Context, bucket: Bucket) -> Iterator[Trial]:
    tries = _Tries(context, bucket)
    yield from _transient(context, tries)
    yield from _kinds_alone(context, tries)
    yield from _credentials(context, tries)
    for what, action in itertools.product(KINDS, ("changes", "vanishes")):
        name = f"an object {action} between plan and read: {what}"
        for seed, chance in context.seeds(name, 4):
            archive = _InBucket(bucket, what, chance.randrange(1, 20 if what == "large scene" else 5))
            yield replaced(*tries.of(what), archive, name, seed, chance, vanishes=action == "vanishes")


class _Tries:
    """Workloads and what they give undisturbed, made when they are first asked for."""

    def __init__(self, context: Context, bucket: Bucket) -> None:
        self._context, self.bucket = context, bucket
        self._known: dict[str, tuple[Workload, tuple[Outcome, int, float]]] = {}

    def of(self, what: What) -> tuple[Workload, tuple[Outcome, int, float]]:
        if what not in self._known:
            workload = in_bucket(what, self._context.work, self.bucket)
            self._known[what] = workload, undisturbed(workload, f"undisturbed-{what.replace(' ', '-')}")
        return self._known[what]

    def __call__(self, what: What, fault: str, spoiling: Spoiling, **keys: Any) -> Trial:
        workload, expected = self.of(what)
        return disturbed(workload, self.bucket, expected, fault, spoiling, **keys)


KINDS: tuple[What, ...] = ("scenes", "photographs", "large scene")


def _transient(context: Context, tried: _Tries) -> Iterator[Trial]:
    for share in (0.01, 0.05, 0.2):
        for faults, words in [*(((fault,), fault) for fault in TRANSIENT), (TRANSIENT, "all of these mixed")]:
            name = f"{words}, {share:.0%} of requests"
            for seed, _ in context.seeds(name, 3):
                yield tried(KINDS[seed % 3], name, Spoiling(faults=faults, share=share, seed=seed))
        name = f"stall beyond a read timeout of {READ_TIMEOUT} s, {share:.0%} of requests"
        storage_keys = tried.bucket.job_options(config_kwargs={"read_timeout": READ_TIMEOUT})
        for seed, _ in context.seeds(name, 3):
            stall = Spoiling(faults=("stall",), share=share, seed=seed)
            yield tried(KINDS[seed % 3], name, stall, storage=storage_keys)
    name = "stall of 30 s, 2% of requests"
    for seed, _ in context.seeds(name, 2):
        yield tried(KINDS[seed % 3], name, Spoiling(faults=("stall",), share=0.02, seed=seed))


def _kinds_alone(context: Context, tried: _Tries) -> Iterator[Trial]:
    kinds: tuple[tuple[Kind, str], ...] = (("write", "writes"), ("list", "listings"), ("read", "reads"))
    for kind, words in kinds:
        name = f"the first try of half of all {words} fails"
        for seed, _ in context.seeds(name, 2):
            spoiling = Spoiling(faults=TRANSIENT, share=0.5, kinds={kind}, each=1, seed=seed)
            yield tried(KINDS[seed % 2], name, spoiling)
    name = "the first reply to each creation of a ledger segment or lock is lost"
    for seed, _ in context.seeds(name, 2):
        only = r"PUT .*/_batchseg/(ledger|locks)/"
        yield tried(
            KINDS[seed % 2], name, Spoiling(faults=("lost reply",), share=1, only=only, each=1, seed=seed)
        )


def _credentials(context: Context, tried: _Tries) -> Iterator[Trial]:
    for words, only in (("all", ""), ("those of the inputs", r"GET .*/archive/.*\.(tif|png)")):
        name = f"credentials expire in mid-run: {words}"
        for seed, chance in context.seeds(name, 6):
            after = chance.randrange(80, 140) if not only else chance.randrange(1, 3)
            expired = Spoiling(faults=("expired",), share=1, only=only, after=after, seed=seed)
            yield tried(KINDS[seed % 3], name, expired, heals=True)


def disturbed(
    workload: Workload,
    bucket: Bucket,
    expected: tuple[Outcome, int, float],
    fault: str,
    spoiling: Spoiling,
    *,
    heals: bool = False,
    **keys: Any,
) -> Trial:
    """One job under faults that pass: it ends with 0, or with 5 and a resume that ends with 0.

    Args:
        workload: the job.
        bucket: where it lies.
        expected: what `undisturbed` gave for it.
        fault: in a reader's words.
        spoiling: what the proxy does.
        heals: the first run meets the faults and must end with 5, the next one meets none.
        keys: of the job file.
    """
    outcome, tiles, seconds = expected
    name = f"s{spoiling.seed}-{uuid.uuid4().hex[:6]}"
    proxy = bucket.proxy
    with place() as here:
        proxy.spoil(spoiling)
        try:
            job = workload.job(name, **keys)
            codes, took = until_done(here, job, between=lambda: heals and proxy.pause())
        finally:
            injected, targets = proxy.injected, proxy.targets
            proxy.spoil(Spoiling())
        if heals:
            # A lock that could not be given back holds for 30 s.
            right = [5, *[6] * (len(codes) - 2), 0] if injected else [0]
        else:
            right = [0] if spoiling.share < 0.2 else [5] * (len(codes) - 1) + [0]
        problems = _problems(here) + _undone(workload, name)
        problems += [difference] if (difference := differences(workload.outcome(name), outcome)) else []
        ended_right = sum(code == expected_code for code, expected_code in zip(codes, right, strict=False))
        trial = Trial(
            section="proxied",
            fault=fault,
            seed=spoiling.seed,
            times=injected.total(),
            runs=len(codes),
            ended_right=ended_right,
            identical=not difference,
            predicted=tiles,
            repeated=sum(count - 1 for count in here.predicted().values()),
            cost_s=round(max(0.0, took - seconds), 1),
            found="; ".join(problems),
            note=f"{workload.kind}, exit codes {codes}"
            + _evidence(here, targets, problems or codes != right),
        )
    workload.remove(name)
    return trial


def until_done(
    here: Place, job: Path, between: Callable[[], object] = lambda: None
) -> tuple[list[int], float]:
    """Run a job again as long as it says that the same command resumes.

    Args:
        here: the trial's place.
        job: the job file.
        between: called after each run that did not end with 0.

    Returns:
        Exit codes, and the seconds of all runs.
    """
    codes: list[int] = []
    started = time.monotonic()
    while len(codes) < MOST_RUNS:
        codes.append(run(here, "run", job, timeout=LIMIT_SECONDS))
        if codes[-1] not in (3, 5, 6):
            break
        between()
        if codes[-1] == 6:
            time.sleep(10)
    return codes, time.monotonic() - started


def _problems(here: Place) -> list[str]:
    text = said(here)
    found = []
    if "Traceback" in text or "never retrieved" in text:
        found.append("a traceback was printed")
    if left := here.left_files():
        found.append(f"left {left}")
    if not wait_for(lambda: not here.processes(), 30) and (living := here.processes()):
        found.append(f"processes {living} live on")
    return found


def _evidence(here: Place, targets: list[str], wrong: object) -> str:
    return f"; {targets[-5:]}; {said(here)[-1500:]}" if wrong else ""


def _undone(workload: Workload, name: str) -> list[str]:
    """Sources that are not done after the last run."""
    odd = [row for row in _items(workload, name) if row["status"] != "done"]
    return [f"{row['source_id']} is {row['status']}: {row['error']}" for row in odd[:2]]


def _items(workload: Workload, name: str) -> list[dict[str, Any]]:
    files, path = fsspec.core.url_to_fs(f"{workload.output(name)}/items/items.parquet", **workload.options)
    rows: list[dict[str, Any]] = []
    if files.exists(path):
        rows = pq.read_table(io.BytesIO(files.cat_file(path))).to_pylist()
    return rows


class _InBucket:
    """An archive whose objects another program changes or deletes while it is read."""

    def __init__(self, bucket: Bucket, what: What, nth: int) -> None:
        self._bucket, self._nth = bucket, nth
        self._root = f"{bucket.name}/archive/{what.replace(' ', '-')}"
        self._victim = ""
        self._before = b""
        self.done = False

    def choose(self, chance: random.Random) -> str:
        names = [name for name in self._bucket.files.ls(self._root) if name.endswith((".tif", ".png"))]
        large = [name for name in names if "large" in name]
        self._victim = chance.choice(large or sorted(names))
        self._before = self._bucket.files.cat_file(self._victim)
        return self._victim.rpartition("/")[2]

    def during(self, here: Place, job: Path, *, vanishes: bool) -> int:
        """A run in which it happens at the n-th request for the object."""
        asked = itertools.count(1)

        def meddle(method: str, target: str) -> None:
            if f"/{self._victim}" == target.partition("?")[0] and next(asked) == self._nth:
                self.done = True
                if vanishes:
                    self._bucket.files.rm_file(self._victim)
                else:
                    self._bucket.files.pipe_file(self._victim, another_version(self._before))

        self._bucket.proxy.meddle = meddle
        try:
            return run(here, "run", job, timeout=LIMIT_SECONDS)
        finally:
            self._bucket.proxy.meddle = None

    def restore(self) -> None:
        self._bucket.files.pipe_file(self._victim, self._before)


class _OnDisk:
    """The same on a disk, at a moment in the middle of predicting."""

    def __init__(self, workload: Workload, moment: float) -> None:
        self._folder, self._moment = workload.folder / "in", moment
        self._victim = self._kept = Path()
        self.done = False

    def choose(self, chance: random.Random) -> str:
        self._victim = chance.choice(sorted(self._folder.iterdir()))
        self._kept = self._folder.with_name("kept")
        shutil.copy2(self._victim, self._kept)
        return self._victim.name

    def during(self, here: Place, job: Path, *, vanishes: bool) -> int:
        process = start(here, "run", job, slow=0.01)
        wait_for(lambda: bool(here.predicted()) or process.poll() is not None, 120)
        time.sleep(3 * self._moment)
        self.done = process.poll() is None
        if vanishes:
            self._victim.unlink()
        else:
            making = self._folder.with_name("another")
            making.write_bytes(another_version(self._kept.read_bytes()))
            making.replace(self._victim)
        return process.wait(LIMIT_SECONDS)

    def restore(self) -> None:
        shutil.copy2(self._kept, self._victim)


def another_version(data: bytes) -> bytes:
    """The image mirrored: as large, of the same layout, and of other pixels."""
    if data[:2] in (b"II", b"MM"):
        with rasterio.io.MemoryFile(data) as before, before.open() as dataset:
            pixels, profile = dataset.read()[:, :, ::-1], dataset.profile
        with rasterio.io.MemoryFile() as after:
            with after.open(**profile) as dataset:
                dataset.write(pixels)
            return bytes(after.read())
    with Image.open(io.BytesIO(data)) as image:
        made = io.BytesIO()
        ImageOps.mirror(image).save(made, "png")
    return made.getvalue()


def replaced(
    workload: Workload,
    expected: tuple[Outcome, int, float],
    archive: _InBucket | _OnDisk,
    fault: str,
    seed: int,
    chance: random.Random,
    *,
    vanishes: bool,
) -> Trial:
    """A job of whose sources one becomes another or goes while it runs, and the run after it.

    Args:
        workload: the job.
        expected: what `undisturbed` gave for it.
        archive: does it.
        fault: in a reader's words.
        seed: of the trial.
        chance: decides which source.
        vanishes: it goes; else there is another version of it.
    """
    before, tiles, seconds = expected
    name = f"r{seed}-{uuid.uuid4().hex[:6]}"
    victim = archive.choose(chance)
    try:
        with place() as here:
            began = time.monotonic()
            codes = [archive.during(here, workload.job(name), vanishes=vanishes)]
            between = workload.outcome(name)
            codes.append(run(here, "run", workload.job(name), timeout=LIMIT_SECONDS))
            took = time.monotonic() - began
            after = workload.outcome(name)
            problems, text, counts = _problems(here), said(here), here.predicted()
        with place() as here:
            fresh_code = run(here, "run", workload.job(f"{name}-fresh"))
        fresh = workload.outcome(f"{name}-fresh")
    finally:
        archive.restore()
    known = set(before.masks.items()) | set(fresh.masks.items())
    problems += [
        f"a mixture: {path}" for path, digest in between.masks.items() if (path, digest) not in known
    ]
    if vanishes:
        after, fresh = _without(after, victim), _without(fresh, victim)
    difference = differences(after, fresh)
    ends = (0, 3) if vanishes else (0,)  # a manifest's row still names it
    right = sum((codes[0] in ((0, 3) if archive.done else (0,)), codes[1] in ends, fresh_code in ends))
    workload.remove(name)
    workload.remove(f"{name}-fresh")
    wrong = difference or problems or right != 3
    return Trial(
        section="proxied",
        fault=fault,
        seed=seed,
        times=int(archive.done),
        runs=3,
        ended_right=right,
        identical=not difference,
        predicted=tiles,
        repeated=sum(count - 1 for count in counts.values()),
        cost_s=round(max(0.0, took - seconds), 1),
        cost="both runs together less an undisturbed one",
        found="; ".join([*problems, difference] if difference else problems),
        note=f"{victim}, exit codes {codes}" + (f"; {text[-1500:]}" if wrong else ""),
    )


def _without(found: Outcome, victim: str) -> Outcome:
    """What is there of all other sources."""
    stem = f"/{victim}."
    return Outcome(
        {path: digest for path, digest in found.masks.items() if stem not in f"/{path}"},
        tuple(row for row in found.regions if victim not in row),
        tuple(row for row in found.items if victim not in row),
    )
