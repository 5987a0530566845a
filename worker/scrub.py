"""Reads and checks every share once in a while, to find bad ones before they are needed.

    pick the next share in the order of names → open it anew, header, trailer and amendment
        → read and check its blocks, one a turn

The loop calls `turn`, which reads one block at most. All that the store holds is spread over `every` seconds; blocks
are read while the loop is idle, unless the scrub is late. A share that a broker asked to have checked comes first and
at once; the result is announced in any case.

How far it came is in `scrub.json`, written once a minute at most and at the end, so that a device that is switched off
each night completes its rounds too.
"""

from __future__ import annotations

import bisect
import logging
from collections import deque
from pathlib import Path
from typing import Annotated, Callable, Optional

import msgspec

from common.errors import IntegrityError
from worker.amendments import Amendments
from worker.clock import Clock
from worker.disk import Disk
from worker.durability import Durability
from worker.format_version import UnknownVersionError
from worker.inventory import Inventory
from worker.layout import Layout, ShareKey, file_name, read_key
from worker.reading import OpenShare, is_damage, is_lasting

log = logging.getLogger(__name__)

SCRUB_EVERY = 7 * 24 * 3600.0  # seconds
_LATE = 10.0  # seconds after which a turn does not wait any more until the loop is idle
_MOST_LATE = 60.0  # seconds that are caught up with; after a longer pause the schedule begins anew
_SAVE_EVERY = 60.0  # seconds
_NOTHING_TO_DO = 1.0  # seconds

_VERSION = 1
_MAX_SIZE = 4096
_Count = Annotated[int, msgspec.Meta(ge=0)]


class ScrubCursor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The state of a round; the names of the fields are those in the file."""

    began: _Count  # Unix seconds
    after: Optional[str] = None  # the name of the last share that was read
    shares: _Count = 0  # read in this round
    bytes: _Count = 0  # read in this round
    damaged: _Count = 0  # of the shares
    version: int = _VERSION

    def read(self, size: int) -> ScrubCursor:
        return msgspec.structs.replace(self, bytes=self.bytes + size)

    def passed(self, name: str, *, damaged: bool) -> ScrubCursor:
        return msgspec.structs.replace(
            self, after=name, shares=self.shares + 1, damaged=self.damaged + (1 if damaged else 0)
        )


class _Version(msgspec.Struct):
    version: int = _VERSION


def load_cursor(disk: Disk, path: Path) -> Optional[ScrubCursor]:
    """The cursor in the file; None where there is none. UnknownVersionError where another version wrote it."""
    try:
        content = disk.read_whole(path, _MAX_SIZE)
        said = msgspec.json.decode(content, type=_Version).version
        if said != _VERSION:
            raise UnknownVersionError(f"it is of version {said}, and this worker knows version {_VERSION}")
        cursor = msgspec.json.decode(content, type=ScrubCursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.warning("%s does not read, so the scrub begins anew: %s", path, error)
        return None
    return cursor if cursor.after is None or read_key(cursor.after) is not None else None


def save_cursor(durability: Durability, path: Path, cursor: ScrubCursor) -> None:
    """Write the cursor, whole or not at all; OSError where the disk refuses."""
    durability.write(path, msgspec.json.format(msgspec.json.encode(cursor)) + b"\n")


class _Check:
    """One share being checked: the first step opens it, each other step reads a block."""

    def __init__(self, disk: Disk, path: Path, key: ShareKey, amendments: Amendments) -> None:
        self.key = key
        self.done = False
        self._disk = disk
        self._path = path
        self._amendments = amendments
        self._opened: Optional[OpenShare] = None
        self._next = 0

    @property
    def opened(self) -> OpenShare:
        """The share's file, opened at the first call; IntegrityError or OSError where that fails."""
        if self._opened is None:
            self._opened = OpenShare(self._disk, self._path, *self.key, self._amendments)
            self._opened.uncache()
        return self._opened

    def step(self) -> int:
        """The bytes that were read; IntegrityError or OSError where the share is not good, or cannot be read."""
        if self._opened is None:
            return self.opened.size - self.opened.information.recipe.share_bytes
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
    """`now` is monotonic seconds. `bad` is called with a share that was found bad, `good` with any other."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        durability: Durability,
        inventory: Inventory,
        amendments: Amendments,
        clock: Clock,
        every: float,
        bad: Callable[[ShareKey, Exception], None],
        good: Callable[[ShareKey, OpenShare], None],
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._inventory = inventory
        self._amendments = amendments
        self._clock = clock
        self._every = every
        self._bad = bad
        self._good = good
        self._asked: dict[ShareKey, None] = {}
        self._urgent: Optional[_Check] = None
        self._regular: Optional[_Check] = None
        self._next = self._saved_at = clock.monotonic()  # when the next block is due; when the cursor was written
        self._cursor = self._saved = ScrubCursor(0)
        self._round: deque[ShareKey] = deque()
        self._keeps = True  # how far it came; not where another version does

    def load(self) -> None:
        """Go on where the last worker stopped, once the inventory is complete."""
        cursor = None
        try:
            cursor = load_cursor(self._disk, self._layout.scrub)
        except UnknownVersionError as error:
            log.warning("%s is left alone, and the scrub begins anew: %s", self._layout.scrub, error)
            self._keeps = False
        self._cursor = self._saved = cursor or ScrubCursor(int(self._clock.unix()))
        self._round = self._remaining()

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

    def release(self, key: ShareKey) -> None:
        """Close a share's file, which will be moved or removed; if it stays, it is read from its beginning."""
        for check in (self._urgent, self._regular):
            if check is not None and check.key == key:
                check.close()
        if self._urgent is not None and self._urgent.key == key:
            self._urgent = None
        if self._regular is not None and self._regular.key == key:
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
            if key not in self._inventory.shares:
                self._inventory.reannounce(key)
                return
            self._urgent = _Check(self._disk, self._inventory.place(key), key, self._amendments)
        check = self._urgent
        found = self._step(check)[1]
        if check.done:
            check.close()
            self._urgent = None
            self._inventory.reannounce(check.key)
            log.info("checked the share %s: %s", file_name(check.key), found or "it is good")

    # --- the round

    def _turn_regular(self, now: float) -> None:
        if self._regular is None:
            self._regular = self._pick()
            if self._regular is None:
                self._next = now + _NOTHING_TO_DO
                return
        check = self._regular
        size, found = self._step(check)
        rate = max(1, self._inventory.used_bytes) / self._every  # bytes a second
        self._next = max(self._next, now - _MOST_LATE) + size / rate
        self._cursor = self._cursor.read(size)
        if check.done:
            check.close()
            self._regular = None
            self._cursor = self._cursor.passed(file_name(check.key), damaged=found is not None and is_damage(found))

    def _step(self, check: _Check) -> tuple[int, Optional[Exception]]:
        """Do a step of a check: the bytes that it counts for, and the error if the share is bad."""
        whole = max(1, self._inventory.size(check.key))  # so that an unreadable share is not tried over and over
        try:
            size = check.step()
        except (IntegrityError, OSError) as error:
            check.done = True
            check.close()  # before the file moves
            if is_lasting(error):
                self._bad(check.key, error)
            else:
                log.warning("cannot check the share %s: %s", file_name(check.key), error)
            return whole, error
        if check.done:
            self._good(check.key, check.opened)
        return size, None

    def _pick(self) -> Optional[_Check]:
        """The next share of this round, else the first of a new one; None where there is nothing to read."""
        for _ in range(2):
            while self._round:
                key = self._round.popleft()
                if self._readable(key):
                    return _Check(self._disk, self._inventory.place(key), key, self._amendments)
            self._end_round()
        return None

    def _end_round(self) -> None:
        if self._cursor.shares:
            log.info(
                "scrubbed the store: %d shares, %d bytes, %d damaged",
                self._cursor.shares,
                self._cursor.bytes,
                self._cursor.damaged,
            )
        self._cursor = ScrubCursor(int(self._clock.unix()))
        self._round = self._remaining()

    def _remaining(self) -> deque[ShareKey]:
        """The shares still to be read in this round, by name; new ones are for the next round."""
        keys = sorted(key for key in self._inventory.shares if self._readable(key))
        after = self._cursor.after
        return deque(keys[bisect.bisect_right([file_name(key) for key in keys], after) if after else 0 :])

    def _readable(self, key: ShareKey) -> bool:
        """Whether a share is to be read: not one in quarantine."""
        return key in self._inventory.shares and key not in self._inventory.quarantined

    def _save(self) -> None:
        if self._cursor == self._saved or self._durability.refusal is not None or not self._keeps:
            return
        try:
            save_cursor(self._durability, self._layout.scrub, self._cursor)
        except OSError as error:
            log.warning("cannot write down how far the scrub has come: %s", error)
        else:
            self._saved = self._cursor
