"""Another batchseg on the hosts of a cluster than in the run. One test starts Ray."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import batchseg
from batchseg.driver.executors.ray.versions import Installed, compare, own
from batchseg.errors import ConfigError

HERE = Installed("0.1.0", "a" * 64, "/opt/batchseg")
OTHER = Installed("0.1.0", "b" * 64, "/opt/batchseg")


def test_hosts_of_the_same_sources_are_taken_wherever_these_lie():
    compare(HERE, [("10.0.0.2", HERE), ("10.0.0.3", HERE._replace(folder="/usr/lib/batchseg"))])
    compare(HERE, [])


def test_hosts_of_other_sources_are_named_with_what_they_have():
    nothing = Installed("", "", "")
    hosts = [("10.0.0.4", nothing), ("10.0.0.2", OTHER), ("10.0.0.2", OTHER), ("10.0.0.3", HERE)]
    with pytest.raises(ConfigError) as raised:
        compare(HERE, hosts)
    assert str(raised.value) == (
        "hosts of the Ray cluster have another batchseg than this run: here is 0.1.0 of /opt/batchseg "
        "(sources aaaaaaaa); 10.0.0.2 has 0.1.0 of /opt/batchseg (sources bbbbbbbb), 10.0.0.4 has none. "
        "Install the same wheel on all of them, then end Ray there and start it again (`ray stop`, "
        "`ray start`): its processes keep what they have imported"
    )
    with pytest.raises(ConfigError, match=r"10\.1\.0\.4 has .* and 7 more\. Install"):
        compare(HERE, [(f"10.{n}.0.4", OTHER) for n in range(12)])


HEAD = """
import sys, ray
import batchseg.driver.executors.ray.tasks
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         object_store_memory=80 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
RUN = """
import sys
from batchseg.driver.executors.ray.executor import RayExecutor
from batchseg.errors import ConfigError
try:
    RayExecutor("/nowhere", address=sys.argv[1], workers=1, gpus_per_worker=1.0, batch_size=None,
                timeout=60.0, object_store_bytes=2**20)
except ConfigError as e:
    print("refused:", e)
else:
    print("taken")
"""


@pytest.mark.slow
def test_a_cluster_with_an_earlier_copy_is_refused_and_with_an_equal_one_taken(tmp_path):
    """The earlier copy knows nothing of this question."""
    here = Path(batchseg.__file__).parent
    copy = tmp_path / "other" / "batchseg"
    shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"))
    late = copy / "driver" / "executors" / "ray" / "versions.py"
    late.unlink()
    (copy / "driver" / "executors" / "ray" / "executor.py").unlink()
    environment = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        env={**environment, "PYTHONPATH": str(copy.parent)},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = head.stdout.readline().strip()

        def said() -> str:
            return subprocess.run(
                [sys.executable, "-c", RUN, address],
                env={**environment, "PYTHONPATH": str(here.parent)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout

        refused = said()
        assert refused.startswith("refused: hosts of the Ray cluster have another batchseg than this run")
        assert own().digest[:8] in refused
        assert f" of {copy} (sources" in refused
        shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        assert said() == "taken\n"
    finally:
        head.stdin.close()
        head.wait(timeout=30)
