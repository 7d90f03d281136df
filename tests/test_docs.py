"""README says what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import REPOSITORY

from batchseg import errors
from batchseg.cli.main import EXIT_CODES, _parser
from batchseg.job.file import load_job
from batchseg.job.schema import JobFile

README = (REPOSITORY / "README.md").read_text()


def test_every_key_of_a_job_file_is_in_the_readme_and_no_other() -> None:
    job = README.partition("## A job\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", job, flags=re.MULTILINE)
    assert sorted(documented) == sorted(JobFile.model_fields)


def test_exit_codes_are_those_of_the_errors() -> None:
    table = dict(re.findall(r"^\| (\d) \| (.*) \|$", README, flags=re.MULTILINE))
    assert sorted(table) == [str(code) for code in range(7)]
    classes = [
        errors.BatchsegError,
        errors.ConfigError,
        errors.ModelError,
        errors.StoppedError,
        errors.LockedError,
    ]
    codes = {cls.exit_code for cls in classes} | {errors.EXIT_OK, errors.EXIT_QUARANTINED}
    assert codes == set(range(7))
    for code in range(7):
        assert f"  {code}  " in EXIT_CODES


def test_the_readmes_job_file_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "job.yaml"
    path.write_text(block)
    assert load_job(path).bands == (1, 2, 3)


def test_every_example_job_loads(monkeypatch) -> None:
    for name in ("ARCHIVE", "MODELS", "RESULTS"):
        monkeypatch.setenv(name, f"/data/{name.lower()}")
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        load_job(path)


def test_the_commands_of_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
    helps = subprocess.run(
        [sys.executable, "-m", "batchseg", "--help"], capture_output=True, text=True, check=True
    )
    for command in set(re.findall(r"batchseg (run|plan|status)\b", README)):
        assert re.search(rf"^    {command} ", helps.stdout, flags=re.MULTILINE)
    kubernetes = yaml.safe_load((REPOSITORY / "jobs" / "kubernetes.yaml").read_text())
    assert kubernetes["kind"] == "CronJob"


def test_the_units_and_the_crontab_run_the_same_command() -> None:
    crontab = (REPOSITORY / "jobs" / "batchseg.crontab").read_text()
    (line,) = re.findall(r"^0 22 \* \* \*  (.*)$", crontab, flags=re.MULTILINE)
    assert f"ExecStart={line}\n" in (REPOSITORY / "jobs" / "batchseg.service").read_text()
    assert f"    0 22 * * *  {line}\n" in README
    assert "%" not in crontab, "cron makes a new line of it"
    words = line.split()[1:]
    arguments = _parser().parse_args(words)
    assert (arguments.quiet, arguments.deadline) == (True, "06:00")
