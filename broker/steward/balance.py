"""Evening out after devices were added: shares move from devices with more than their fair part to others.

A device's fair part of all bytes follows its capacity. Shares are taken from the device that is furthest over its part
and go to one that stays less over its own, also with the share. So each move makes the whole more even, and there is
an end: when no device is over its part by more than 5 %, or nothing on it can be moved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Optional

from broker.catalog import Catalog
from broker.claims import Known, Place
from broker.placement import Candidate, place
from broker.steward.assessment import Presence, State, assess
from broker.steward.plan import Kind, Rooms, Task, presence_in, sources_of

_TOLERANCE = 0.05  # of a device's fair part


class Balance:
    """One rebalance, from when it is asked for until nothing is to be moved any more."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.under_way = False
        self._exhausted: set[bytes] = set()  # devices that nothing more can be moved from
        self._candidates: Iterator[bytes] = iter(())
        self._donor: Optional[bytes] = None

    def begin(self) -> None:
        self.under_way = True
        self._exhausted.clear()
        self._donor = None

    def next_task(self, rooms: Rooms, busy: Collection[bytes], limit: int) -> Optional[Task]:
        """A share to move, after looking at no more than `limit` encodings; `busy`: encodings to leave alone."""
        if not self.under_way:
            return None
        over = self._over(rooms)
        self._choose_donor(over)
        if self._donor is None:
            self.under_way = False
            return None
        for _ in range(limit):
            encoding_id = next(self._candidates, None)
            if encoding_id is None:
                self._exhausted.add(self._donor)
                self._donor = None
                return None
            task = self._move(encoding_id, self._donor, over, rooms) if encoding_id not in busy else None
            if task is not None:
                self._exhausted.clear()  # what could not be moved before, may be now
                return task
        return None

    def _over(self, rooms: Rooms) -> dict[bytes, float]:
        """device → bytes over its fair part, of those that are here and stay."""
        staying = {device: room.capacity for device, room in rooms.items() if room.presence is Presence.HERE}
        held = {device: self._catalog.bytes_on(device) for device in staying}
        part = sum(held.values()) / max(1, sum(staying.values()))
        return {device: held[device] - part * capacity for device, capacity in staying.items()}

    def _choose_donor(self, over: dict[bytes, float]) -> None:
        """Stay with a donor until it is near its part: its encodings are walked once."""

        def is_over(device: bytes) -> bool:
            fair = self._catalog.bytes_on(device) - over[device]
            return over[device] > _TOLERANCE * fair

        if self._donor in over and self._donor is not None and is_over(self._donor):
            return
        self._donor = None
        donors = [device for device in over if device not in self._exhausted and is_over(device)]
        if donors:
            self._donor = max(donors, key=lambda device: (over[device], device))
            self._candidates = self._catalog.encodings_on(self._donor)

    def _move(self, encoding_id: bytes, donor: bytes, over: dict[bytes, float], rooms: Rooms) -> Optional[Task]:
        known = self._catalog.known(encoding_id)
        if known is None or self._catalog.is_deleted(encoding_id):
            return None
        finding = assess(known, presence_in(rooms), urgent=False, patient=True)
        moving = [p for p in known.sound if p.device == donor]
        if finding.state is not State.WHOLE or finding.surplus or len(moving) != 1:
            return None
        size = known.claim.share_bytes
        better = [d for d in over if over[d] + size < over[donor] and d not in self._catalog.holders(encoding_id)]
        below = [device for device in better if over[device] < 0]  # first, so that fewer shares move twice
        candidates = [Candidate(device, rooms[device].free_bytes) for device in below or better]
        chosen = place(encoding_id, candidates, 1, size)
        return _task(known, moving[0], chosen[0], rooms) if chosen else None


def _task(known: Known, moving: Place, to: bytes, rooms: Rooms) -> Task:
    claim = known.claim
    targets, donors = (Place(moving.share, to),), {moving.share: moving.device}
    return Task(Kind.MOVE, claim, sources_of(known, rooms), targets, donors, discards=(moving,))
