"""Rights: the whole table of role × operation, spelled out; what is not in it is not allowed."""

from __future__ import annotations

import pytest

from broker.rights import CLIENT_SIDE, DEPOSIT, FORWARDED, WORKER_SIDE, Standing, may
from common.protocol.envelope import Operation

Y, N = True, False
TABLE = {
    #                     worker client broker invited worker / client / broker
    Operation.JOIN:      (N,     N,     N,     Y,     Y,     Y),
    Operation.HELLO:     (N,     Y,     N,     N,     N,     N),
    Operation.STATUS:    (N,     Y,     N,     N,     N,     N),
    Operation.PLACES:    (N,     Y,     N,     N,     N,     N),
    Operation.LOCATE:    (N,     Y,     N,     N,     N,     N),
    Operation.LIST:      (N,     Y,     N,     N,     N,     N),
    Operation.HEALTH:    (N,     Y,     N,     N,     N,     N),
    Operation.MEND:      (N,     Y,     N,     N,     N,     N),
    Operation.COMPLAIN:  (N,     Y,     N,     N,     N,     N),
    Operation.RETIRE:    (N,     Y,     N,     N,     N,     N),
    Operation.REBALANCE: (N,     Y,     N,     N,     N,     N),
    Operation.REGISTER:  (Y,     N,     N,     N,     N,     N),
    Operation.ANNOUNCE:  (Y,     N,     N,     N,     N,     N),
    Operation.REPORT:    (Y,     N,     N,     N,     N,     N),
    Operation.WITHDRAW:  (Y,     N,     N,     N,     N,     N),
    Operation.BURY:      (Y,     N,     N,     N,     N,     N),
    Operation.OPEN:      (N,     Y,     N,     N,     N,     N),
    Operation.APPEND:    (N,     Y,     N,     N,     N,     N),
    Operation.COMMIT:    (N,     Y,     N,     N,     N,     N),
    Operation.STORE:     (N,     Y,     N,     N,     N,     N),
    Operation.ABANDON:   (N,     Y,     N,     N,     N,     N),
    Operation.FETCH:     (N,     Y,     N,     N,     N,     N),
    Operation.DESCRIBE:  (N,     Y,     N,     N,     N,     N),
    Operation.PROGRESS:  (N,     Y,     N,     N,     N,     N),
    Operation.DELETE:    (N,     Y,     N,     N,     N,     N),
    Operation.UNDELETE:  (N,     Y,     N,     N,     N,     N),
    Operation.PROBE:     (N,     N,     N,     N,     N,     N),
    Operation.AMEND:     (N,     Y,     N,     N,     N,     N),
    Operation.RETIRE_OWNER: (N,  Y,     N,     N,     N,     N),
    Operation.TRASH:     (N,     Y,     N,     N,     N,     N),
    Operation.BROKERS:   (Y,     Y,     N,     N,     N,     N),
    Operation.SYNC:      (N,     N,     Y,     N,     N,     N),
    Operation.INSPECT:   (N,     N,     N,     N,     N,     N),
    Operation.CHECK:     (N,     N,     N,     N,     N,     N),
    Operation.DISCARD:   (N,     N,     N,     N,     N,     N),
}  # fmt: skip
STANDINGS = (
    Standing.WORKER,
    Standing.CLIENT,
    Standing.BROKER,
    Standing.INVITED_WORKER,
    Standing.INVITED_CLIENT,
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
    assert {operation for operation in Operation if 30 <= operation < 40} | {Operation.AMEND} == FORWARDED


@pytest.mark.parametrize(
    "operation",
    {
        Operation.LOCATE, Operation.LIST, Operation.FETCH, Operation.DESCRIBE, Operation.DELETE, Operation.UNDELETE,
        Operation.AMEND, Operation.TRASH, Operation.RETIRE_OWNER, Operation.RETIRE, Operation.REBALANCE, Operation.MEND,
        Operation.COMPLAIN, Operation.HEALTH,
    },
)  # fmt: skip
def test_a_deposit_neither_reads_nor_changes_what_is_stored(operation: Operation) -> None:
    assert operation not in DEPOSIT
    assert all(may(Standing.CLIENT, allowed) for allowed in DEPOSIT)


def test_every_role_has_one_port() -> None:
    assert {Standing.WORKER, Standing.INVITED_WORKER} == WORKER_SIDE
    others = {Standing.BROKER, Standing.INVITED_BROKER}
    assert {Standing.CLIENT, Standing.INVITED_CLIENT} | others == CLIENT_SIDE
