"""Hosts that answer, refuse, are silent, and a head that is gone: real sockets, and one real cluster."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from batchseg.driver.executors.ray import hosts as ray_hosts
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.errors import StoppedError


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def hosts(ray_cluster: str, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """The cluster's own host and "other", whose raylet is a socket of this test."""
    import ray

    monkeypatch.setattr(ray_hosts, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(ray_hosts, "REACH_SECONDS", 0.2)
    real, (address, port) = ray.nodes(), listening.getsockname()
    other = {"NodeID": "other", "Alive": True, "NodeManagerAddress": address, "NodeManagerPort": port}
    monkeypatch.setattr(ray, "nodes", lambda: [*real, {**other, "Resources": {"CPU": 3.0, "GPU": 1.0}}])
    looking = Hosts({})
    yield looking
    looking.close()


def until(condition, seconds=5.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return condition()


def test_hosts_that_answer_are_here(hosts: Hosts) -> None:
    (home,) = (host for host in hosts.all() if host.node == hosts.home)
    (other,) = (host for host in hosts.all() if host.node == "other")
    assert (home.cpus, other.cpus, other.gpus) == (2.0, 3.0, 1.0)
    assert hosts.state(hosts.home) == hosts.state("other") == "here"
    assert hosts.state("never seen") == "gone"
    assert not hosts.was_silent("other", 0.0)


def test_a_host_without_its_raylet_is_gone_at_once(hosts: Hosts, listening: socket.socket) -> None:
    before = time.monotonic()
    listening.close()
    assert hosts.failed("other")
    assert hosts.state("other") == "gone"
    assert hosts.was_silent("other", before)
    assert [host.node for host in hosts.all()] == [hosts.home]


def test_a_host_that_was_silent_for_a_while_goes_on_and_one_that_stays_so_is_gone(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, cut = socket.create_connection, True

    def connect_unless_cut(address: tuple[str, int], timeout: float) -> socket.socket:
        if cut:
            raise TimeoutError
        return connect(address, timeout)

    before = time.monotonic()
    monkeypatch.setattr(socket, "create_connection", connect_unless_cut)
    assert until(lambda: hosts.state("other") == "silent")
    assert len(hosts.all()) == 2
    cut = False
    assert until(lambda: hosts.state("other") == "here")
    assert hosts.was_silent("other", before)
    assert not hosts.was_silent("other", time.monotonic())
    cut = True
    assert until(lambda: hosts.state("other") == "silent")
    monkeypatch.setattr(ray_hosts, "GONE_SECONDS", 0.1)
    assert until(lambda: hosts.state("other") == "gone")


def test_a_head_that_gives_no_answer_ends_what_waits(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    dead = threading.Event()
    monkeypatch.setattr(ray, "nodes", dead.wait)
    monkeypatch.setattr(ray_hosts, "HEAD_SECONDS", 0.5)

    before = time.monotonic()
    with pytest.raises(StoppedError, match=r"head of the Ray cluster .* run the same command"):
        while True:
            hosts.check()
            time.sleep(0.05)
    assert 0.4 < time.monotonic() - before < 5
    assert hosts.head_is_lost
    dead.set()


def stops(hosts: Hosts, reason: str) -> bool:
    try:
        hosts.check()
    except StoppedError as e:
        return reason in str(e)
    return False


def test_a_process_of_the_own_cluster_that_ends_or_sleeps_is_named(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    raylet = subprocess.Popen(["sleep", "600"])
    own = Hosts({"raylet": raylet})
    own.check()
    monkeypatch.setattr(ray_hosts, "SUSPENDED_SECONDS", 0.3)
    raylet.send_signal(signal.SIGSTOP)
    assert until(lambda: stops(own, "suspended"))
    raylet.send_signal(signal.SIGCONT)
    assert until(lambda: not stops(own, "suspended"))
    raylet.kill()
    raylet.wait()
    with pytest.raises(StoppedError, match="Ray's process raylet was ended by SIGKILL"):
        own.check()
    assert own.head_is_lost
    own.close()


def test_a_process_that_was_suspended_does_not_blame_the_head(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "HEAD_SECONDS", 1.5)
    hosts._checked -= 3600
    hosts.check()
    assert not hosts.head_is_lost
