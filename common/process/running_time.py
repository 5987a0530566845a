"""A clock of the time in which a program ran: suspension, as of a laptop that sleeps, is not counted.

A peer is not late while this program does not run. So all deadlines take the time from here, in a loop that asks at
least twice a second: a longer gap between two calls counts as one second, whatever the cause.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

_LONGEST = 1.0  # seconds that a gap between two calls counts at most
_ASLEEP = 3.0  # seconds; after a gap of so many others may have given this program up
_BEAT = 0.5  # seconds, at most, between two calls by an event loop


def elapsed() -> float:
    """Seconds since some moment; those in which the machine slept count, where the system counts them."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()  # on Windows it goes on in sleep; on macOS it doesn't


class RunningTime:
    """A clock. `woke` is its time when the program last went on after it had stood still; -inf where it never did."""

    def __init__(self, elapsed: Callable[[], float] = elapsed) -> None:
        """`elapsed`: a clock that never goes back."""
        self.woke = float("-inf")
        self._elapsed = elapsed
        self._seen = elapsed()
        self._now = self._seen

    def __call__(self) -> float:
        """Seconds since some moment; to be asked at least every half second."""
        seen = self._elapsed()
        gap, self._seen = seen - self._seen, seen
        self._now += min(gap, _LONGEST)
        if gap >= _ASLEEP:
            self.woke = self._now
        return self._now


@contextmanager
def called_after(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call `call` once, in a thread, where the block takes longer than so many seconds."""
    over = threading.Event()

    def wait() -> None:
        now = RunningTime()
        end = now() + seconds
        while (left := end - now()) > 0:
            if over.wait(min(left, _BEAT)):
                return
        call()

    waiting = threading.Thread(target=wait, name="called after", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()  # so that it is not called later


class RunningLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers and deadlines count only the time in which it ran.

    On Windows too, where the selector loop is the only one that can watch ZeroMQ's sockets.
    """

    def __init__(self) -> None:
        self._running_time = RunningTime()
        super().__init__()
        self._beat()

    def time(self) -> float:
        return self._running_time()

    def _beat(self) -> None:
        self.call_later(_BEAT, self._beat)
