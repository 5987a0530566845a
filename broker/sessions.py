"""Sessions, and messages to them: one connection of one key, and what the broker itself says to it.

What is passed on, and who may say what, is the switchboard's part.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Optional

from common.protocol.codec import pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import BROKER, device_id
from common.protocol.messages import Acknowledged, Answer, Code, Empty

_EMPTY_HEADER = pack_header(Empty())


class Side(enum.Enum):
    CLIENTS = "clients"
    WORKERS = "workers"


@dataclass
class Session:
    """One connection of one key."""

    side: Side
    routing_id: bytes
    public_key: bytes
    session_id: bytes
    owner: Optional[bytes] = None  # of a client that speaks for a vault
    depositor: Optional[bytes] = None  # as whom it stores for that vault, and may not read
    takes_back: bool = False  # also as an owner whose key was replaced
    greeted: bool = False
    probed: float = 0.0
    device: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.device = device_id(self.public_key)

    @property
    def vault(self) -> bytes:
        """The owner, of a session that has one; else empty, which is nobody's."""
        return self.owner or b""

    @property
    def payer(self) -> bytes:
        """Whom what it stores counts for."""
        return self.depositor or self.vault


@dataclass(frozen=True)
class Outgoing:
    """A message to send; `payload` is whatever buffer or frame it came as."""

    session: Session
    envelope: Envelope
    header: bytes
    payload: Any = None


def refuse(session: Session, envelope: Envelope, code: Code, text: str = "") -> Outgoing:
    """The answer no. An Acknowledged reads as any reply: what follows the answer has defaults."""
    reply = envelope._replace(kind=Kind.REPLY, owner=BROKER, credit=0)
    return Outgoing(session, reply, pack_header(Acknowledged(Answer(code, text))))


def farewell(session: Session) -> Outgoing:
    refusal = Acknowledged(Answer(Code.NOT_ALLOWED, "it is no longer a member"))
    return Outgoing(session, Envelope(Kind.REPLY, Operation.PROBE, BROKER), pack_header(refusal))


def probe(session: Session) -> Outgoing:
    return Outgoing(session, Envelope(Kind.PROBE, Operation.PROBE, BROKER), _EMPTY_HEADER)
