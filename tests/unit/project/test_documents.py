"""Documents: links lead somewhere, paths that they name are there, tables are whole, exit codes are the programs'."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from common import errors
from common.process.program import INTERRUPTED
from tests import ROOT

DOCUMENTS = sorted(
    path for path in ROOT.glob("**/*.md") if not any(part[0] == "." for part in path.relative_to(ROOT).parts)
)
PACKAGES = sorted(
    path.parent
    for path in ROOT.glob("[!.]*/**/__init__.py")
    if path.relative_to(ROOT).parts[0] not in ("tests", "bench")
)
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_TABLE = re.compile(r"(?:^\|[^\n]*(?:\n|\Z))+", re.MULTILINE)
_CELL_END = re.compile(r"(?<!\\)\|")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_FIRSTS = re.compile(r"^ *([a-z_]+(?:, [a-z_]+)*)", re.MULTILINE)
# A module of the checkout, perhaps with a name in it, as opposed to a file or a host, by its first and its last part.
_DOTTED = re.compile(r"(?<![\w/.-])[a-z_]+(?:\.[A-Za-z_]+)+(?![\w/])")
_NO_NAME = {"py", "json", "jsonl", "key", "lock", "lan", "log"}
# A path of the checkout, as opposed to one below TESSERA_HOME (`broker/audit.jsonl`), by its first folder and its end.
_PATH = re.compile(r"[A-Za-z0-9_.-]+/(?:[A-Za-z0-9_.-]+/)*(?:[A-Za-z0-9_-]+(?:\.py|\.sh|\.md|\.toml)?)?")


def prose(document: Path) -> str:
    """A document without its listings."""
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """The anchors that headings get: as GitHub makes them, https://github.com/gjtorikian/html-pipeline."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(document)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(name for name in (anchor, *(f"{anchor}-{n}" for n in range(1, 99))) if name not in found))
    return found


@functools.cache
def checkout() -> frozenset[str]:
    """Every file and folder of the checkout, but what is hidden or made by running it."""
    found = (path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/*") if "__pycache__" not in path.parts)
    return frozenset(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):  # another site's
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_is_in_the_checkout(document: Path) -> None:
    folders = {path.name for path in ROOT.glob("[!.]*") if path.is_dir()}
    missing = []
    for code in _CODE.findall(prose(document)):
        for word in code.split():
            if (
                word.split("/")[0] in folders
                and _PATH.fullmatch(word)
                and word.rstrip("/") not in (checkout() | folders)
            ):
                missing.append(word)
    assert not missing


def is_in_the_code(dotted: str) -> bool:
    """Whether it is a package or a module of the checkout, or a name that occurs in one."""
    package, *names = dotted.split(".")
    path = ROOT / package
    while names and (path / names[0]).is_dir():
        path /= names.pop(0)
    if not names:
        return True
    module = path / f"{names[0]}.py"
    return module.exists() and all(re.search(rf"\b{name}\b", module.read_text("utf-8")) for name in names[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_document_names_is_in_the_checkout(document: Path) -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    named = [
        dotted
        for code in _CODE.findall(prose(document))
        for dotted in _DOTTED.findall(code)
        if dotted.split(".")[0] in packages and dotted.split(".")[-1] not in _NO_NAME
    ]
    assert [dotted for dotted in named if not is_in_the_code(dotted)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_table_of_a_document_has_a_head_and_rows_as_wide(document: Path) -> None:
    for table in _TABLE.findall(prose(document)):
        head, *rows = table.splitlines()
        assert rows and re.fullmatch(r"\|(:?-+:?\|)+", rows[0]), f"cut off by a blank line: {head}"
        wrong = [row for row in rows if len(_CELL_END.findall(row)) != len(_CELL_END.findall(head))]
        assert not wrong


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_of_a_package_that_names_modules_names_them_all(package: Path) -> None:
    """In backticks, or at the beginning of a line. A page of one line names none."""
    page = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    firsts = [word for line in _FIRSTS.findall(page) for word in line.split(", ")]
    named = {*re.findall(r"`([a-z_]+)`", page), *firsts, "__init__", "__main__", package.name}
    missing = [path.stem for path in package.glob("*.py") if path.stem not in named]
    assert not missing or "\n" not in page


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_table_of_exit_codes_has_those_of_the_programs_and_no_other() -> None:
    section = prose(ROOT / "docs" / "operations.md").split("\n## Exit codes\n")[1].split("\n## ")[0]
    documented = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TesseraError)]
    assert documented == sorted({0, INTERRUPTED} | {kind.exit_code for kind in kinds})


def test_each_row_of_the_threat_model_names_its_test_or_says_why_there_is_none() -> None:
    model = ROOT / "docs" / "threat-model.md"
    without = []
    for table in _TABLE.findall(prose(model)):
        head, _, *rows = [[cell.strip() for cell in _CELL_END.split(line)[1:-1]] for line in table.splitlines()]
        for row in rows if head[-1] == "test" else ():
            names_one = any(name in checkout() for name in _CODE.findall(row[-1]))
            if not names_one and not re.match(r"none: .|the tests of those rows", row[-1]):
                without.append(row[0])
    assert not without
