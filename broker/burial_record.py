"""Deletions as the audit log shows them: one record of an encoding, with how many devices carried it out.

Each device tells of a deletion by itself (BURY), and tells it again when it registers anew. So what is news is told
from what is not: only a device that had announced everything before brings news, the first one opens a record, those
that follow within seconds are counted in, and then the record is handed out. No clock and no disk.
"""

from __future__ import annotations

from typing import NamedTuple

from common.protocol.messages import Tombstone

_COLLECT = 5.0  # seconds from the first device's word to the record
_MAX_OPEN = 1000  # records; beyond, the oldest goes out early


class Deleted(NamedTuple):
    tombstone: Tombstone
    devices: int


class BurialRecord:
    """`now` is monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[tuple[bytes, bytes, int], tuple[Tombstone, float, set[bytes]]] = {}

    def tell(self, device: bytes, tombstone: Tombstone, now: float, *, new: bool) -> None:
        """A device tells of a deletion; `new`: nobody has told of it, or of this generation, before."""
        key = (tombstone.encoding_id, tombstone.owner, tombstone.generation)
        if key in self._open:
            self._open[key][2].add(device)
        elif new:
            self._open[key] = (tombstone, now, {device})

    def take(self, now: float) -> list[Deleted]:
        """The records that are complete; each is handed out once."""
        surplus = len(self._open) - _MAX_OPEN
        ready = [
            key for at, (key, (_, since, _)) in enumerate(self._open.items()) if at < surplus or now - since >= _COLLECT
        ]
        return [Deleted(tombstone, len(devices)) for tombstone, _, devices in map(self._open.pop, ready)]
