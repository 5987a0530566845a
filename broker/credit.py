"""What clients have under way at devices: the broker's memory is bounded by what it has granted.

A request that was forwarded is remembered until its reply passes, its device goes or does not answer, or its time is
over. Its credit, the payload bytes of request and reply together, counts against its client and the whole until then.
How many of its requests go to one device at a time is the client's part, told in the Welcome.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Operation
from common.protocol.messages import HIGH_WATER_MARK

REQUESTS = HIGH_WATER_MARK  # under way for one client: what its sockets are made for, so that replies always fit
REQUESTS_PER_DEVICE = 4
CREDIT = 16 * 1024 * 1024  # bytes for one client
TOTAL_CREDIT = 192 * 1024 * 1024  # bytes for all clients; replies and requests in sockets stay below twice that
SESSIONS = 3  # sessions' worth that all of one client have together: no client has more than a quarter of the total
REPEAT_AFTER = 1.0  # seconds; a request that comes again sooner is a double, its answer is coming
FORGET_AFTER = 120.0  # seconds, longer than any requester waits
# A worker answers what it read before it reports, 32 messages: so each report says that it was through with so many.
ANSWERS_WITHIN = 5.0  # seconds
_REPORTS = 4  # and one more for so many requests before it
_BURST = 32
_SLOWEST = 256 * 1024  # bytes a second at which payloads come and go at least


@dataclass(frozen=True)
class Forwarded:
    client: bytes  # its public key
    session: bytes
    request_id: bytes
    device: bytes
    operation: Operation
    credit: int
    since: float
    reports: int = 0  # that its device had sent by then
    ahead: int = field(default=0, compare=False)  # requests of that device under way by then
    passed: float = 0.0  # when it was last passed on again, having come again


class Ledger:
    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[bytes, bytes], Forwarded] = OrderedDict()
        self._under_way: dict[bytes, tuple[int, int]] = {}  # session, client, device → requests, bytes
        self._total = 0

    def find(self, session: bytes, request_id: bytes) -> Optional[Forwarded]:
        """The request that is under way by this name."""
        return self._entries.get((session, request_id))

    def enter(self, entry: Forwarded) -> bool:
        """Grant a request that is not under way its credit; False where it has to wait."""
        requests, size = self._under_way.get(entry.session, (0, 0))
        if requests >= REQUESTS or (requests and size + entry.credit > CREDIT):
            return False
        if self.is_over(entry):
            return False
        if entry.credit > MAX_PAYLOAD or self._total + entry.credit > TOTAL_CREDIT:
            return False
        ahead, _ = self._under_way.get(entry.device, (0, 0))
        self._entries[(entry.session, entry.request_id)] = replace(entry, ahead=ahead)
        for whose in (entry.session, entry.client, entry.device):
            requests, size = self._under_way.get(whose, (0, 0))
            self._under_way[whose] = (requests + 1, size + entry.credit)
        self._total += entry.credit
        return True

    def is_over(self, entry: Forwarded) -> bool:
        """Whether the sessions of its client have as much under way as one client may."""
        requests, size = self._under_way.get(entry.client, (0, 0))
        return requests >= SESSIONS * REQUESTS or size + entry.credit > SESSIONS * CREDIT

    def repeat(self, entry: Forwarded, now: float) -> bool:
        """Whether a request under way that came again is to be passed on again: it, or its answer, may be lost.

        It passes on the credit that it has; so seldom that what a device then holds twice is bounded, too.
        """
        if now - max(entry.since, entry.passed) < REPEAT_AFTER:
            return False
        self._entries[(entry.session, entry.request_id)] = replace(entry, passed=now)
        return True

    def leave(self, session: bytes, request_id: bytes) -> Optional[Forwarded]:
        """A reply passes: give the credit back. None where nobody waits for it."""
        entry = self._entries.pop((session, request_id), None)
        if entry is not None:
            for whose in (entry.session, entry.client, entry.device):
                requests, size = self._under_way.pop(whose)
                if requests > 1:
                    self._under_way[whose] = (requests - 1, size - entry.credit)
            self._total -= entry.credit
        return entry

    def leave_device(self, device: bytes) -> list[Forwarded]:
        """A device is gone: the requests that nobody will answer."""
        return self._leave_all([e for e in self._entries.values() if e.device == device])

    def leave_session(self, session: bytes) -> None:
        self._leave_all([e for e in self._entries.values() if e.session == session])

    def unanswered(self, now: float, reports: Callable[[bytes], int]) -> list[Forwarded]:
        """Give up, and return, what a device that goes on reporting should have answered by now.

        reports: how many a device has sent.
        """
        old = itertools.takewhile(lambda entry: now - entry.since >= ANSWERS_WITHIN, self._entries.values())
        return self._leave_all(
            [
                entry
                for entry in old
                if now - entry.since >= ANSWERS_WITHIN + self._under_way[entry.device][1] / _SLOWEST
                and reports(entry.device) >= entry.reports + _REPORTS + entry.ahead // _BURST
            ]
        )

    def expire(self, now: float) -> None:
        old = []
        for entry in self._entries.values():  # in the order of entering
            if now - entry.since < FORGET_AFTER:
                break
            old.append(entry)
        self._leave_all(old)

    def _leave_all(self, entries: list[Forwarded]) -> list[Forwarded]:
        for entry in entries:
            self.leave(entry.session, entry.request_id)
        return entries

    @property
    def total(self) -> int:
        return self._total
