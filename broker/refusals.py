"""Refusals at the door, said so that a flood of them fills neither log nor disk.

Whoever knocks with a key that is not admitted costs the broker a handshake, and would cost it a line each time. So of
one minute the first few are said one by one, and what comes beyond is counted and said as one number behind it. No
clock, no disk: `now` comes in, and whoever asks says what is to be said.
"""

from __future__ import annotations

_PERIOD = 60.0  # seconds
_SAID = 20  # refusals of one period that are said one by one


class Refusals:
    """`now` is monotonic seconds."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0

    def note(self, now: float) -> bool:
        """One more was refused; whether it is to be said by itself."""
        if self._count == 0:
            self._since = now
        self._count += 1
        return self._count <= _SAID

    def unsaid(self, now: float) -> int:
        """How many were not said, once at the end of a period; 0 otherwise. To be asked now and then."""
        if self._count == 0 or now - self._since < _PERIOD:
            return 0
        unsaid, self._count = max(0, self._count - _SAID), 0
        return unsaid
