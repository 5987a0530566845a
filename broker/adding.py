"""Whether what an add-only client commits only adds: it could otherwise change by COMMIT what it may not by AMEND.

Of two commitments of an encoding the higher generation holds, then more transfers, then the higher revision
([decision 24](../docs/decisions/0024-signed-commitments.md)), and the steward brings it to every device. A first
revision that nobody passed on outranks none. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.errors import ProtocolError
from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import SignedCommitment, Store
from common.protocol.envelope import Operation

_FIRST = 0, 1  # generation and revision


def only_adds(operation: Operation, frames: Sequence[memoryview], deposits: bool) -> bool:
    """Whether a request can replace nothing that devices have; False of what cannot be read, too.

    frames: envelope, header, payload. deposits: the client leaves it for a vault, to which it passes it on at once.
    """
    try:
        signed = list(_committed(operation, frames))
    except ProtocolError:
        return False
    return all(
        (each.commitment.generation, each.commitment.revision) == _FIRST
        and len(each.commitment.transfers) <= int(deposits)
        for each in signed
    )


def _committed(operation: Operation, frames: Sequence[memoryview]) -> Iterator[SignedCommitment]:
    """What a request commits; ProtocolError where it has not the shape of its operation."""
    payload = frames[2] if len(frames) == 3 else memoryview(b"")
    if operation is Operation.COMMIT:
        yield unpack(payload, SignedCommitment)
    elif operation is Operation.STORE:
        for _, _, packed in unpack_header(frames[1], Store).parts(payload):
            yield unpack(packed, SignedCommitment)
