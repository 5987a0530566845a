"""Which encodings were deleted, or taken back, as the devices tell it: rebuilt from what they say, like the catalog.

A device may lie here, too. What a tombstone says beside its generation (encoding, object, owner, capability) is a
claim; within one claim the highest generation holds. The broker cannot check a capability, the devices with shares
can: each that is shown it and says that it opens nothing votes against it. A deletion holds, and hides its encoding,
as long as more devices tell it than vote against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from common.protocol.messages import Tombstone

MAX_TOMBSTONES_OF_A_DEVICE = 250_000  # as many as shares, so that no device that tells without end fills the memory


class _Grave(NamedTuple):
    """What must be equal for two tombstones to be of one deletion."""

    object_id: bytes
    owner: bytes
    capability: bytes


@dataclass
class _Record:
    best: Tombstone
    told: dict[bytes, int] = field(default_factory=dict)  # device → the generation it knows
    against: set[bytes] = field(default_factory=set)  # devices that the capability opens nothing at

    @property
    def believed(self) -> bool:
        return len(self.told) > len(self.against)


class Tombstones:
    def __init__(self) -> None:
        self._records: dict[bytes, dict[_Grave, _Record]] = {}  # encoding id → claims
        self._owners: dict[bytes, set[bytes]] = {}  # owner → encoding ids
        self._counts: Counter[bytes] = Counter()  # device → records that it tells

    def tell(self, device: bytes, tombstone: Tombstone) -> None:
        """A device knows of this; a generation below the one it told before is old news.

        What goes beyond the number that one device may tell is not taken up.
        """
        grave = _Grave(tombstone.object_id, tombstone.owner, tombstone.capability)
        record = self._records.get(tombstone.encoding_id, {}).get(grave)
        if record is None or device not in record.told:
            if self._counts[device] >= MAX_TOMBSTONES_OF_A_DEVICE:
                return
            self._counts[device] += 1
        if record is None:
            record = self._records.setdefault(tombstone.encoding_id, {})[grave] = _Record(tombstone)
        record.told[device] = max(tombstone.generation, record.told.get(device, 0))
        record.against.discard(device)
        if tombstone.generation > record.best.generation:
            record.best = tombstone
        self._owners.setdefault(tombstone.owner, set()).add(tombstone.encoding_id)

    def refute(self, device: bytes, tombstone: Tombstone) -> None:
        """A device with a share was shown the capability, and it is not the share's."""
        grave = _Grave(tombstone.object_id, tombstone.owner, tombstone.capability)
        record = self._records.get(tombstone.encoding_id, {}).get(grave)
        if record is not None and device not in record.told:
            record.against.add(device)

    def holds(self, encoding_id: bytes) -> Optional[Tombstone]:
        """What is believed of this encoding's deletion; None where nothing is."""
        record = self._believed(encoding_id)
        return None if record is None else record.best

    def hides(self, encoding_id: bytes) -> bool:
        """It is deleted, and was not taken back."""
        if encoding_id not in self._records:
            return False
        tombstone = self.holds(encoding_id)
        return tombstone is not None and tombstone.deleted

    def behind(self, encoding_id: bytes) -> list[bytes]:
        """Devices that told of this deletion, and know less of it than is believed."""
        record = self._believed(encoding_id)
        if record is None:
            return []
        return [device for device, generation in record.told.items() if generation < record.best.generation]

    def told_by(self, encoding_id: bytes) -> dict[bytes, int]:
        """device → the generation of the believed deletion that it knows."""
        record = self._believed(encoding_id)
        return {} if record is None else dict(record.told)

    def stands_against(self, encoding_id: bytes, device: bytes) -> bool:
        record = self._believed(encoding_id)
        return record is not None and device in record.against

    def encodings_of(self, owner: bytes) -> list[bytes]:
        """The encodings of an owner that tombstones tell of, in order."""
        return sorted(self._owners.get(owner, ()))

    def forget_device(self, device: bytes) -> list[bytes]:
        """Before a device tells anew what it knows. Other devices' word stays; returns the encodings it told of."""
        told = [encoding_id for encoding_id, record in self._all() if device in record.told]
        for encoding_id in told:
            for record in self._records[encoding_id].values():
                record.told.pop(device, None)
        del self._counts[device]
        self._clear(told)
        return told

    def expire(self, today: int) -> list[bytes]:
        """Forget what has come to its end (`today`: Unix seconds); returns the encodings of it."""
        over = [encoding_id for encoding_id, record in self._all() if record.best.ends <= today]
        for encoding_id in over:
            for record in self._records[encoding_id].values():
                if record.best.ends <= today:
                    self._counts.subtract(record.told.keys())
                    record.told.clear()
        self._clear(over)
        return over

    def _believed(self, encoding_id: bytes) -> Optional[_Record]:
        believed = [record for record in self._records.get(encoding_id, {}).values() if record.believed]
        return max(believed, key=lambda record: len(record.told) - len(record.against), default=None)

    def _all(self) -> Iterator[tuple[bytes, _Record]]:
        return ((encoding, record) for encoding, graves in self._records.items() for record in graves.values())

    def _clear(self, encodings: Iterable[bytes]) -> None:
        """Drop the records that nobody tells any more."""
        for encoding_id in set(encodings):
            graves = self._records[encoding_id]
            for grave in [grave for grave, record in graves.items() if not record.told]:
                del graves[grave]
                if all(grave.owner != other.owner for other in graves):
                    self._owners[grave.owner].discard(encoding_id)
            if not graves:
                del self._records[encoding_id]
