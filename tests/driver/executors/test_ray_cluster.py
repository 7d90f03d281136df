"""What is left out of a local Ray cluster."""

import pytest
from ray._private import node, ray_constants, services

from batchseg.driver.executors.ray_cluster import lean_head


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
