"""What a worker tells a broker of itself: who it is, what it holds, how much room there is.

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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, TypeVar, Union

from common.errors import RefusedError
from common.protocol.codec import pack, pack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import (
    MAX_ANNOUNCED,
    PROTOCOL_VERSION,
    Announce,
    AnnouncedShare,
    Answer,
    Code,
    DeviceKind,
    Message,
    Register,
    Report,
    ReportDeleted,
    Tombstone,
    Withdraw,
)
from worker.inventory import News
from worker.store import ShareStore

log = logging.getLogger(__name__)

ShareKey = tuple[bytes, int]  # encoding id, share

T = TypeVar("T")

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

    def __init__(self, store: ShareStore, address: str, kind: DeviceKind = DeviceKind.SERVER) -> None:
        self._store = store
        self._kind = kind
        self._address = address
        self._state = _State.DOWN
        self._next = 0.0
        self._conflict_since: Optional[float] = None
        self._unacknowledged = Unacknowledged()

    @property
    def registered(self) -> bool:
        return self._state is _State.REGISTERED

    def connected(self, now: float) -> list[Statement]:
        return self._register(now)

    def disconnected(self) -> None:
        if self._state is not _State.DOWN:
            log.warning("lost the broker at %s", self._address)
        self._state, self._conflict_since = _State.DOWN, None
        self._unacknowledged.clear()

    def heard(self, request_id: bytes) -> None:
        """The broker has answered this statement, somehow."""
        self._unacknowledged.heard(request_id)

    def answered(self, operation: Operation, answer: Answer, now: float) -> list[Statement]:
        """The broker's answer to one of our statements; RefusedError where it will never be yes."""
        if answer.code is Code.NO_SESSION:
            return self._register(now) if self._state is _State.REGISTERED else []
        if operation is Operation.PROBE and answer.code is Code.NOT_ALLOWED:
            raise not_admitted(self._address)
        if operation is not Operation.REGISTER or self._state is _State.DOWN:
            return []
        if answer.granted:
            # Also where it was granted before: a message that came twice has made the broker forget what it was told.
            log.info("registered with the broker at %s", self._address)
            self._state, self._conflict_since = _State.REGISTERED, None
            self._unacknowledged.clear()
            return self._tell_all()
        if self._state is _State.REGISTERED:
            return []
        if answer.code is not Code.CONFLICT:
            raise RefusedError(f"the broker at {self._address} refuses this worker: {answer.text}")
        if self._conflict_since is None:
            self._conflict_since = now
        if now - self._conflict_since > _CONFLICT_TIMEOUT:
            raise RefusedError(f"the broker at {self._address} refuses this worker: {answer.text}")
        return []

    def tell(self, news: News) -> list[Statement]:
        """Tell the broker what changed. Nothing while it doesn't know us: it is told of everything once it does."""
        if self._state is not _State.REGISTERED:
            return []
        statements = self._report_deleted(news.tombstones) + self._withdraw(news.withdrawn)
        if news.announced:
            statements += self._announce(news.announced, complete=False)
        return statements

    def _tell_all(self) -> list[Statement]:
        """Deletions before shares, so that the broker never shows what it is about to hear was deleted."""
        return self._report_deleted(self._store.tombstones()) + self._announce(
            self._store.held().values(), complete=True
        )

    def _tell_again(self, unacknowledged: Said) -> list[Statement]:
        """What a broker may not have heard, as it is now."""
        held = self._store.held()
        there = [held[key] for key in unacknowledged.shares if key in held]
        gone = [ShareName(*key) for key in unacknowledged.shares if key not in held]
        statements = self._report_deleted(unacknowledged.tombstones) + self._withdraw(gone)
        if there or unacknowledged.complete:
            statements += self._announce(there, complete=unacknowledged.complete)
        return statements

    def _report_deleted(self, tombstones: Iterable[Tombstone]) -> list[Statement]:
        return [
            self._say(Operation.REPORT_DELETED, ReportDeleted(), page, Said(tombstones=page))
            for page in _pages(tombstones)
        ]

    def _withdraw(self, names: Iterable[ShareName]) -> list[Statement]:
        return [self._say(Operation.WITHDRAW, Withdraw(), page, Said(_keys(page))) for page in _pages(names)]

    def _announce(self, shares: Iterable[AnnouncedShare], *, complete: bool) -> list[Statement]:
        """With `complete`, these are all: there is a last page then, be it empty."""
        pages = _pages(shares) or [[]]
        statements = []
        for page in pages:
            last = complete and page is pages[-1]
            statements.append(self._say(Operation.ANNOUNCE, Announce(last), page, Said(_keys(page), complete=last)))
        return statements

    def _say(self, operation: Operation, header: Message, page: list[T], said: Said) -> Statement:
        spoken = statement(operation, header, pack(page))
        self._unacknowledged.said(spoken.envelope.request_id, said)
        return spoken

    def tick(self, now: float) -> list[Statement]:
        """To be called several times a second."""
        if now < self._next or self._state is _State.DOWN:
            return []
        if self._state is _State.REGISTERING:
            return self._register(now)
        self._next = now + _PERIOD
        again = self._tell_again(self._unacknowledged.overdue())
        report = statement(Operation.REPORT, Report(self._store.used_bytes, self._store.free_bytes()))
        self._unacknowledged.said(report.envelope.request_id, Said())
        return [*again, report]

    def _register(self, now: float) -> list[Statement]:
        self._state = _State.REGISTERING
        self._next = now + _PERIOD
        store = self._store
        register = Register(PROTOCOL_VERSION, store.capacity_bytes(), store.used_bytes, store.free_bytes(), self._kind)
        return [statement(Operation.REGISTER, register)]


def not_admitted(address: str) -> RefusedError:
    return RefusedError(
        f"the broker at {address} does not admit this device",
        advice="get a new invite there (python broker/broker.py invite worker) and start with --join",
    )


def _keys(shares: Iterable[Union[AnnouncedShare, ShareName]]) -> list[tuple[bytes, int]]:
    return [(share.encoding_id, share.share) for share in shares]


def _pages(items: Iterable[T]) -> list[list[T]]:
    everything = list(items)
    return [everything[start : start + MAX_ANNOUNCED] for start in range(0, len(everything), MAX_ANNOUNCED)]


def statement(operation: Operation, header: Message, payload: Optional[bytes] = None) -> Statement:
    envelope = Envelope(Kind.REQUEST, operation, secrets.token_bytes(IDENTIFIER_SIZE))
    return Statement(envelope, pack_header(header), payload)


@dataclass
class Said:
    """What a statement was about; `complete`: it was the last of all that this device holds."""

    shares: list[ShareKey] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    complete: bool = False


class Unacknowledged:
    """What was told to a broker and never answered: told again, as it is by then, since a message may be lost.

    A broker answers in the order in which it is told. So what has no answer is overdue once something that was said
    later has one, and not before: a broker that needs its time, as for 600,000 shares after its start, would only have
    more to do if it were told again. What is said every second, the report, sees to it that there always is something
    later.

    Statements are not repeated as they were: a share that was announced, and withdrawn since, is withdrawn. So it does
    no harm where both messages came, nor in which order. Time comes in as rounds, one a second.
    """

    def __init__(self) -> None:
        self._said: dict[bytes, Said] = {}  # by request id, in the order in which it was said
        self._passed_over: dict[bytes, Said] = {}  # something later was answered, in this round
        self._late: dict[bytes, Said] = {}  # or in the one before

    def said(self, request_id: bytes, said: Said) -> None:
        self._said[request_id] = said

    def heard(self, request_id: bytes) -> None:
        """An answer came, whatever it is."""
        self._passed_over.pop(request_id, None)
        self._late.pop(request_id, None)
        if request_id not in self._said:
            return
        earlier = list(itertools.takewhile(lambda said: said != request_id, self._said))
        self._passed_over.update((each, self._said.pop(each)) for each in earlier)
        del self._said[request_id]

    def clear(self) -> None:
        """All is told anew, or nobody is there to be told."""
        for statements in (self._said, self._passed_over, self._late):
            statements.clear()

    def overdue(self) -> Said:
        """End a round: all that was passed over in the one before, and still has no answer; it waits no more."""
        together = _together(self._late.values())
        self._late, self._passed_over = self._passed_over, {}
        return together


def _together(parts: Iterable[Said]) -> Said:
    whole = Said()
    for part in parts:
        whole.shares += part.shares
        whole.tombstones += part.tombstones
        whole.complete = whole.complete or part.complete
    whole.shares = list(dict.fromkeys(whole.shares))
    return whole
