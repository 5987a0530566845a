"""The first frame of every message: all that the broker reads of what it forwards.

    offset  size
    0       4     magic and version, "TSR1"
    4       1     kind: 1 request, 2 reply, 3 probe (asks nothing, is not answered)
    5       1     operation
    6       2     members: among how many the broker shares a device's room; zero but towards a worker
    8       4     credit: bytes of payload that request and reply may have together, big-endian
    12      16    peer: on the way in the device (or zeros, the broker) it is for, on the way out where it comes from
    28      16    request id, chosen by the requester, repeated in the reply
    44      16    owner: zeros from a client; set by the broker towards a worker
    60      16    account: whom what is stored counts for, see `identifiers`; only from a broker, where it is known

A worker sees as its peer the session id that the broker gave to the client's connection, and answers to that; nobody
ever sees a routing id.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple, Union

from common.errors import ProtocolError
from common.protocol.identifiers import BROKER, IDENTIFIER_SIZE, NO_ACCOUNT, NO_OWNER

_LAYOUT = struct.Struct(">4sBBHI16s16s16s")
_MAGIC = b"TSR1"
ENVELOPE_SIZE = _LAYOUT.size
MAX_MEMBERS = 2**16 - 1


class Kind(enum.IntEnum):
    REQUEST = 1
    REPLY = 2
    PROBE = 3


class Operation(enum.IntEnum):
    # asked of the broker by an invited peer
    JOIN = 1
    # asked of the broker by a client
    HELLO = 10
    STATUS = 11
    PLACES = 12
    LOCATE = 13
    LIST = 14
    HEALTH = 15
    REPAIR = 16
    REPORT_BAD = 17
    RETIRE = 18
    REBALANCE = 19
    # asked of the broker by a worker
    REGISTER = 20
    ANNOUNCE = 21
    REPORT = 22
    WITHDRAW = 23
    REPORT_DELETED = 24
    # asked of a worker by a client, through the broker
    OPEN = 30
    APPEND = 31
    COMMIT = 32
    STORE = 33
    ABANDON = 34
    FETCH = 35
    DESCRIBE = 36
    PROGRESS = 37
    DELETE = 38
    UNDELETE = 39
    # asked of nobody: the broker finds out whether a connection still stands
    PROBE = 40
    # asked of a worker by a client, through the broker
    AMEND = 41
    # asked of the broker by a client
    RETIRE_OWNER = 42
    # asked of a worker by a client, through the broker
    SUPERSEDED = 44
    APPROVERS = 45
    NAME_APPROVERS = 46
    EMPTY = 47
    # asked of the broker by a client
    TRASH = 50
    # and by workers, too
    BROKERS = 51
    # asked of a broker by another broker
    SYNC = 52
    # asked of the broker by a client
    CHANGES = 53
    APPEND_SEGMENT = 54
    STORE_SEGMENTS = 55
    # asked of a worker by the broker's steward, beside OPEN, APPEND, COMMIT, ABANDON, FETCH, PROGRESS, DELETE
    # and UNDELETE
    INSPECT = 60
    CHECK = 61
    DISCARD = 62


class Envelope(NamedTuple):
    kind: Kind
    operation: Operation
    request_id: bytes
    peer: bytes = BROKER
    credit: int = 0
    owner: bytes = NO_OWNER
    account: bytes = NO_ACCOUNT
    members: int = 0

    def encode(self) -> bytes:
        members = 0 if self.account == NO_ACCOUNT else self.members
        start = _LAYOUT.pack(
            _MAGIC, self.kind, self.operation, members, self.credit, self.peer, self.request_id, self.owner
        )
        return start if self.account == NO_ACCOUNT else start + self.account

    def reply(self) -> Envelope:
        """The envelope of the answer to this request, back to where it came from."""
        return Envelope(Kind.REPLY, self.operation, self.request_id, self.peer)


def decode_envelope(frame: Union[bytes, memoryview]) -> Envelope:
    """Read the first frame of a message; ProtocolError where it is not an envelope of this version."""
    if len(frame) not in (ENVELOPE_SIZE, ENVELOPE_SIZE + IDENTIFIER_SIZE):
        raise ProtocolError(f"an envelope has {ENVELOPE_SIZE} bytes, or an account behind them, this one {len(frame)}")
    magic, kind, operation, members, credit, peer, request_id, owner = _LAYOUT.unpack_from(frame)
    account = bytes(frame[ENVELOPE_SIZE:])
    if magic != _MAGIC or account == NO_ACCOUNT or bool(members) != bool(account):
        raise ProtocolError("this is no envelope of this protocol")
    try:
        named = Kind(kind), Operation(operation)
        return Envelope(*named, request_id, peer, credit, owner, account or NO_ACCOUNT, members)
    except ValueError as error:
        raise ProtocolError(f"unknown kind or operation in an envelope: {error}") from None
