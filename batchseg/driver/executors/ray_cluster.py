"""What a Ray cluster that lives with a run starts, and what it does not."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ray._private import node, ray_constants, services


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
