"""Which role may ask which operation, by the table of operations. What is not in it is not allowed."""

from __future__ import annotations

import enum

from common.protocol.envelope import Operation
from common.protocol.operations import OPERATIONS, Of


class Standing(enum.Enum):
    """What a key on the list of members is admitted as."""

    WORKER = "worker"
    CLIENT = "client"
    ADD_ONLY = "add-only"  # a client that stores and restores, and can neither delete nor change what is stored
    ADMIN = "admin"  # a client that may also change which devices the cluster has
    INVITED_WORKER = "invited worker"  # holds an invite to become a worker
    INVITED_CLIENT = "invited client"
    INVITED_ADD_ONLY = "invited add-only"
    INVITED_ADMIN = "invited admin"
    BROKER = "broker"  # another broker of this cluster
    INVITED_BROKER = "invited broker"
    REVOKED = "revoked"  # was a member; kept on the list, so that no older list brings it back


WORKER_SIDE = frozenset({Standing.WORKER, Standing.INVITED_WORKER})  # may connect to the workers' port
CLIENT_SIDE = frozenset(  # may connect to the clients' port
    {
        Standing.CLIENT,
        Standing.ADD_ONLY,
        Standing.ADMIN,
        Standing.BROKER,
        Standing.INVITED_CLIENT,
        Standing.INVITED_ADD_ONLY,
        Standing.INVITED_ADMIN,
        Standing.INVITED_BROKER,
    }
)
INVITED = frozenset(  # holds an unused or used invite, and is nobody's permanent key
    {
        Standing.INVITED_WORKER,
        Standing.INVITED_CLIENT,
        Standing.INVITED_ADD_ONLY,
        Standing.INVITED_ADMIN,
        Standing.INVITED_BROKER,
    }
)

FORWARDED = frozenset(number for number, spec in OPERATIONS.items() if spec.of is Of.DEVICE and spec.roles)
DEPOSIT = frozenset(  # what a client may ask that stores for a vault and does not speak for it
    number for number, spec in OPERATIONS.items() if spec.deposit
)
REPLACED = frozenset(  # what may be asked with a vault key that was replaced, by who takes back
    number for number, spec in OPERATIONS.items() if spec.replaced
)
_RIGHTS: dict[Standing, frozenset[Operation]] = {
    standing: frozenset(
        number
        for number, spec in OPERATIONS.items()
        if (spec.by_invited if standing in INVITED else standing.value in {role.value for role in spec.roles})
    )
    for standing in Standing
}


def may(standing: Standing, operation: Operation) -> bool:
    return operation in _RIGHTS[standing]
