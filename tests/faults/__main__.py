"""`python -m faults SECTION ...`: inject faults into real runs, and keep a record of each trial.

A section is a module of this package with `trials(context)`, which yields what it did, trial by trial.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

from faults.context import Context
from faults.record import RECORDS, append

SECTIONS = ("kills", "hosts", "proxied", "disks", "processes", "hostile", "rivals", "soak", "secrecy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first trial of each fault; the next has the next"
    )
    parser.add_argument(
        "--times", type=int, help="trials of each fault; without it as many as the section says"
    )
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--without", help="but not those whose name contains this")
    parser.add_argument(
        "--records", type=Path, default=RECORDS, help="folder of the records, which are appended to"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/batchseg-faults"), help="archives and outputs"
    )
    parser.add_argument("--s3", help="endpoint of an S3 server, with the keys of AWS_ACCESS_KEY_ID and so on")
    options = parser.parse_args()
    context = Context(
        seed=options.seed,
        times=options.times,
        only=options.only,
        without=options.without,
        work=options.work,
        s3_endpoint=options.s3,
    )
    broken = 0
    for name in options.sections:
        section = importlib.import_module(f"faults.{name}")
        began = time.monotonic()
        for trial in section.trials(context):
            append([trial], options.records)
            broken += not trial.kept_promises
            verdict = "as promised" if trial.kept_promises else f"BROKEN: {trial}"
            at = time.monotonic() - began
            print(f"{at:7.0f} s  {name}: {trial.fault} (seed {trial.seed}): {verdict}", flush=True)  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
