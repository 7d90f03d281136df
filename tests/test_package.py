"""The package's own names."""

import ast
import inspect

import pytest

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
