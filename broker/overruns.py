"""Which members are over a limit of theirs: said in log and audit log, and to whoever asks for the status.

A member that goes on over a limit is said again once an hour. No clock, no socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.audit import Record, unrecorded
from common.protocol.identifiers import shown_key
from common.text import printable

log = logging.getLogger(__name__)

_SHOWN_FOR = 600.0  # seconds since it was over the limit last
_SAY_AGAIN = 3600.0  # seconds

MEMORY = "memory"  # what it tells, or its vaults' images, take more of this broker's memory than is left for it
VAULTS = "vaults"  # more vaults than one client may bring
BYTES = "bytes"  # its vaults have all that one client's may have in the cluster
REQUESTS = "requests"  # or as many requests, or bytes of them
SIGNATURES = "signatures"  # it tells of more deletions than one device may have the signatures checked of


def room_on(device: str) -> str:
    """It has, or wants, more than its part of a device's room, as the device with this name says."""
    return f"room on {printable(device)}"


class Overruns:
    """`now` is monotonic seconds."""

    def __init__(self, known_as: Callable[[bytes], str], record: Record = unrecorded) -> None:
        """`known_as`: the name of the member with this public key."""
        self._known_as = known_as
        self._record = record
        self._over: dict[tuple[bytes, str], tuple[float, float]] = {}  # key, limit → last, last said

    def note(self, key: bytes, limit: str, now: float) -> None:
        """The member with this public key is over a limit."""
        _, said = self._over.get((key, limit), (0.0, now - _SAY_AGAIN))
        if now - said >= _SAY_AGAIN:
            said = now
            name = printable(self._known_as(key))
            log.error("%s is over its limit of %s, and what goes beyond it is refused", name, limit)
            self._record("over limit", name=name, key=shown_key(key), limit=limit)
        self._over[key, limit] = (now, said)

    def current(self, now: float) -> list[tuple[bytes, str]]:
        """Who (by public key) was over which limit lately."""
        return [over for over, (last, _) in self._over.items() if now - last < _SHOWN_FOR]

    def expire(self, now: float) -> None:
        """Forget what is long over; to be called now and then."""
        self._over = {over: times for over, times in self._over.items() if now - times[0] < _SAY_AGAIN}
