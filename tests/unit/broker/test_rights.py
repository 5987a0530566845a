"""Rights: the whole table of role × operation, spelled out; what is not in it is not allowed."""

from __future__ import annotations

import re

import pytest

from broker.rights import CLIENT_SIDE, DEPOSIT, FORWARDED, INVITED, WORKER_SIDE, Standing, may
from common.protocol.envelope import Operation
from tests import ROOT

Y, N = True, False
TABLE = {
    #                     worker client add-only admin broker; invited worker / client / add-only / admin / broker
    Operation.JOIN:            (N,     N,     N,     N,     N,     Y,     Y,     Y,     Y,     Y),
    Operation.HELLO:           (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.STATUS:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.PLACES:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.APPEND_SEGMENT:  (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.STORE_SEGMENTS:  (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.LOCATE:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.LIST:            (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.CHANGES:         (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.HEALTH:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.REPAIR:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.REPORT_BAD:      (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.RETIRE:          (N,     N,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.REBALANCE:       (N,     N,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.REGISTER:        (Y,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.ANNOUNCE:        (Y,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.REPORT:          (Y,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.WITHDRAW:        (Y,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.REPORT_DELETED:  (Y,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.OPEN:            (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.APPEND:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.COMMIT:          (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.STORE:           (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.ABANDON:         (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.FETCH:           (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.DESCRIBE:        (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.PROGRESS:        (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.DELETE:          (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.UNDELETE:        (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.PROBE:           (N,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.AMEND:           (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.SUPERSEDED:      (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.APPROVERS:       (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.NAME_APPROVERS:  (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.EMPTY:           (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.RETIRE_OWNER:    (N,     Y,     N,     Y,     N,     N,     N,     N,     N,     N),
    Operation.TRASH:           (N,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.BROKERS:         (Y,     Y,     Y,     Y,     N,     N,     N,     N,     N,     N),
    Operation.SYNC:            (N,     N,     N,     N,     Y,     N,     N,     N,     N,     N),
    Operation.INSPECT:         (N,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.CHECK:           (N,     N,     N,     N,     N,     N,     N,     N,     N,     N),
    Operation.DISCARD:         (N,     N,     N,     N,     N,     N,     N,     N,     N,     N),
}  # fmt: skip
STANDINGS = (
    Standing.WORKER,
    Standing.CLIENT,
    Standing.ADD_ONLY,
    Standing.ADMIN,
    Standing.BROKER,
    Standing.INVITED_WORKER,
    Standing.INVITED_CLIENT,
    Standing.INVITED_ADD_ONLY,
    Standing.INVITED_ADMIN,
    Standing.INVITED_BROKER,
)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("standing", STANDINGS)
def test_each_role_may_ask_what_the_table_says(standing: Standing, operation: Operation) -> None:
    assert may(standing, operation) is TABLE[operation][STANDINGS.index(standing)]


@pytest.mark.parametrize("operation", Operation)
def test_whoever_is_revoked_may_nothing(operation: Operation) -> None:
    assert {*STANDINGS, Standing.REVOKED} == set(Standing)
    assert not may(Standing.REVOKED, operation)
    assert Standing.REVOKED not in WORKER_SIDE | CLIENT_SIDE


def test_what_is_meant_for_a_device_is_what_only_clients_ask_of_workers() -> None:
    asked = {operation for operation in Operation if 30 <= operation < 40 or 44 <= operation < 48}
    assert asked | {Operation.AMEND} == FORWARDED


@pytest.mark.parametrize(
    "operation",
    {
        Operation.LOCATE, Operation.LIST, Operation.FETCH, Operation.DESCRIBE, Operation.DELETE, Operation.UNDELETE,
        Operation.AMEND, Operation.SUPERSEDED, Operation.TRASH, Operation.RETIRE_OWNER, Operation.RETIRE,
        Operation.REBALANCE, Operation.REPAIR, Operation.REPORT_BAD, Operation.HEALTH,
        Operation.APPROVERS, Operation.NAME_APPROVERS, Operation.EMPTY,
    },
)  # fmt: skip
def test_a_deposit_neither_reads_nor_changes_what_is_stored(operation: Operation) -> None:
    assert operation not in DEPOSIT
    assert all(may(Standing.CLIENT, allowed) for allowed in DEPOSIT)


def test_every_role_has_one_port() -> None:
    assert {Standing.WORKER, Standing.INVITED_WORKER} == WORKER_SIDE
    assert set(STANDINGS) - WORKER_SIDE == CLIENT_SIDE


def test_an_invite_is_good_for_joining_only() -> None:
    for standing in INVITED:
        assert [operation for operation in Operation if may(standing, operation)] == [Operation.JOIN]


def test_the_protocols_page_says_the_same_of_every_standing_and_operation() -> None:
    rights = documented_rights()
    assert set(rights) == set(Standing)
    for standing in Standing:
        for operation in Operation:
            assert (operation.name in rights[standing]) is may(standing, operation), (standing, operation)


def documented_rights() -> dict[Standing, set[str]]:
    """The table below "Who may speak" in docs/protocol.md."""
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rights: dict[Standing, set[str]] = {}
    for standings, operations in re.findall(r"^\| ([a-z ,-]+) \| (.+) \|$", _section(page), flags=re.MULTILINE):
        if standings != "standing":
            for name in standings.split(", "):
                rights[Standing(name)] = set(re.findall(r"\b[A-Z_]{3,}\b", operations))
    rights[Standing.ADD_ONLY] = rights[Standing.CLIENT] - rights[Standing.ADD_ONLY]  # "what a client may, but not"
    rights[Standing.ADMIN] |= rights[Standing.CLIENT]  # "what a client may, and"
    return rights


def _section(page: str) -> str:
    return page.split("## Who may speak", 1)[1].split("\n## ", 1)[0]
