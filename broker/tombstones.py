"""Which encodings were deleted, or taken back, as the devices tell it: rebuilt from what they say, like the catalog.

Only what its owner signed comes here, so no device can delete in an owner's name; and a tombstone says nothing of what
is another owner's, however many others use the same id. Of several of one owner's that of the highest rank holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Optional

import msgspec

from broker.budget import TELLER, TOMBSTONE, Budget
from common.protocol.messages import MAX_OWNERS_OF_AN_ENCODING, MAX_TOMBSTONES_ON_A_DEVICE, Tombstone
from common.protocol.signatures import tombstone_rank

_MOST_EMPTIED = 20_000  # some 400 bytes each


class _Record(msgspec.Struct, gc=False, eq=False):
    """Of one encoding, by one owner. There may be very many: what most have not is None."""

    owner: bytes
    best: Tombstone
    rank: bytes  # the best's
    trash_until: int = 0  # Unix seconds, as those say who know the best: the latest of them
    ends: int = 0
    told: tuple[bytes, ...] = ()  # devices that know it, or one before it
    behind: Optional[dict[bytes, bytes]] = None  # of these, those that know less: the rank of that
    refused: Optional[set[bytes]] = None  # devices that were shown the best, and have nothing of it

    def rank_at(self, device: bytes) -> bytes:
        """The rank of what a device that told of it knows."""
        return self.rank if self.behind is None else self.behind.get(device, self.rank)


class Tombstones:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._records: dict[bytes, tuple[_Record, ...]] = {}  # by encoding id, in the order in which these came
        self._owners: dict[bytes, set[bytes]] = {}  # owner → encoding ids
        self._keys: dict[bytes, bytes] = {}  # owner → its key: one object for all that it signed
        self._counts: Counter[bytes] = Counter()  # of records that a device tells
        self._changed: dict[tuple[bytes, bytes], None] = {}  # encoding ids and owners
        self._emptied: dict[tuple[bytes, bytes], set[bytes]] = {}  # likewise → who emptied their trash of it early

    def devices(self) -> set[bytes]:
        """Those that told of deletions."""
        return set(self._counts)

    def takes(self, device: bytes, tombstone: Tombstone) -> bool:
        """Whether this is within the number that one device may tell."""
        record = self._record(tombstone)
        if record is not None and device in record.told:
            return True
        return self._counts[device] < MAX_TOMBSTONES_ON_A_DEVICE

    def is_news(self, tombstone: Tombstone) -> bool:
        """Whether it holds against all that are known, so that its signature has to be checked."""
        record = self._record(tombstone)
        return record is None or (tombstone != record.best and tombstone_rank(tombstone) > record.rank)

    def tell(self, device: bytes, tombstone: Tombstone, trash_until: int, ends: int) -> bool:
        """A device knows of this, which its owner signed where it is news; until when, in Unix seconds.

        False where it is one more than this device may tell, and is not taken up.
        """
        if not self.takes(device, tombstone):
            return False
        record, rank = self._record(tombstone) or self._add(tombstone), tombstone_rank(tombstone)
        is_first = device not in record.told
        if is_first:
            self._make_way(device, tombstone.encoding_id)
            self._set_told(record, (*record.told, device))
            self._counts[device] += 1
        knows = rank if is_first else max(rank, record.rank_at(device))
        if rank > record.rank:
            record.behind = {other: record.rank_at(other) for other in record.told if other != device} or None
            record.best, record.rank, record.trash_until = self._shared(tombstone, record), rank, 0
            record.refused = None
            self._emptied.pop((tombstone.encoding_id, record.owner), None)
        if rank == record.rank:
            record.trash_until = max(record.trash_until, trash_until)
        record.ends = max(record.ends, ends)
        self._set_behind(record, device, knows if knows < record.rank else None)
        self._set_refused(record, device, refuses=False)
        self._changed[tombstone.encoding_id, record.owner] = None
        return True

    def _add(self, tombstone: Tombstone) -> _Record:
        encoding_id = tombstone.encoding_id
        record = _Record(tombstone.owner, tombstone, tombstone_rank(tombstone))
        self._keys.setdefault(record.owner, tombstone.owner_key)
        self._owners.setdefault(record.owner, set()).add(encoding_id)
        self._records[encoding_id] = (*self._records.get(encoding_id, ()), record)
        record.best = self._shared(tombstone, record)
        return record

    def _shared(self, tombstone: Tombstone, record: _Record) -> Tombstone:
        """An equal one that has bytes in common with others."""
        encoding_id = record.best.encoding_id
        return msgspec.structs.replace(tombstone, encoding_id=encoding_id, owner_key=self._keys[record.owner])

    def _set_told(self, record: _Record, told: tuple[bytes, ...]) -> None:
        self.budget.divide(record.told, told, TOMBSTONE, TELLER)
        record.told = told

    def _set_behind(self, record: _Record, device: bytes, rank: Optional[bytes]) -> None:
        """What a device knows is of a lower rank; None where it is not."""
        behind = dict(record.behind or ())
        behind.pop(device, None)
        record.behind = ({**behind, device: rank} if rank is not None else behind) or None

    def _set_refused(self, record: _Record, device: bytes, *, refuses: bool) -> None:
        refused = set(record.refused or ()) - {device}
        record.refused = (refused | {device} if refuses else refused) or None

    def done(self, device: bytes, tombstone: Tombstone) -> None:
        """A device that was shown this has it now."""
        record = self._record(tombstone)
        if record is not None:
            self.tell(device, tombstone, record.trash_until if record.best == tombstone else 0, record.ends)

    def refuse(self, device: bytes, tombstone: Tombstone) -> None:
        """A device was shown this, and has nothing that it is about."""
        record = self._record(tombstone)
        if record is not None and record.best == tombstone and device not in record.told:
            self._set_refused(record, device, refuses=True)

    def take_changed(self) -> list[tuple[bytes, bytes]]:
        """The encoding ids and owners of which anything was told since this was last asked."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def __contains__(self, encoding_id: bytes) -> bool:
        return encoding_id in self._records

    def of_owner(self, encoding_id: bytes, owner: bytes) -> Optional[Tombstone]:
        """What holds of this owner's deletion of an encoding; None where there is none."""
        record = self._record_of(encoding_id, owner)
        return None if record is None else record.best

    def of_encoding(self, encoding_id: bytes) -> Iterator[Tombstone]:
        """The same of every owner that deleted something under this id, of whom there may be very many."""
        return (record.best for record in self._records.get(encoding_id, ()))

    def deleted(self, encoding_id: bytes, owner: bytes) -> bool:
        """This owner has deleted the encoding, and did not take that back."""
        tombstone = self.of_owner(encoding_id, owner)
        return tombstone is not None and tombstone.deleted

    def trash_until(self, tombstone: Tombstone) -> int:
        """Until when, in Unix seconds, this may be taken back where it is kept for longest; 0 where it is nowhere."""
        record = self._record(tombstone)
        if record is None or self._emptied.get((tombstone.encoding_id, record.owner), set()).issuperset(record.told):
            return 0
        return record.trash_until

    def note_emptied(self, device: bytes, tombstone: Tombstone) -> None:
        """A device that told of this has nothing of it in the trash any more, before its time.

        Of very many only some are known: the others seem to be there until their time is over.
        """
        record, name = self._record(tombstone), (tombstone.encoding_id, tombstone.owner)
        if record is None or record.best != tombstone or device not in record.told:
            return
        if name in self._emptied or len(self._emptied) < _MOST_EMPTIED:
            self._emptied.setdefault(name, set()).add(device)

    def ends(self, tombstone: Tombstone) -> int:
        """Until when, in Unix seconds, this is remembered where it is for longest."""
        record = self._record(tombstone)
        return 0 if record is None else record.ends

    def behind(self, tombstone: Tombstone) -> list[bytes]:
        """Devices that told of this owner's deletion, and know less of it than what holds."""
        record = self._record(tombstone)
        return [] if record is None else [device for device in record.told if device in (record.behind or ())]

    def known_only_by(self, device: bytes) -> Iterator[Tombstone]:
        """What holds of deletions, and no other device has told of."""
        for record in self._all():
            if [other for other in record.told if other not in (record.behind or ())] == [device]:
                yield record.best

    def told_by(self, tombstone: Tombstone) -> set[bytes]:
        """Devices that told of this owner's deletion, or of what was before it."""
        record = self._record(tombstone)
        return set() if record is None else set(record.told)

    def refused_by(self, tombstone: Tombstone) -> set[bytes]:
        """Devices that need not be shown it again."""
        record = self._record(tombstone)
        return set() if record is None else set(record.refused or ())

    def memory_of(self, owner: bytes) -> int:
        """About how many bytes of memory an owner's tombstones take."""
        return TOMBSTONE * len(self._owners.get(owner, ()))

    def encodings_of(self, owner: bytes) -> list[bytes]:
        """The encodings of an owner that tombstones tell of, in order."""
        return sorted(self._owners.get(owner, ()))

    def forget_device(self, device: bytes) -> list[bytes]:
        """Before a device tells anew what it knows. Other devices' word stays; returns the encodings it told of."""
        for record in self._all():
            if record.refused is not None:
                self._set_refused(record, device, refuses=False)
        return self._drop(device, [record for record in self._all() if device in record.told])

    def drop_untold_by_others(self, device: bytes, enough: int) -> list[bytes]:
        """Forget what this device alone tells, the newest first, until so few bytes are taken by all; as above."""
        dropped: list[bytes] = []
        for record in reversed([record for record in self._all() if record.told == (device,)]):
            if self.budget.total <= enough:
                break
            dropped += self._drop(device, [record])
        return dropped

    def expire(self, today: int) -> list[bytes]:
        """Forget what has come to its end (`today`: Unix seconds); returns the encodings of it."""
        over = [record for record in self._all() if record.ends <= today]
        for record in over:
            for device in record.told:
                self._drop(device, [record])
        return [record.best.encoding_id for record in over]

    def _drop(self, device: bytes, records: list[_Record]) -> list[bytes]:
        """Forget that a device tells these; returns their encodings."""
        for record in records:
            self._set_told(record, tuple(other for other in record.told if other != device))
            self._set_behind(record, device, None)
            if not record.told:
                self._forget(record)
        self._counts[device] -= len(records)
        if not self._counts[device]:
            del self._counts[device]
        return [record.best.encoding_id for record in records]

    def _make_way(self, device: bytes, encoding_id: bytes) -> None:
        """What a device tells of one more owner of an encoding takes the place of what comes to its end first."""
        told = [record for record in self._records[encoding_id] if device in record.told]
        if len(told) >= MAX_OWNERS_OF_AN_ENCODING:
            self._drop(device, [min(told, key=lambda record: record.ends)])

    def _forget(self, record: _Record) -> None:
        """A record that nobody tells any more."""
        encoding_id, owner = record.best.encoding_id, record.owner
        self._records[encoding_id] = tuple(each for each in self._records[encoding_id] if each is not record)
        if not self._records[encoding_id]:
            del self._records[encoding_id]
        self._emptied.pop((encoding_id, owner), None)
        self._owners[owner].discard(encoding_id)
        if not self._owners[owner]:
            del self._owners[owner], self._keys[owner]

    def _record(self, tombstone: Tombstone) -> Optional[_Record]:
        return self._record_of(tombstone.encoding_id, tombstone.owner)

    def _record_of(self, encoding_id: bytes, owner: bytes) -> Optional[_Record]:
        return next((record for record in self._records.get(encoding_id, ()) if record.owner == owner), None)

    def _all(self) -> Iterator[_Record]:
        """In the order in which their encodings came."""
        return (record for records in self._records.values() for record in records)
