"""The table of operations: who may ask whom, with which messages, and how long the answer is waited for.

Rights, requests, handlers and the limits of payloads follow from it; the tables in docs/protocol.md are tested against
it. A new operation is a number in `envelope`, its messages, a line here, and a handler where it is asked.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from common.protocol import device_messages as d
from common.protocol import messages as m
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Operation
from common.protocol.messages import Acknowledged, Empty, Message, ReplyHeader

H = TypeVar("H", bound=Message)
R = TypeVar("R", bound=ReplyHeader)


class Role(enum.Enum):
    """What a machine is in its cluster."""

    WORKER = "worker"
    CLIENT = "client"
    ADD_ONLY = "add-only"  # a client that stores and restores, and can neither delete nor change what is stored
    ADMIN = "admin"  # a client that may also change which devices the cluster has
    BROKER = "broker"


_WORKER = frozenset({Role.WORKER})
_CLIENT = frozenset({Role.CLIENT, Role.ADD_ONLY, Role.ADMIN})
_CHANGING = _CLIENT - {Role.ADD_ONLY}
_ADMIN = frozenset({Role.ADMIN})
_BROKER = frozenset({Role.BROKER})
_NOBODY: frozenset[Role] = frozenset()


class Of(enum.Enum):
    """Who is asked."""

    BROKER = "the broker"
    DEVICE = "a worker, through the broker"


@dataclass(frozen=True)
class Spec(Generic[H, R]):
    """One operation. A request has a header of type `header`, and gets one of type `reply`, or Acknowledged."""

    number: Operation
    header: type[H]
    reply: type[R]
    roles: frozenset[Role]  # who may ask
    of: Of = Of.BROKER
    by_invited: bool = False  # who has not joined yet may ask
    by_steward: bool = False  # the broker's steward asks it
    first: bool = False  # it may come before HELLO or REGISTER
    vault: bool = False  # only in a session that speaks for a vault
    deposit: bool = False  # also in one that only stores for a vault
    replaced: bool = False  # also with a vault key that was replaced, of who comes to take back what was given away
    payload: int = 0  # most bytes of the request's
    reply_payload: int = 0  # most bytes of the reply's; both together are at most MAX_PAYLOAD
    timeout: float = 30.0  # seconds in all, those after answers "busy" included


def _of_device(
    number: Operation,
    header: type[H],
    reply: type[R],
    roles: frozenset[Role] = _CLIENT,
    *,
    by_steward: bool = False,
    deposit: bool = False,
    replaced: bool = False,
    payload: int = 0,
    reply_payload: int = 0,
    timeout: float = 20.0,
) -> Spec[H, R]:
    return Spec(
        number,
        header,
        reply,
        roles,
        Of.DEVICE,
        by_steward=by_steward,
        vault=True,
        deposit=deposit,
        replaced=replaced,
        payload=payload,
        reply_payload=reply_payload,
        timeout=timeout,
    )


_MAX = MAX_PAYLOAD
_ROUND = 60.0  # seconds; a round of fsyncs on a slow disk
_REMARK = 3.0  # seconds; nothing depends on the answer
# fmt: off
JOIN           = Spec(Operation.JOIN, m.Join, m.Joined, _NOBODY, by_invited=True, first=True)

HELLO          = Spec(Operation.HELLO, m.Hello, m.Welcome, _CLIENT, first=True, deposit=True, replaced=True)
BROKERS        = Spec(Operation.BROKERS, Empty, m.Brokers, _CLIENT | _WORKER, deposit=True, reply_payload=_MAX,
                      replaced=True)
STATUS         = Spec(Operation.STATUS, Empty, m.Status, _CLIENT, deposit=True, reply_payload=_MAX, replaced=True)
HEALTH         = Spec(Operation.HEALTH, Empty, m.Health, _CLIENT, reply_payload=_MAX, replaced=True)
PLACES         = Spec(Operation.PLACES, m.Places, m.Placed, _CLIENT, vault=True, deposit=True,
                      payload=_MAX, reply_payload=_MAX)
APPEND_SEGMENT = Spec(Operation.APPEND_SEGMENT, m.AppendSegment, Acknowledged, _CLIENT, vault=True, deposit=True,
                      payload=_MAX)
STORE_SEGMENTS = Spec(Operation.STORE_SEGMENTS, m.StoreSegments, Acknowledged, _CLIENT, vault=True, deposit=True,
                      payload=_MAX)
LOCATE         = Spec(Operation.LOCATE, m.Locate, m.Holdings, _CLIENT, vault=True, payload=_MAX, reply_payload=_MAX,
                      replaced=True)
LIST           = Spec(Operation.LIST, m.ListObjects, m.Holdings, _CLIENT, vault=True, reply_payload=_MAX, replaced=True)
CHANGES        = Spec(Operation.CHANGES, m.ListChanges, m.Changes, _CLIENT, vault=True, reply_payload=_MAX,
                      replaced=True)
TRASH          = Spec(Operation.TRASH, m.ListTrash, m.TrashList, _CLIENT, vault=True, reply_payload=_MAX, replaced=True)
REPAIR         = Spec(Operation.REPAIR, m.RepairNow, Acknowledged, _CLIENT, vault=True, payload=_MAX, replaced=True)
REPORT_BAD     = Spec(Operation.REPORT_BAD, m.ReportBad, Acknowledged, _CLIENT, vault=True, payload=_MAX,
                      timeout=_REMARK, replaced=True)
RETIRE_OWNER   = Spec(Operation.RETIRE_OWNER, Empty, Acknowledged, _CHANGING, vault=True, replaced=True)
RETIRE         = Spec(Operation.RETIRE, m.Retire, Acknowledged, _ADMIN)
REBALANCE      = Spec(Operation.REBALANCE, Empty, Acknowledged, _ADMIN)

REGISTER       = Spec(Operation.REGISTER, m.Register, m.Registered, _WORKER, first=True)
ANNOUNCE       = Spec(Operation.ANNOUNCE, m.Announce, Acknowledged, _WORKER, payload=_MAX)
REPORT         = Spec(Operation.REPORT, m.Report, Acknowledged, _WORKER)
WITHDRAW       = Spec(Operation.WITHDRAW, m.Withdraw, Acknowledged, _WORKER, payload=_MAX)
REPORT_DELETED = Spec(Operation.REPORT_DELETED, m.ReportDeleted, Acknowledged, _WORKER, payload=_MAX)

SYNC           = Spec(Operation.SYNC, m.Sync, Acknowledged, _BROKER, first=True, payload=_MAX)

OPEN           = _of_device(Operation.OPEN, d.Open, Acknowledged, by_steward=True, deposit=True)
APPEND         = _of_device(Operation.APPEND, d.Append, Acknowledged, by_steward=True, deposit=True, payload=_MAX)
COMMIT         = _of_device(Operation.COMMIT, d.Commit, Acknowledged, by_steward=True, deposit=True, payload=_MAX,
                            timeout=_ROUND)
STORE          = _of_device(Operation.STORE, d.Store, d.Stored, deposit=True, payload=_MAX, timeout=_ROUND)
ABANDON        = _of_device(Operation.ABANDON, d.ShareName, Acknowledged, by_steward=True, deposit=True, timeout=3.0)
FETCH          = _of_device(Operation.FETCH, d.Fetch, d.Fetched, by_steward=True, reply_payload=_MAX, replaced=True)
DESCRIBE       = _of_device(Operation.DESCRIBE, d.Describe, d.Described, reply_payload=_MAX, replaced=True)
PROGRESS       = _of_device(Operation.PROGRESS, d.ShareName, d.Progress, by_steward=True, reply_payload=_MAX)
DELETE         = _of_device(Operation.DELETE, m.Tombstone, Acknowledged, _CHANGING, by_steward=True)
UNDELETE       = _of_device(Operation.UNDELETE, m.Tombstone, Acknowledged, _CHANGING, by_steward=True, replaced=True)
AMEND          = _of_device(Operation.AMEND, d.Amend, Acknowledged, _CHANGING, by_steward=True, payload=_MAX,
                            replaced=True)
SUPERSEDED     = _of_device(Operation.SUPERSEDED, d.ListSuperseded, d.SupersededList, _CHANGING, replaced=True,
                            reply_payload=_MAX)
APPROVERS      = _of_device(Operation.APPROVERS, Empty, m.KnownApprovers)
NAME_APPROVERS = _of_device(Operation.NAME_APPROVERS, m.ApproverList, Acknowledged, _CHANGING)
EMPTY          = _of_device(Operation.EMPTY, m.EmptyTrash, m.Emptied, _CHANGING, payload=_MAX, timeout=_ROUND)

INSPECT        = _of_device(Operation.INSPECT, d.Inspect, Acknowledged, _NOBODY, by_steward=True, reply_payload=_MAX)
CHECK          = _of_device(Operation.CHECK, d.ShareName, Acknowledged, _NOBODY, by_steward=True)
DISCARD        = _of_device(Operation.DISCARD, d.ShareName, Acknowledged, _NOBODY, by_steward=True)
# fmt: on

# PROBE is not in it: nobody asks it.
OPERATIONS: Mapping[Operation, Spec[Any, Any]] = {
    spec.number: spec for spec in list(globals().values()) if isinstance(spec, Spec)
}
