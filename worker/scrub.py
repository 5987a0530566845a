"""Reads and checks every share once in a while, to find bad ones before they are needed.

    pick the next share in the order of serials → open it anew, header, trailer and amendment
        → read and check its blocks, one a turn
    at the end of a round → look through the index, and again at what could not be read or listed at the start

The loop calls `turn`, which reads one block at most. All that the store holds is spread over `every` seconds; blocks
are read while the loop is idle, unless the scrub is late. A share that a broker asked to have checked comes first and
at once; the result is announced in any case.

How far it came is in the index, written once a minute at most and at the end, so that a device that is switched off
each night completes its rounds too.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Annotated, Callable, Optional

import msgspec

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import pack, unpack
from worker.clock import Clock
from worker.index import Index
from worker.layout import ShareKey, file_name
from worker.reading import OpenShare, Shares, is_damage, is_lasting
from worker.refusals import Refusal
from worker.share_states import HERE, KeptShare

log = logging.getLogger(__name__)

SCRUB_EVERY = 7 * 24 * 3600.0  # seconds
_LATE = 10.0  # seconds after which a turn does not wait any more until the loop is idle
_MOST_LATE = 60.0  # seconds that are caught up with; after a longer pause the schedule begins anew
_SAVE_EVERY = 60.0  # seconds
_NOTHING_TO_DO = 1.0  # seconds
_CURSOR = "scrub"
_Count = Annotated[int, msgspec.Meta(ge=0)]


class ScrubCursor(msgspec.Struct, array_like=True, frozen=True):
    """The state of a round."""

    began: _Count  # Unix seconds
    after: _Count = 0  # the serial of the last share that was read
    shares: _Count = 0  # read in this round
    bytes: _Count = 0  # read in this round
    damaged: _Count = 0  # of the shares

    def read(self, size: int) -> ScrubCursor:
        return msgspec.structs.replace(self, bytes=self.bytes + size)

    def passed(self, serial: int, *, damaged: bool) -> ScrubCursor:
        return msgspec.structs.replace(
            self, after=serial, shares=self.shares + 1, damaged=self.damaged + (1 if damaged else 0)
        )


def load_cursor(index: Index) -> Optional[ScrubCursor]:
    """The cursor in the index; None where there is none."""
    kept = index.remembered(_CURSOR, None)
    try:
        return None if kept is None else unpack(kept, ScrubCursor)
    except (ProtocolError, TypeError) as error:
        log.warning("how far the scrub came does not read, so it begins anew: %s", error)
        return None


class _Check:
    """One share being checked: the first step opens it, each other step reads a block."""

    def __init__(self, shares: Shares, kept: KeptShare) -> None:
        self.kept = kept
        self.done = False
        self._shares = shares
        self._opened: Optional[OpenShare] = None
        self._next = 0

    @property
    def opened(self) -> OpenShare:
        """The share, opened at the first call; IntegrityError or OSError where that fails."""
        if self._opened is None:
            self._opened = self._shares.open(self.kept)
            self._opened.uncache()
        return self._opened

    def step(self) -> int:
        """The bytes that were read; IntegrityError or OSError where the share is not good, or cannot be read."""
        if self._opened is None:
            return max(0, self.kept.size - self.opened.information.recipe.share_bytes)
        size = len(self.opened.block(self._next))
        self._next += 1
        self.done = self._next == self.opened.information.recipe.segment_count
        return size

    def close(self) -> None:
        if self._opened is not None:
            self._opened.uncache()  # no client asked for it
            self._opened.close()
            self._opened = None


class Scrub:
    """`now` is monotonic seconds. `bad` is called with a share that was found bad, `good` with any other.

    `look_again` is called at the end of a round; it raises nothing.
    """

    def __init__(
        self,
        index: Index,
        shares: Shares,
        clock: Clock,
        every: float,
        bad: Callable[[KeptShare, Exception], None],
        good: Callable[[KeptShare, OpenShare], None],
        look_again: Callable[[], None],
    ) -> None:
        self._index = index
        self._shares = shares
        self._clock = clock
        self._every = every
        self._bad = bad
        self._good = good
        self._look_again = look_again
        self._asked: dict[ShareKey, None] = {}
        self._urgent: Optional[_Check] = None
        self._regular: Optional[_Check] = None
        self._next = self._saved_at = clock.monotonic()  # when the next block is due; when the cursor was written
        self._cursor = self._saved = ScrubCursor(0)
        self._last = 0  # the serial with which this round ends

    def load(self) -> None:
        """Go on where the last worker stopped, once the index is complete."""
        self._cursor = self._saved = load_cursor(self._index) or ScrubCursor(int(self._clock.unix()))
        self._last = self._index.last_serial

    def ask(self, key: ShareKey) -> None:
        """Have a share checked before all others."""
        self._asked[key] = None

    def due_in(self, now: float) -> float:
        """Seconds until there is something to do."""
        return 0.0 if self._asked or self._urgent is not None else max(0.0, self._next - now)

    def turn(self, now: float, *, idle: bool) -> None:
        """Read a block, if it is time to; `idle`: the loop has nothing else to do."""
        if self._asked or self._urgent is not None:
            self._turn_asked()
        elif now >= self._next + (0.0 if idle else _LATE):
            self._turn_regular(now)
        if now - self._saved_at >= _SAVE_EVERY:
            self._saved_at = now
            self._save()

    def release(self, serial: int) -> None:
        """Close a share, which will be moved or removed; if it stays, it is read from its beginning."""
        for check in (self._urgent, self._regular):
            if check is not None and check.kept.serial == serial:
                check.close()
        if self._urgent is not None and self._urgent.kept.serial == serial:
            self._urgent = None
        if self._regular is not None and self._regular.kept.serial == serial:
            self._regular = None

    def close(self) -> None:
        for check in (self._urgent, self._regular):
            if check is not None:
                check.close()
        self._save()

    # --- what was asked for

    def _turn_asked(self) -> None:
        if self._urgent is None:
            key = next(iter(self._asked))
            del self._asked[key]
            kept = self._index.held(key)
            if kept is None:
                self._index.reannounce(key)
                return
            self._urgent = _Check(self._shares, kept)
        check = self._urgent
        found = self._step(check)[1]
        if check.done:
            check.close()
            self._urgent = None
            self._index.reannounce(check.kept.key)
            log.info("checked the share %s: %s", file_name(check.kept.key), found or "it is good")

    # --- the round

    def _turn_regular(self, now: float) -> None:
        if self._regular is None:
            self._regular = self._pick()
            if self._regular is None:
                self._next = now + _NOTHING_TO_DO
                return
        check = self._regular
        size, found = self._step(check)
        rate = max(1, self._index.bytes_of(*HERE)) / self._every  # bytes a second
        self._next = max(self._next, now - _MOST_LATE) + size / rate
        self._cursor = self._cursor.read(size)
        if check.done:
            check.close()
            self._regular = None
            self._cursor = self._cursor.passed(check.kept.serial, damaged=found is not None and is_damage(found))

    def _step(self, check: _Check) -> tuple[int, Optional[Exception]]:
        """Do a step of a check: the bytes that it counts for, and the error if the share is bad."""
        whole = max(1, check.kept.size)  # so that an unreadable share is not tried over and over
        try:
            size = check.step()
        except (IntegrityError, OSError) as error:
            check.done = True
            check.close()  # before the file moves
            if is_lasting(error):
                self._bad(check.kept, error)
            else:
                log.warning("cannot check the share %s: %s", file_name(check.kept.key), error)
            return whole, error
        if check.done:
            self._good(check.kept, check.opened)
        return size, None

    def _pick(self) -> Optional[_Check]:
        """The next share of this round, else the first of a new one; None where there is nothing to read."""
        for _ in range(2):
            kept = self._index.next_held(self._cursor.after)
            if kept is not None and kept.serial <= self._last:
                return _Check(self._shares, kept)
            self._end_round()
        return None

    def _end_round(self) -> None:
        now, cursor = int(self._clock.unix()), self._cursor
        if cursor.shares or now - cursor.began >= self._every:  # a store that is empty is asked each second
            if cursor.shares:
                text = "scrubbed the store: %d shares, %d bytes, %d damaged"
                log.info(text, cursor.shares, cursor.bytes, cursor.damaged)
            with contextlib.suppress(Refusal):  # it is made anew at the next question
                self._index.look_through()
            self._look_again()
            self._cursor = ScrubCursor(now)
        self._last = self._index.last_serial  # new ones are for the next round

    def _save(self) -> None:
        if self._cursor == self._saved:
            return
        try:
            with self._index.transaction():
                self._index.remember(_CURSOR, pack(self._cursor))
        except (OSError, Refusal) as error:
            log.warning("cannot write down how far the scrub has come: %s", error)
        else:
            self._saved = self._cursor
