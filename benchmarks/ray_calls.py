"""What Ray itself takes of a driver's CPU per lease, with steps that do nothing: for simulated.py.

    python benchmarks/ray_calls.py [LEASES]

A lease is one call of its predictor and one answer, as in driver/executors/ray/calls.py.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks.simulated import (  # sets what Ray reads when it is imported
    LOADS,
    make_recipe,
    make_scene,
    make_source,
)

# isort: split
import ray

from batchseg.driver.scene_worker import Lease
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid


def cpu() -> tuple[float, float]:
    """Seconds of this thread and of the whole process."""
    return time.thread_time(), time.process_time()


def per_call(before: tuple[float, float], count: int) -> str:
    thread, process = (1e3 * (now - then) / count for now, then in zip(cpu(), before, strict=True))
    return f"{thread:.3f} ms in the calling thread, {process:.3f} ms in the process"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as folder:
        room = 128 * 2**20
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=room,
            _temp_dir=folder,
        )
        measure(count)
        ray.shutdown()


def make_lease() -> Lease:
    load = LOADS["40/s"]
    scene, tiles = make_scene(make_source(0), load.side), tile_grid(make_recipe(load), load.side, load.side)
    shards = tuple(ShardGrid(tiles=tiles, tiles_hw=(6, 6)))
    return Lease(id=1, scene=scene, grid="6x6", cpu_class="gpu", shards=shards)


def measure(count: int) -> None:
    lease = make_lease()

    @ray.remote(num_cpus=0, max_retries=0)
    def finish(where: dict[str, str], lease: Lease, something: int) -> int:
        return something

    @ray.remote(num_cpus=1, concurrency_groups={"leases": 3})
    class Predictor:
        @ray.method(concurrency_group="leases")
        def do_lease(self, where: dict[str, str], lease: Lease, isolation: str) -> str:
            return isolation

        def sleep(self) -> None:
            time.sleep(600)

    actors = [Predictor.remote() for _ in range(2)]

    def leases(count: int) -> None:
        waiting = []
        for number in range(count):
            waiting.append(actors[number % 2].do_lease.remote({}, lease, "none"))
            if len(waiting) == 8:
                ready, waiting = ray.wait(waiting, num_returns=1, fetch_local=False)
                ray.get(ready)
        ray.get(waiting)

    def finishes(count: int) -> None:
        for _ in range(count // 4):
            ray.get([finish.remote({}, lease, 0) for _ in range(4)])

    for name, function in (("lease", leases), ("finish", finishes)):
        function(count // 4)  # worker processes start
        before = cpu()
        function(count)
        print(f"{name}: {per_call(before, count)}")
    pending = [actors[0].sleep.remote() for _ in range(2000)]
    for number in (20, 200, 2000):
        before = cpu()
        for _ in range(20):
            ray.wait(pending[:number], num_returns=number, timeout=0, fetch_local=False)
        print(f"waiting for {number}: {per_call(before, 20)}")


if __name__ == "__main__":
    main()
