"""A checkout of batchseg whose command line is run, and the folder in which it works."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.digest_jobs import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A version of batchseg, and the folder in which it works."""

    path: Path
    work: Path
    name: str = "tree"
    """Derived networks are kept by it: each version makes its own."""

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "batchseg", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        cache = self.work / f"cache-{self.name}"
        return {**os.environ, "PYTHONPATH": str(self.path), "BATCHSEG_MODEL_CACHE": str(cache)}

    def call(self, *arguments: object) -> int:
        """Run a command; its exit code. What it prints goes to the end of `work`/log.txt."""
        with (self.work / "log.txt").open("a") as log:
            print(f"\n$ batchseg {' '.join(map(str, arguments))}", file=log, flush=True)
            done = subprocess.run(
                self.command(*arguments),
                cwd=self.work,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
            print(f"exit code {done.returncode}", file=log)
        return done.returncode

    def check(self) -> None:
        """Raises SystemExit where another batchseg than the tree's would run."""
        script = "import batchseg; print(batchseg.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
        ).stdout.strip()
        if not Path(found or "/").is_relative_to(self.path):
            msg = f"{self.path} has no batchseg that this interpreter imports; it finds {found or 'none'}"
            raise SystemExit(msg)


def new_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        msg = f"{path} is not empty"
        raise SystemExit(msg)
    return path.resolve()


def write_job(path: Path, settings: Settings) -> Path:
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path
