"""A Ray cluster of three hosts that are killed, cut off, joined, and lose their head.

A host is a network namespace on a bridge, with an address, a loopback and a raylet of its own; all share
the file system. Needs root and iproute2.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from faults.commands import Place, kill, run, said, start, wait_for
from faults.context import Context
from faults.outcome import Outcome, differences
from faults.record import Trial
from faults.workload import Kind, Workload, make_workload, place, undisturbed

RAY = str(Path(sys.executable).with_name("ray"))
HOSTS = 3
SIZE = 2
"""Of the archives: 200 tiles."""
SLOW = 0.3
"""Seconds per tile: a run that lasts long enough to be hit, and costs no CPU."""

LEASE_TIMEOUT = 20
ENDS_WITHIN = 600.0
"""No run may need longer, whatever happens to its hosts."""


def missing() -> str:
    """What this machine lacks for hosts of its own; empty where nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2 (the command ip)"
    tried = _ip("netns", "add", "bsf0", check=False)
    _ip("netns", "del", "bsf0", check=False)
    return "" if tried == 0 else "this kernel or container allows no network namespaces"


def _ip(*words: object, check: bool = True) -> int:
    done = subprocess.run(["ip", *map(str, words)], check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.returncode


@dataclass
class Cluster:
    """Hosts 1 (the head), 2, 3; a run is on host 1 unless it says otherwise."""

    place: Place
    port: int
    slow: float = SLOW
    started: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"10.78.0.1:{self.port}"

    def environment(self, host: int) -> dict[str, str]:
        """Of a host's raylet, and of all its workers: each host counts its tiles in a file of its own."""
        named = self.place.environment(slow=self.slow, count=self._count(host))
        return {**named, "RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}

    def _count(self, host: int) -> Path:
        return self.place.count_path.with_name(f"{self.place.count_path.name}-{host}")

    def predicted(self, host: int) -> Counter[str]:
        path = self._count(host)
        return Counter(path.read_text().splitlines()) if path.exists() else Counter()

    def tiles(self) -> int:
        return sum(self.predicted(host).total() for host in range(1, HOSTS + 1))

    def within(self, host: int) -> list[str]:
        return ["ip", "netns", "exec", f"bsf{host}"]

    def make_hosts(self) -> None:
        _ip("link", "add", "bsfbr", "type", "bridge")
        _ip("link", "set", "bsfbr", "up")
        for host in range(1, HOSTS + 1):
            name, end = f"bsf{host}", f"bsfv{host}"
            _ip("netns", "add", name)
            _ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", end, "master", "bsfbr", "up")
            _ip("-n", name, "addr", "add", f"10.78.0.{host}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            # Ray asks by which of its addresses the host would reach another network.
            _ip("-n", name, "route", "add", "default", "dev", "eth0")

    def join(self, host: int) -> None:
        """Start the host's part of the cluster, with one CPU."""
        usual = ["--node-ip-address", f"10.78.0.{host}", "--num-cpus", "1"]
        usual += ["--object-store-memory", str(80 * 2**20), "--disable-usage-stats"]
        if host == 1:
            temporary = self.place.folder.with_name("r")
            whom = ["--head", "--port", str(self.port), "--include-dashboard", "false"]
            whom += ["--temp-dir", str(temporary)]
        else:
            whom = ["--address", self.address]
        command = [*self.within(host), RAY, "start", *whom, *usual]
        done = subprocess.run(
            command, check=False, env=self.environment(host), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.started.append(host)

    def pids(self, host: int, command: str = "") -> list[int]:
        listed = subprocess.run(
            ["ip", "netns", "pids", f"bsf{host}"], capture_output=True, text=True, check=False
        )
        named = set(self.place.processes(command))
        return [int(pid) for pid in listed.stdout.split() if int(pid) in named]

    def kill_host(self, host: int) -> None:
        kill(self.pids(host))

    def kill_head_alone(self) -> None:
        kill(self.pids(1, "gcs_server"))

    def cut(self, host: int) -> None:
        _ip("link", "set", f"bsfv{host}", "down")

    def mend(self, host: int) -> None:
        _ip("link", "set", f"bsfv{host}", "up")

    def remove(self) -> None:
        kill(self.place.processes())
        for host in range(1, HOSTS + 1):
            _ip("netns", "del", f"bsf{host}", check=False)
            _ip("link", "del", f"bsfv{host}", check=False)
        _ip("link", "del", "bsfbr", check=False)


@contextmanager
def cluster(hosts: int = HOSTS, *, slow: float = SLOW) -> Iterator[Cluster]:
    """A cluster of the first so many hosts; one at a time on a machine."""
    with place() as here:
        made = Cluster(here, port=random.randint(20_000, 30_000), slow=slow)
        made.remove()
        try:
            made.make_hosts()
            for host in range(1, hosts + 1):
                made.join(host)
            yield made
        finally:
            made.remove()


Fault = Callable[[Cluster, random.Random], None]
"""Does it to a cluster on which a run is at work; returns when it is done."""


def worker_killed(on: Cluster, chance: random.Random) -> None:
    on.kill_host(chance.choice([2, 3]))


def cut_for_30_s(on: Cluster, chance: random.Random) -> None:
    host = chance.choice([2, 3])
    on.cut(host)
    time.sleep(30)
    on.mend(host)


def cut_for_good(on: Cluster, chance: random.Random) -> None:
    on.cut(chance.choice([2, 3]))


def host_joins(on: Cluster, chance: random.Random) -> None:
    on.join(3)


def head_host_killed(on: Cluster, chance: random.Random) -> None:
    on.kill_host(1)


def head_process_killed(on: Cluster, chance: random.Random) -> None:
    on.kill_head_alone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    fault: str
    inject: Fault
    hosts: int = HOSTS
    run_on: int = 1
    ends: Literal["by itself", "resumed"] = "by itself"
    lease_timeout: int = 600
    uses: int | None = None
    """A host that must have predicted something."""


CASES = (
    Case(fault="a worker host killed", inject=worker_killed),
    Case(fault="a host cut off for 30 s", inject=cut_for_30_s),
    Case(
        fault=f"a host cut off for good, lease_timeout {LEASE_TIMEOUT} s",
        inject=cut_for_good,
        lease_timeout=LEASE_TIMEOUT,
    ),
    Case(fault="a host cut off for good, lease_timeout 600 s", inject=cut_for_good),
    Case(fault="a host joins", inject=host_joins, hosts=2, uses=3),
    Case(fault="the head's host killed", inject=head_host_killed, run_on=2, ends="resumed"),
    Case(fault="the head's process killed", inject=head_process_killed, ends="resumed"),
)


def trials(context: Context) -> Iterator[Trial]:
    if why := missing():
        print(f"hosts: left out, as {why}", flush=True)  # noqa: T201
        return
    for case in CASES:
        for seed, chance in context.seeds(case.fault, 4):
            kind: Kind = "scenes" if seed % 2 else "photographs"
            usual = _usual_seconds(kind, context.work, case.hosts)
            yield trial(context.work, case, kind, seed, chance, usual=usual)


def trial(
    work: Path, case: Case, kind: Kind, seed: int, chance: random.Random, *, usual: float = 0.0
) -> Trial:
    """Inject a case's fault into one run on a cluster; `usual`: seconds of an undisturbed one."""
    workload = _workload(kind, work)
    expected, tiles = _expected(kind, work)
    name = f"out-{os.getpid()}-{seed}"
    workload.remove(name)
    with cluster(case.hosts) as on:
        began = time.monotonic()
        process = _start(on, workload, name, host=case.run_on, lease_timeout=case.lease_timeout)
        found = "" if wait_for(lambda: on.tiles() >= 1, ENDS_WITHIN) else "no tile was predicted"
        time.sleep(chance.uniform(0.0, 6.0))
        hit = time.monotonic()
        case.inject(on, chance)
        code = _ended(process, on)
        seconds, after = time.monotonic() - began, time.monotonic() - hit
        right = int(code == (0 if case.ends == "by itself" else 5))
        if not right:
            found = f"exit code {code}: {said(on.place)[-600:]}"
        elif "Traceback" in said(on.place):
            found = "a traceback was printed"
        if case.ends == "resumed":
            right += _resumed(on, workload, name)
        if case.uses is not None and not on.predicted(case.uses):
            found = f"host {case.uses} was not used"
        found = found or differences(workload.outcome(name), expected)
        repeated = on.tiles() + on.place.predicted().total() - tiles
        last_words = said(on.place).strip().splitlines()[-1:] if case.ends == "resumed" else []
        left = on.place.left_files()
    workload.remove(name)
    return Trial(
        section="hosts",
        fault=case.fault,
        seed=seed,
        runs=1 if case.ends == "by itself" else 2,
        ended_right=right,
        identical="differ" not in found,
        predicted=tiles,
        repeated=max(0, repeated),
        cost_s=max(0.0, seconds - usual) if case.ends == "by itself" else after,
        cost="" if case.ends == "by itself" else "from the loss to the end of the run",
        left=tuple(left),
        found=found,
        note=" ".join([f"{kind}; undisturbed on {case.hosts} hosts {usual:.0f} s", *last_words]),
    )


def _start(
    on: Cluster, workload: Workload, name: str, *, host: int, lease_timeout: int
) -> subprocess.Popen[str]:
    job = workload.job(name, lease_timeout=lease_timeout, workers=None)
    within = [*on.within(host), "env", "RAY_AUTH_MODE=disabled"]
    return start(on.place, "run", job, "--ray-address", on.address, within=within)


def _ended(process: subprocess.Popen[str], on: Cluster) -> int:
    """The exit code; -9 where the run had to be ended, which it may not need."""
    try:
        return process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        kill(on.place.processes())
        process.wait()
        return -9


def _resumed(on: Cluster, workload: Workload, name: str) -> bool:
    """Whether the next command, on this machine alone, ends well."""
    return run(on.place, "run", workload.job(name), "--executor", "inline") == 0


def _workload(kind: Kind, work: Path) -> Workload:
    return make_workload(kind, work / f"hosts-{kind}", size=SIZE)


@cache
def _expected(kind: Kind, work: Path) -> tuple[Outcome, int]:
    outcome, tiles, _ = undisturbed(_workload(kind, work), executor="inline")
    return outcome, tiles


@cache
def _usual_seconds(kind: Kind, work: Path, hosts: int) -> float:
    """Of an undisturbed run on so many hosts."""
    workload = _workload(kind, work)
    with cluster(hosts) as on:
        began = time.monotonic()
        code = _ended(_start(on, workload, "usual", host=1, lease_timeout=600), on)
        seconds = time.monotonic() - began
        if code != 0:
            raise RuntimeError(f"exit code {code} of an undisturbed run: {said(on.place)}")
    workload.remove("usual")
    return seconds
