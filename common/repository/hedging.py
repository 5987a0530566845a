"""Hedged requests (Dean & Barroso 2013, "The Tail at Scale"): where a holder of a share is late, another is asked too.

`Choice` says whom to ask, and is pure: no socket, no clock. Data shares come first, since k of them need no decoding. A
share with faults comes after those without, but is still used: one bad block says nothing about the next. A slow device
comes last, since one that hangs costs more than a bad block. A device that is gone is not asked again.

`HedgedRequest` asks. A late question is not cancelled, since its answer may still be among the first. What is not
needed at the end is; its message still counts in the link's windows until the device answers or is gone. So a slow
device is asked only where no other is left, and in place of one that is late only once that one is *overdue*: has taken
twice as long as made it late. Without end it is not waited for: on a busy machine all are slow for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Callable, Generic, NamedTuple, Optional, Protocol, TypeVar


class Holder(NamedTuple):
    """A device that holds a share."""

    share: int
    device: bytes


class Choice:
    """Chooses among the shares of one encoding that are at hand; k of them are needed for a segment."""

    def __init__(self, k: int, holders: Collection[Holder]) -> None:
        self._k = k
        self._faults = dict.fromkeys(holders, 0)
        self._gone: set[bytes] = set()

    def next(self, asked: Collection[Holder], taken: Collection[int], slow: Collection[bytes] = ()) -> Optional[Holder]:
        """Whom to ask for one more block of a segment; None where nobody is left.

        `asked`: holders that were asked for this segment before; `taken`: shares that delivered or are about to;
        `slow`: devices that are late.
        """
        fit = [
            holder
            for holder in self._faults
            if holder not in asked and holder.share not in taken and holder.device not in self._gone
        ]
        return min(fit, key=lambda holder: (holder.device in slow, *self._rank(holder)), default=None)

    def _rank(self, holder: Holder) -> tuple[int, bool, int]:
        return (self._faults[holder], holder.share >= self._k, holder.share)

    def fault(self, holder: Holder) -> None:
        """A block of this holder was bad or did not come."""
        self._faults[holder] += 1

    def gone(self, device: bytes) -> None:
        """A device does not answer: do not ask it again."""
        self._gone.add(device)


A = TypeVar("A")  # an answer
G = TypeVar("G")  # one that was found good


class ResponseTimes(Protocol):
    """How long devices take to answer; see `devices.Devices`."""

    def late_after(self, device: bytes) -> float:
        """Seconds after which a question to a device is late."""
        ...

    def slow(self) -> Collection[bytes]:
        """The devices that are late now, or were again and again."""
        ...


class _Times(NamedTuple):
    """Of a question, in the loop's seconds."""

    late: float
    overdue: float


class HedgedRequest(Generic[A, G]):
    """One question, to as many holders as it takes to get `wanted` good answers."""

    def __init__(
        self,
        wanted: int,
        choice: Choice,
        times: ResponseTimes,
        ask: Callable[[Holder], asyncio.Future[A]],
        check: Callable[[Holder, asyncio.Future[A]], Optional[G]],
        here: Mapping[int, G] = MappingProxyType({}),
    ) -> None:
        """`check` gives the good part of an answer that came or failed, or None.

        `here`: earlier good answers, by share.
        """
        self._wanted = wanted
        self._choice = choice
        self._times = times
        self._ask = ask
        self._check = check
        self._asked: set[Holder] = set()
        self._waiting: dict[Holder, tuple[asyncio.Future[A], _Times]] = {}
        self._good: dict[int, G] = dict(here)
        self._news: Optional[asyncio.Future[None]] = None
        self._fault: Optional[Exception] = None
        self._over = False

    async def run(self) -> dict[int, G]:
        """Good answers by share: `wanted`, or fewer as soon as more cannot come.

        More, where several came in the same moment.
        """
        loop = asyncio.get_running_loop()
        try:
            while len(self._good) < self._wanted and self._fault is None:
                now = loop.time()
                self._ask_more(now)
                if self.had < self._wanted:
                    break
                await self._hear(self._until_next(now))
        finally:
            for holder, (answer, _) in list(self._waiting.items()):
                if answer.done():
                    self._came(holder, answer)  # it came meanwhile
                else:
                    answer.cancel()
            self._over = True
        if self._fault is not None:
            raise self._fault
        return self._good

    @property
    def had(self) -> int:
        """Shares that gave a good answer, or still may."""
        return len({*self._good, *(holder.share for holder in self._waiting)})

    def _ask_more(self, now: float) -> None:
        """Ask until enough answers are here or on time; who is slow, only until enough are here or not overdue."""
        taken = {*self._good, *(holder.share for holder, (_, times) in self._waiting.items() if times.late > now)}
        hoped = {*self._good, *(holder.share for holder, (_, times) in self._waiting.items() if times.overdue > now)}
        slow = self._times.slow()
        while len(taken) < self._wanted:
            holder = self._choice.next(self._asked, taken, slow)
            if holder is None or (len(hoped) >= self._wanted and holder.device in slow):
                return
            self._asked.add(holder)
            answer = self._ask(holder)
            late_after = self._times.late_after(holder.device)
            self._waiting[holder] = (answer, _Times(now + late_after, now + 2 * late_after))
            answer.add_done_callback(partial(self._came, holder))
            taken.add(holder.share)
            hoped.add(holder.share)

    def _came(self, holder: Holder, answer: asyncio.Future[A]) -> None:
        if self._over:
            return
        del self._waiting[holder]
        try:
            good = None if answer.cancelled() else self._check(holder, answer)
        except Exception as fault:
            self._fault, good = fault, None  # raised by `run`
        if good is not None:
            self._good.setdefault(holder.share, good)
        if good is None or len(self._good) >= self._wanted:
            self._tell()

    async def _hear(self, seconds: Optional[float]) -> None:
        """Wait until there are enough answers, one is not good, or so many seconds are over (None: however long)."""
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._tell)
        try:
            await self._news
        finally:
            if timer is not None:
                timer.cancel()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _until_next(self, now: float) -> Optional[float]:
        """Seconds until the next question is late or overdue; None where all that are left are."""
        coming = [at - now for _, times in self._waiting.values() for at in times if at > now]
        return min(coming, default=None)
