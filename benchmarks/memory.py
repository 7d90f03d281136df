"""Peak RssAnon of every process of a run, sampled, and the use of Ray's object store.

    python -m benchmarks.memory JOB.yaml [--set key=value ...]

RssAnon is memory that belongs to a process alone; VmRSS would count Ray's shared object store once per
process that maps it. The object store is measured as the growth of /dev/shm.
"""

import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path


def rss_anon(pid: str) -> int:
    for line in Path("/proc", pid, "status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def sample(mark: bytes, peaks: dict[str, int]) -> None:
    """Update the peaks by kind of process."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if mark not in Path(entry.path, "environ").read_bytes():
                continue
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            name = " ".join(w.decode().rsplit("/", 1)[-1] for w in words[:3])[:40]
            peaks[name] = max(peaks[name], rss_anon(entry.name))
        except OSError:
            continue


def shared_memory() -> int:
    """Bytes in use in /dev/shm."""
    shm = os.statvfs("/dev/shm")  # noqa: S108  its room is asked for
    return (shm.f_blocks - shm.f_bfree) * shm.f_frsize


def main() -> None:
    mark = f"BATCHSEG_MARK={uuid.uuid4().hex}"
    batchseg = str(Path(sys.executable).with_name("batchseg"))
    plan = subprocess.run(
        [batchseg, "plan", *sys.argv[1:]], check=True, capture_output=True, text=True
    ).stdout
    key, _, value = mark.partition("=")
    run = subprocess.Popen([batchseg, "run", *sys.argv[1:]], env={**os.environ, key: value})
    peaks: dict[str, int] = defaultdict(int)
    before, store = shared_memory(), 0
    while run.poll() is None:
        sample(mark.encode(), peaks)
        store = max(store, shared_memory() - before)
        time.sleep(0.2)
    print(plan)
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        print(f"{peak / 2**20:8.0f} MiB  {name}")
    print(f"{store / 2**20:8.0f} MiB  object store (growth of /dev/shm)")
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
