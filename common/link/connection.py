"""What is known of one connection: what happened to it, and when a broker has been silent for too long. Pure.

A broker says something to each of its peers at least once a second (PROBE). So who hears nothing for several seconds
has no broker at the other end: its machine lost its power, a cable is out, it has another address now. TCP says nothing
of that for as long as nothing is sent, and for a quarter of an hour where something is.

A program that stood still may have been given up meanwhile, without hearing of it. So after that the broker has to show
soon that it is there, and what comes at once shows nothing: it may have waited in this machine since before.
"""

from __future__ import annotations

import enum
from typing import Optional

LIMIT = 6.0  # seconds; long enough for the longest message, of 4 MiB, at 6 Mbit/s
_STALE = 0.5  # seconds after standing still in which what comes may be old
_PROOF = 2.5  # seconds after standing still within which something new has to come


class Change(enum.Enum):
    """What happened to a connection."""

    UP = "up"
    DOWN = "down"
    NOT_ADMITTED = "not admitted"
    NO_HANDSHAKE = "no handshake"  # something answers there, but not the broker with the key that we expect
    MUTE = "mute"  # something takes connections there, and says nothing


class Silence:
    """Of one connection. `now` and `woke`: seconds of `RunningTime`."""

    def __init__(self) -> None:
        self._ends: Optional[float] = None  # None while there is no connection
        self._woke = float("-inf")

    @property
    def ends(self) -> Optional[float]:
        """When it is over unless something comes; None while there is no connection."""
        return self._ends

    def begin(self, now: float) -> None:
        """The connection stands; what was before no longer matters."""
        self._ends, self._woke = now + LIMIT, now

    def end(self) -> None:
        """It is known to be lost."""
        self._ends = None

    def heard(self, now: float) -> None:
        """Something came."""
        if self._ends is not None and now >= self._woke + _STALE:
            self._ends = now + LIMIT

    def is_over(self, now: float, woke: float) -> bool:
        """Whether to give the connection up; `woke`: when this program last went on after standing still."""
        if self._ends is None:
            return False
        if woke > self._woke:
            self._woke, self._ends = woke, min(self._ends, woke + _PROOF)
        return now >= self._ends
