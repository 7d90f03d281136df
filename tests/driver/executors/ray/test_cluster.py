"""What a local Ray cluster starts without, and what is said where there is none. One test starts Ray."""

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import exceptions as ray_errors
from ray._private import node, ray_constants, services

from batchseg.driver.executors.ray import cluster as ray_cluster
from batchseg.driver.executors.ray.cluster import Cluster, lean_head
from batchseg.errors import ConfigError, StoppedError


class NoRay:
    """Stands for the module `ray`: starts or connects as often as no error is left."""

    def __init__(self, *errors):
        self.errors, self.inits, self.shut_down, self.connected = list(errors), [], False, False
        self._private = SimpleNamespace(worker=SimpleNamespace(_global_node=None))

    def is_initialized(self):
        return self.connected

    def init(self, **options):
        self.inits.append(options)
        if self.errors:
            raise self.errors.pop(0)

    def shutdown(self):
        self.shut_down = True


@pytest.fixture
def cluster_of(monkeypatch, tmp_path):
    """A cluster, started or connected to by a module that stands for `ray`."""

    def make(ray, address=None):
        monkeypatch.setattr(ray_cluster, "ray", ray)
        return Cluster(address, cpus=3, object_store_bytes=2**20)

    monkeypatch.setattr(ray_cluster, "socket_root", lambda: tmp_path)
    monkeypatch.setattr(ray_cluster, "lean_head", contextlib.nullcontext)
    monkeypatch.setattr(ray_cluster, "full_disks", list)
    monkeypatch.setattr(ray_cluster, "meet", lambda address: None)
    return make


def test_a_cluster_that_is_there_is_left_there(cluster_of):
    ray = NoRay()
    cluster = cluster_of(ray, "head:6379")
    assert ray.inits[0]["address"] == "head:6379"
    assert (cluster.is_own, cluster.own_processes()) == (False, {})
    cluster.close()
    assert not ray.shut_down


def test_a_cluster_of_the_run_is_tried_twice_and_goes_with_its_folder(cluster_of, tmp_path):
    ray = NoRay(Exception("the raylet did not start in 30 s"))
    cluster = cluster_of(ray)
    folders = {Path(options["_temp_dir"]).parent for options in ray.inits}
    assert len(folders) == 2
    assert (cluster.is_own, ray.inits[1]["num_cpus"]) == (True, 3)
    assert {options["address"] for options in ray.inits} == {"local"}  # whatever RAY_ADDRESS says
    assert [path for path in folders if path.exists()] == [Path(ray.inits[1]["_temp_dir"]).parent]
    cluster.close()
    assert ray.shut_down
    assert not any(path.exists() for path in folders)


def test_a_process_that_has_ray_uses_that(cluster_of):
    ray = NoRay()
    ray.connected = True
    assert not cluster_of(ray).is_own


def test_what_hinders_is_told_and_leaves_nothing(cluster_of, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="cannot connect to the Ray cluster at head:6379: no such host"):
        cluster_of(NoRay(ConnectionError("no such host")), "head:6379")
    refused = ConnectionError("Failed to connect")
    refused.__cause__ = ray_errors.AuthenticationError("the token is another one")
    with pytest.raises(ConfigError, match=r"Failed to connect \(.*the token is another one"):
        cluster_of(NoRay(refused), "head:6379")
    outside = ConnectionError("Failed to connect")
    outside.__cause__ = RuntimeError("No node info found matching attributes: '' when trying")
    with pytest.raises(ConfigError, match="Failed to connect; no Ray node of it runs on this host"):
        cluster_of(NoRay(outside), "head:6379")
    monkeypatch.setattr(ray_cluster, "full_disks", lambda: ["/tmp is full"])
    with pytest.raises(StoppedError, match=r"cannot start Ray on this machine: no \(/tmp is full; make room"):
        cluster_of(NoRay(Exception("no"), Exception("no")))
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_processes_that_do_not_answer_are_killed(cluster_of):
    ray = NoRay()
    cluster = cluster_of(ray)
    sleeping = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    processes = {
        name: [SimpleNamespace(process=process)]
        for name, process in zip(("raylet", "gcs_server"), sleeping, strict=True)
    }
    ray._private.worker._global_node = SimpleNamespace(all_processes=processes)
    assert [process.pid for process in cluster.own_processes().values()] == [p.pid for p in sleeping]
    cluster.kill()
    assert [process.wait() for process in sleeping] == [-9, -9]
    assert not ray.shut_down


def parts():
    return (
        ray_constants.ENABLE_RAY_CLUSTER,
        services.start_api_server,
        node.Node.start_monitor,
        node.Node.start_log_monitor,
    )


def test_ray_is_itself_again_afterwards_also_where_it_could_not_be_started() -> None:
    before = parts()
    with pytest.raises(RuntimeError), lean_head():
        assert not any(one is other for one, other in zip(parts(), before, strict=True))
        assert services.start_api_server(None, False, "host") == (None, None)
        raise RuntimeError
    assert parts() == before


RUN_AND_STRANGER = """
import os, subprocess, sys
from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.cluster import Cluster
import ray
from ray._raylet import AuthenticationTokenLoader

STRANGER = '''
import sys
from batchseg.driver.executors.ray.cluster import lean_head
from batchseg.driver.executors.ray.head import meet
with lean_head():  # or else 127.0.0.1 is another address of this host to Ray
    meet(sys.argv[1])
'''
os.environ.update(RAY_AUTH_TOKEN="1" * 64, RAY_AUTH_MODE="token")
AuthenticationTokenLoader.instance().has_token()  # as after joining a cluster, which Ray remembers
del os.environ["RAY_AUTH_TOKEN"], os.environ["RAY_AUTH_MODE"]
cluster = Cluster(None, cpus=1, object_store_bytes=80 * 2**20)
address = ray.get_runtime_context().gcs_address
environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
environment["HOME"] = sys.argv[1]
for tokens in ({}, {"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}):
    asked = subprocess.run(
        [sys.executable, "-c", STRANGER, address], env=environment | tokens, capture_output=True, text=True
    )
    print(asked.returncode, asked.stderr.splitlines()[-2:])
cluster.close()
print([name for name in os.environ if name.startswith("RAY_AUTH")])
"""
"""A cluster as a run has it in a process that joined another before, and processes of this host that know its
address: without its token, with another, and with its token."""


def test_who_has_not_the_runs_token_gets_no_answer_and_it_goes_with_the_run(tmp_path):
    command = [sys.executable, "-c", RUN_AND_STRANGER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    without, other, right, left = done.stdout.splitlines()
    assert re.match(r"1 .*ConfigError: the Ray cluster at .* asks for a token, and there is none in", without)
    assert re.match(r"1 .*asks for a token, another one than is in RAY_AUTH_TOKEN", other)
    assert right.startswith("0 ")
    assert left == "[]"  # clusters that this process joins later have tokens of their own


def test_where_nothing_can_connect_to_loopback_nothing_is_started(cluster_of, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    ray = NoRay()
    with pytest.raises(StoppedError, match=r"127\.0\.0\.1 \(Network is unreachable\); bring the loopback"):
        cluster_of(ray)
    assert ray.inits == []


def test_a_start_that_is_given_up_is_not_tried_again(cluster_of, tmp_path):
    class Hanging(NoRay):
        def init(self, **options):
            super().init(**options)
            ray_cluster.give_up_starts()
            raise ConnectionError("its processes are gone")

    ray = Hanging()
    with pytest.raises(StoppedError, match="its processes are gone"):
        cluster_of(ray)
    assert len(ray.inits) == 1
    assert not any(path.is_dir() for path in tmp_path.iterdir())
    ray_cluster.give_up_starts()
