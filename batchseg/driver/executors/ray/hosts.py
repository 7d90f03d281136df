"""The hosts of a Ray cluster, looked at every few seconds by a thread.

Ray takes a host that vanished for dead after 75 s, and calls that ask the head wait for a minute once it
is gone, when Ray ends the process. A connection to a host's raylet tells within seconds.
"""

import contextlib
import math
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal, ParamSpec, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchseg.errors import StoppedError
from batchseg.system.threads import start_aside

LOOK_SECONDS = 2.0
REACH_SECONDS = 3.0
"""For a connection to a host."""

GONE_SECONDS = 45.0
"""A host that was silent for so long is given up; one that was cut off for half a minute is not."""

HEAD_SECONDS = 30.0
"""The head's silence that ends a run, recorded and in order, before Ray ends its process after 60 s."""

SUSPENDED_SECONDS = 10.0
"""Of the run's own raylet or GCS; a machine's sleep suspends this process too."""

State = Literal["here", "silent", "gone"]
"""here: its raylet takes connections. silent: it does not, lately. gone: for long, or Ray says so."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node of the cluster."""

    node: str
    cpus: float
    gpus: float
    address: tuple[str, int]
    """Of its raylet."""


class Hosts:
    """What is known of the cluster's hosts. Its thread asks the head, and knocks at the other hosts."""

    def __init__(self, own: Mapping[str, Popen[bytes]]) -> None:
        """Look at the cluster for the first time.

        Args:
            own: processes by name that the run itself started, and without which its cluster does nothing.
        """
        self._own = own
        self._hosts: dict[str, Host] = {}
        self._suspended_since: dict[str, float] = {}
        self._silent_since: dict[str, float] = {}
        self._last_silent: dict[str, float] = {}
        self._home: str = ray.get_runtime_context().get_node_id()
        self._answers = self._answers_seen = 0
        self._head_silent, self._checked = 0.0, time.monotonic()
        self._closed = threading.Event()
        self._look()
        threading.Thread(target=self._watch, daemon=True, name="hosts").start()

    @property
    def home(self) -> str:
        """The node that the run itself is on."""
        return self._home

    @property
    def head_is_lost(self) -> bool:
        return self._head_silent > HEAD_SECONDS or any(p.poll() is not None for p in self._own.values())

    def pinned_to(self, node: str) -> dict[str, Any]:
        """Options of a task that is to run on a node, so that it is known with which host it goes."""
        if len(self._hosts) < 2:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=True)}

    def all(self) -> list[Host]:
        """Those that are here or silent."""
        return [host for host in self._hosts.values() if self.state(host.node) != "gone"]

    def state(self, node: str) -> State:
        if node not in self._hosts:
            return "gone"
        since = self._silent_since.get(node)
        if since is None:
            return "here"
        return "gone" if time.monotonic() - since > GONE_SECONDS else "silent"

    def failed(self, node: str) -> bool:
        """Whether a host does not answer now. Asks it: what ran there may have noticed first."""
        host = self._hosts.get(node)
        if host is not None:
            self._knock(host)
        return self.state(node) != "here"

    def was_silent(self, node: str, since: float) -> bool:
        """Whether a host did not answer at some moment since then (time.monotonic)."""
        return self.failed(node) or self._last_silent.get(node, -math.inf) >= since

    def check(self) -> None:
        """Called often while something may wait for the head.

        Raises:
            StoppedError: it has been silent for HEAD_SECONDS, of which this process was not suspended; or a
                process of the run's own cluster has ended. Ray 2.60 ends this process too, without a word:
                13 s after its raylet died, 60 s after its GCS did.
        """
        for name, process in self._own.items():
            if (code := process.poll()) is not None:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                msg = f"Ray's process {name} {how}; was it killed, or is memory short?"
                raise StoppedError(msg)
            if self._is_suspended(name, process.pid):
                msg = f"Ray's process {name} was suspended (SIGSTOP); run again, nothing is lost"
                raise StoppedError(msg)
        now = time.monotonic()
        # Of a long gap only a second counts: the machine slept, and the head was not asked.
        self._head_silent += min(now - self._checked, 1.0)
        self._checked = now
        if self._answers != self._answers_seen:
            self._answers_seen, self._head_silent = self._answers, 0.0
        if self.head_is_lost:
            msg = (
                f"the head of the Ray cluster has not answered for {HEAD_SECONDS:.0f} s. "
                f"Start the cluster again, or leave it out (ray_address), and run the same command"
            )
            raise StoppedError(msg)

    def close(self) -> None:
        self._closed.set()

    def _is_suspended(self, name: str, pid: int) -> bool:
        """Whether a process has been for long: it still takes connections, and answers none."""
        state = ""
        with contextlib.suppress(OSError):
            # After the last parenthesis: the name before it may hold spaces and parentheses of its own.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state != "T":
            self._suspended_since.pop(name, None)
            return False
        return time.monotonic() - self._suspended_since.setdefault(name, time.monotonic()) > SUSPENDED_SECONDS

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001, S112  no answer, whatever Ray makes of it
                continue

    def _look(self) -> None:
        nodes = ray.nodes()
        self._answers += 1
        self._hosts = {node["NodeID"]: _host(node) for node in nodes if node["Alive"]}
        others = [host for host in self._hosts.values() if host.node != self._home]
        for knocking in [start_aside(self._knock, host) for host in others]:
            knocking.result()

    def _knock(self, host: Host) -> None:
        if host.node == self._home:
            return
        now = time.monotonic()
        try:
            socket.create_connection(host.address, timeout=REACH_SECONDS).close()
        except ConnectionRefusedError:  # the host is there, and its raylet is not
            self._silent_since[host.node] = -math.inf
            self._last_silent[host.node] = now
        except OSError:
            self._silent_since.setdefault(host.node, now)
            self._last_silent[host.node] = now
        else:
            self._silent_since.pop(host.node, None)


def _host(node: dict[str, Any]) -> Host:
    resources = node["Resources"]
    return Host(
        node=node["NodeID"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        address=(node["NodeManagerAddress"], node["NodeManagerPort"]),
    )
