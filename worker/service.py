"""What a worker does for each operation: check → append → sync → acknowledge.

Commits wait until all messages at hand are read and then share one round of fsyncs; every other answer is given at
once. Before a commit is acknowledged to its client it is announced to every broker, so that a client which has the
acknowledgement finds the share in the catalog.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import MAX_HEADER, MAX_PAYLOAD, pack_header, unpack, unpack_header
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    AnnouncedShare,
    Answer,
    Append,
    Code,
    Commit,
    Commitment,
    Describe,
    Described,
    Fetch,
    Fetched,
    Message,
    Open,
    Part,
    ShareName,
    Store,
    Stored,
    WholeShare,
)
from common.recipe import decode_recipe, digest
from worker.committing import PendingCommit
from worker.store import DeclineError, ShareStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A client's request as it came through the broker with this number."""

    broker: int
    envelope: Envelope
    header: memoryview
    payload: memoryview


@dataclass(frozen=True)
class Answered:
    broker: int
    envelope: Envelope
    header: bytes
    payload: Any = None


@dataclass
class _Waiting:
    """A request whose answer waits for the round of fsyncs: for each share an answer, or its place in the round."""

    request: Request
    shares: list[Any] = field(default_factory=list)  # Answer, or int: index into the round


class Service:
    def __init__(self, store: ShareStore) -> None:
        self._store = store
        self._round: list[PendingCommit] = []
        self._waiting: list[_Waiting] = []
        self._operations: dict[Operation, Callable[[Request, float], Optional[Answered]]] = {
            Operation.OPEN: self._open,
            Operation.APPEND: self._append,
            Operation.COMMIT: self._commit,
            Operation.STORE: self._store_whole,
            Operation.ABANDON: self._abandon,
            Operation.FETCH: self._fetch,
            Operation.DESCRIBE: self._describe,
        }

    def handle(self, request: Request, now: float) -> list[Answered]:
        """Carry out one request; what waits for the round of fsyncs is answered by `finish_round`."""
        operation = self._operations.get(request.envelope.operation)
        try:
            if operation is None:
                raise ProtocolError("this is not for a worker")
            answered = operation(request, now)
        except DeclineError as decline:
            return [_answer(request, Acknowledged(decline.answer))]
        except ProtocolError as error:
            return [_answer(request, Acknowledged(_malformed(error)))]
        return [answered] if answered is not None else []

    def finish_round(self) -> tuple[list[AnnouncedShare], list[Answered]]:
        """Make all waiting commits durable: the shares to announce, and then the answers."""
        if not self._waiting:
            return [], []
        outcomes = self._store.commit_round(self._round)
        announced = [
            self._store.held()[(commit.staged.encoding_id, commit.staged.share)]
            for commit, outcome in zip(self._round, outcomes)
            if outcome.granted
        ]
        answers = [self._conclude(waiting, outcomes) for waiting in self._waiting]
        self._round, self._waiting = [], []
        return announced, answers

    def _conclude(self, waiting: _Waiting, outcomes: list[Answer]) -> Answered:
        answers = [outcomes[share] if isinstance(share, int) else share for share in waiting.shares]
        if waiting.request.envelope.operation is Operation.COMMIT:
            return _answer(waiting.request, Acknowledged(answers[0]))
        return _answer(waiting.request, Stored(GRANTED, [_brief(answer, len(answers)) for answer in answers]))

    # --- storing

    def _open(self, request: Request, now: float) -> Answered:
        self._store.open(unpack_header(request.header, Open), request.envelope.owner, now)
        return _answer(request, Acknowledged(GRANTED))

    def _append(self, request: Request, now: float) -> Answered:
        header = unpack_header(request.header, Append)
        if digest(request.payload) != header.digest:
            raise DeclineError(Code.MALFORMED, "the block does not have its digest")
        key = (header.encoding_id, header.share)
        owner = request.envelope.owner
        self._store.append(key, owner, header.segment, header.digest, request.payload, now)
        return _answer(request, Acknowledged(GRANTED))

    def _commit(self, request: Request, _now: float) -> None:
        header = unpack_header(request.header, Commit)
        commitment = unpack(request.payload, Commitment)
        waiting = _Waiting(request)
        key = (header.encoding_id, header.share)
        waiting.shares.append(self._enter_round(key, request.envelope.owner, commitment))
        self._waiting.append(waiting)

    def _store_whole(self, request: Request, now: float) -> None:
        header = unpack_header(request.header, Store)
        if sum(s.block_bytes + s.commitment_bytes for s in header.shares) != request.payload.nbytes:
            raise ProtocolError("the payload has not the length that the header says")
        self._store.require_places(len(header.shares))
        waiting = _Waiting(request)
        offset = 0
        for share in header.shares:
            block = request.payload[offset : offset + share.block_bytes]
            offset += share.block_bytes + share.commitment_bytes
            commitment = request.payload[offset - share.commitment_bytes : offset]
            waiting.shares.append(self._store_one(share, block, commitment, request.envelope.owner, now))
        self._waiting.append(waiting)

    def _store_one(self, share: WholeShare, block: memoryview, packed: memoryview, owner: bytes, now: float) -> Any:
        key = (share.encoding_id, share.share)
        began = False
        try:
            commitment = unpack(packed, Commitment)
            if key in self._store.held():
                return self._enter_round(key, owner, commitment)
            recipe = decode_recipe(commitment.recipe)
            block_digest = digest(block)
            if recipe.segment_count != 1 or recipe.digest_of(0, share.share) != block_digest:
                raise DeclineError(Code.MALFORMED, "the block is not the one the recipe names")
            opening = Open(share.encoding_id, share.share, share.k, share.n, recipe.block_size, share.block_bytes)
            began = self._store.open(opening, owner, now)
            self._store.append(key, owner, 0, block_digest, block, now)
            return self._enter_round(key, owner, commitment)
        except DeclineError as decline:
            if began:
                self._store.abandon(key, owner)
            return decline.answer
        except IntegrityError as error:
            return _malformed(error)

    def _enter_round(self, key: tuple[bytes, int], owner: bytes, commitment: Commitment) -> Any:
        """The answer where it is known already, else the share's place in the round."""
        pending = self._store.prepare_commit(key, owner, commitment)
        if pending is None:
            return GRANTED
        for place, waiting in enumerate(self._round):
            if waiting.staged is pending.staged:  # asked twice within one round
                if waiting.trailer != pending.trailer:
                    raise DeclineError(Code.CONFLICT, "this share is being committed otherwise")
                return place
        self._round.append(pending)
        return len(self._round) - 1

    def _abandon(self, request: Request, _now: float) -> Answered:
        header = unpack_header(request.header, ShareName)
        self._store.abandon((header.encoding_id, header.share), request.envelope.owner)
        return _answer(request, Acknowledged(GRANTED))

    # --- reading

    def _fetch(self, request: Request, _now: float) -> Answered:
        header = unpack_header(request.header, Fetch)
        parts: list[Part] = []
        blocks = _Pieces()
        for name in header.blocks:
            try:
                blocks.require_room()
                key = (name.encoding_id, name.share)
                block = self._store.block(key, request.envelope.owner, name.segment)
                blocks.add(block)
            except DeclineError as decline:
                parts.append(Part(_brief(decline.answer, len(header.blocks))))
                continue
            parts.append(Part(GRANTED, len(block)))
        return _answer(request, Fetched(GRANTED, parts), blocks.payload())

    def _describe(self, request: Request, _now: float) -> Answered:
        header = unpack_header(request.header, Describe)
        parts: list[tuple[Answer, int, int]] = []
        pieces = _Pieces()
        for name in header.shares:
            try:
                pieces.require_room()
                trailer = self._store.share((name.encoding_id, name.share), request.envelope.owner).information.trailer
                recipe = trailer.recipe if header.with_recipe else b""
                pieces.add(trailer.mapping, recipe)
            except DeclineError as decline:
                parts.append((_brief(decline.answer, len(header.shares)), 0, 0))
                continue
            parts.append((GRANTED, len(trailer.mapping), len(recipe)))
        return _answer(request, Described(GRANTED, parts), pieces.payload())


class _Pieces:
    """What a reply carries, within a payload's limit: what goes beyond is to be asked for again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room = MAX_PAYLOAD

    def require_room(self) -> None:
        if self._room <= 0:
            raise DeclineError(Code.BUSY, "the reply is full")

    def add(self, *pieces: bytes) -> None:
        """All of them, or DeclineError(BUSY)."""
        size = sum(len(piece) for piece in pieces)
        if size > self._room:
            raise DeclineError(Code.BUSY, "the reply is full")
        self._room -= size
        self._pieces += pieces

    def payload(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def _malformed(error: IntegrityError) -> Answer:
    return Answer(Code.MALFORMED, str(error)[:500])


def _brief(answer: Answer, count: int) -> Answer:
    """An answer that fits into one header together with `count` - 1 others; its code says all that programs need."""
    limit = MAX_HEADER // count - 32  # bytes, beside the code, lengths and the arrays around them
    return Answer(answer.code, answer.text.encode()[:limit].decode(errors="ignore"))


def _answer(request: Request, header: Message, payload: Any = None) -> Answered:
    return Answered(request.broker, request.envelope.reply(), pack_header(header), payload)
