"""Peak RssAnon of every process of a run, sampled, and the object store's use against `plan`'s bound.

    python benchmarks/memory.py JOB.yaml [--set key=value ...]

RssAnon is memory that belongs to a process alone; VmRSS would count Ray's shared object store once per
process that maps it. The object store is what lies in /dev/shm under Ray's name.
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


def sample(mark: bytes, peaks: dict[str, int]) -> int:
    """Update peaks by kind of process; returns bytes of this run's object store in use."""
    shared = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if mark not in Path(entry.path, "environ").read_bytes():
                continue
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            name = " ".join(w.decode().rsplit("/", 1)[-1] for w in words[:3])[:40]
            peaks[name] = max(peaks[name], rss_anon(entry.name))
            if "raylet" in name:
                status = Path(entry.path, "status").read_text()
                shared = max(shared, int(status.split("RssShmem:")[1].split()[0]) * 1024)
        except OSError:
            continue
    return shared


def main() -> None:
    mark = f"BATCHSEG_MARK={uuid.uuid4().hex}"
    batchseg = str(Path(sys.executable).with_name("batchseg"))
    plan = subprocess.run(
        [batchseg, "plan", *sys.argv[1:]], check=True, capture_output=True, text=True
    ).stdout
    key, _, value = mark.partition("=")
    run = subprocess.Popen([batchseg, "run", *sys.argv[1:]], env={**os.environ, key: value})
    peaks: dict[str, int] = defaultdict(int)
    store = 0
    while run.poll() is None:
        store = max(store, sample(mark.encode(), peaks))
        time.sleep(0.2)
    print(plan)
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        print(f"{peak / 2**20:8.0f} MiB  {name}")
    print(f"{store / 2**20:8.0f} MiB  object store (raylet's shared memory)")
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
