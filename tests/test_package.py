"""The package's own names."""

import ast
import inspect
import os
import re
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY
from setuptools import Distribution

import batchseg


def test_every_name_is_there_and_has_a_docstring() -> None:
    assert set(batchseg.__all__) <= set(dir(batchseg))
    for name in set(batchseg.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(batchseg, name)), name


def test_names_are_loaded_from_where_type_checkers_find_them() -> None:
    tree = ast.parse(inspect.getsource(batchseg))
    checked = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in (None, "typing", "batchseg")
        for alias in node.names
    }
    assert checked == batchseg._HOMES


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        batchseg.segment  # noqa: B018


def sources() -> list[Path]:
    folders = ("batchseg", "benchmarks", "docs", "examples", "jobs", "models")
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def test_exceptions_of_rules_for_security_have_their_reason_beside_them() -> None:
    found = 0
    for path in sources():
        for line in path.read_text().splitlines():
            codes, _, reason = line.partition("# noqa: ")[2].partition("  ")
            if re.search(r"\bS\d{3}\b", codes):
                found += 1
                assert len(reason.split()) >= 2, f"{path}: {line}"
    assert found


def test_a_wheel_holds_all_files_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    wheel = Distribution({"script_name": "setup.py"})
    wheel.parse_config_files(["pyproject.toml"])
    wheel.include_package_data = False  # it would write a list of the repository's files
    command = wheel.get_command_obj("build_py")
    command.ensure_finalized()
    built = {os.path.relpath(path, command.build_lib) for path in command.get_outputs(include_bytecode=False)}
    files = (path for path in (REPOSITORY / "batchseg").rglob("*") if path.is_file())
    own = (path for path in files if path.suffix != ".pyc")
    assert built == {str(path.relative_to(REPOSITORY)) for path in own}
    assert "batchseg/models/paddleseg-requirements.txt" in built


def test_extras_that_words_name_are_there() -> None:
    """Until batchseg is on an index, they are installed from the clone."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [*sources(), REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    named = {name for path in texts for name in re.findall(r"'\.\[([\w,-]+)\]'", path.read_text())}
    assert {"cpu", "onnx", "vector"} <= named <= set(extras)
    assert not [path for path in texts if "install batchseg[" in path.read_text()]
