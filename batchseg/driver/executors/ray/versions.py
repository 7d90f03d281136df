"""Which batchseg the hosts of a cluster have: with another one, answers would make no sense."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import ray
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.errors import ConfigError

ANSWER_SECONDS = 30.0
"""For a host to start a process that looks. One that gives no answer is treated as silent hosts are."""

SHOWN = 5
"""Hosts that a message names."""


class Installed(NamedTuple):
    """What a process would import as batchseg."""

    version: str
    digest: str
    """Of its sources; empty where there is none."""
    folder: str

    def __str__(self) -> str:
        if not self.digest:
            return "none"
        return f"{self.version} of {self.folder} (sources {self.digest[:8]})"


def _look() -> Callable[[], tuple[str, str, str]]:
    """What tells version, digest and folder. Being local, it is sent to a host as it is here, not by name."""

    def look() -> tuple[str, str, str]:
        import hashlib
        import importlib.metadata
        import importlib.util
        from pathlib import Path

        found = importlib.util.find_spec("batchseg")
        if found is None or not found.submodule_search_locations:
            return "", "", ""
        root = Path(found.submodule_search_locations[0])
        digest = hashlib.sha256()
        for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        try:
            version = importlib.metadata.version("batchseg")
        except importlib.metadata.PackageNotFoundError:
            version = "batchseg"
        return version, digest.hexdigest(), str(root)

    return look


def own() -> Installed:
    """What this process has."""
    return Installed(*_look()())


def check_hosts(hosts: Hosts) -> None:
    """Compare the sources of batchseg on all hosts with those here, before anything else is sent there.

    Raises:
        ConfigError: a host has others, or none.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(_look())
    asked = {}
    for host in (host for host in hosts.all() if hosts.state(host.node) == "here"):
        place = NodeAffinitySchedulingStrategy(node_id=host.node, soft=False)
        asked[task.options(scheduling_strategy=place).remote()] = host.address[0]
    if not asked:
        return
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    for reference in late:
        ray.cancel(reference, force=True)
    answers = []
    for reference in ready:
        try:
            answers.append((asked[reference], Installed(*ray.get(reference))))
        except ray_errors.RayError:  # the host went meanwhile
            continue
    compare(own(), answers)


def compare(here: Installed, there: Iterable[tuple[str, Installed]]) -> None:
    """Raises ConfigError where hosts, each with its address, have other sources than there are here."""
    others = sorted({(host, found) for host, found in there if found.digest != here.digest})
    if not others:
        return
    named = ", ".join(f"{host} has {found}" for host, found in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    msg = (
        f"hosts of the Ray cluster have another batchseg than this run: here is {here}; {named}{more}. "
        f"Install the same wheel on all of them, then end Ray there and start it again (`ray stop`, "
        f"`ray start`): its processes keep what they have imported"
    )
    raise ConfigError(msg)
