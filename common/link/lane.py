"""A lane: what the messages of one connection travel on, once CURVE has admitted its peer. Pure.

Over CURVE a peer asks, and the broker grants: a lane's id, a token that admits to it once, and what both derive the
keys from, one a direction. The peer then connects to the broker's port for lanes (PLAIN, with id and token), and each
frame there is sealed by AES-256-GCM. A message is

    head        counter (8) ‖ AES-GCM(previous (8) ‖ envelope's size (1) ‖ payload's size + 1, or 0 (4)
                                      ‖ envelope ‖ header)
    payload     AES-GCM(payload), where there is one

with the nonce: which of the two (4) ‖ counter (8). A sealed message that a full socket refused leaves a gap in the
counters, and no other may: `previous` is the counter of the message that was sent before, and the receiver has seen it
last, or somebody took a message out of the stream. So whatever was changed, repeated, swapped, left out or put in ends
the lane (ProtocolError), as CURVE's nonces (RFC 26) end a connection.

Keys: HKDF-SHA256 (RFC 5869) of 32 random bytes of each side, which only CURVE's ephemeral keys carried: what is
recorded today cannot be opened with any key that anybody has tomorrow.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import ProtocolError
from common.protocol.identifiers import IDENTIFIER_SIZE

MAX_MESSAGES = 1 << 28  # on one lane in one direction: at 4 MiB each 2^46 blocks, where GCM's bound is some 2^-36
SECRET_SIZE = 32  # bytes: a token, and what each side gives for the keys
_MAGIC = b"TSL1"
_ASK, _GRANT, _REFUSAL = 1, 2, 3
_KIND = struct.Struct(">4sB")
_GRANTED = struct.Struct(f">4sB{IDENTIFIER_SIZE}s{SECRET_SIZE}s{SECRET_SIZE}sH")
_COUNTER = struct.Struct(">Q")
_HEAD = struct.Struct(">QBI")
_NONCE = struct.Struct(">IQ")
_HEAD_PART, _PAYLOAD_PART = 0, 1


class Grant(NamedTuple):
    """What the broker grants over CURVE."""

    lane_id: bytes  # 16
    token: bytes  # 32
    secret: bytes  # 32, the broker's part of what the keys are made from
    port: int  # of the broker, for lanes

    def encode(self) -> bytes:
        return _GRANTED.pack(_MAGIC, _GRANT, *self)


REFUSAL = _KIND.pack(_MAGIC, _REFUSAL)  # this broker has no lanes, or no room for one: all stays with CURVE


def ask(secret: bytes) -> bytes:
    """The frame by which a peer asks for a lane. `secret`: its part (32 random bytes) of what the keys come from."""
    return _KIND.pack(_MAGIC, _ASK) + secret


def read_ask(frame: memoryview) -> Optional[bytes]:
    """The peer's part; None where the frame asks for no lane."""
    if frame.nbytes != _KIND.size + SECRET_SIZE or _KIND.unpack_from(frame) != (_MAGIC, _ASK):
        return None
    return bytes(frame[_KIND.size :])


def is_answer(frames: Sequence[memoryview]) -> bool:
    """Whether this answers who asked for a lane: a grant, or a refusal."""
    return len(frames) == 1 and bytes(frames[0][: len(_MAGIC)]) == _MAGIC


def read_grant(frame: memoryview) -> Optional[Grant]:
    """What is granted; None where it is refused."""
    if frame.nbytes != _GRANTED.size:
        return None
    magic, kind, *granted = _GRANTED.unpack(frame)
    return Grant(*granted) if (magic, kind) == (_MAGIC, _GRANT) else None


class Keys(NamedTuple):
    """Of one lane, 32 bytes each."""

    to_broker: bytes
    from_broker: bytes


def agree(asked: bytes, grant: Grant) -> Keys:
    """The keys that follow from what both sides gave."""
    derived = HKDF(SHA256(), 2 * SECRET_SIZE, salt=grant.lane_id, info=b"tessera lane 1").derive(asked + grant.secret)
    return Keys(derived[:SECRET_SIZE], derived[SECRET_SIZE:])


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_SIZE)


class Sealer:
    """Seals the messages of one direction. No counter serves twice, whether its message was sent or not."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0
        self._previous = 0

    @property
    def is_spent(self) -> bool:
        """Whether it is time for another lane."""
        return self._counter >= MAX_MESSAGES

    def seal(self, frames: Sequence[Any]) -> list[bytes]:
        """A message of envelope, header and perhaps payload, sealed; `sent` is to be called if it was.

        ProtocolError where the lane is spent.
        """
        if self.is_spent:
            raise ProtocolError("this lane has carried as many messages as its keys may seal")
        envelope, header, *payload = frames
        size = memoryview(payload[0]).nbytes + 1 if payload else 0
        self._counter += 1
        head = b"".join((_HEAD.pack(self._previous, len(envelope), size), envelope, header))
        counter = self._counter
        sealed = [_COUNTER.pack(counter) + self._cipher.encrypt(_NONCE.pack(_HEAD_PART, counter), head, None)]
        if payload:
            sealed.append(self._cipher.encrypt(_NONCE.pack(_PAYLOAD_PART, counter), payload[0], None))
        return sealed

    def sent(self) -> None:
        """What was sealed last is on its way."""
        self._previous = self._counter


class Opener:
    """Opens the messages of one direction, each once and in the order in which they were sent."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._last = 0

    def open(self, frames: Sequence[memoryview]) -> list[memoryview]:
        """Envelope, header and perhaps payload; ProtocolError where it is not what comes next, unchanged."""
        if len(frames) not in (1, 2) or frames[0].nbytes < _COUNTER.size:
            raise ProtocolError("this is no message of a lane")
        (counter,) = _COUNTER.unpack_from(frames[0])
        try:
            head = self._cipher.decrypt(_NONCE.pack(_HEAD_PART, counter), frames[0][_COUNTER.size :], None)
            previous, envelope, size = _HEAD.unpack_from(head)
            if previous != self._last or counter <= previous:
                raise ProtocolError("a message of this lane came twice, or another is missing before it")
            if (size > 0) != (len(frames) == 2):
                raise ProtocolError("a message of this lane lost its payload, or got one")
            opened = [head[_HEAD.size : _HEAD.size + envelope], head[_HEAD.size + envelope :]]
            if size:
                opened.append(self._cipher.decrypt(_NONCE.pack(_PAYLOAD_PART, counter), frames[1], None))
        except (InvalidTag, struct.error, OverflowError):
            raise ProtocolError("a frame of this lane was changed, or sealed by somebody else") from None
        self._last = counter
        return [memoryview(each) for each in opened]
