"""Starts the real worker, which answers and announces what is not true, as a file says.

    HOSTILE_ORDERS   file, read again when it is replaced: {"seed": 17, "lies": ["SILENT", "CLAIMS"]}

Each `Lie` is one way to lie; a device has several at a time. What it made up it takes back with the next orders, so
that a schedule does not depend on those before.
"""

from __future__ import annotations

import enum
import json
import os
import random
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Optional

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder

from msgspec.structs import replace

import worker.command
import worker.connections
import worker.server
from common.chunks import chunks
from common.protocol.codec import pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import Fetched, ShareName, SignedCommitment, Store, Stored
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import (
    GRANTED,
    MAX_ANNOUNCED,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Answer,
    Code,
    Empty,
    GrantedTo,
    Report,
    ReportDeleted,
    ToldTombstone,
    Withdraw,
)
from common.vault.keys import VaultKey
from tests.support.sample_shares import held_by
from worker.registration import Registration, Statement, statement
from worker.service import Answered, Request, Service
from worker.store import ShareStore

LONGEST = 1.5  # seconds that a late answer takes
_FLOOD = 3  # pages of made-up shares
_REFUSALS = [code for code in Code if code not in (Code.GRANTED, Code.NO_SESSION)]


class Lie(enum.Enum):
    # what it answers
    SILENT = "answers nothing"
    PARTLY = "leaves every other request without an answer"
    LATE = "answers after a while"
    BUSY = "says that it is busy, again and again"
    REFUSES = "refuses, each time for another reason"
    CONFLICT = "says that another broker repairs what it is asked to show"
    BLOCKS = "gives wrong bytes"
    LENGTHS = "gives parts of other lengths, or not as many as it was asked for"
    NONSENSE = "answers by what is no header of that reply"
    LOSES = "acknowledges what it does not keep"
    OTHERS = "shows commitments that it signed itself, of a later revision"
    TWICE = "answers twice, and what it was not asked"
    # what it says
    CLAIMS = "announces shares that it made up, of encodings that it knows and of others"
    MANY = "says that it has every share of what it has one of"
    FLOOD = "announces thousands of made-up shares"
    WITHDRAWS = "withdraws all that it has"
    TOMBSTONES = "tells of deletions that it signed itself"
    FORGES = "tells of deletions that it claims an owner signed"
    ROOM = "lies about its room"
    NO_MESSAGES = "sends what is no message, and asks for what only others may"


class Orders:
    """What the file says now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: Optional[int] = None
        self.number = 0  # another one: there are new orders
        self.random = random.Random(0)
        self.lies: Collection[Lie] = ()

    def look(self) -> None:
        found = self._path.stat()
        if found.st_ino == self._read:
            return
        self._read = found.st_ino
        orders = json.loads(self._path.read_text())
        self.number += 1
        self.random = random.Random(orders["seed"])
        self.lies = {Lie[name] for name in orders["lies"]}


ORDERS = Orders(Path(os.environ.get("HOSTILE_ORDERS", "")))


class LyingService(Service):
    """The worker's, but for what it lies about."""

    def __init__(self, store: ShareStore) -> None:
        super().__init__(store)
        self._liars_key = VaultKey(b"l" * 32)
        self._late: list[tuple[float, Answered]] = []
        self._time = 0.0
        self._requests = 0

    def handle(self, request: Request, now: float) -> list[Answered]:
        ORDERS.look()
        self._time, self._requests = now, self._requests + 1
        lies, operation = ORDERS.lies, request.envelope.operation
        if Lie.SILENT in lies or (Lie.PARTLY in lies and self._requests % 2):
            return []
        if Lie.BUSY in lies:
            return [_refusal(request, Code.BUSY)]
        if Lie.REFUSES in lies:
            return [_refusal(request, ORDERS.random.choice(_REFUSALS))]
        if Lie.CONFLICT in lies and operation is Operation.INSPECT:
            return [_refusal(request, Code.CONFLICT)]
        if Lie.LOSES in lies and operation in (Operation.COMMIT, Operation.AMEND, Operation.DELETE):
            return self._altered([_answered(request, Acknowledged(GRANTED))])
        if Lie.LOSES in lies and operation is Operation.STORE:
            count = len(unpack_header(request.header, Store).shares)
            return self._altered([_answered(request, Stored(GRANTED, [GRANTED] * count))])
        return self._altered(super().handle(request, now))

    def finish_round(self) -> list[Answered]:
        due = [answered for at, answered in self._late if at <= self._time]
        self._late = [(at, answered) for at, answered in self._late if at > self._time]
        return due + self._altered(super().finish_round())

    def expire(self, now: float) -> None:
        self._time = now
        super().expire(now)

    def _altered(self, answers: list[Answered]) -> list[Answered]:
        lies, drawn = ORDERS.lies, ORDERS.random
        answers = [self._with_lies(answered, lies) for answered in answers]
        if Lie.TWICE in lies:
            answers = [twice for a in answers for twice in (a, a, _unasked(a))]
        if Lie.LATE not in lies:
            return answers
        self._late += [(self._time + drawn.uniform(0, LONGEST), answered) for answered in answers]
        return []

    def _with_lies(self, answered: Answered, lies: Collection[Lie]) -> Answered:
        drawn, operation = ORDERS.random, answered.envelope.operation
        header, payload = answered.header, bytes(answered.payload or b"")
        if Lie.OTHERS in lies and operation is Operation.INSPECT and payload:
            payload = self._made_up(payload)
        if Lie.BLOCKS in lies and payload:
            place = drawn.randrange(len(payload))
            payload = payload[:place] + bytes([payload[place] ^ drawn.randint(1, 255)]) + payload[place + 1 :]
        if Lie.LENGTHS in lies and operation is Operation.FETCH:
            header = pack_header(_of_other_lengths(unpack_header(header, Fetched), drawn))
        if Lie.LENGTHS in lies and operation in (Operation.DESCRIBE, Operation.INSPECT):
            payload = payload[: drawn.randint(0, len(payload))]
        if Lie.NONSENSE in lies:
            header = drawn.choice([b"", b"\xc1", b"\x91" * 4000, drawn.randbytes(200), pack([[0, "x"] * 9])])
        return Answered(answered.broker, answered.envelope, header, payload or None)

    def _made_up(self, packed: bytes) -> bytes:
        """A commitment of the same encoding, as this device would have it."""
        there = unpack(packed, SignedCommitment).commitment
        other = replace(there, mapping=b"another", revision=2**53 - 1)
        (signed,) = self._liars_key.signing_key().commit([other])
        return pack(signed)


def _answered(request: Request, header: Any) -> Answered:
    return Answered(request.broker, request.envelope.reply(), pack_header(header))


def _refusal(request: Request, code: Code) -> Answered:
    return _answered(request, Acknowledged(Answer(code, "\x1b[31mso it says\r")))


def _unasked(answered: Answered) -> Answered:
    """The same answer to a request that there is not."""
    envelope = answered.envelope
    other = Envelope(Kind.REPLY, envelope.operation, ORDERS.random.randbytes(16), envelope.peer)
    return Answered(answered.broker, other, answered.header, answered.payload)


def _of_other_lengths(fetched: Fetched, drawn: random.Random) -> Fetched:
    parts = [replace(part, length=drawn.randint(0, 2 * part.length)) for part in fetched.parts]
    return replace(fetched, parts=parts + parts if drawn.random() < 0.5 else parts[1:])


class LyingRegistration(Registration):
    """The worker's, with what is not true behind what is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._orders = 0
        self._said: list[AnnouncedShare] = []

    def tick(self, now: float) -> list[Statement]:
        ORDERS.look()
        if not self.registered or ORDERS.number == self._orders:
            return super().tick(now)
        first, self._orders = self._orders == 0, ORDERS.number
        return super().tick(now) + ([] if first else self._take_back()) + self._lies()

    def _take_back(self) -> list[Statement]:
        """What is true again: nothing made up, all that is here."""
        here = held_by(self._store)
        gone = [ShareName(s.encoding_id, s.share) for s in self._said if (s.encoding_id, s.share) not in here]
        pages = [gone[start : start + MAX_ANNOUNCED] for start in range(0, len(gone), MAX_ANNOUNCED)]
        self._said = []
        back = [statement(Operation.WITHDRAW, Withdraw(), pack(page)) for page in pages]
        return back + [self._announce(page, self._told) for page in chunks(here.values(), MAX_ANNOUNCED)]

    def _lies(self) -> list[Statement]:
        lies, drawn, held = ORDERS.lies, ORDERS.random, list(held_by(self._store).values())
        said: list[Statement] = []
        if Lie.CLAIMS in lies:
            said += self._say([_claim(drawn, held) for _ in range(drawn.randint(1, 300))])
        if Lie.MANY in lies:
            said += self._say([replace(one, share=share) for one in held for share in range(one.n)])
        if Lie.FLOOD in lies:
            said += self._say([_claim(drawn, held) for _ in range(_FLOOD * MAX_ANNOUNCED)])
        if Lie.WITHDRAWS in lies:
            said += self._withdraw([ShareName(one.encoding_id, one.share) for one in held], self._told)
        if Lie.TOMBSTONES in lies:
            said += self._tell([_tombstone(one) for one in held])
        if Lie.FORGES in lies and held:
            said += self._tell([_forged(drawn, drawn.choice(held))])
        if Lie.ROOM in lies:
            room = drawn.choice([0, 1, 2**53 - 1])
            said.append(statement(Operation.REPORT, Report(2**53 - 1 - room, room, drawn.randint(0, 2**32))))
        if Lie.NO_MESSAGES in lies:
            said.append(statement(drawn.choice([Operation.RETIRE, Operation.SYNC, Operation.LIST]), Empty()))
            said.append(Statement(Envelope(Kind.REPLY, Operation.FETCH, bytes(16)), drawn.randbytes(30), b"x"))
            said.append(statement(Operation.ANNOUNCE, Announce(False), drawn.randbytes(99)))
        return said

    def _say(self, shares: list[AnnouncedShare]) -> list[Statement]:
        self._said = [*self._said, *shares]
        pages = [shares[start : start + MAX_ANNOUNCED] for start in range(0, len(shares), MAX_ANNOUNCED)]
        return [statement(Operation.ANNOUNCE, Announce(False), pack(page)) for page in pages]

    def _tell(self, told: list[ToldTombstone]) -> list[Statement]:
        return [statement(Operation.REPORT_DELETED, ReportDeleted(), pack(told))] if told else []


_LIAR = VaultKey(b"l" * 32)


def _claim(drawn: random.Random, held: list[AnnouncedShare]) -> AnnouncedShare:
    """A share that there is not, of what it has one of, in part, or of nothing at all."""
    nothing = AnnouncedShare(drawn.randbytes(16), 0, drawn.randbytes(32), drawn.randbytes(16), 2, 2, 100 << 20)
    if not held:
        return nothing
    one = drawn.choice(held)
    return drawn.choice(
        [
            nothing,
            replace(one, share=drawn.randrange(one.n)),
            replace(one, encoding_id=drawn.randbytes(16), k=2, n=2, share=drawn.randrange(2)),
            replace(one, encoding_id=drawn.randbytes(16), share_bytes=100 << 20),
            replace(one, k=2, n=64, share=drawn.randrange(64)),
            replace(one, owner=_LIAR.owner_id()),
            replace(one, object_id=drawn.randbytes(32)),
            replace(one, revision=2**53 - 1),
            replace(one, depositor=drawn.randbytes(16)),
            replace(one, share=drawn.randrange(one.n), sound=False, object_id=None),
            replace(nothing, grants=[GrantedTo(one.owner, one.object_id or bytes(32))]),
            replace(nothing, owner=one.owner, depositor=_LIAR.owner_id()),
        ]
    )


def _tombstone(one: AnnouncedShare) -> ToldTombstone:
    """Signed, by one whose it is not."""
    return ToldTombstone(_LIAR.tombstone(one.object_id or bytes(32), one.encoding_id, 1, 0), 0, 1000)


def _forged(drawn: random.Random, one: AnnouncedShare) -> ToldTombstone:
    told = _tombstone(one)
    return replace(told, tombstone=replace(told.tombstone, owner_key=drawn.randbytes(32)))


if __name__ == "__main__":
    worker.server.Service = LyingService  # type: ignore[attr-defined]
    worker.connections.Registration = LyingRegistration  # type: ignore[attr-defined]
    worker.command.main()
