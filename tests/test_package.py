"""The package's own names."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

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
