"""How types are written: as Python 3.9 reads them at run time too, where msgspec and typer do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

MODULES = sorted(path for folder in ROOT.glob("[!.]*") if folder.is_dir() for path in folder.rglob("*.py"))


def annotated(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns


def unions(path: Path) -> list[int]:
    """The lines of a module where an annotation has a |."""
    source = path.read_text(encoding="utf-8")
    if " | " not in source:
        return []
    inside = (node for annotation in annotated(ast.parse(source)) for node in ast.walk(annotation))
    return [node.lineno for node in inside if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in MODULES}))
def test_types_are_written_with_optional_and_union(folder: str) -> None:
    found = {str(path): unions(path) for path in MODULES if path.relative_to(ROOT).parts[0] == folder}
    assert {path: lines for path, lines in found.items() if lines} == {}
