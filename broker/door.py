"""Who is put out for a while, for breaking the protocol: counts strikes, closes the door, and says so once.

What a strike is, is in `strikes`; what was seen that may be one, the switchboard tells. Here it meets the log and the
audit log. The log is safe from a flood: a key has at most three lines before its door closes, and peers that are no
members have a few lines a minute in all.
"""

from __future__ import annotations

import logging
from typing import Callable

from broker.audit import Record, shown_key, unrecorded
from broker.refusals import Refusals
from broker.strikes import CLOSED_FOR, Strikes
from common.text import printable

log = logging.getLogger(__name__)


class Door:
    """`now` is monotonic seconds."""

    def __init__(self, known_as: Callable[[bytes], str], record: Record = unrecorded) -> None:
        """`known_as`: the name of the member with this public key."""
        self._known_as = known_as
        self._record = record
        self._strangers = Refusals()
        self.strikes = Strikes()

    def closed(self, key: bytes, now: float) -> bool:
        """Whether this key is not to be heard now."""
        return self.strikes.closed(key, now)

    def stranger(self, now: float) -> None:
        """A message came with a key that is no member's (any longer)."""
        self._strangers.unsaid(now)
        if self._strangers.note(now):
            log.warning("dropped a message of a key that is not (or no longer) a member")

    def strike(self, key: bytes, why: str, now: float) -> bool:
        """Note that a member broke the protocol; True where the door closes to it."""
        name = printable(self._known_as(key))
        log.warning("%s broke the protocol: %s", name, why)
        if not self.strikes.strike(key, now):
            return False
        log.error("%s is not heard for %d s: it broke the protocol again and again", name, CLOSED_FOR)
        self._record("struck out", name=name, key=shown_key(key), why=why[:200], seconds=int(CLOSED_FOR))
        return True
