"""Strikes: who breaks the protocol three times within a minute is not heard for a minute.

What counts is only what no honest peer does, however slow, lossy or killed in between the network and it may be:

    a malformed message         wrong number of frames, no envelope, a header or payload of another shape
    a false credit              a payload larger than its credit, a credit over the limit, one request id for two things
    a flood                     a thousand requests over the granted credit within a second, or 256 asks for lanes
    an answer to nothing        a device that answered more often than it was asked

What does not count: late answers, requests and answers that come twice, a client that is over its credit for a while
because the broker remembers longer than it waits, an answer that is larger than its credit (the client named the
credit, so a client could have an honest device banned), and what another program version says first.

A strike belongs to the key, not to the connection. No clock, no socket; memory is bounded by the number of keys kept.

Strikes and refusals are said so that a flood of them fills neither log nor audit log: a key has three lines at most
before it is banned; of those who are no members a few a minute are said one by one, and the others as a number.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Callable

from broker.audit import Record, unrecorded
from common.protocol.identifiers import shown_key
from common.text import printable

log = logging.getLogger(__name__)

STRIKES = 3
WITHIN = 60.0  # seconds in which they come
BANNED_FOR = 60.0  # seconds
FLOOD = 1024  # requests over the credit within a second; an honest connection asks again at most some 100 times
# An honest program asks once when it connects, then four times a second at most. To answer costs more than to ask.
ASKS = 256
_FLOOD_PERIOD = 1.0  # seconds
_ALLOWANCE = 128  # answers to what a connection that is lost, or another broker process, had asked
_MAX_OWED = 1 << 20
_MAX_KEYS = 4096
_PERIOD = 60.0  # seconds
_SAID = 20  # refusals of one period that are said one by one


@dataclass
class _Flood:
    """What comes within a second; at `limit` it is a flood, and counted anew."""

    limit: int
    since: float = 0.0
    count: int = 0

    def note(self, now: float) -> bool:
        """One more came; whether it is the one that makes a flood of them."""
        if now - self.since >= _FLOOD_PERIOD:
            self.since, self.count = now, 0
        self.count += 1
        if self.count < self.limit:
            return False
        self.count = 0
        return True


@dataclass
class _Conduct:
    strikes: list[float] = field(default_factory=list)  # when
    banned_until: float = 0.0
    over: _Flood = field(default_factory=lambda: _Flood(FLOOD))  # requests over the credit
    asks: _Flood = field(default_factory=lambda: _Flood(ASKS))  # for lanes
    owed: int = _ALLOWANCE  # answers that may still come


class Strikes:
    """`key` is a CURVE public key, `now` monotonic seconds."""

    def __init__(self) -> None:
        self._conducts: OrderedDict[bytes, _Conduct] = OrderedDict()

    def banned(self, key: bytes, now: float) -> bool:
        """Whether this key is not to be heard now."""
        conduct = self._conducts.get(key)
        return conduct is not None and now < conduct.banned_until

    def strike(self, key: bytes, now: float) -> bool:
        """Count a strike; True where it is the one for which the key is banned."""
        conduct = self._conduct(key)
        conduct.strikes = [*(at for at in conduct.strikes if now - at < WITHIN), now]
        if len(conduct.strikes) < STRIKES:
            return False
        conduct.strikes, conduct.banned_until = [], now + BANNED_FOR
        return True

    def over_credit(self, key: bytes, now: float) -> bool:
        """A request came over the granted credit; whether so many did that it is a flood."""
        return self._conduct(key).over.note(now)

    def asked_for_lane(self, key: bytes, now: float) -> bool:
        """A peer asked for a lane; whether so many did that it is a flood."""
        return self._conduct(key).asks.note(now)

    # --- answers that a device has still to give

    def registered(self, key: bytes) -> None:
        """A device begins anew: it may still answer what was asked before."""
        conduct = self._conduct(key)
        conduct.owed = max(conduct.owed, _ALLOWANCE)

    def asked(self, key: bytes) -> None:
        """A request goes to this device, be it once more."""
        conduct = self._conduct(key)
        conduct.owed = min(conduct.owed + 1, _MAX_OWED)

    def answered(self, key: bytes) -> bool:
        """An answer came; False where this device answered more often than it was asked."""
        conduct = self._conduct(key)
        conduct.owed -= 1
        if conduct.owed >= 0:
            return True
        conduct.owed = 0
        return False

    def _conduct(self, key: bytes) -> _Conduct:
        conduct = self._conducts.get(key)
        if conduct is None:
            while len(self._conducts) >= _MAX_KEYS:
                self._conducts.popitem(last=False)
            conduct = self._conducts[key] = _Conduct()
        self._conducts.move_to_end(key)
        return conduct


class Refusals:
    """Which of many refusals are said one by one. `now` is monotonic seconds."""

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


class Bans:
    """Strikes as log and audit log are told of them. `now` is monotonic seconds."""

    def __init__(self, known_as: Callable[[bytes], str], record: Record = unrecorded) -> None:
        """`known_as`: the name of the member with this public key."""
        self._known_as = known_as
        self._record = record
        self._strangers = Refusals()
        self.strikes = Strikes()

    def banned(self, key: bytes, now: float) -> bool:
        """Whether this key is not to be heard now."""
        return self.strikes.banned(key, now)

    def stranger(self, now: float) -> None:
        """A message came with a key that is no member's (any longer)."""
        self._strangers.unsaid(now)
        if self._strangers.note(now):
            log.warning("dropped a message of a key that is not (or no longer) a member")

    def strike(self, key: bytes, why: str, now: float) -> bool:
        """Note that a member broke the protocol; True where it is banned for it."""
        name = printable(self._known_as(key))
        log.warning("%s broke the protocol: %s", name, why)
        if not self.strikes.strike(key, now):
            return False
        log.error("%s is not heard for %d s: it broke the protocol again and again", name, BANNED_FOR)
        self._record("struck out", name=name, key=shown_key(key), why=why[:200], seconds=int(BANNED_FOR))
        return True
