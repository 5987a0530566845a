"""Which encodings were deleted, or taken back, as the devices tell it: rebuilt from what they say, like the catalog.

Only what its owner signed comes here, so no device can delete in an owner's name; and a tombstone says nothing of what
is another owner's, however many others use the same id. Of several of one owner's that of the highest rank holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from broker.budget import TELLER, TOMBSTONE, Budget
from common.protocol.messages import MAX_OWNERS_OF_AN_ENCODING, MAX_TOMBSTONES_ON_A_DEVICE, Tombstone
from common.protocol.signatures import tombstone_rank


@dataclass(eq=False)
class _Record:
    """Of one encoding, by one owner."""

    owner: bytes
    best: Tombstone
    rank: bytes  # the best's
    trash_until: int = 0  # Unix seconds, as those say who know the best: the latest of them
    ends: int = 0
    told: dict[bytes, bytes] = field(default_factory=dict)  # device → the rank of what it knows
    refused: set[bytes] = field(default_factory=set)  # devices that were shown the best, and have nothing of it


class Tombstones:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._records: dict[bytes, dict[bytes, _Record]] = {}  # encoding id → owner → record
        self._owners: dict[bytes, set[bytes]] = {}  # owner → encoding ids
        self._told_by: dict[bytes, dict[_Record, None]] = {}  # device → records that it tells, in this order
        self._changed: dict[tuple[bytes, bytes], None] = {}  # encoding ids and owners

    def devices(self) -> set[bytes]:
        """Those that told of deletions."""
        return set(self._told_by)

    def takes(self, device: bytes, tombstone: Tombstone) -> bool:
        """Whether this is within the number that one device may tell."""
        record = self._record(tombstone)
        if record is not None and device in record.told:
            return True
        return len(self._told_by.get(device, ())) < MAX_TOMBSTONES_ON_A_DEVICE

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
        record, rank = self._record(tombstone), tombstone_rank(tombstone)
        if record is None:
            record = _Record(tombstone.owner, tombstone, rank)
            self._records.setdefault(tombstone.encoding_id, {})[record.owner] = record
            self._owners.setdefault(record.owner, set()).add(tombstone.encoding_id)
        if device not in record.told:
            self._make_way(device, tombstone.encoding_id)
            before = list(record.told)
            record.told[device] = b""
            self.budget.divide(before, list(record.told), TOMBSTONE, TELLER)
            self._told_by.setdefault(device, {})[record] = None
        if rank > record.rank:
            record.best, record.rank, record.trash_until = tombstone, rank, 0
            record.refused.clear()
        rank = record.rank if rank == record.rank else rank  # one object of equal bytes for all devices
        if rank == record.rank:
            record.trash_until = max(record.trash_until, trash_until)
        record.ends = max(record.ends, ends)
        record.told[device] = max(rank, record.told[device])
        record.refused.discard(device)
        self._changed[tombstone.encoding_id, record.owner] = None
        return True

    def done(self, device: bytes, tombstone: Tombstone) -> None:
        """A device that was shown this has it now."""
        record = self._record(tombstone)
        if record is not None:
            self.tell(device, tombstone, record.trash_until if record.best == tombstone else 0, record.ends)

    def refuse(self, device: bytes, tombstone: Tombstone) -> None:
        """A device was shown this, and has nothing that it is about."""
        record = self._record(tombstone)
        if record is not None and record.best == tombstone and device not in record.told:
            record.refused.add(device)

    def take_changed(self) -> list[tuple[bytes, bytes]]:
        """The encoding ids and owners of which anything was told since this was last asked."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def __contains__(self, encoding_id: bytes) -> bool:
        return encoding_id in self._records

    def of_owner(self, encoding_id: bytes, owner: bytes) -> Optional[Tombstone]:
        """What holds of this owner's deletion of an encoding; None where there is none."""
        record = self._records.get(encoding_id, {}).get(owner)
        return None if record is None else record.best

    def of_encoding(self, encoding_id: bytes) -> Iterator[Tombstone]:
        """The same of every owner that deleted something under this id, of whom there may be very many."""
        return (record.best for record in self._records.get(encoding_id, {}).values())

    def deleted(self, encoding_id: bytes, owner: bytes) -> bool:
        """This owner has deleted the encoding, and did not take that back."""
        tombstone = self.of_owner(encoding_id, owner)
        return tombstone is not None and tombstone.deleted

    def trash_until(self, tombstone: Tombstone) -> int:
        """Until when, in Unix seconds, this may be taken back where it is kept for longest."""
        record = self._record(tombstone)
        return 0 if record is None else record.trash_until

    def ends(self, tombstone: Tombstone) -> int:
        """Until when, in Unix seconds, this is remembered where it is for longest."""
        record = self._record(tombstone)
        return 0 if record is None else record.ends

    def behind(self, tombstone: Tombstone) -> list[bytes]:
        """Devices that told of this owner's deletion, and know less of it than what holds."""
        record = self._record(tombstone)
        return [] if record is None else [device for device, rank in record.told.items() if rank < record.rank]

    def known_only_by(self, device: bytes) -> Iterator[Tombstone]:
        """What holds of deletions, and no other device has told of."""
        for _, record in self._all():
            if [other for other, rank in record.told.items() if rank == record.rank] == [device]:
                yield record.best

    def told_by(self, tombstone: Tombstone) -> set[bytes]:
        """Devices that told of this owner's deletion, or of what was before it."""
        record = self._record(tombstone)
        return set() if record is None else set(record.told)

    def refused_by(self, tombstone: Tombstone) -> set[bytes]:
        """Devices that need not be shown it again."""
        record = self._record(tombstone)
        return set() if record is None else record.refused

    def memory_of(self, owner: bytes) -> int:
        """About how many bytes of memory an owner's tombstones take."""
        return TOMBSTONE * len(self._owners.get(owner, ()))

    def encodings_of(self, owner: bytes) -> list[bytes]:
        """The encodings of an owner that tombstones tell of, in order."""
        return sorted(self._owners.get(owner, ()))

    def forget_device(self, device: bytes) -> list[bytes]:
        """Before a device tells anew what it knows. Other devices' word stays; returns the encodings it told of."""
        for _, record in self._all():
            record.refused.discard(device)
        return self._drop(device, list(self._told_by.get(device, ())))

    def drop_untold_by_others(self, device: bytes, enough: int) -> list[bytes]:
        """Forget what this device alone tells, the newest first, until so few bytes are taken by all; as above."""
        dropped: list[bytes] = []
        for record in reversed(list(self._told_by.get(device, ()))):
            if self.budget.total <= enough:
                break
            if len(record.told) == 1:
                dropped += self._drop(device, [record])
        return dropped

    def expire(self, today: int) -> list[bytes]:
        """Forget what has come to its end (`today`: Unix seconds); returns the encodings of it."""
        over = [record for _, record in self._all() if record.ends <= today]
        for record in over:
            for device in list(record.told):
                self._drop(device, [record])
        return [record.best.encoding_id for record in over]

    def _drop(self, device: bytes, records: list[_Record]) -> list[bytes]:
        """Forget that a device tells these; returns their encodings."""
        told = self._told_by.get(device, {})
        for record in records:
            before = list(record.told)
            del record.told[device], told[record]
            self.budget.divide(before, list(record.told), TOMBSTONE, TELLER)
            if not record.told:
                self._forget(record)
        if not told:
            self._told_by.pop(device, None)
        return [record.best.encoding_id for record in records]

    def _make_way(self, device: bytes, encoding_id: bytes) -> None:
        """What a device tells of one more owner of an encoding takes the place of what comes to its end first."""
        told = [record for record in self._records[encoding_id].values() if device in record.told]
        if len(told) >= MAX_OWNERS_OF_AN_ENCODING:
            self._drop(device, [min(told, key=lambda record: record.ends)])

    def _forget(self, record: _Record) -> None:
        """A record that nobody tells any more."""
        encoding_id, owner = record.best.encoding_id, record.owner
        records, encodings = self._records[encoding_id], self._owners[owner]
        del records[owner]
        encodings.discard(encoding_id)
        if not records:
            del self._records[encoding_id]
        if not encodings:
            del self._owners[owner]

    def _record(self, tombstone: Tombstone) -> Optional[_Record]:
        return self._records.get(tombstone.encoding_id, {}).get(tombstone.owner)

    def _all(self) -> Iterator[tuple[bytes, _Record]]:
        return ((encoding, record) for encoding, records in self._records.items() for record in records.values())
