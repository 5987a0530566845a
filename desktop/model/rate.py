"""How fast bytes come, lately, and how long the rest takes at that."""

from __future__ import annotations

import time
from collections import deque
from typing import Callable, Optional

_WINDOW = 5.0  # seconds
_LEAST = 0.5  # seconds that say something about a rate


class Rate:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came: deque[tuple[float, int]] = deque()
        self._started: Optional[float] = None

    def add(self, count: int) -> None:
        """So many bytes came now."""
        now = self._clock()
        if self._started is None:
            self._started = now
        self._came.append((now, count))

    def per_second(self) -> Optional[float]:
        """Bytes a second in the last few seconds; None where that cannot be told yet."""
        now = self._clock()
        while self._came and self._came[0][0] < now - _WINDOW:
            self._came.popleft()
        if self._started is None:
            return None
        seconds = min(_WINDOW, now - self._started)
        return sum(count for _, count in self._came) / seconds if seconds >= _LEAST else None

    def seconds_for(self, count: int) -> Optional[float]:
        """How long so many bytes take; None where that cannot be told."""
        rate = self.per_second()
        return count / rate if rate else None
