"""How much each owner has in the catalog, by the word of each device."""

from __future__ import annotations

from collections.abc import Iterable

from broker.catalog_rows import CatalogRows

_HELD = 2048  # owners


class Owned:
    def __init__(self, rows: CatalogRows) -> None:
        self._rows = rows
        self._held: dict[bytes, dict[bytes, list[int]]] = {}  # of some: device → bytes of blocks, and of rows
        self._changed: set[bytes] = set()

    def count(self, owner: bytes, device: bytes, size: int, room: int) -> None:
        """Count shares for their owner, or who left them for another: bytes of blocks, and of the catalog.

        Negative where there are so many less.
        """
        devices = self._by_device(owner)
        counted = devices.setdefault(device, [0, 0])
        counted[0] += size
        counted[1] += room
        if not counted[1]:
            del devices[device]
        self._changed.add(owner)

    def has(self, owner: bytes) -> bool:
        return bool(self._by_device(owner))

    def bytes_of(self, owner: bytes) -> int:
        """Bytes of blocks, on all devices: of one no more than of the one that has second most."""
        return _capped(counted[0] for counted in self._by_device(owner).values())

    def room_of(self, owner: bytes) -> int:
        """Bytes of the catalog, counted likewise."""
        return _capped(counted[1] for counted in self._by_device(owner).values())

    def write(self) -> None:
        """For whoever reads the rows."""
        if self._changed:
            self._rows.write_owned({owner: self._held[owner] for owner in self._changed})
            self._changed.clear()

    def _by_device(self, owner: bytes) -> dict[bytes, list[int]]:
        owned = self._held.get(owner)
        if owned is None:
            if len(self._held) >= _HELD:
                self.write()
                self._held.clear()
            owned = self._held[owner] = self._rows.owned(owner)
        return owned


def _capped(parts: Iterable[int]) -> int:
    """The sum of these, of which the largest counts like the second."""
    most, *rest = sorted(parts, reverse=True) or [0]
    return min(most, max(rest, default=0)) + sum(rest)
