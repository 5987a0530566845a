"""A worker's service on its store, spoken to in real envelopes and headers, as a broker does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

import msgspec

from common.coding.recipe import digest
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack_header
from common.protocol.device_messages import (
    Append,
    BlockName,
    Commit,
    Describe,
    Described,
    Fetch,
    Fetched,
    ShareName,
    Store,
    Stored,
    Wanted,
    WholeShare,
)
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import Acknowledged, Code
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, sample
from worker.service import Answered, Request, Service
from worker.store import ShareStore

BROKER = 3
SESSION = b"s" * 16
SHARE = 1
OF_A_WORKER = [
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
    Operation.SUPERSEDED,
    Operation.NAME_APPROVERS,
    Operation.EMPTY,
    Operation.INSPECT,
    Operation.CHECK,
    Operation.DISCARD,
]

H = TypeVar("H", bound=msgspec.Struct)


class Worker:
    """A service on its store, spoken to as a broker does."""

    def __init__(self, folder: Path, capacity: Optional[int] = None, *, hold: float = 0.0) -> None:
        self.disk = FaultyDisk()
        self.store = ShareStore(folder, capacity, disk=self.disk, hold=hold)
        self.service = Service(self.store)
        self._count = 0

    def send(
        self,
        operation: Operation,
        header: bytes,
        payload: bytes = b"",
        owner: bytes = OWNER,
        *,
        broker: int = BROKER,
        now: float = 0.0,
    ) -> list[Answered]:
        self._count += 1
        envelope = Envelope(Kind.REQUEST, operation, self._count.to_bytes(16, "big"), SESSION, MAX_PAYLOAD, owner)
        answers = self.service.handle(Request(broker, envelope, memoryview(header), memoryview(payload)), now)
        for answered in answers:
            assert answered.broker == broker
            assert answered.envelope == Envelope(Kind.REPLY, operation, envelope.request_id, SESSION)
        return answers

    def ask(self, operation: Operation, header: msgspec.Struct, payload: bytes = b"", owner: bytes = OWNER) -> Code:
        """The code of an answer that is given at once."""
        return only(self.send(operation, pack_header(header), payload, owner), Acknowledged).answer.code

    def ask_later(
        self, operation: Operation, header: msgspec.Struct, payload: bytes = b"", owner: bytes = OWNER
    ) -> None:
        """Ask for what is answered after the round."""
        assert self.send(operation, pack_header(header), payload, owner) == []

    def stage(self, encoding: Sample, share: int = SHARE) -> None:
        assert self.ask(Operation.OPEN, encoding.opening(share)) is Code.GRANTED
        for segment in range(encoding.recipe.segment_count):
            assert self.ask(*append(encoding, segment, share)) is Code.GRANTED

    def put(self, encoding: Sample, share: int = SHARE) -> None:
        self.stage(encoding, share)
        self.ask_later(*commit(encoding, share))
        answers = self.service.finish_round()
        assert only(answers, Acknowledged).answer.granted

    def store_whole(self, *sent: tuple[WholeShare, bytes, bytes]) -> list[Code]:
        """The codes that a STORE of these shares (name, block, commitment) is answered."""
        self.ask_later(*store_whole(*sent))
        answers = self.service.finish_round()
        stored = only(answers, Stored)
        assert stored.answer.granted
        return [answer.code for answer in stored.shares]

    def fetch(self, *names: BlockName, owner: bytes = OWNER) -> tuple[list[Code], bytes]:
        answers = self.send(Operation.FETCH, pack_header(Fetch(list(names))), owner=owner)
        fetched = only(answers, Fetched)
        assert fetched.answer.granted
        payload = bytes(answers[0].payload)
        assert sum(part.length for part in fetched.parts) == len(payload)
        return [part.answer.code for part in fetched.parts], payload

    def describe(self, *names: ShareName, wanted: Wanted = Wanted.RECIPE) -> tuple[list[tuple[Code, int, int]], bytes]:
        answers = self.send(Operation.DESCRIBE, pack_header(Describe(list(names), wanted)))
        described = only(answers, Described)
        assert described.answer.granted
        parts = [(answer.code, mapping, recipe) for answer, mapping, recipe in described.parts]
        return parts, bytes(answers[0].payload)


def only(answers: Sequence[Answered], shape: type[H]) -> H:
    assert len(answers) == 1
    return unpack_header(answers[0].header, shape)


def append(
    encoding: Sample, segment: int = 0, share: int = SHARE, block: bytes = b""
) -> tuple[Operation, Append, bytes]:
    block = block or encoding.blocks[segment][share]
    return Operation.APPEND, Append(encoding.encoding_id, share, segment, digest(block)), block


def commit(encoding: Sample, share: int = SHARE, owner: bytes = OWNER) -> tuple[Operation, Commit, bytes]:
    return Operation.COMMIT, Commit(encoding.encoding_id, share), pack(encoding.signed(owner))


def whole(encoding: Sample, share: int = SHARE, *, block: bytes = b"", commitment: Any = None) -> tuple[Any, ...]:
    """A share as a STORE carries it: its name, its block, its commitment."""
    block = block or encoding.blocks[0][share]
    packed = commitment if isinstance(commitment, bytes) else pack(commitment or encoding.signed())
    recipe = encoding.recipe
    return WholeShare(recipe.encoding_id, share, recipe.k, recipe.n, len(block), len(packed)), block, packed


def store_whole(*sent: tuple[Any, ...]) -> tuple[Operation, Store, bytes]:
    return Operation.STORE, Store([name for name, _, _ in sent]), b"".join(b + c for _, b, c in sent)


def small(label: str) -> Sample:
    """An encoding of one segment, such as travel in a STORE."""
    return sample(label, segments=1, block_size=40, last=40)


def block_names(encoding: Sample, *segments: int) -> list[BlockName]:
    return [BlockName(encoding.encoding_id, SHARE, segment) for segment in segments]
