"""Two runs on one output, a holder that slept, clocks that disagree, and outputs that somebody changed."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from faults.commands import Place, run, said, start, wait_for
from faults.context import Context
from faults.outcome import Outcome, differences
from faults.record import Trial
from faults.workload import Workload, make_workload, place, undisturbed

STALE = 4.0
"""Seconds of silence in most trials; batchseg's own 30 are waited for in one."""

LIMIT_SECONDS = 300.0
"""For whatever is waited for; seconds where the machine does nothing else."""

MOMENTS = (
    "output.json:1",  # before the output's settings are recorded
    "segment-:1",  # claiming the ledger
    "segment-:2",  # committing
    "segment-:3",
    "masks/:1",  # a mask in the making
    "masks/:3",
    "annotations:2",
    "snapshot-:1",  # merging
    "items.parquet:1",
    "fragments:1",  # removing what is no longer needed
)

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def trials(context: Context) -> Iterator[Trial]:
    for where in ("disk", *(["S3"] if context.s3_endpoint else [])):
        bench = Bench(context, where)
        yield from bench.together()
        yield from bench.suspended()
        yield from bench.stale()
        if FAKETIME.exists():
            yield from bench.clocks()
    bench = Bench(context, "disk")
    yield from bench.changed()
    yield from bench.damaged()


class Bench:
    """Workload and undisturbed outcome of one kind of storage, made when they are first asked for."""

    def __init__(self, context: Context, where: str) -> None:
        self.context, self.where = context, where
        self._made: tuple[Workload, Outcome, int, float] | None = None

    @property
    def made(self) -> tuple[Workload, Outcome, int, float]:
        if self._made is None:
            workload = _workload(self.context, self.where)
            workload.remove("undisturbed")
            self._made = (workload, *undisturbed(workload))
        return self._made

    def seeds(self, fault: str, usual: int) -> Iterator[tuple[str, int, random.Random]]:
        for seed, chance in self.context.seeds(f"{fault}, {self.where}", usual):
            yield f"{fault}, {self.where}", seed, chance

    def trial(
        self, fault: str, seed: int, name: str, codes: list[tuple[int, set[int]]], **more: Any
    ) -> Trial:
        """What became of an output after its runs, each of whose exit codes is given with the right ones."""
        workload, expected, tiles, _ = self.made
        found = more.pop("found", "")
        if more.pop("compare", True):
            odd = differences(workload.outcome(name), expected)
            found = "; ".join(filter(None, (found, odd)))
            more["identical"] = not odd
        workload.remove(name)
        ended = sum(code in right for code, right in codes)
        wrong = "" if ended == len(codes) else f"exit codes {[code for code, _ in codes]}"
        return Trial(
            section="rivals",
            fault=fault,
            seed=seed,
            runs=len(codes),
            ended_right=ended,
            predicted=tiles,
            found="; ".join(filter(None, (wrong, found))),
            **more,
        )

    def together(self) -> Iterator[Trial]:
        """Runs that start within a second: one works, the others are told so, quickly."""
        for fault, seed, chance in self.seeds("two runs started at once", 4):
            workload = self.made[0]
            name = f"together-{seed}"
            job = workload.job(name)
            with contextlib.ExitStack() as stack:
                places = [stack.enter_context(place()) for _ in range(3)]
                began, processes = time.monotonic(), []
                for here in places:
                    processes.append(start(here, "run", job, slow=0.01))
                    time.sleep(chance.choice((0, 0, 0.05, 0.3)))
                codes = [None, None, None]
                slowest = 0.0
                while None in codes:
                    for number, process in enumerate(processes):
                        if codes[number] is None and (code := process.poll()) is not None:
                            codes[number] = code
                            slowest = max(slowest, (time.monotonic() - began) if code == 6 else 0)
                    time.sleep(0.05)
                again = run(places[0], "run", job)
                repeated = sum(sum(here.predicted().values()) for here in places) - self.made[2]
                worked = sorted(code for code in codes if code is not None)
                yield self.trial(
                    fault,
                    seed,
                    name,
                    [*zip(worked, ({0}, {6}, {6}), strict=True), (again, {0})],
                    cost_s=slowest,
                    cost="until the others were told",
                    repeated=repeated,
                    unaccounted=repeated,
                )

    def suspended(self) -> Iterator[Trial]:
        """A holder stops, is taken over, and wakes when the other one has finished."""
        for fault, seed, chance in self.seeds("holder suspended", len(MOMENTS)):
            moment = MOMENTS[(seed - 1) % len(MOMENTS)]
            yield self._suspended(f"{fault}", seed, moment, STALE + 2 * (self.where == "S3"), chance)
        for fault, seed, chance in self.seeds("holder suspended for more than 30 s", 1):
            yield self._suspended(fault, seed, "segment-:2", 30.0, chance)

    def _suspended(self, fault: str, seed: int, moment: str, stale: float, chance: random.Random) -> Trial:
        workload = self.made[0]
        name = f"suspended-{seed}"
        job = workload.job(name)
        faults: dict[str, Any] = {"stale": stale} if stale != 30 else {}
        with place() as first, place() as second:
            sleeper = start(first, "run", job, slow=0.005, stop=moment, **faults)
            stopped = wait_for(
                lambda: _state(sleeper.pid) in "TZ" or sleeper.poll() is not None, LIMIT_SECONDS
            )
            if not stopped or sleeper.poll() is not None:
                return self.trial(fault, seed, name, [(sleeper.wait(), {0})], note=f"never came to {moment}")
            began = time.monotonic()
            time.sleep(stale + 1 + chance.random())
            taken = run(second, "run", job, **faults)
            cost = time.monotonic() - began
            before = workload.outcome(name)
            sleeper.send_signal(signal.SIGCONT)
            woke = sleeper.wait(LIMIT_SECONDS)
            harm = differences(workload.outcome(name), before)
            last = run(second, "run", job, **faults)
            # The ledger's snapshot is the last that a run writes: it may have nothing left to find out by.
            right = {0, 5} if moment.startswith("snapshot") else {5}
            words = "took" in said(first) or woke == 0
            return self.trial(
                fault,
                seed,
                name,
                [(taken, {0}), (woke, right), (last, {0})],
                cost_s=cost,
                cost="silence and the run that took over",
                found="" if words else f"says nothing of a take-over: {said(first)[-200:]}",
                note=f"before {moment}" + (f"; until the next run {harm}" if harm else ""),
            )

    def stale(self) -> Iterator[Trial]:
        """Locks that dead hosts left: old, of the future, cut off by a power cut, or no lock at all."""
        kinds = ("old", "of the future", "empty", "garbage", "another shape")
        for fault, seed, _ in self.seeds("stale lock", len(kinds)):
            kind = kinds[(seed - 1) % len(kinds)]
            if self.where == "S3" and kind == "of the future":
                continue  # the server's clock alone says when
            workload, name = self.made[0], f"stale-{seed}"
            leave_lock(workload, name, kind)
            if self.where == "S3" or kind not in ("old", "of the future"):  # which says when it was written
                time.sleep(STALE + 2)
            began = time.monotonic()
            with place() as here:
                code = run(here, "run", workload.job(name), stale=STALE)
                looked = run(here, "status", workload.output(name)) if self.where == "disk" else 0
            cost = time.monotonic() - began
            yield self.trial(
                fault, seed, name, [(code, {0}), (looked, {0})], cost_s=cost, cost="the run", note=kind
            )

    def clocks(self) -> Iterator[Trial]:
        """Two hosts whose clocks are an hour apart; files have the storage's time."""
        for fault, seed, _ in self.seeds("clocks an hour apart", 2):
            hours = ("+1h", "-1h")[(seed - 1) % 2]
            workload, name = self.made[0], f"clocks-{seed}"
            job = workload.job(name)
            with place() as here, place() as other:
                holder = start(here, "run", job, slow=0.03)
                wait_for(lambda: bool(here.predicted()), LIMIT_SECONDS)
                with clock(hours):
                    refused = run(other, "run", job)
                    shown = run(other, "status", workload.output(name)) if self.where == "disk" else 0
                seen = "running now: run" in said(other) or self.where == "S3"
                held = holder.wait(LIMIT_SECONDS)
                with clock(hours):
                    again = run(other, "run", job)
                # S3 servers refuse requests of another hour: the run stops, and blames no file.
                far = {2, 5, 6} if self.where == "S3" else {6}
                yield self.trial(
                    fault,
                    seed,
                    name,
                    [(refused, far), (shown, {0}), (held, {0}), (again, far - {6} | {0})],
                    found="" if seen else f"status does not see the run: {said(other)[-300:]}",
                    note=f"{hours}; {said(other).splitlines()[-1][:200] if again else ''}",
                )

    def changed(self) -> Iterator[Trial]:
        """Settings, model, version and inputs change between two runs."""
        for change in (changed_settings, changed_product, changed_model, changed_algorithm, changed_inputs):
            for fault, seed, _ in self.seeds(change.__doc__ or "", 1):
                yield change(self, fault, seed)
        for fault, seed, _ in self.seeds("output copied to another place", 1):
            yield self._copied(fault, seed)

    def _copied(self, fault: str, seed: int) -> Trial:
        """Copied while a run works on it: the copy is nobody's, and goes on from where it was."""
        workload = self.made[0]
        with place() as here, place() as other:
            first = start(here, "run", workload.job("origin"), slow=0.02)
            wait_for(lambda: len(here.predicted()) > 60, LIMIT_SECONDS)
            shutil.copytree(workload.output("origin"), workload.output("copy"), ignore_dangling_symlinks=True)
            copied = run(other, "run", workload.job("copy"))
            codes = [(copied, {0}), (first.wait(LIMIT_SECONDS), {0})]
            again = sum(other.predicted().values())
        odd = differences(workload.outcome("origin"), self.made[1])
        workload.remove("origin")
        note = f"{self.made[2] - again} tiles were not predicted again"
        return self.trial(fault, seed, "copy", codes, found=odd, note=note)

    def damaged(self) -> Iterator[Trial]:
        """A file of the output's own is damaged: an error says which and what to do, and that helps."""
        kinds = ("output.json", "snapshot", "segment")
        for kind in kinds:
            for fault, seed, chance in self.seeds(f"damaged {kind}", 4):
                yield self._damaged(fault, seed, kind, chance)
        for fault, seed, _ in self.seeds("ledger of a newer version", 1):
            yield self._newer(fault, seed)

    def _damaged(self, fault: str, seed: int, kind: str, chance: random.Random) -> Trial:
        workload, name = self.made[0], f"damaged-{seed}"
        output = Path(workload.output(name))
        job = workload.job(name)
        with place() as here:
            _half_done(here, job) if kind == "segment" else run(here, "run", job)
            done = sum(here.predicted().values())
            folder = output / "_batchseg"
            paths = (
                [folder / "output.json"] if kind == "output.json" else sorted(folder.glob(f"ledger/{kind}*"))
            )
            hurt, how = chance.choice(paths), DAMAGES[(seed - 1) % len(DAMAGES)]
            hurt.write_bytes(how(hurt.read_bytes()))
            masks = {path: path.read_bytes() for path in output.glob("masks/*")}
            refused = run(here, "run", job)
            words = said(here)
            told = str(hurt) in words and "move it away" in words and "Traceback" not in words
            kept = all(path.read_bytes() == data for path, data in masks.items())
            ends = {5}
            if kind == "segment" and how is empty:  # as a driver leaves it that is killed while it makes one
                told, ends = "Traceback" not in words, {0}
            hurt.unlink(missing_ok=ends == {0})
            codes = [(refused, ends), (run(here, "run", job), {0}), (run(here, "verify", output), {0})]
            repeated = sum(here.predicted().values()) - self.made[2]
        found = "" if told and kept else f"{how.__name__}: {words[-300:]}"
        return self.trial(
            fault,
            seed,
            name,
            codes,
            found=found,
            repeated=repeated,
            note=f"{how.__name__}, {done} tiles done",
        )

    def _newer(self, fault: str, seed: int) -> Trial:
        workload, name = self.made[0], "newer"
        job = workload.job(name)
        with place() as here:
            first = run(here, "run", job)
            (path,) = Path(workload.output(name)).glob("_batchseg/ledger/snapshot-*")
            table = pq.read_table(path)
            pq.write_table(table.append_column("mood", pa.array(["fine"] * len(table))), path)
            newer = path.read_bytes()
            codes = [(first, {0}), (run(here, "run", job), {2})]
            found = "" if path.read_bytes() == newer and "newer version" in said(here) else said(here)[-300:]
        return self.trial(fault, seed, name, codes, found=found)


def changed_settings(bench: Bench, fault: str, seed: int) -> Trial:
    """changed pixel settings"""
    name = "settings"
    workload = bench.made[0]
    with place() as here:
        other = run(here, "run", workload.job(name, halo=4))
        refused = run(here, "run", workload.job(name))
        told = "halo: 4 -> 8" in said(here) and "--replace" in said(here)
        replaced = run(here, "run", workload.job(name), "--replace")
    codes = [(other, {0}), (refused, {2}), (replaced, {0})]
    return bench.trial(fault, seed, name, codes, found="" if told else said(here)[-300:])


def changed_product(bench: Bench, fault: str, seed: int) -> Trial:
    """changed class names and regions"""
    name = "product"
    workload = bench.made[0]
    with place() as here:
        names = ["a", "b", "c", "d"]
        first = run(here, "run", workload.job(name, classes=names, regions={"min_area": 9}))
        tiles = sum(here.predicted().values())
        again = run(here, "run", workload.job(name))
        repeated = sum(here.predicted().values()) - tiles
    return bench.trial(
        fault, seed, name, [(first, {0}), (again, {0})], repeated=repeated, unaccounted=repeated
    )


def changed_model(bench: Bench, fault: str, seed: int) -> Trial:
    """other weights at the model's path"""
    name = "model"
    workload = bench.made[0]
    weights = next(Path(workload.folder, "models", "spectral").glob("*.pdiparams"))
    right = weights.read_bytes()
    with place() as here:
        first = run(here, "run", workload.job(name))
        try:
            weights.write_bytes(right[:-4] + bytes(4))
            refused = run(here, "run", workload.job(name))
        finally:
            weights.write_bytes(right)
        told = "model:" in said(here) and "--replace" in said(here)
        again = run(here, "run", workload.job(name))
    codes = [(first, {0}), (refused, {2}), (again, {0})]
    return bench.trial(fault, seed, name, codes, found="" if told else said(here)[-300:])


def changed_algorithm(bench: Bench, fault: str, seed: int) -> Trial:
    """a batchseg whose pixels differ"""
    name = "algorithm"
    workload = bench.made[0]
    with place() as here:
        first = run(here, "run", workload.job(name), algorithm=7)
        refused = run(here, "run", workload.job(name))
        told = "algorithm: 7 -> " in said(here)
        replaced = run(here, "run", workload.job(name), "--replace")
    codes = [(first, {0}), (refused, {2}), (replaced, {0})]
    return bench.trial(fault, seed, name, codes, found="" if told else said(here)[-300:])


def changed_inputs(bench: Bench, fault: str, seed: int) -> Trial:
    """a file that is written again while it is read"""
    name = "inputs"
    workload = bench.made[0]
    victim = sorted(Path(workload.folder, "in").glob("*.tif"))[-1]
    with place() as here:
        process = start(here, "run", workload.job(name), slow=0.02)
        wait_for(lambda: any(victim.name in key for key in here.predicted()), LIMIT_SECONDS)
        data, listed = victim.read_bytes(), victim.stat()
        victim.with_suffix(".new").write_bytes(data)
        victim.with_suffix(".new").replace(victim)
        met = process.wait(LIMIT_SECONDS)
        again = run(here, "run", workload.job(name))
        tables = bench.made[1]
        odd = differences(dataclasses.replace(workload.outcome(name), items=tables.items), tables)
    os.utime(victim, ns=(listed.st_atime_ns, listed.st_mtime_ns))  # items tell it
    return bench.trial(
        fault, seed, name, [(met, {0, 3}), (again, {0})], compare=False, identical=not odd, found=odd
    )


def empty(data: bytes) -> bytes:
    return b""


def cut_off(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


def garbage(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (empty, cut_off, zeros, garbage)


def leave_lock(workload: Workload, name: str, kind: str) -> None:
    """What a host that died left of its lock."""
    files, root = fsspec.core.url_to_fs(workload.output(name), **workload.options)
    path = f"{root}/_batchseg/locks/epoch-00000003.json"
    whole = json.dumps({"token": "0", "holder": "run r, process 1 on nowhere", "released": False}).encode()
    contents = {"empty": b"", "garbage": b"\x00\xff{" * 9, "another shape": b"[1, 2]"}
    if workload.output(name).startswith("/"):
        Path(path).parent.mkdir(parents=True)
    files.pipe_file(path, contents.get(kind, whole))
    if workload.output(name).startswith("/") and kind in ("old", "of the future"):
        then = time.time() + (3600 if kind == "of the future" else -3600)
        os.utime(path, (then, then))


@contextlib.contextmanager
def clock(offset: str) -> Iterator[None]:
    """Processes that start have another hour than files."""
    more = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": offset,
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    os.environ.update(more)
    try:
        yield
    finally:
        for key in more:
            del os.environ[key]


def _workload(context: Context, where: str) -> Workload:
    more: dict[str, Any] = {"executor": "inline"}
    if where == "disk":
        return make_workload("scenes", context.work / "rivals", size=2, keys=more)
    options = {
        "endpoint_url": context.s3_endpoint,
        "key": os.environ["AWS_ACCESS_KEY_ID"],
        "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    bucket = "rivals-outputs"
    files = fsspec.filesystem("s3", **options)
    if not files.exists(bucket):
        files.mkdir(bucket)
    more["storage"] = {"s3": {"endpoint": context.s3_endpoint}}
    folder = context.work / "rivals-s3"
    return make_workload("scenes", folder, size=2, output_root=f"s3://{bucket}", options=options, keys=more)


def _half_done(here: Place, job: Path) -> None:
    process = start(here, "run", job, slow=0.03)
    wait_for(lambda: len(here.predicted()) > 80, LIMIT_SECONDS)
    process.kill()
    process.wait()


def _state(pid: int) -> str:
    """`T`: stopped; empty: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
