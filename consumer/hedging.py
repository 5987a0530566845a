"""Asks holders of shares for so many good answers, and others as well where one is late: the first good ones count.

A late question is not taken back, since its answer may still be among the first. What is not needed any more is given
up at the end; its message stays under way until the device answers or is gone, and holds its place in the link's
windows. So a slow device is asked only where nobody else is left, and never as the second choice for another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Callable, Generic, Optional, Protocol, TypeVar

from consumer.choice import Choice, Holder

G = TypeVar("G")


class Punctuality(Protocol):
    """What is known of how long devices take; see `asking.Devices`."""

    def patience(self, device: bytes) -> float:
        """Seconds after which a question to a device is late."""
        ...

    def slow(self) -> Collection[bytes]:
        """The devices that are late now, or were again and again."""
        ...


class Race(Generic[G]):
    """One question to as many holders as it takes to get `wanted` good answers."""

    def __init__(
        self,
        wanted: int,
        choice: Choice,
        punctuality: Punctuality,
        ask: Callable[[Holder], Coroutine[Any, Any, Optional[G]]],
        here: Mapping[int, G] = MappingProxyType({}),
    ) -> None:
        """`ask` gives a holder's answer, None where it is not good; `here`: good answers of before, by share."""
        self._wanted = wanted
        self._choice = choice
        self._punctuality = punctuality
        self._ask = ask
        self._asked: set[Holder] = set()
        self._waiting: dict[asyncio.Task[Optional[G]], tuple[Holder, float]] = {}  # and when it is late
        self._good: dict[int, G] = dict(here)

    async def run(self) -> dict[int, G]:
        """Good answers by share: `wanted`, or fewer as soon as it is clear that so many are not to be had.

        More, where several came in the same moment.
        """
        try:
            while len(self._good) < self._wanted:
                now = time.monotonic()
                self._ask_more(now)
                if self.had < self._wanted:
                    break
                done, _ = await asyncio.wait(
                    self._waiting, timeout=self._until_late(now), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    holder, _ = self._waiting.pop(task)
                    answer = task.result()
                    if answer is not None:
                        self._good.setdefault(holder.share, answer)
        finally:
            for task in self._waiting:
                task.cancel()
        return self._good

    @property
    def had(self) -> int:
        """Shares that gave a good answer, or still may."""
        return len({*self._good, *(holder.share for holder, _ in self._waiting.values())})

    def _ask_more(self, now: float) -> None:
        """Ask until enough answers are here or on time; where some are late, as many others as are not slow."""
        slow = self._punctuality.slow()
        while True:
            on_time = {holder.share for holder, late_at in self._waiting.values() if late_at > now}
            if len({*self._good, *on_time}) >= self._wanted:
                return
            holder = self._choice.next(self._asked, {*self._good, *on_time}, slow)
            if holder is None or (self.had >= self._wanted and holder.device in slow):
                return
            self._asked.add(holder)
            task = asyncio.ensure_future(self._ask(holder))
            self._waiting[task] = (holder, now + self._punctuality.patience(holder.device))

    def _until_late(self, now: float) -> Optional[float]:
        """Seconds until the next question is late; None where all that are left are."""
        coming = [late_at - now for _, late_at in self._waiting.values() if late_at > now]
        return min(coming, default=None)
