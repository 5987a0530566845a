"""Starts the real broker, which deals with what it passes on, and with its own answers, as a file says.

    HOSTILE_ORDERS   file, read again when it is replaced: {"seed": 17, "lies": ["DROPS", "WRONG_SHARES"]}

It has what a broker has: its own key and list, and everything that passes. What it does to messages it does to about
a third of them, but for greetings, so that there is something to lie to.
"""

from __future__ import annotations

import enum
import json
import os
import random
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, TypeVar

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder

import broker.command
from broker.coding import Coding, DeviceRequest
from broker.server import Server
from broker.sessions import Outgoing, Side
from common.errors import ProtocolError
from common.protocol.codec import pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import Store
from common.protocol.envelope import Kind, Operation
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    Answer,
    AppendSegment,
    Code,
    Device,
    Holdings,
    Placed,
    Status,
    StoreSegments,
)

T = TypeVar("T")
_PART = 1 / 3  # of the messages that a lie is about
_KEPT = 200  # messages
_GREETINGS = {Operation.HELLO, Operation.REGISTER, Operation.JOIN, Operation.BROKERS, Operation.PROBE}


class Lie(enum.Enum):
    DROPS = "drops messages, both ways"
    HOLDS = "holds messages back, so that later ones overtake them"
    DOUBLES = "sends messages twice"
    REPLAYS = "answers by what it has answered another time to the same operation"
    INVENTS = "grants what it never passed on"
    REFUSES = "refuses by any code"
    HIDES = "names no encodings, and leaves out some"
    WRONG_SHARES = "flips bytes of what devices give, and of what they are given"
    CROSSES = "gives the answer to one request to another"
    DEVICES = "names devices that there are not, and places shares there"
    NONSENSE = "answers by what is no header of that reply"
    MISCODES = "makes other parity than there is, always"
    ALTERS = "flips a byte of every block of a large image that it passes on to be stored"


class Orders:
    """What the file says now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: Optional[int] = None
        self.random = random.Random(0)
        self.lies: Collection[Lie] = ()

    def look(self) -> None:
        found = self._path.stat()
        if found.st_ino != self._read:
            self._read, orders = found.st_ino, json.loads(self._path.read_text())
            self.random, self.lies = random.Random(orders["seed"]), [Lie[name] for name in orders["lies"]]


class LyingCoding(Coding):
    """Codes, and not always right."""

    def __init__(self, orders: Orders) -> None:
        super().__init__()
        self._orders = orders

    def appends(self, asked: AppendSegment, payload: memoryview) -> list[DeviceRequest]:
        self._orders.look()
        parts = super().appends(asked, payload)
        if Lie.MISCODES not in self._orders.lies:
            return parts
        return [
            part._replace(payload=_flipped(bytes(part.payload), self._orders.random))
            if block.share >= asked.k
            else part
            for part, block in zip(parts, asked.blocks)
        ]

    def stores(self, asked: StoreSegments, payload: memoryview) -> list[DeviceRequest]:
        self._orders.look()
        parts = super().stores(asked, payload)
        return [self._miscoded(part, asked.k) for part in parts] if Lie.MISCODES in self._orders.lies else parts

    def _miscoded(self, part: DeviceRequest, k: int) -> DeviceRequest:
        pieces = []
        for share, block, commitment in unpack_header(part.header, Store).parts(memoryview(part.payload)):
            pieces += [_flipped(bytes(block), self._orders.random) if share.share >= k else block, commitment]
        return part._replace(payload=b"".join(pieces))


class LyingServer(Server):
    """The broker's loop, with other messages going out."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._orders = Orders(Path(os.environ["HOSTILE_ORDERS"]))
        self._answers: dict[Operation, list[Outgoing]] = {}  # what was told to clients
        self._held: list[Outgoing] = []
        super().__init__(*arguments, **options)
        self._switchboard._coding = LyingCoding(self._orders)

    def _send(self, message: Outgoing) -> list[Outgoing]:
        self._orders.look()
        drawn, lies = self._orders.random, self._orders.lies
        message = replace(message, payload=_copied(message.payload))
        if not lies or message.envelope.operation in _GREETINGS:
            return super()._send(message)
        followed: list[Outgoing] = []
        for sent in self._lied(message, lies, drawn):
            followed += super()._send(sent)
        return followed

    def _lied(self, message: Outgoing, lies: Collection[Lie], drawn: random.Random) -> list[Outgoing]:
        """What goes out in place of a message."""
        told = message.session.side is Side.CLIENTS and message.envelope.kind is Kind.REPLY
        if Lie.ALTERS in lies and message.payload and message.envelope.operation is Operation.APPEND:
            message = replace(message, payload=_flipped(message.payload, drawn))
        for lie in (lie for lie in lies if drawn.random() < _PART):
            if lie is Lie.DROPS:
                return []
            if lie is Lie.HOLDS:
                held, self._held = self._held, [message]
                return held
            if lie is Lie.DOUBLES:
                return [message, message]
            if lie is Lie.WRONG_SHARES and message.payload:
                message = replace(message, payload=_flipped(message.payload, drawn))
            elif told:
                message = self._answer(message, lie, drawn)
        if told:
            kept = self._answers.setdefault(message.envelope.operation, [])
            kept.append(message)
            del kept[:-_KEPT]
        return [message]

    def _answer(self, message: Outgoing, lie: Lie, drawn: random.Random) -> Outgoing:
        """Another answer to the same request."""
        operation = message.envelope.operation
        header, payload = message.header, message.payload
        if lie in (Lie.REPLAYS, Lie.CROSSES) and self._answers.get(operation):
            other = drawn.choice(self._answers[operation][-3 if lie is Lie.CROSSES else 0 :])
            header, payload = other.header, other.payload
        elif lie is Lie.INVENTS:
            header, payload = pack_header(Acknowledged(GRANTED)), None
        elif lie is Lie.REFUSES:
            header, payload = pack_header(Acknowledged(Answer(drawn.choice(list(Code)), "\x1b[2Jno"))), None
        elif lie is Lie.NONSENSE:
            header = drawn.choice([b"", b"\xc1", b"\x91" * 4000, drawn.randbytes(99)])
        elif lie is Lie.HIDES and operation in (Operation.LOCATE, Operation.LIST):
            found = _read(payload, list[Any]) if payload and drawn.random() < 0.5 else []
            header, payload = pack_header(Holdings(GRANTED, settled=True)), pack(found[1:])
        elif lie is Lie.DEVICES and operation is Operation.STATUS:
            made_up = [Device(drawn.randbytes(16), f"device-{n}", True, 0, 1 << 40, 9) for n in range(9)]
            header, payload = pack_header(Status(GRANTED, settled=True)), pack(made_up)
        elif lie is Lie.DEVICES and operation is Operation.PLACES and payload:
            places = [[drawn.randbytes(16) for _ in devices] for devices in _read(payload, list[list[bytes]])]
            header, payload = pack_header(Placed(GRANTED)), pack(places)
        return replace(message, header=header, payload=payload)


def _read(payload: bytes, shape: type[list[T]]) -> list[T]:
    """What an answer says; nothing of one that another lie made unreadable before."""
    try:
        return unpack(payload, shape)
    except ProtocolError:
        return []


def _copied(payload: Any) -> Optional[bytes]:
    if payload is None:
        return None
    return bytes(payload.buffer) if hasattr(payload, "buffer") else bytes(payload)


def _flipped(payload: bytes, drawn: random.Random) -> bytes:
    place = drawn.randrange(len(payload))
    return payload[:place] + bytes([payload[place] ^ drawn.randint(1, 255)]) + payload[place + 1 :]


if __name__ == "__main__":
    broker.command.Server = LyingServer  # type: ignore[attr-defined]
    broker.command.main()
