"""The Ray cluster of a run: one that it is told of, or one on this machine that lives with the run.

All that is done to Ray itself, its private names too, is done here.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import ray
from ray import exceptions as ray_errors
from ray._private import node, ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from batchseg.driver.executors.ray.failures import first_line
from batchseg.driver.executors.ray.head import meet
from batchseg.errors import BatchsegError, ConfigError, StoppedError
from batchseg.system.disks import check_room, full_disks
from batchseg.system.machine import predictor_count
from batchseg.system.temp_folders import RAY_PREFIX, end_cluster, held_folder, socket_root

NEEDED_BYTES, NEEDED_FILES = 4 * 2**20, 100
"""Of the temporary folder's disk, before Ray is started there: where its processes cannot write their logs it
waits 30 s, and then says that it is overloaded. A session of 2.60 has 55 files and 130 KiB from the first."""

LOOPBACK_SECONDS = 3.0

NO_NODE = "No node info found"
"""As Ray 2.60 words it."""

QUIET = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}


class Cluster:
    """The cluster that this process is connected to.

    Not to be made in the main thread, where Ray would install a SIGTERM handler of its own.

    Args:
        address: of a cluster that is there; None: one is started, unless this process is connected to one.
        cpus: of one that is started; None: as many as this machine has room for predictors.
        object_store_bytes: of one that is started.

    Raises:
        ConfigError: there is no cluster at the address.
        StoppedError: Ray cannot be started.
    """

    def __init__(self, address: str | None, *, cpus: int | None, object_store_bytes: int) -> None:
        self._cpus, self._object_store_bytes = cpus, object_store_bytes
        self._folder: Path | None = None
        self._lock: Any = None
        self._token = contextlib.ExitStack()
        self._given_up = False
        _starting.append(self)
        self.is_own = False
        """Whether it was started here."""
        try:
            self._connect(address)
        except Exception as e:  # Ray raises ConnectionError, ValueError, RuntimeError and bare Exception
            self._remove_folder()
            if isinstance(e, BatchsegError):
                raise
            where = f"connect to the Ray cluster at {address}" if address else "start Ray on this machine"
            msg = f"cannot {where}: {e}{_because_of(e)}"
            if not address and (left := full_disks()):
                msg += f" ({'; '.join(left)}; make room there, or name another folder in TMPDIR)"
            raise (ConfigError if address else StoppedError)(msg) from e
        finally:
            _starting.remove(self)

    def _connect(self, address: str | None) -> None:
        if address is not None or ray.is_initialized():
            if address is not None and not ray.is_initialized():
                meet(address)
            ray.init(address=address or None, ignore_reinit_error=True, **QUIET)
            return
        self.is_own = True
        try:
            self._start()
        except StoppedError:
            raise
        except Exception:  # its raylet gets 30 s, which a busy machine may exceed
            if self._given_up:
                raise
            self._remove_folder()
            self._start()

    def _start(self) -> None:
        check_loopback()
        root = socket_root()
        check_room(root, "Ray", nbytes=NEEDED_BYTES, files=NEEDED_FILES)
        self._folder, self._lock = held_folder(RAY_PREFIX, root=root)
        self._token.enter_context(own_token())
        with lean_head():
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                _node_ip_address="127.0.0.1",
                num_cpus=self._cpus or predictor_count(),
                include_dashboard=False,
                object_store_memory=self._object_store_bytes,
                _temp_dir=str(self._folder / "r"),  # which Ray opens to everybody
                _system_config={
                    # Workers cost a second of CPU to start (imports); Ray ends idle ones after one second.
                    "idle_worker_killing_time_threshold_ms": 10 * 60 * 1000,
                    # Its end is seen at once; on a busy machine it may be slow to say that it lives.
                    "health_check_failure_threshold": 60,
                    # Statistics and histories of tasks for an API server that this cluster has not.
                    "enable_metrics_collection": False,
                    "task_events_report_interval_ms": 0,
                    "event_stats": False,
                },
                **QUIET,
            )

    def own_processes(self) -> dict[str, Popen[bytes]]:
        """By name, those that were started here and without which the cluster does nothing."""
        if not self.is_own:
            return {}
        started = ray._private.worker._global_node.all_processes
        return {name: started[name][0].process for name in ("raylet", "gcs_server")}

    def close(self) -> None:
        """End it, if it was started here."""
        if self.is_own:
            ray.shutdown()
        self._remove_folder()

    def kill(self) -> None:
        """End it by force, if it was started here: it does not answer."""
        if self.is_own and (started := ray._private.worker._global_node) is not None:
            # Ray's own way of killing them waits for each.
            for process in [info.process for infos in started.all_processes.values() for info in infos]:
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
        self._remove_folder()

    def give_up(self) -> None:
        """End what was begun to be started, from another thread than the one that waits for it."""
        self._given_up = True
        if self._folder is not None:
            end_cluster(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _remove_folder(self) -> None:
        if self._folder is not None:
            end_cluster(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
            self._folder = None
            self._token.close()


_starting: list[Cluster] = []


def give_up_starts() -> None:
    """End what of clusters is being started in other threads, which hang."""
    for cluster in tuple(_starting):
        cluster.give_up()


def check_loopback() -> None:
    """Raises StoppedError where processes of this machine cannot connect to each other on 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=LOOPBACK_SECONDS).close()
    except OSError as e:
        msg = (
            f"cannot start Ray on this machine: nothing can connect to 127.0.0.1 ({e.strerror or e}); bring "
            f"the loopback interface up (ip link set lo up), or allow it in the firewall"
        )
        raise StoppedError(msg) from e


def _because_of(error: BaseException) -> str:
    """The cause that Ray hides behind "Failed to connect"."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, RuntimeError) and NO_NODE in str(error):
        return "; no Ray node of it runs on this host: `ray start --address` makes one"
    return f" ({first_line(error)})" if isinstance(error, ray_errors.AuthenticationError) else ""


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Within it, this process and those that it starts have one token; clusters joined later have their own.

    Ray would make one and keep it in the home folder, of which there may be none. It also keeps in memory the
    token of the cluster that this process joined before, and what it sets in the environment stays there.
    """
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
        Config.initialize("")  # which has what the environment said of the mode
        AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def lean_head() -> Iterator[None]:
    """Within it, `ray.init` starts a cluster of one node: on 127.0.0.1, and of processes that a run needs.

    On Linux Ray listens on another address even if told that one; the constant is what it has for machines
    whose clusters are of one node. Three Python processes have no option that leaves them out: the API server
    (even with `include_dashboard=False`, for statistics that are switched off; `ray.init` waits for it), the
    autoscaler, and the one that sends workers' logs to the driver. They cost 1.5 s of CPU and 250 MB. The
    raylet's agents have to stay: it waits for them, and refuses to start without.
    """
    swapped: list[tuple[Any, str, Any]] = [
        (ray_constants, "ENABLE_RAY_CLUSTER", False),
        # As where it cannot be started, which Ray passes over.
        (services, "start_api_server", lambda *_, **__: (None, None)),
        (node.Node, "start_monitor", lambda _: None),
        (node.Node, "start_log_monitor", lambda _: None),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in swapped]
    for where, name, value in swapped:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
