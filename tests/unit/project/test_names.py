"""A test's name is its promise, short enough to be read in a line of a report."""

from __future__ import annotations

import ast

import pytest

from tests import ROOT

LONGEST = 80


@pytest.mark.one_python
def test_no_name_of_a_test_is_longer_than_a_line() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if node.name.startswith("test_") and len(node.name) > LONGEST
    ]
    assert long == []
