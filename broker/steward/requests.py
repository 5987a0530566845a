"""The steward's requests to devices: few at a time, within a rate, each with an end.

At most two are under way to a device, so that its clients wait little; payload bytes, those that come and those sent,
are paid from a bucket that the rate fills. What a device is too busy for, or leaves unanswered for a while, is sent
again under the same id, with growing pauses, until the operation's timeout; then its asker gets `FAULT`. What cannot be
sent, since the device is gone, is answered `GONE` at once. A device that left something unanswered is known to be late
for a while, so that whoever has the choice asks others; long before, while something takes it longer than it should, it
is slow. Nothing here reads what it sends.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

import msgspec

from common.errors import ProtocolError
from common.protocol.codec import Buffer, unpack_header
from common.protocol.envelope import Operation
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import Answer, Code, Message
from common.protocol.operations import OPERATIONS

PER_DEVICE = 2  # requests under way
_SEND_AGAIN = 5.0  # seconds without an answer
SLOW_AFTER = 1.0  # seconds; an answer that comes later is waited for only by who has no choice
_SYNCED = {Operation.COMMIT, Operation.AMEND, Operation.DELETE, Operation.UNDELETE}
SLOW_AFTER_SYNC = 4.0  # seconds, where it is durable before it is answered
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0  # seconds after an answer "busy"
_A_MOMENT = 2 * _SEND_AGAIN  # for which one counts as late that had to be asked again
_LATE, _LONGEST_LATE = 60.0, 900.0  # seconds for which a device counts as late, at first and at most


class Reply(NamedTuple):
    """What became of a request; `header` is None where the device did not say."""

    answer: Answer
    header: Optional[memoryview] = None
    payload: Optional[memoryview] = None

    @property
    def code(self) -> Code:
        return self.answer.code


Then = Callable[[Reply, float], None]  # and the time


def ignore(_reply: Reply, _now: float) -> None:
    """The reply makes no difference, or the device announces what came of it."""


@dataclass(frozen=True)
class Request:
    """What is asked of a device.

    credit: most payload bytes of request and reply. timeout: seconds without an answer after which it is taken for
    none, where that is less than the operation's. again: seconds for which it is asked again where the device answers
    `conflict`.
    """

    device: bytes
    owner: bytes
    operation: Operation
    header: Message
    payload: Optional[Buffer] = None
    credit: int = 0
    timeout: Optional[float] = None
    again: float = 0.0


class Sending(NamedTuple):
    """A request to be sent now under this id."""

    request_id: bytes
    request: Request


class _Waiting(NamedTuple):
    request: Request
    then: Then
    asker: object


@dataclass(eq=False)
class _UnderWay:
    request_id: bytes
    request: Request
    then: Then
    asker: object
    until: float
    began: float
    again: float  # when it is sent again, unless it was answered
    pause: float = _FIRST_PAUSE
    conflict: bool = False  # the device has answered, but that it is to be asked again


class Requests:
    """`rate`: payload bytes per second. `now` is monotonic seconds everywhere."""

    def __init__(self, rate: int, rng: random.Random) -> None:
        self._rate = rate
        self._rng = rng
        self._waiting: dict[bytes, deque[_Waiting]] = {}  # by device
        self._under_way: dict[bytes, _UnderWay] = {}  # by request id
        self._at: defaultdict[bytes, list[_UnderWay]] = defaultdict(list)  # device → what is under way
        self._timers: list[tuple[float, int, bytes]] = []  # a heap of times at which a request is due again
        self._numbers = itertools.count()
        self._bucket = float(rate)
        self._filled: Optional[float] = None
        self._late: dict[bytes, tuple[float, float]] = {}  # device → until when, and for how long
        self._asked_again: dict[bytes, float] = {}  # device → until when it counts as late for that
        self._slow: dict[bytes, float] = {}  # device → until when: what it was asked is not waited for any more
        self._now = 0.0  # when anything happened last: what is lost is told with this time
        self.moved_bytes = 0  # payload bytes that came or were sent, ever

    def add(self, request: Request, then: Then = ignore, asker: object = None) -> None:
        """Send it when its turn comes; `then` is called once with the reply, unless its asker is dropped before."""
        self._waiting.setdefault(request.device, deque()).append(_Waiting(request, then, asker))

    def drop(self, asker: object) -> None:
        """This asker wants no replies any more."""
        for device, waiting in list(self._waiting.items()):
            self._waiting[device] = deque(one for one in waiting if one.asker is not asker)
        for entry in [entry for entry in self._under_way.values() if entry.asker is asker]:
            if self._is_overdue(entry):
                self._slow[entry.request.device] = self._now + _A_MOMENT
            self._leave(entry)

    def answered(self, device: bytes, request_id: bytes, frames: list[memoryview], now: float) -> None:
        """A device's reply: its header, and perhaps a payload. What nobody waits for is dropped."""
        self._now = now
        entry = self._under_way.get(request_id)
        if entry is None or entry.request.device != device:
            return
        try:
            first, *_ = unpack_header(frames[0], list[Any])
            answer = msgspec.convert(first, Answer)
        except (ProtocolError, msgspec.MsgspecError, ValueError):
            answer = Answer(Code.FAULT, "the device's reply makes no sense")
        payload = frames[1] if len(frames) > 1 else None
        if payload is not None and payload.nbytes > entry.request.credit:
            answer, payload = Answer(Code.FAULT, "the device's reply is larger than its credit"), None
        entry.conflict = answer.code is Code.CONFLICT and now - entry.began < entry.request.again
        if entry.conflict:
            entry.pause = _FIRST_PAUSE
        if answer.code is Code.BUSY or entry.conflict:
            self._wait(entry, now)
            return
        self._leave(entry)
        self._pay(payload)
        entry.then(Reply(answer, frames[0], payload), now)

    def is_late(self, device: bytes) -> bool:
        """Whether it left something unanswered a while ago."""
        until, _ = self._late.get(device, (0.0, 0.0))
        return max(until, self._asked_again.get(device, 0.0)) > self._now

    def is_slow(self, device: bytes) -> bool:
        """Whether it takes longer than it should for something now, or did a moment ago."""
        if self.is_late(device) or self._slow.get(device, 0.0) > self._now:
            return True
        return device in self._at and any(map(self._is_overdue, self._at[device]))

    def _is_overdue(self, entry: _UnderWay) -> bool:
        limit = SLOW_AFTER_SYNC if entry.request.operation in _SYNCED else SLOW_AFTER
        return not entry.conflict and self._now - entry.began > limit

    def full(self, request_id: bytes) -> None:
        """It could not be sent: its device has no room for more right now."""
        entry = self._under_way.get(request_id)
        if entry is not None:
            self._wait(entry, self._now)

    def lose(self, device: bytes) -> None:
        """A device is gone: nothing that was asked of it will be answered."""
        for entry in [entry for entry in self._under_way.values() if entry.request.device == device]:
            self._leave(entry)
            self.add(entry.request, entry.then, entry.asker)
        while self._waiting.get(device):  # one by one, since an answer may make its asker drop the others
            self._waiting[device].popleft().then(Reply(Answer(Code.GONE, "it is not connected")), self._now)

    def release(self, now: float, connected: Callable[[bytes], bool]) -> list[Sending]:
        """What may be sent now."""
        self._fill(now)
        sendings = self._again(now, connected)
        for device in list(self._waiting):
            if not connected(device):
                self.lose(device)
            else:
                sendings += self._begin(device, now)
        return sendings

    def _begin(self, device: bytes, now: float) -> list[Sending]:
        """As much of what waits for a device as may be under way."""
        sendings = []
        waiting = self._waiting[device]
        while waiting and self._bucket > 0 and len(self._at[device]) < PER_DEVICE:
            request, then, asker = waiting.popleft()
            request_id = self._rng.getrandbits(8 * IDENTIFIER_SIZE).to_bytes(IDENTIFIER_SIZE, "big")
            longest = OPERATIONS[request.operation].timeout
            until = now + (longest if request.timeout is None else min(longest, request.timeout))
            entry = _UnderWay(request_id, request, then, asker, until, now, now + _SEND_AGAIN)
            self._under_way[request_id] = entry
            self._at[device].append(entry)
            sendings.append(self._send(entry))
        if not waiting:
            del self._waiting[device]
        return sendings

    def _again(self, now: float, connected: Callable[[bytes], bool]) -> list[Sending]:
        """What is to be sent again; what is over is answered instead."""
        sendings = []
        while self._timers and self._timers[0][0] <= now and self._bucket > 0:
            when, _, request_id = heapq.heappop(self._timers)
            entry = self._under_way.get(request_id)
            if entry is None or entry.again != when:
                continue
            if now >= entry.until:
                self._leave(entry)
                self._note_late(entry.request.device, now)
                entry.then(Reply(Answer(Code.FAULT, "no answer in time")), now)
            elif not connected(entry.request.device):
                self.lose(entry.request.device)
            else:
                if now - entry.began >= _SEND_AGAIN:
                    self._ask_last(entry.request.device, now)
                entry.again = min(now + _SEND_AGAIN, max(now, entry.until))
                sendings.append(self._send(entry))
        return sendings

    def _ask_last(self, device: bytes, now: float) -> None:
        """For a moment it counts as late: its message may only be lost."""
        self._asked_again[device] = now + _A_MOMENT

    def _note_late(self, device: bytes, now: float) -> None:
        """Each time for longer, unless it has long been in time again; what it leaves meanwhile is no other time."""
        until, seconds = self._late.get(device, (now, 0.0))
        if now - until >= _LONGEST_LATE:
            seconds = 0.0
        if until <= now:
            seconds = min(max(_LATE, 2 * seconds), _LONGEST_LATE)
        self._late[device] = (now + seconds, seconds)

    def _send(self, entry: _UnderWay) -> Sending:
        self._time(entry)
        self._pay(entry.request.payload)
        return Sending(entry.request_id, entry.request)

    def _pay(self, payload: Optional[Buffer]) -> None:
        size = 0 if payload is None else len(payload)
        self._bucket -= size
        self.moved_bytes += size

    def _wait(self, entry: _UnderWay, now: float) -> None:
        entry.again = now + entry.pause
        entry.pause = min(2 * entry.pause, _LONGEST_PAUSE)
        self._time(entry)

    def _time(self, entry: _UnderWay) -> None:
        heapq.heappush(self._timers, (entry.again, next(self._numbers), entry.request_id))

    def _leave(self, entry: _UnderWay) -> None:
        del self._under_way[entry.request_id]
        self._at[entry.request.device].remove(entry)

    def _fill(self, now: float) -> None:
        """At most a second's worth, so that a pause is not made up for by a burst."""
        self._now = now
        if self._filled is not None:
            self._bucket = min(self._rate, self._bucket + self._rate * (now - self._filled))
        self._filled = now
