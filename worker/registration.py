"""What a worker announces to a broker: who it is, what it holds, how much room there is.

Of what it holds a broker that knows the same numbering is told what changed since; any other, everything.

    down ──connected──▶ registering ──granted──▶ registered ──"no session"──▶ registering
      ▲                     │ "conflict": again in a second                        │
      └────────────────────── the connection is lost ◀────────────────────────────┘

No socket and no clock here: events and the time come in, messages go out.
"""

from __future__ import annotations

import enum
import itertools
import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional, TypeVar, Union

from common.chunks import chunks
from common.errors import RefusedError
from common.protocol.codec import pack, pack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import (
    MAX_ANNOUNCED,
    MAX_OVER,
    MAX_TOMBSTONES,
    PROTOCOL_VERSION,
    Announce,
    AnnouncedShare,
    Answer,
    Code,
    DeviceKind,
    KnownUpTo,
    Message,
    Register,
    Report,
    ReportDeleted,
    Tombstone,
    Withdraw,
)
from worker.index import Changes
from worker.layout import ShareKey
from worker.refusals import Refusal
from worker.store import ShareStore

log = logging.getLogger(__name__)

T = TypeVar("T")

_UNDER_WAY = 16  # statements without an answer, behind which those of what a broker does not know wait
_PERIOD = 1.0  # seconds between reports, and between tries to register
_CONFLICT_TIMEOUT = 12.0  # seconds; a connection that was cut is noticed within five


class Statement(NamedTuple):
    """A message to the broker itself."""

    envelope: Envelope
    header: bytes
    payload: Optional[bytes] = None


class _State(enum.Enum):
    DOWN = "down"
    REGISTERING = "registering"
    REGISTERED = "registered"


class Registration:
    """The worker's standing with one broker. `now` is monotonic seconds."""

    def __init__(
        self,
        store: ShareStore,
        address: str,
        kind: DeviceKind = DeviceKind.SERVER,
        mark: Callable[[], Optional[bytes]] = lambda: None,
    ) -> None:
        """`mark` gives what the broker gave last for its list of members."""
        self._store = store
        self._kind = kind
        self._mark = mark
        self._address = address
        self._state = _State.DOWN
        self._next = 0.0
        self._conflict_since: Optional[float] = None
        self._unacknowledged = Unacknowledged()
        self._told = 0  # the number of the last change that the broker was told
        self._left: Optional[Iterator[Statement]] = None  # what it does not know, to be told as it answers

    @property
    def registered(self) -> bool:
        return self._state is _State.REGISTERED

    def connected(self, now: float) -> list[Statement]:
        return self._register(now)

    def disconnected(self) -> None:
        if self._state is not _State.DOWN:
            log.warning("lost the broker at %s", self._address)
        self._state, self._conflict_since, self._left = _State.DOWN, None, None
        self._unacknowledged.clear()

    def heard(self, request_id: bytes) -> None:
        """The broker has answered this statement, whatever the answer."""
        self._unacknowledged.heard(request_id)

    def answered(
        self, operation: Operation, answer: Answer, now: float, known: Optional[KnownUpTo] = None
    ) -> list[Statement]:
        """The broker's answer to one of our statements; RefusedError where it will always be refused.

        `known`: what it says that it knows of this device, where it has just registered.
        """
        if answer.code is Code.NO_SESSION:
            return self._register(now) if self._state is _State.REGISTERED else []
        if operation is Operation.PROBE and answer.code is Code.NOT_ALLOWED:
            raise not_admitted(self._address)
        if operation is not Operation.REGISTER or self._state is _State.DOWN:
            return []
        if answer.granted:
            # Also where it was granted before: a message that came twice has made the broker drop what was announced.
            log.info("registered with the broker at %s", self._address)
            self._state, self._conflict_since = _State.REGISTERED, None
            self._unacknowledged.clear()
            self._left = self._all_unknown(known)
            return []
        if self._state is _State.REGISTERED:
            return []
        if answer.code is not Code.CONFLICT:
            raise RefusedError(f"the broker at {self._address} refuses this worker: {answer.text}")
        if self._conflict_since is None:
            self._conflict_since = now
        if now - self._conflict_since > _CONFLICT_TIMEOUT:
            raise RefusedError(f"the broker at {self._address} refuses this worker: {answer.text}")
        return []

    def announce(self, changes: Changes) -> list[Statement]:
        """Announce what changed. Nothing while we are not registered: once we are, everything is announced."""
        if self._state is not _State.REGISTERED:
            return []
        sequence = changes.sequence if self._left is None else self._told  # what comes before is still to be told
        statements = self._report_deleted(changes.tombstones)
        statements += self._withdraw(changes.withdrawn, self._told if changes.announced else sequence)
        for page in chunks(changes.announced, MAX_ANNOUNCED):
            statements.append(self._announce(page, sequence if page[-1] is changes.announced[-1] else self._told))
        self._told = sequence
        return statements

    def _all_unknown(self, known: Optional[KnownUpTo]) -> Iterator[Statement]:
        """What a broker does not know; everything, where it knows nothing, or what is not remembered here.

        Deletions before shares, so that the broker never lists a deleted one. Made as they are sent, since they may be
        very many: the last one, when all changes until then were told.
        """
        store = self._store
        for page in chunks(store.tombstones(), MAX_TOMBSTONES):
            yield from self._report_deleted(page)
        since = store.since(known.sequence) if known is not None and known.epoch == store.numbering.epoch else None
        self._told = known.sequence if since is not None and known is not None else 0
        withdrawn, pages = since or ([], store.pages())
        yield from self._withdraw(withdrawn, self._told)
        for some in pages:
            yield self._announce(some, self._told)
        self._told = store.numbering.sequence
        yield self._announce([], self._told, complete=True)

    def _next_unknown(self, now: float) -> list[Statement]:
        """Some more of what the broker does not know, as it answers what was sent."""
        statements: list[Statement] = []
        while self._left is not None and len(self._unacknowledged) < _UNDER_WAY:
            try:
                made = next(self._left, None)
            except Refusal as refusal:
                log.warning("what is held is told from the beginning: %s", refusal)
                return [*statements, *self._register(now)]
            if made is None:
                self._left = None
            else:
                statements.append(made)
        return statements

    def _repeat(self, unacknowledged: Subjects) -> list[Statement]:
        """What a broker may not have received, as it is now."""
        held = self._store.held(unacknowledged.shares)
        gone = [ShareName(*key) for key in unacknowledged.shares if key not in held]
        statements = self._report_deleted(unacknowledged.tombstones) + self._withdraw(gone, self._told)
        statements += [self._announce(page, self._told) for page in chunks(held.values(), MAX_ANNOUNCED)]
        if unacknowledged.complete:
            statements.append(self._announce([], self._told, complete=True))
        return statements

    def _withdraw(self, names: Iterable[ShareName], sequence: int) -> list[Statement]:
        """`sequence`: of the last change that was told once the last of these is."""
        epoch = self._store.numbering.epoch
        return [
            self._statement(Operation.WITHDRAW, Withdraw(epoch, sequence), page, Subjects(_keys(page)))
            for page in chunks(names, MAX_ANNOUNCED)
        ]

    def _announce(self, shares: list[AnnouncedShare], sequence: int, *, complete: bool = False) -> Statement:
        """`complete`: nothing of what is held is left to be told then."""
        numbering = self._store.numbering
        header = Announce(complete, numbering.epoch, sequence, numbering.digest if complete else None)
        return self._statement(Operation.ANNOUNCE, header, shares, Subjects(_keys(shares), complete=complete))

    def _report_deleted(self, tombstones: Iterable[Tombstone]) -> list[Statement]:
        statements = []
        for page in chunks(tombstones, MAX_TOMBSTONES):
            told = [each for each in map(self._store.told, page) if each is not None]
            statements.append(
                self._statement(Operation.REPORT_DELETED, ReportDeleted(), told, Subjects(tombstones=page))
            )
        return statements

    def _statement(self, operation: Operation, header: Message, page: list[T], subjects: Subjects) -> Statement:
        made = statement(operation, header, pack(page))
        self._unacknowledged.sent(made.envelope.request_id, subjects)
        return made

    def tick(self, now: float) -> list[Statement]:
        """To be called several times a second, once all changes were announced."""
        unknown = self._next_unknown(now) if self._state is _State.REGISTERED else []
        if now < self._next or self._state is _State.DOWN:
            return unknown
        if self._state is _State.REGISTERING:
            return self._register(now)
        self._next = now + _PERIOD
        again = self._repeat(self._unacknowledged.overdue())
        store = self._store
        said = Report(store.used_bytes, store.free_bytes(), store.count(), store.held_for, store.over()[:MAX_OVER])
        report = statement(Operation.REPORT, said)
        self._unacknowledged.sent(report.envelope.request_id, Subjects())
        return [*unknown, *again, report]

    def _register(self, now: float) -> list[Statement]:
        self._state, self._left = _State.REGISTERING, None
        self._next = now + _PERIOD
        store = self._store
        room = store.capacity_bytes(), store.used_bytes, store.free_bytes()
        register = Register(PROTOCOL_VERSION, *room, self._kind, self._mark(), store.numbering.epoch, store.hold)
        return [statement(Operation.REGISTER, register)]


def not_admitted(address: str) -> RefusedError:
    return RefusedError(
        f"the broker at {address} does not admit this device",
        advice="get a new invite there (python broker/broker.py invite worker) and start with --join",
    )


def _keys(shares: Iterable[Union[AnnouncedShare, ShareName]]) -> list[tuple[bytes, int]]:
    return [(share.encoding_id, share.share) for share in shares]


def statement(operation: Operation, header: Message, payload: Optional[bytes] = None) -> Statement:
    envelope = Envelope(Kind.REQUEST, operation, secrets.token_bytes(IDENTIFIER_SIZE))
    return Statement(envelope, pack_header(header), payload)


@dataclass
class Subjects:
    """The subjects of a statement; `complete`: it was the last page of all that this device holds."""

    shares: list[ShareKey] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    complete: bool = False


class Unacknowledged:
    """Statements that a broker has not answered: repeated, as things are by then, since a message may be lost.

    A broker answers in order. So a statement is overdue once a later one has its answer, and not before: repeating it
    to a broker that is busy, as with 600,000 shares after its start, would only add to its work. The report of every
    second is always a later one.

    The present state is sent, not the old statement: a share that was announced, and withdrawn since, is withdrawn. So
    duplicates and their order do no harm. Time comes in as rounds, one a second.
    """

    def __init__(self) -> None:
        self._sent: dict[bytes, Subjects] = {}  # by request id, in the order of sending
        self._passed_over: dict[bytes, Subjects] = {}  # a later one was answered, in this round
        self._late: dict[bytes, Subjects] = {}  # or in the one before

    def __len__(self) -> int:
        """Statements whose answers are awaited."""
        return len(self._sent)

    def sent(self, request_id: bytes, subjects: Subjects) -> None:
        self._sent[request_id] = subjects

    def heard(self, request_id: bytes) -> None:
        """The broker has answered."""
        self._passed_over.pop(request_id, None)
        self._late.pop(request_id, None)
        if request_id not in self._sent:
            return
        earlier = list(itertools.takewhile(lambda sent: sent != request_id, self._sent))
        self._passed_over.update((each, self._sent.pop(each)) for each in earlier)
        del self._sent[request_id]

    def clear(self) -> None:
        """Forget all: everything is announced anew, or the connection is lost."""
        for statements in (self._sent, self._passed_over, self._late):
            statements.clear()

    def overdue(self) -> Subjects:
        """End a round; returns what was passed over in the one before and still has no answer."""
        together = _merged(self._late.values())
        self._late, self._passed_over = self._passed_over, {}
        return together


def _merged(parts: Iterable[Subjects]) -> Subjects:
    whole = Subjects()
    for part in parts:
        whole.shares += part.shares
        whole.tombstones += part.tombstones
        whole.complete = whole.complete or part.complete
    whole.shares = list(dict.fromkeys(whole.shares))
    return whole
