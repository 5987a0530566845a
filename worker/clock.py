"""The time as the store sees it: monotonic seconds for what happens while it runs, Unix seconds for what outlives it.

The wall clock may be set, by hand or by a time server. What is in the trash therefore expires by a clock that notices a
jump ahead; for an hour after one nothing is removed for good: a clock that is put right within that time has cost
nothing. (A jump back only keeps things longer. A device that slept looks as if its clock had jumped; it purges an hour
later.)
"""

from __future__ import annotations

import logging
import time
from typing import Callable

log = logging.getLogger(__name__)

_LEAP = 3600.0  # seconds
_APART = 300.0  # seconds between two readings that are compared: asked more often, many small leaps would pass for none


class Clock:
    """Both clocks come from outside, so that a test can set them."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._seen = (wall(), monotonic())
        self._distrusted_until = self._seen[1]

    def unix(self) -> float:
        return self._wall()

    def monotonic(self) -> float:
        return self._monotonic()

    def trusted(self) -> bool:
        """Whether the wall clock has agreed with the monotonic one for an hour, or since the start."""
        seen = (self._wall(), self._monotonic())
        ahead = (seen[0] - self._seen[0]) - (seen[1] - self._seen[1])
        if ahead > _LEAP:
            log.warning("the clock leapt ahead by %d s; nothing is purged for an hour", ahead)
            self._distrusted_until = seen[1] + _LEAP
        if ahead > _LEAP or seen[1] - self._seen[1] >= _APART:
            self._seen = seen
        return seen[1] >= self._distrusted_until
