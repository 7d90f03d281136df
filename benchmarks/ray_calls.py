"""What Ray itself takes of a driver's CPU per lease, with steps that do nothing: for simulated.py.

    python benchmarks/ray_calls.py [LEASES]

A lease is three calls (read, predict, write) and one answer, as in executors/ray.py. The arguments are small:
what pickling a real lease takes, scheduler.py measures itself.
"""

import sys
import time

from batchseg.executors import raytasks  # sets what Ray reads when it is imported

# isort: split
import ray


def cpu() -> tuple[float, float]:
    """Seconds of this thread and of the whole process."""
    return time.thread_time(), time.process_time()


def per_call(before: tuple[float, float], count: int) -> str:
    thread, process = (1e3 * (now - then) / count for now, then in zip(cpu(), before, strict=True))
    return f"{thread:.3f} ms in the calling thread, {process:.3f} ms in the process"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    assert raytasks.LOST_ERRORS
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20)

    @ray.remote(num_cpus=0, max_retries=0)
    def step(where: dict[str, str], something: int) -> int:
        return something

    @ray.remote(num_cpus=1)
    class Predictor:
        def predict(self, something: int) -> int:
            return something

        def sleep(self) -> None:
            time.sleep(600)

    actors = [Predictor.remote() for _ in range(2)]

    def leases(count: int) -> None:
        waiting = []
        for number in range(count):
            read = step.remote({}, number)
            waiting.append(step.remote({}, actors[number % 2].predict.remote(read)))
            if len(waiting) == 8:
                ready, waiting = ray.wait(waiting, num_returns=1, fetch_local=False)
                ray.get(ready)
        ray.get(waiting)

    def finishes(count: int) -> None:
        for _ in range(count // 4):
            ray.get([step.remote({}, 0) for _ in range(4)])

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
