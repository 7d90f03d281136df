"""`python -m benchmarks`: how fast batchseg is here. docs/benchmarks.md says how each case is measured.

Cases: a bound by the predictors, b bound by reading and writing, c from S3 at a distance, d photographs,
e regions, f start-up, g what people use, h scaling, i beside a notebook, j without knobs. A case that lacks
something is skipped, and says what.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import Options
from benchmarks.page import table, update
from benchmarks.record import RECORDS, SkippedError, measured, save

CASES = {
    "a": "predictor_bound",
    "b": "io_bound",
    "c": "distant",
    "d": "photographs",
    "e": "regions",
    "f": "start_up",
    "g": "peers",
    "h": "scaling",
    "i": "beside_notebook",
    "j": "without_knobs",
}
"""Modules with a TITLE and a function `measure` of options, which gives figures and what else is kept."""

PARTED = ("a", "g", "j")
"""Cases of which --only takes parts; their modules have PARTS, the names."""

WORK = Path.home() / ".cache" / "batchseg-benchmarks"
"""Not below /tmp, where anybody may make a folder of that name first."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    for name in ("data", "scene", "model", "paddleseg"):
        if (path := getattr(given, name)) is not None and not path.exists():
            parser.error(f"--{name}: {path} is not there")
    names = [name.strip() for name in given.case.split(",")] if given.case else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        print(f"--case: there is no {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    if given.only:
        _check_only(parser, given, names)
    fields = {name: value for name, value in vars(given).items() if name != "case"}
    options = Options(**fields, say=lambda text: print(text, flush=True))
    ends = [_one(name, options, given.out) for name in names]
    if "kept" in ends:
        print(f"\ntables: {update(given.out)}")
    return 0 if "kept" in ends and "failed" not in ends else 1


def _one(name: str, options: Options, out: Path) -> str:
    """Measure a case, keep and show it: "kept", "skipped", or "failed"."""
    try:
        if importlib.util.find_spec(f"benchmarks.{CASES[name]}") is None:
            msg = f"benchmarks/{CASES[name]}.py is not there"
            raise SkippedError(msg)
        module = importlib.import_module(f"benchmarks.{CASES[name]}")
        if not hasattr(module, "measure"):
            msg = f"it is a program of its own: python -m benchmarks.{CASES[name]}"
            raise SkippedError(msg)
        print(f"\n{name}: {module.TITLE}", flush=True)
        case = measured(name, module.TITLE, lambda: module.measure(options))
    except SkippedError as e:
        print(f"{name} is skipped: {e}", flush=True)
        return "skipped"
    except Exception:  # noqa: BLE001  the other cases take hours
        traceback.print_exc()
        print(f"{name} failed", flush=True)
        return "failed"
    save(case, out)
    print(f"\n{table(case)}", flush=True)
    return "kept"


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        msg = f"{text}: expected 1 or more"
        raise argparse.ArgumentTypeError(msg)
    return count


def _check_only(parser: argparse.ArgumentParser, given: argparse.Namespace, names: Sequence[str]) -> None:
    """Exit where the one case has not the parts of --only, or the page would lack the others."""
    if len(names) != 1 or names[0] not in PARTED or given.out == RECORDS:
        parser.error(f"--only: needs one --case of {', '.join(PARTED)}, and --out, as the page has all parts")
    known = importlib.import_module(f"benchmarks.{CASES[names[0]]}").PARTS
    if unknown := [name for name in given.only if name not in known]:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(known)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--case", default="", metavar="a,b", help="all of them without it")
    add("--only", type=_names, default=(), metavar="landcover-fp32", help="these parts of a, g or j")
    add("--rounds", type=_count, default=5, help="of each comparison; the table has medians")
    add("--workers", type=_count, default=len(os.sched_getaffinity(0)), help="predictors: one per core")
    data = os.environ.get("BATCHSEG_DATA") or None
    add("--data", type=Path, default=data, help="a folder with imagery and models; else $BATCHSEG_DATA")
    add("--scene", type=Path, help="an RGB GeoTIFF; else a and h make one, others look into --data")
    add("--scene-size", type=_count, default=6560, help="pixels per side of the scene that a and h make")
    add("--model", type=Path, help="PP-LiteSeg-STDC1 of 19 classes, for a, f and g")
    add("--s3", help="endpoint of an S3 server for c; keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    add("--paddleseg", type=Path, help="an interpreter that has PaddleSeg, for g")
    add("--work", type=Path, default=WORK, help="generated inputs are kept there, else in ~/.cache")
    add("--out", type=Path, default=RECORDS, help="a JSON file per case")
    add("--uint8-size", type=int, default=20_000, help="pixels per side of b's scenes of 3 bands")
    add("--uint16-size", type=int, default=10_980, help="pixels per side of b's and c's of 4")
    add("--photographs", type=int, default=20_000, help="of d")
    add("--peer-size", type=int, default=3072, help="pixels per side of the scene's part that g predicts")
    add("--peer-photographs", type=int, default=60, help="of g")
    return parser


if __name__ == "__main__":
    sys.exit(main())
