"""Gives back the room of records that are needed no more: what lives in a pack is appended anew, and the pack removed.

    a pack that lost a fifth, or small ones where there are many → some records a turn: read, appended, fsynced, and
    the index says where they are → the pack is removed once nothing of it is needed

A record keeps its serial, so it does not matter whether it is found once or twice. One that is damaged is taken along
as it is: its good blocks may be the last ones.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from typing import Callable, Optional

import msgspec

from common.chunks import chunks
from worker.durability import Durability
from worker.index import Index, PlacedApprovers, PlacedTombstone, Removal
from worker.layout import Place
from worker.pack_format import MAX_PACK, NO_SHARE, Kind, body_digest
from worker.packs import Packs, Record
from worker.refusals import Refusal
from worker.share_states import KeptShare

log = logging.getLogger(__name__)

_LOST = 5  # a pack is written anew when a fifth of it is dead
_SMALL = MAX_PACK // 4  # bytes; of packs that stopped growing before, as each start of a worker leaves one
_MOST_SMALL = 16
_AT_ONCE = 64  # records
_OF_NONE = bytes(16), NO_SHARE
_EVERY = 60.0  # seconds between looks at all packs, where there was nothing to do


class Compaction:
    """`release` closes a share that moves. `now` is monotonic seconds."""

    def __init__(self, durability: Durability, packs: Packs, index: Index, release: Callable[[int], None]) -> None:
        self._durability = durability
        self._packs = packs
        self._index = index
        self._release = release
        self._number: Optional[int] = None  # of the pack that is written anew
        self._left: set[int] = set()  # packs that could not be, until the next start
        self._next = 0.0

    def due_in(self, now: float) -> float:
        """Seconds until there is something to do."""
        return 0.0 if self._number is not None else max(0.0, self._next - now)

    def turn(self, now: float) -> None:
        """Do a step, if it is time to."""
        if self._durability.refusal is not None or (self._number is None and now < self._next):
            return
        if self._number is None:
            self._number = self._pick()
        if self._number is None:
            self._next = now + _EVERY
            return
        try:
            self._step(self._number)
        except (OSError, Refusal) as error:
            log.warning("cannot write pack %d anew: %s", self._number, error)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                self._next = now + _EVERY  # there may be room by then
            else:
                self._left.add(self._number)
            self._number = None

    def _pick(self) -> Optional[int]:
        """The pack from which most is to be had, of those that are worth it."""
        sizes = {number: size for number, size in self._packs.sizes.items() if self._may(number)}
        dead = {number: size - self._index.living(number) for number, size in sizes.items()}
        worn = [number for number, size in sizes.items() if dead[number] * _LOST >= size]
        if worn:
            return max(worn, key=lambda number: dead[number] / max(1, sizes[number]))
        small = [number for number, size in sizes.items() if size < _SMALL]
        return min(small) if len(small) > _MOST_SMALL else None

    def _may(self, number: int) -> bool:
        known = number in self._index.packs and not {0, number} & self._packs.unread
        return known and number != self._packs.growing and number not in self._left

    def _step(self, number: int) -> None:
        records = next(self._living(number), None)
        if records is not None:
            self._append(records)
            return
        if self._index.living(number):
            raise self._index.found_damaged(f"something of pack {number} is needed still, and not found")
        serial = self._index.next_serial()
        (place,) = self._packs.append([Record(Kind.REWRITTEN, _OF_NONE, serial, number)])
        self._packs.sync()
        self._packs.remove(number)
        self._packs.sync_names()
        with self._index.transaction():
            self._index.forget_pack(number)
            self._index.add_removal(Removal.of_pack(serial, number, place))
        log.info("pack %d was written anew, and is gone", number)
        self._number = None

    def _living(self, number: int) -> Iterator[list[_Living]]:
        """What is needed of a pack, some at a time."""
        index = self._index
        yield from chunks([self._share(kept) for kept in index.in_pack(number, 0, _AT_ONCE)], _AT_ONCE)
        for some in chunks(index.amended_in_pack(number), _AT_ONCE):
            yield [each for kept in some for each in self._amendments(kept, number)]
        for placed in chunks(index.tombstones_in_pack(number), _AT_ONCE):
            yield [self._tombstone(each) for each in placed]
        for approvers in chunks(index.approvers_in_pack(number), _AT_ONCE):
            yield [self._approvers(each) for each in approvers]
        for removals in chunks(index.removals_in_pack(number), _AT_ONCE):
            yield [self._removal(each) for each in removals]

    def _append(self, living: list[_Living]) -> None:
        places = self._packs.append([record for record, _ in living])
        self._packs.sync()
        with self._index.transaction():
            for (_, moved), place in zip(living, places):
                moved(place)

    def _read(self, place: Place) -> tuple[bytes, bool]:
        """A record's body, and whether it is the one that was written."""
        body, frame = self._packs.body(place), self._packs.frame(place)
        return body, frame is not None and body_digest(body) == frame.digest

    def _share(self, kept: KeptShare) -> _Living:
        body, good = self._read(kept.place)

        def moved(place: Place) -> None:
            self._index.change(kept, msgspec.structs.replace(kept, place=place))
            self._release(kept.serial)

        return Record(Kind.SHARE, kept.key, kept.serial, 0, body, good), moved

    def _amendments(self, kept: KeptShare, number: int) -> Iterator[_Living]:
        """The share's amendments that lie in a pack, those that are held with the one that holds."""
        lying = [(kept.amended_by, kept.amendment), *((each.replaced.serial, each.place) for each in kept.superseded)]
        for serial, place in lying:
            if place is not None and place.pack == number:
                yield self._amendment(kept, serial, place)

    def _amendment(self, kept: KeptShare, serial: int, lying: Place) -> _Living:
        body, good = self._read(lying)

        def moved(place: Place) -> None:
            now = self._index.of_serial(kept.serial)  # another of its amendments may have moved with this one
            if now is not None:
                self._index.change(now, now.moved_amendment(serial, place))
            self._release(kept.serial)

        return Record(Kind.AMENDMENT, kept.key, serial, kept.serial, body, good), moved

    def _tombstone(self, placed: PlacedTombstone) -> _Living:
        return placed.record, lambda place: self._index.put_tombstone(placed._replace(place=place))

    def _approvers(self, placed: PlacedApprovers) -> _Living:
        return placed.record, lambda place: self._index.put_approvers(placed._replace(place=place))

    def _removal(self, removal: Removal) -> _Living:
        kind = Kind.REWRITTEN if removal.is_of_pack else Kind.REMOVAL
        record = Record(kind, _OF_NONE, removal.serial, removal.share)
        return record, lambda place: self._index.move_removal(removal.serial, place)


_Living = tuple[Record, Callable[[Place], None]]  # and what to do once it lies elsewhere
