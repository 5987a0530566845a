"""The table of operations: whole, free of contradictions, and what docs/protocol.md says."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Operation
from common.protocol.messages import ReplyHeader
from common.protocol.operations import OPERATIONS, REPORT_BAD, Of, Spec
from tests import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| ([A-Z_]+) \|(.*)\|$", re.MULTILINE)


def section(begin: str, end: str) -> dict[str, list[str]]:
    """The rows of operations between two lines of the page: name → number, then the other cells."""
    between = PAGE.split(f"\n{begin}", 1)[1].split(f"\n{end}", 1)[0]
    return {row[2]: [row[1], *(cell.strip() for cell in row[3].split("|"))] for row in ROW.finditer(between)}


OF_BROKER = section("### Asked of the broker", "### Asked of a worker")
OF_WORKER = section("### Asked of a worker", "and by a broker's steward only")
OF_STEWARD = section("and by a broker's steward only", "### 40 PROBE")
DOCUMENTED = {**OF_BROKER, **OF_WORKER, **OF_STEWARD}
SPECS = [pytest.param(spec, id=number.name) for number, spec in OPERATIONS.items()]


def fields(cell: str) -> int:
    """How many fields a cell of the page names: what is in brackets, or behind a colon, tells of one of them."""
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", "", cell).split(":", 1)[0].strip()
    return 0 if bare in ("–", "") else len(bare.split(","))


def test_every_operation_is_in_the_table_but_what_nobody_asks() -> None:
    assert set(OPERATIONS) == set(Operation) - {Operation.PROBE}


@pytest.mark.parametrize("spec", SPECS)
def test_somebody_may_ask_it_and_what_it_says_of_whom_and_when_fits_together(spec: Spec[Any, Any]) -> None:
    assert spec.roles or spec.by_invited or spec.by_steward
    assert issubclass(spec.reply, ReplyHeader)
    assert 0 <= spec.payload <= MAX_PAYLOAD and 0 <= spec.reply_payload <= MAX_PAYLOAD
    if spec.of is Of.DEVICE:
        assert spec.vault and not spec.first
    else:
        assert not spec.by_steward
    assert not (spec.first and spec.vault)


@pytest.mark.parametrize("spec", SPECS)
def test_the_page_has_it_where_it_is_asked_with_its_fields_payloads_and_timeout(spec: Spec[Any, Any]) -> None:
    name = spec.number.name
    places = [OF_BROKER if spec.of is Of.BROKER else OF_WORKER if spec.roles else OF_STEWARD]
    assert [table for table in (OF_BROKER, OF_WORKER, OF_STEWARD) if name in table] == places
    number, header, payload, reply, reply_payload, *timeout = DOCUMENTED[name]
    assert int(number) == spec.number
    assert fields(header) == len(msgspec.structs.fields(spec.header))
    assert fields(reply) == len(msgspec.structs.fields(spec.reply))
    assert bool(payload) is (spec.payload > 0)
    assert bool(reply_payload) is (spec.reply_payload > 0)
    if timeout:
        assert timeout == [f"{spec.timeout:g} s"]


def test_the_page_says_the_timeout_of_what_is_asked_of_the_broker() -> None:
    others = {spec.timeout for spec in OPERATIONS.values() if spec.of is Of.BROKER and spec is not REPORT_BAD}
    (timeout,) = others
    assert f"timeout is {timeout:g} s, that of REPORT_BAD {REPORT_BAD.timeout:g} s" in PAGE
    assert DOCUMENTED.keys() == {number.name for number in OPERATIONS}


def test_the_page_says_what_the_steward_asks_and_what_a_deposit_may() -> None:
    flat = " ".join(PAGE.split())
    also = re.search(r"which also uses ([A-Z, and]+?)[.:]", flat)
    assert also is not None
    named = set(re.findall(r"[A-Z]{3,}", also[1]))
    assert named == {n.name for n, spec in OPERATIONS.items() if spec.by_steward and spec.roles}
    deposits = re.search(r"stores for that vault, and may ask ([A-Z_, and]+?) only", flat)
    assert deposits is not None
    may = {n.name for n, spec in OPERATIONS.items() if spec.deposit} - {"HELLO"}  # with which it said so
    assert set(re.findall(r"[A-Z_]{3,}", deposits[1])) == may
