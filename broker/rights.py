"""Which role may ask which operation. What is not in this table is not allowed."""

from __future__ import annotations

import enum

from common.protocol.envelope import Operation


class Standing(enum.Enum):
    """What a key on the list of members is admitted as."""

    WORKER = "worker"
    CLIENT = "client"
    ADMIN = "admin"  # a client that may also change which devices the cluster has
    INVITED_WORKER = "invited worker"  # holds an invite that it may trade for a place as a worker
    INVITED_CLIENT = "invited client"
    INVITED_ADMIN = "invited admin"
    BROKER = "broker"  # another broker of this cluster
    INVITED_BROKER = "invited broker"
    REVOKED = "revoked"  # was a member; kept on the list, so that no older list brings it back


WORKER_SIDE = frozenset({Standing.WORKER, Standing.INVITED_WORKER})  # may connect to the workers' port
CLIENT_SIDE = frozenset(  # may connect to the clients' port
    {
        Standing.CLIENT,
        Standing.ADMIN,
        Standing.BROKER,
        Standing.INVITED_CLIENT,
        Standing.INVITED_ADMIN,
        Standing.INVITED_BROKER,
    }
)
INVITED = frozenset(  # holds an unused or used invite, and is nobody's permanent key
    {Standing.INVITED_WORKER, Standing.INVITED_CLIENT, Standing.INVITED_ADMIN, Standing.INVITED_BROKER}
)

FORWARDED = frozenset(
    {
        Operation.OPEN,
        Operation.APPEND,
        Operation.COMMIT,
        Operation.STORE,
        Operation.ABANDON,
        Operation.FETCH,
        Operation.DESCRIBE,
        Operation.PROGRESS,
        Operation.DELETE,
        Operation.UNDELETE,
        Operation.AMEND,
    }
)

DEPOSIT = frozenset(  # what a client may ask that showed a vault's deposit token only
    {
        Operation.HELLO,
        Operation.STATUS,
        Operation.PLACES,
        Operation.OPEN,
        Operation.APPEND,
        Operation.COMMIT,
        Operation.STORE,
        Operation.ABANDON,
        Operation.BROKERS,
    }
)

_CLIENT = FORWARDED | {
    Operation.HELLO,
    Operation.STATUS,
    Operation.PLACES,
    Operation.LOCATE,
    Operation.LIST,
    Operation.HEALTH,
    Operation.MEND,
    Operation.COMPLAIN,
    Operation.TRASH,
    Operation.BROKERS,
    Operation.RETIRE_OWNER,
}

_RIGHTS: dict[Standing, frozenset[Operation]] = {
    Standing.INVITED_WORKER: frozenset({Operation.JOIN}),
    Standing.INVITED_CLIENT: frozenset({Operation.JOIN}),
    Standing.INVITED_ADMIN: frozenset({Operation.JOIN}),
    Standing.INVITED_BROKER: frozenset({Operation.JOIN}),
    Standing.BROKER: frozenset({Operation.SYNC}),
    Standing.REVOKED: frozenset(),
    Standing.WORKER: frozenset(
        {
            Operation.REGISTER,
            Operation.ANNOUNCE,
            Operation.REPORT,
            Operation.WITHDRAW,
            Operation.BURY,
            Operation.BROKERS,
        }
    ),
    Standing.CLIENT: _CLIENT,
    Standing.ADMIN: _CLIENT | {Operation.RETIRE, Operation.REBALANCE},
}


def may(standing: Standing, operation: Operation) -> bool:
    return operation in _RIGHTS[standing]
