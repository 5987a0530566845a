"""Which encodings were deleted, or taken back, as the devices tell it: rebuilt from what they say, like the catalog.

Only what its owner signed comes here, so no device can delete in an owner's name; and a tombstone says nothing of what
is another owner's. Of several of one owner's that of the highest generation holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Optional

from common.protocol.messages import MAX_SHARES_ON_A_DEVICE, Tombstone

MAX_OWNERS = 4  # whose tombstones of one encoding one device may tell; an honest one has one at a time
MAX_TOMBSTONES_OF_A_DEVICE = MAX_SHARES_ON_A_DEVICE  # so that none that tells without end fills the memory


@dataclass
class _Record:
    """Of one encoding, by one owner."""

    best: Tombstone
    told: dict[bytes, int] = field(default_factory=dict)  # device → the generation it knows
    refused: set[bytes] = field(default_factory=set)  # devices that were shown the best, and have nothing of it


class Tombstones:
    def __init__(self) -> None:
        self._records: dict[bytes, dict[bytes, _Record]] = {}  # encoding id → owner → record
        self._owners: dict[bytes, set[bytes]] = {}  # owner → encoding ids
        self._counts: Counter[bytes] = Counter()  # device → records that it tells

    def is_news(self, tombstone: Tombstone) -> bool:
        """Whether its generation is above all that are known, so that its signature has to be checked."""
        record = self._record(tombstone)
        return record is None or tombstone.generation > record.best.generation

    def tell(self, device: bytes, tombstone: Tombstone) -> None:
        """A device knows of this, which its owner signed where it is news.

        What goes beyond the numbers that one device may tell is not taken up.
        """
        record = self._record(tombstone)
        if record is None or device not in record.told:
            owners = sum(device in each.told for each in self._records.get(tombstone.encoding_id, {}).values())
            if self._counts[device] >= MAX_TOMBSTONES_OF_A_DEVICE or owners >= MAX_OWNERS:
                return
            self._counts[device] += 1
        if record is None:
            record = _Record(tombstone)
            self._records.setdefault(tombstone.encoding_id, {})[tombstone.owner] = record
            self._owners.setdefault(tombstone.owner, set()).add(tombstone.encoding_id)
        record.told[device] = max(tombstone.generation, record.told.get(device, 0))
        record.refused.discard(device)
        if tombstone.generation > record.best.generation:
            record.best = tombstone
            record.refused.clear()

    def refuse(self, device: bytes, tombstone: Tombstone) -> None:
        """A device was shown this, and has nothing that it is about."""
        record = self._record(tombstone)
        if record is not None and record.best == tombstone and device not in record.told:
            record.refused.add(device)

    def of_owner(self, encoding_id: bytes, owner: bytes) -> Optional[Tombstone]:
        """What holds of this owner's deletion of an encoding; None where there is none."""
        record = self._records.get(encoding_id, {}).get(owner)
        return None if record is None else record.best

    def of_encoding(self, encoding_id: bytes) -> list[Tombstone]:
        """The same of every owner that deleted something under this id."""
        return [record.best for record in self._records.get(encoding_id, {}).values()]

    def deleted(self, encoding_id: bytes, owner: bytes) -> bool:
        """This owner has deleted the encoding, and did not take that back."""
        tombstone = self.of_owner(encoding_id, owner)
        return tombstone is not None and tombstone.deleted

    def behind(self, tombstone: Tombstone) -> list[bytes]:
        """Devices that told of this deletion, and know less of it."""
        told = self.told_by(tombstone)
        return [device for device, generation in told.items() if generation < tombstone.generation]

    def told_by(self, tombstone: Tombstone) -> dict[bytes, int]:
        """device → the generation of this deletion that it knows."""
        record = self._record(tombstone)
        return {} if record is None else dict(record.told)

    def refused_by(self, tombstone: Tombstone) -> set[bytes]:
        """Devices that need not be shown it again."""
        record = self._record(tombstone)
        return set() if record is None else record.refused

    def encodings_of(self, owner: bytes) -> list[bytes]:
        """The encodings of an owner that tombstones tell of, in order."""
        return sorted(self._owners.get(owner, ()))

    def forget_device(self, device: bytes) -> list[bytes]:
        """Before a device tells anew what it knows. Other devices' word stays; returns the encodings it told of."""
        for _, record in self._all():
            record.refused.discard(device)
        told = [encoding_id for encoding_id, record in self._all() if device in record.told]
        for encoding_id in told:
            for record in self._records[encoding_id].values():
                record.told.pop(device, None)
        del self._counts[device]
        self._clear(told)
        return told

    def expire(self, today: int) -> list[bytes]:
        """Forget what has come to its end (`today`: Unix seconds); returns the encodings of it."""
        over = [(encoding_id, record) for encoding_id, record in self._all() if record.best.ends <= today]
        for _, record in over:
            self._counts.subtract(record.told.keys())
            record.told.clear()
        self._clear(encoding_id for encoding_id, _ in over)
        return [encoding_id for encoding_id, _ in over]

    def _record(self, tombstone: Tombstone) -> Optional[_Record]:
        return self._records.get(tombstone.encoding_id, {}).get(tombstone.owner)

    def _all(self) -> Iterator[tuple[bytes, _Record]]:
        return ((encoding, record) for encoding, records in self._records.items() for record in records.values())

    def _clear(self, encodings: Iterable[bytes]) -> None:
        """Drop the records that nobody tells any more."""
        for encoding_id in set(encodings):
            records = self._records[encoding_id]
            for owner in [owner for owner, record in records.items() if not record.told]:
                del records[owner]
                self._owners[owner].discard(encoding_id)
            if not records:
                del self._records[encoding_id]
