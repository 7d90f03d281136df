"""README and docs/ say what the code does."""

import argparse
import ast
import doctest
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import job_keys
import numpy as np
import picture
import pytest
import yaml
from conftest import REPOSITORY
from factories import write_raster
from PIL import Image, ImageColor
from rasterio.windows import Window

import batchseg
from batchseg import errors
from batchseg.cli.main import _parser
from batchseg.cli.run import EXIT_CODES
from batchseg.job.file import load_job
from batchseg.models.reading import read_model

README = REPOSITORY / "README.md"
PAGES = [README, REPOSITORY / "SECURITY.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
EXIT_CODE_PAGE = REPOSITORY / "docs" / "operating.md"
JOB = {"inputs": "archive/*.tif", "model": "model", "output": "results"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def fences(page: Path, language: str) -> list[str]:
    """Blocks between ``` of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def command_lines(page: Path) -> list[str]:
    """Indented lines that begin with `batchseg`, joined where a backslash goes on, less their comments."""
    text = page.read_text().replace("\\\n", " ")
    return [line.partition(" #")[0] for line in re.findall(r"^    (batchseg .*)$", text, flags=re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """File and anchor of each link that leads nowhere else; the file is empty for the page itself."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield file, anchor


@each_page
def test_lines_are_short_but_in_tables(page: Path) -> None:
    lines = page.read_text().splitlines()
    long = [line for line in lines if len(line) > 110 and not line.startswith("|") and "://" not in line]
    assert long == []


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, anchor in links(page):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@each_page
def test_blocks_of_yaml_are_jobs_or_parts_of_jobs(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(fences(page, "yaml")):
        job = tmp_path / f"{number}.yaml"
        job.write_text(yaml.safe_dump(JOB | yaml.safe_load(block)))
        load_job(job)


@each_page
def test_blocks_of_python_are_python(page: Path) -> None:
    for block in fences(page, "python"):
        ast.parse(block)


@each_page
def test_commands_are_taken_by_the_command_line(page: Path) -> None:
    for line in command_lines(page):
        _parser().parse_args(shlex.split(line)[1:])


@each_page
def test_commands_in_sentences_exist(page: Path) -> None:
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command in re.findall(r"`batchseg (\w+)", page.read_text()):
        assert command in commands.choices


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"(?:^    |`)make (\w+)", page.read_text(), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile


@each_page
def test_extras_exist(page: Path) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"batchseg\[([\w-]+)\]", page.read_text()):
        assert extra in extras


def test_every_variable_of_the_environment_is_documented_and_no_other() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "batchseg").rglob("*.py"))
    read = set(re.findall(r'"(BATCHSEG_\w+)"', sources)) - {
        "BATCHSEG_CACHE"
    }  # set by a run for its own processes
    documented = set(re.findall(r"BATCHSEG_\w+", "".join(page.read_text() for page in PAGES)))
    assert documented == read


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_the_readme_leads_to_every_page() -> None:
    linked = {(README.parent / file).resolve() for file, _ in links(README)}
    assert set(REPOSITORY.joinpath("docs").glob("*.md")) <= linked


@pytest.mark.parametrize("page", sorted(job_keys.DOCS.glob("*.md")), ids=lambda page: page.name)
def test_tables_of_keys_are_those_of_the_schema(page: Path) -> None:
    text = page.read_text()
    assert job_keys.written(text) == text, "run `python docs/job_keys.py`"


def test_every_schema_has_its_table() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    assert {name for _, name, _ in job_keys.TABLE.findall(pages)} == set(job_keys.SCHEMAS)
    assert doctest.testmod(job_keys).failed == 0
    with pytest.raises(KeyError):
        job_keys.written("<!-- keys of Other: made by docs/job_keys.py -->\n<!-- end -->")


def test_a_table_has_a_keys_type_default_and_description() -> None:
    table = job_keys.table(job_keys.SCHEMAS["JobFile"])
    assert "| `output` | required | text | A folder on a disk or in a bucket" in table
    assert "| `lease_timeout` | `600` | number > 0 | Seconds after which" in table
    assert "| `compress` | `deflate` | `deflate`, `zstd`, `lzw` |" in table
    assert "| `bands` |  | list of integer or text | Band numbers from 1" in table


def test_exit_codes_are_those_of_the_errors() -> None:
    table = dict(re.findall(r"^\| (\d) \| (.*) \|$", EXIT_CODE_PAGE.read_text(), flags=re.MULTILINE))
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
    paragraph = README.read_text().partition("## Exit codes\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"\b[0-9]\b", paragraph.partition("A line for cron")[0])) == set(table)


def test_the_table_of_errors_has_their_exit_codes() -> None:
    rows = re.findall(r"^\| `(\w+Error)` \| (\d) \|", (REPOSITORY / "docs" / "python.md").read_text(), re.M)
    assert rows
    for name, code in rows:
        assert getattr(errors, name).exit_code == int(code)


def test_the_readmes_two_jobs_are_whole(tmp_path: Path) -> None:
    scenes, photographs = fences(README, "yaml")
    assert len(scenes.splitlines()) == len(photographs.splitlines()) == 6
    (tmp_path / "models").symlink_to(REPOSITORY / "models")
    job = tmp_path / "job.yaml"
    for block, are_photographs in ((scenes, False), (photographs, True)):
        job.write_text(block)
        config = load_job(job)
        assert (config.photographs is not None) == are_photographs
        assert read_model(config.model.path).bands == 3


@pytest.mark.slow
def test_the_readmes_two_jobs_can_be_run(tmp_path: Path) -> None:
    scenes, photographs = fences(README, "yaml")
    shutil.copytree(REPOSITORY / "models", tmp_path / "models")
    archive = tmp_path / "archive"
    for folder in ("2026", "line-3"):
        (archive / folder).mkdir(parents=True)
    noise = np.random.default_rng(1).integers(0, 255, (3, 96, 112), dtype=np.uint8)
    write_raster(archive / "2026" / "scene.tif", noise)
    Image.fromarray(noise[0]).save(archive / "line-3" / "tile.jpg")
    for name, block, said in (("s", scenes, "sources  1 to do"), ("p", photographs, "photos   1 to do")):
        job = tmp_path / f"{name}.yaml"
        job.write_text(block)
        lines = str(batchseg.plan(load_job(job))).splitlines()
        assert any(line.startswith(said) for line in lines), lines


def test_every_example_job_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARCHIVE", "GOOD", "MODELS", "RESULTS"):
        monkeypatch.setenv(name, f"/data/{name.lower()}")
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        load_job(path)


def test_the_units_the_crontab_and_the_pages_run_the_same_command() -> None:
    crontab = (REPOSITORY / "jobs" / "batchseg.crontab").read_text()
    (line,) = re.findall(r"^0 22 \* \* \*  (.*)$", crontab, flags=re.MULTILINE)
    unit = (REPOSITORY / "jobs" / "batchseg.service").read_text()
    (code,) = re.findall(rf"^ExecStart={re.escape(line)} --deadline-exit-code (\d+)$", unit, re.MULTILINE)
    # The deadline alone is a success: a run that the environment stopped, night after night, must be told of.
    assert f"\nSuccessExitStatus={code} 6\n" in unit
    assert not int(code) < 8
    for page in (README, EXIT_CODE_PAGE):
        assert f"    0 22 * * *  {line}\n" in page.read_text()
    assert "%" not in crontab, "cron makes a new line of it"
    words = line.split()[1:]
    arguments = _parser().parse_args(words)
    assert (arguments.quiet, arguments.deadline) == (True, "06:00")
    kubernetes = yaml.safe_load((REPOSITORY / "jobs" / "kubernetes.yaml").read_text())
    assert kubernetes["kind"] == "CronJob"


def test_runs_by_systemd_and_in_containers_have_no_privileges() -> None:
    unit = (REPOSITORY / "jobs" / "batchseg.service").read_text()
    for line in ("User=batchseg", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in unit
    (user,) = re.findall(r"^USER (\d+):\d+$", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    kubernetes = yaml.safe_load((REPOSITORY / "jobs" / "kubernetes.yaml").read_text())
    pod = kubernetes["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user) != 0
    assert not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_readmes_speeds_are_those_of_the_benchmarks() -> None:
    section = README.read_text().partition("## How fast\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!what|---)(.*) \| (.*) \| (.*) \|$", section, flags=re.MULTILINE)
    assert len(rows) == 6
    tables = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    for _, figure, beside in rows:
        assert figure.removesuffix(" *") in tables.replace("**", "")
        assert f"**{beside.split()[0]}**" in tables or f"**{beside.split()[1]}** s" in tables, beside
    dates = re.findall(r"\d{4}-\d\d-\d\d", section)
    records = [json.loads(path.read_text()) for path in (REPOSITORY / "docs" / "benchmarks").glob("*.json")]
    assert {record["date"][:10] for record in records} == set(dates)


def test_the_picture_is_small_and_its_script_draws_such(tmp_path: Path) -> None:
    shown = re.findall(r"!\[.*\]\((.*)\)", README.read_text())
    assert [(REPOSITORY / name).resolve() for name in shown] == [picture.PICTURE]
    assert picture.PICTURE.stat().st_size < 300_000
    random = np.random.default_rng(2)
    ids = random.choice(np.array([0, 1, 2, 3, 255], np.uint8), (40, 600))
    bands = random.integers(0, 6000, (4, 40, 600), dtype=np.uint16)
    scene = write_raster(tmp_path / "scene.tif", bands)
    mask = write_raster(tmp_path / "mask.tif", ids[np.newaxis])
    drawn = np.asarray(picture.draw(scene, mask, Window(100, 10, 500, 30)))
    with Image.open(picture.PICTURE) as kept:
        assert kept.height - picture.PART.height == drawn.shape[0] - 30
    before, after, ids = drawn[:30, :500], drawn[:30, 500 + picture.GAP :], ids[10:, 100:]
    outside = ids == 255
    np.testing.assert_array_equal(after[outside], before[outside])
    colors = np.array(
        [ImageColor.getrgb(c["color"]) for c in yaml.safe_load(picture.JOB.read_text())["classes"]]
    )
    painted = (1 - picture.OPACITY) * before[~outside] + picture.OPACITY * colors[ids[~outside]]
    np.testing.assert_allclose(after[~outside], painted, atol=1)
