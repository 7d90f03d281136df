"""What a manifest of many scenes costs the driver before it reads a header.

    python -m benchmarks.listed_scenes FOLDER [--scenes 100000]

Lists and compares with an empty ledger a fifth of the scenes that `many_scenes` makes, and all: the
difference is what a scene takes, as what is paid once is in both.
"""

import argparse
import time
from pathlib import Path

from batchseg.driver.triage import triage
from batchseg.inputs.listing import list_inputs
from batchseg.job.file import load_job
from benchmarks.many_scenes import job_of, make_scenes


def listing_costs(manifest: Path) -> tuple[float, float]:
    """CPU seconds and MiB of memory of a listing and its triage."""
    config = load_job(job_of(manifest.parent, "listed", manifest.name, workers=1))
    before, memory = time.process_time(), resident()
    listing, _ = list_inputs(config, {})
    triaged = triage(listing, None, pixel="", product="")
    used = time.process_time() - before, resident() - memory
    print(f"{triaged.todo.num_rows:,} scenes: {used[0]:.2f} s of CPU, {used[1]:.0f} MiB")
    return used


def resident() -> float:
    """MiB of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=100_000)
    given = parser.parse_args()
    folder, count = given.folder.resolve(), given.scenes
    make_scenes(folder / "in", count)
    names = sorted(str(path.relative_to(folder)) for path in (folder / "in").glob("*/*.tif"))
    costs = []
    for some in (1, count // 5, count):  # the first imports what is needed
        (folder / "list.txt").write_text("\n".join(names[:some]))
        costs.append(listing_costs(folder / "list.txt"))
    _, (first, small), (last, large) = costs
    more = count - count // 5
    print(f"each: {1e6 * (last - first) / more:.1f} us, {2**20 * (large - small) / more:.0f} bytes")


if __name__ == "__main__":
    main()
