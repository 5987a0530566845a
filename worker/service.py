"""What a worker does for each operation: check → append → sync → acknowledge.

Commits wait until all messages at hand are read and then share one round of fsyncs; every other answer is given at
once. What changed of what is held is told to every broker before the answer to what changed it goes out (see `server`),
so that a client which has an acknowledgement finds the share in the catalog, or finds it gone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import (
    Amend,
    Append,
    Commit,
    Commitment,
    Delete,
    Open,
    ShareName,
    Store,
    Stored,
    Undelete,
    WholeShare,
)
from common.protocol.envelope import Operation
from common.protocol.messages import GRANTED, Acknowledged, Answer, Code
from common.protocol.operations import (
    ABANDON,
    AMEND,
    APPEND,
    CHECK,
    COMMIT,
    DELETE,
    DESCRIBE,
    DISCARD,
    FETCH,
    INSPECT,
    OPEN,
    PROGRESS,
    STORE,
    UNDELETE,
    H,
    R,
    Spec,
)
from common.recipe import decode_recipe, digest
from worker.answering import Answering
from worker.committing import PendingCommit
from worker.declining import DeclineError
from worker.leases import Leases
from worker.requests import Answered, Request, answer, brief, grant, key_of
from worker.store import ShareStore

log = logging.getLogger(__name__)


@dataclass
class _Waiting:
    """A request whose answer waits for the round of fsyncs: for each share an answer, or its place in the round."""

    request: Request
    shares: list[Any] = field(default_factory=list)  # Answer, or int: index into the round


class Service:
    def __init__(self, store: ShareStore) -> None:
        self._store = store
        self._leases = Leases()
        answering = Answering(store, self._leases)
        self._round: list[PendingCommit] = []
        self._waiting: list[_Waiting] = []
        self._handlers: dict[Operation, Callable[[Request, float], Optional[Answered]]] = {}
        self._bind(OPEN, self._open)
        self._bind(APPEND, self._append)
        self._bind(COMMIT, self._commit)
        self._bind(STORE, self._store_whole)
        self._bind(ABANDON, self._abandon)
        self._bind(DELETE, self._delete)
        self._bind(UNDELETE, self._undelete)
        self._bind(AMEND, self._amend)
        self._bind(DISCARD, self._discard)
        self._bind(CHECK, self._check)
        self._bind(FETCH, answering.fetch)
        self._bind(DESCRIBE, answering.describe)
        self._bind(PROGRESS, answering.progress)
        self._bind(INSPECT, answering.inspect)

    def _bind(self, operation: Spec[H, R], handler: Callable[[Request, H, float], Optional[Answered]]) -> None:
        def handle(request: Request, now: float) -> Optional[Answered]:
            return handler(request, unpack_header(request.header, operation.header), now)

        self._handlers[operation.number] = handle

    def handle(self, request: Request, now: float) -> list[Answered]:
        """Carry out one request; what waits for the round of fsyncs is answered by `finish_round`."""
        handler = self._handlers.get(request.envelope.operation)
        try:
            if handler is None:
                raise ProtocolError("this is not for a worker")
            answered = handler(request, now)
        except DeclineError as decline:
            return [answer(request, Acknowledged(decline.answer))]
        except ProtocolError as error:
            return [answer(request, Acknowledged(_malformed(error)))]
        return [answered] if answered is not None else []

    def finish_round(self) -> list[Answered]:
        """Make all waiting commits durable; the answers."""
        if not self._waiting:
            return []
        outcomes = self._store.commit_round(self._round)
        answers = [self._conclude(waiting, outcomes) for waiting in self._waiting]
        self._round, self._waiting = [], []
        return answers

    def disconnected(self, broker: int) -> None:
        """A broker's connection is lost: what was promised over it is free again."""
        self._leases.release(broker)

    def expire(self, now: float) -> None:
        """To be called now and then."""
        self._leases.expire(now)

    def _conclude(self, waiting: _Waiting, outcomes: list[Answer]) -> Answered:
        answers = [outcomes[share] if isinstance(share, int) else share for share in waiting.shares]
        if waiting.request.envelope.operation is Operation.COMMIT:
            return answer(waiting.request, Acknowledged(answers[0]))
        return answer(waiting.request, Stored(GRANTED, [brief(answer, len(answers)) for answer in answers]))

    # --- storing

    def _open(self, request: Request, header: Open, now: float) -> Answered:
        self._store.open(header, request.owner, now)
        return grant(request)

    def _append(self, request: Request, header: Append, now: float) -> Answered:
        if digest(request.payload) != header.digest:
            raise DeclineError(Code.MALFORMED, "the block does not have its digest")
        key = (header.encoding_id, header.share)
        owner = request.owner
        self._store.append(key, owner, header.segment, header.digest, request.payload, now)
        return grant(request)

    def _commit(self, request: Request, header: Commit, _now: float) -> None:
        commitment = unpack(request.payload, Commitment)
        waiting = _Waiting(request)
        key = (header.encoding_id, header.share)
        waiting.shares.append(self._enter_round(key, request.owner, commitment))
        self._waiting.append(waiting)

    def _store_whole(self, request: Request, header: Store, now: float) -> None:
        if sum(s.block_bytes + s.commitment_bytes for s in header.shares) != request.payload.nbytes:
            raise ProtocolError("the payload has not the length that the header says")
        self._store.require_places(len(header.shares), request.owner)
        has_room = self._store.has_room(request.owner, [share.block_bytes for share in header.shares])
        waiting = _Waiting(request)
        offset = 0
        for share in header.shares:
            block = request.payload[offset : offset + share.block_bytes]
            offset += share.block_bytes + share.commitment_bytes
            commitment = request.payload[offset - share.commitment_bytes : offset]
            waiting.shares.append(self._store_one(request.owner, share, block, commitment, now, has_room))
        self._waiting.append(waiting)

    def _store_one(
        self, owner: bytes, share: WholeShare, block: memoryview, packed: memoryview, now: float, has_room: bool
    ) -> Any:
        key = (share.encoding_id, share.share)
        began = False
        try:
            commitment = unpack(packed, Commitment)
            if self._store.holds(key, owner):
                return self._enter_round(key, owner, commitment)
            recipe = decode_recipe(commitment.recipe)
            block_digest = digest(block)
            if recipe.segment_count != 1 or recipe.digest_of(0, share.share) != block_digest:
                raise DeclineError(Code.MALFORMED, "the block is not the one the recipe names")
            opening = Open(share.encoding_id, share.share, share.k, share.n, recipe.block_size, share.block_bytes)
            began = self._store.open(opening, owner, now, has_room=has_room)
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

    def _abandon(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.abandon(key_of(header), request.owner)
        return grant(request)

    # --- changing, giving up

    def _delete(self, request: Request, header: Delete, _now: float) -> Answered:
        self._store.delete(header, request.owner)
        return grant(request)

    def _undelete(self, request: Request, header: Undelete, _now: float) -> Answered:
        self._store.undelete(header, request.owner)
        return grant(request)

    def _amend(self, request: Request, header: Amend, _now: float) -> Answered:
        self._store.amend(header, unpack(request.payload, Commitment), request.owner)
        return grant(request)

    def _discard(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.discard(key_of(header), request.owner)
        return grant(request)

    def _check(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.check(key_of(header))
        return grant(request)


def _malformed(error: IntegrityError) -> Answer:
    return Answer(Code.MALFORMED, str(error)[:500])
