"""What a worker does for each operation: check → append → sync → acknowledge; or read, and answer.

Commits wait until all messages at hand are read and then share one round of fsyncs; every other answer is given at
once. Changes of what is held are announced to every broker before the answer is sent (see `server`), so that a client
which has an acknowledgement finds the share in the catalog, or finds it gone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from common.coding.commitments import content_of
from common.coding.recipe import decode_recipe, digest
from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import MAX_HEADER, MAX_PAYLOAD, pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import (
    Amend,
    Append,
    Commit,
    Describe,
    Described,
    Fetch,
    Fetched,
    HeldFor,
    Inspect,
    ListSuperseded,
    Open,
    Part,
    Progress,
    ShareName,
    SignedCommitment,
    Store,
    Stored,
    SupersededList,
    Wanted,
    WholeShare,
)
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    Answer,
    ApproverList,
    Code,
    EmptiedPart,
    Empty,
    EmptyTrash,
    Message,
    Tombstone,
)
from common.protocol.operations import (
    ABANDON,
    AMEND,
    APPEND,
    APPROVERS,
    CHECK,
    COMMIT,
    DELETE,
    DESCRIBE,
    DISCARD,
    EMPTY,
    FETCH,
    INSPECT,
    NAME_APPROVERS,
    OPEN,
    PROGRESS,
    STORE,
    SUPERSEDED,
    UNDELETE,
    H,
    R,
    Spec,
)
from worker.amending import HeldCommitment
from worker.committing import PendingCommit
from worker.layout import ShareKey
from worker.leases import Leases
from worker.reading import OpenShare
from worker.refusals import Refusal, disk_answer
from worker.share_file import mapping_for
from worker.share_states import KeptShare
from worker.staging import Payer, StagedShare
from worker.store import ShareStore

_MOST_HELD_AT_ONCE = 48  # what is said of so many fits into one header


@dataclass(frozen=True)
class Request:
    """A client's or a steward's request as it came through the broker with this number."""

    broker: int
    envelope: Envelope
    header: memoryview
    payload: memoryview

    @property
    def owner(self) -> bytes:
        return self.envelope.owner

    def payer(self, store: ShareStore) -> Payer:
        """Whom what is stored by it counts for."""
        return store.payer(self.owner, self.envelope.account, self.envelope.members)


@dataclass(frozen=True)
class Answered:
    broker: int
    envelope: Envelope
    header: bytes
    payload: Any = None


def answer(request: Request, header: Message, payload: Any = None) -> Answered:
    return Answered(request.broker, request.envelope.reply(), pack_header(header), payload)


def grant(request: Request, payload: Any = None) -> Answered:
    return answer(request, Acknowledged(GRANTED), payload)


def brief(answer: Answer, count: int) -> Answer:
    """An answer, its text cut so that it fits into one header together with `count` - 1 others."""
    limit = MAX_HEADER // count - 32  # bytes, beside the code, lengths and the arrays around them
    return Answer(answer.code, answer.text.encode()[:limit].decode(errors="ignore"))


def key_of(name: ShareName) -> ShareKey:
    return name.encoding_id, name.share


class Answering:
    """`now` is monotonic seconds."""

    def __init__(self, store: ShareStore, leases: Leases) -> None:
        self._store = store
        self._leases = leases

    def fetch(self, request: Request, header: Fetch, now: float) -> Answered:
        """Blocks, one after the other; renews the lease of the broker that the request came through."""
        parts: list[Part] = []
        blocks = _Pieces()
        for encoding_id in {name.encoding_id for name in header.blocks}:
            self._leases.renew(encoding_id, request.broker, now)
        for name in header.blocks:
            try:
                blocks.require_room()
                block = self._store.block((name.encoding_id, name.share), request.owner, name.segment)
                blocks.add(block)
            except Refusal as refusal:
                parts.append(Part(brief(refusal.answer, len(header.blocks))))
                continue
            parts.append(Part(GRANTED, len(block)))
        return answer(request, Fetched(GRANTED, parts), blocks.payload())

    def describe(self, request: Request, header: Describe, _now: float) -> Answered:
        """What lies beside shares."""
        parts: list[tuple[Answer, int, int]] = []
        pieces = _Pieces()
        for name in header.shares:
            try:
                pieces.require_room()
                first, second = _describe(self._store.share(key_of(name), request.owner), header.wanted, request.owner)
                pieces.add(first, second)
            except Refusal as refusal:
                parts.append((brief(refusal.answer, len(header.shares)), 0, 0))
                continue
            parts.append((GRANTED, len(first), len(second)))
        return answer(request, Described(GRANTED, parts), pieces.payload())

    def progress(self, request: Request, name: ShareName, now: float) -> Answered:
        """Which blocks of a share are stored."""
        ranges = self._store.progress(key_of(name), request.owner, now, payer=request.payer(self._store))
        if ranges is None:
            return answer(request, Progress(GRANTED, committed=True))
        return answer(request, Progress(GRANTED), pack(ranges))

    def superseded(self, request: Request, header: ListSuperseded, _now: float) -> Answered:
        """What was replaced of the owner who asks, and is held: of as many shares as the answer takes."""
        parts: list[HeldFor] = []
        pieces = _Pieces()
        after = header.after
        for held in self._store.superseded(request.owner, after):
            packed = [pack(each.signed) for each in held]
            if parts and (len(parts) + len(held) > _MOST_HELD_AT_ONCE or not pieces.has_room(packed)):
                return answer(request, SupersededList(GRANTED, parts, after), pieces.payload())
            for each, piece in zip(held[:_MOST_HELD_AT_ONCE], packed):
                if pieces.has_room([piece]):
                    pieces.add(piece)
                    parts.append(_held_for(each, len(piece)))
            after = held[-1].kept.serial if held else after
        return answer(request, SupersededList(GRANTED, parts), pieces.payload())

    def inspect(self, request: Request, header: Inspect, now: float) -> Answered:
        """A share's commitment, and a lease to repair its encoding."""
        signed = self._store.share((header.encoding_id, header.share), request.owner).signed
        if header.lease and not self._leases.ask(header.encoding_id, request.broker, header.lease, now):
            raise Refusal(Code.CONFLICT, "another broker is repairing this encoding")
        return grant(request, pack(signed))


def _held_for(held: HeldCommitment, length: int) -> HeldFor:
    kept, now = held.kept, held.now
    again = kept.here and content_of(now) == content_of(held.signed.commitment)
    return HeldFor(*kept.key, length, held.age, now.owner, now.generation, now.revision, again)


def _describe(opened: OpenShare, wanted: Wanted, owner: bytes) -> tuple[bytes, bytes]:
    """What an owner asks for of what lies beside a share; Refusal where it is not theirs."""
    commitment = opened.commitment
    if wanted is Wanted.COMMITMENT:
        if commitment.owner != owner:
            raise Refusal(Code.NOT_FOUND, "no such share here")
        return pack(opened.signed), b""
    return mapping_for(commitment, owner) or b"", commitment.recipe if wanted is Wanted.RECIPE else b""


class _Pieces:
    """A reply's payload, within its limit: what does not fit is to be asked for again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room = MAX_PAYLOAD

    def require_room(self) -> None:
        if self._room <= 0:
            raise Refusal(Code.BUSY, "the reply is full")

    def has_room(self, pieces: Sequence[bytes]) -> bool:
        return sum(map(len, pieces)) <= self._room

    def add(self, *pieces: bytes) -> None:
        """Add all of them, or raise Refusal(BUSY)."""
        if not self.has_room(pieces):
            raise Refusal(Code.BUSY, "the reply is full")
        self._room -= sum(map(len, pieces))
        self._pieces += pieces

    def payload(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


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
        self._places: dict[StagedShare, int] = {}  # in the round
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
        self._bind(SUPERSEDED, answering.superseded)
        self._bind(APPROVERS, self._approvers)
        self._bind(NAME_APPROVERS, self._name_approvers)
        self._bind(EMPTY, self._empty_early)
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
        except Refusal as refusal:
            return [answer(request, Acknowledged(refusal.answer))]
        except ProtocolError as error:
            return [answer(request, Acknowledged(_malformed(error)))]
        except OSError as error:
            log.error("cannot carry out what was asked: %s", error)
            return [answer(request, Acknowledged(disk_answer(error)))]
        return [answered] if answered is not None else []

    def finish_round(self) -> list[Answered]:
        """Make all waiting commits durable; the answers."""
        if not self._waiting:
            return []
        outcomes = self._store.commit_round(self._round)
        answers = [self._conclude(waiting, outcomes) for waiting in self._waiting]
        self._round, self._places, self._waiting = [], {}, []
        return answers

    def disconnected(self, broker: int) -> None:
        """A broker's connection is lost: its leases end."""
        self._leases.release(broker)

    def expire(self, now: float) -> None:
        """Drop expired leases; to be called now and then."""
        self._leases.expire(now)

    def _conclude(self, waiting: _Waiting, outcomes: list[Answer]) -> Answered:
        answers = [outcomes[share] if isinstance(share, int) else share for share in waiting.shares]
        if waiting.request.envelope.operation is Operation.COMMIT:
            return answer(waiting.request, Acknowledged(answers[0]))
        return answer(waiting.request, Stored(GRANTED, [brief(answer, len(answers)) for answer in answers]))

    # --- storing

    def _open(self, request: Request, header: Open, now: float) -> Answered:
        self._store.open(header, request.owner, now, payer=request.payer(self._store))
        return grant(request)

    def _append(self, request: Request, header: Append, now: float) -> Answered:
        if digest(request.payload) != header.digest:
            raise Refusal(Code.MALFORMED, "the block does not have its digest")
        key = (header.encoding_id, header.share)
        owner = request.owner
        self._store.append(key, owner, header.segment, header.digest, request.payload, now)
        return grant(request)

    def _commit(self, request: Request, header: Commit, _now: float) -> None:
        signed = unpack(request.payload, SignedCommitment)
        waiting = _Waiting(request)
        key = (header.encoding_id, header.share)
        waiting.shares.append(self._enter_round(key, request.owner, signed))
        self._waiting.append(waiting)

    def _store_whole(self, request: Request, header: Store, now: float) -> None:
        parts = header.parts(request.payload)
        payer = request.payer(self._store)
        self._store.require_places(len(header.shares), payer)
        has_room = self._store.has_room(payer, [share.block_bytes for share in header.shares])
        waiting = _Waiting(request)
        known = self._store.known_of([share.encoding_id for share in header.shares]) if has_room else None
        for share, block, packed in parts:
            is_new = known is not None and share.encoding_id not in known
            stored = self._store_new(request.owner, payer, share, block, packed, now) if is_new else None
            if stored is None:
                stored = self._store_one(request.owner, payer, share, block, packed, now, has_room=has_room)
            waiting.shares.append(stored)
        self._waiting.append(waiting)

    def _store_new(
        self, owner: bytes, payer: Payer, share: WholeShare, block: memoryview, packed: memoryview, now: float
    ) -> Optional[int]:
        """The place in the round of a share of whose encoding nothing is here; None where it needs a closer look."""
        try:
            pending = self._store.take_whole(share, owner, payer, unpack(packed, SignedCommitment), block, now)
        except IntegrityError:
            return None
        if pending is None:
            return None
        place = self._places[pending.staged] = len(self._round)
        self._round.append(pending)
        return place

    def _store_one(
        self,
        owner: bytes,
        payer: Payer,
        share: WholeShare,
        block: memoryview,
        packed: memoryview,
        now: float,
        *,
        has_room: bool,
    ) -> Any:
        key = (share.encoding_id, share.share)
        began = False
        try:
            signed = unpack(packed, SignedCommitment)
            copies = self._store.copies_of(share.encoding_id, owner)
            if any(copy.key == key and copy.is_held_by(owner) for copy in copies):
                return self._enter_round(key, owner, signed, copies)
            recipe = decode_recipe(signed.commitment.recipe)
            if recipe.segment_count != 1 or not recipe.accepts(0, share.share, block):
                raise Refusal(Code.MALFORMED, "the block is not the one the recipe names")
            opening = Open(share.encoding_id, share.share, share.k, share.n, recipe.block_size, share.block_bytes)
            began = self._store.open(opening, owner, now, payer=payer, copies=copies, has_room=has_room)
            self._store.append(key, owner, 0, recipe.digest_of(0, share.share), block, now)
            return self._enter_round(key, owner, signed, copies)
        except Refusal as refusal:
            if began:
                self._store.abandon(key, owner)
            return refusal.answer
        except IntegrityError as error:
            return _malformed(error)

    def _enter_round(
        self,
        key: ShareKey,
        owner: bytes,
        signed: SignedCommitment,
        copies: Optional[Sequence[KeptShare]] = None,
    ) -> Any:
        """The answer where it is known already, else the share's place in the round."""
        pending = self._store.prepare_commit(key, owner, signed, copies)
        if pending is None:
            return GRANTED
        place = self._places.setdefault(pending.staged, len(self._round))
        if place == len(self._round):
            self._round.append(pending)
        elif self._round[place].trailer != pending.trailer:  # asked twice within one round
            raise Refusal(Code.CONFLICT, "this share is being committed otherwise")
        return place

    def _abandon(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.abandon(key_of(header), request.owner)
        return grant(request)

    # --- changing, giving up

    def _delete(self, request: Request, header: Tombstone, _now: float) -> Answered:
        self._store.delete(header, request.owner)
        return grant(request)

    def _undelete(self, request: Request, header: Tombstone, _now: float) -> Answered:
        self._store.undelete(header, request.owner)
        return grant(request)

    def _amend(self, request: Request, header: Amend, _now: float) -> Answered:
        self._store.amend(header.encoding_id, unpack(request.payload, SignedCommitment), request.owner)
        return grant(request)

    def _approvers(self, request: Request, _header: Empty, _now: float) -> Answered:
        return answer(request, self._store.approving.known(request.owner))

    def _name_approvers(self, request: Request, header: ApproverList, _now: float) -> Answered:
        self._store.approving.name(header, request.owner)
        return grant(request)

    def _empty_early(self, request: Request, header: EmptyTrash, _now: float) -> Answered:
        part = unpack(request.payload, EmptiedPart)
        return answer(request, self._store.empty(header, part, request.owner))

    def _discard(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.discard(key_of(header), request.owner)
        return grant(request)

    def _check(self, request: Request, header: ShareName, _now: float) -> Answered:
        self._store.check(key_of(header))
        return grant(request)


def _malformed(error: IntegrityError) -> Answer:
    return Answer(Code.MALFORMED, str(error)[:500])
