"""How much of a device one owner may take.

`--owner-quota`, if there is one, bounds what is held and being stored together. On a device that others use too, an
owner gets beyond the first share being stored at most half of the free room, so that shares that are opened and never
finished keep nobody out. One share alone may take all, since images can be large. Of the places in `staging` one owner
gets half.

What an owner deleted, and is still in the trash, does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.protocol.messages import Code
from worker.capacity import OVERHEAD, Capacity
from worker.inventory import Inventory
from worker.refusals import Refusal
from worker.staging import StagedShares


class Quota:
    def __init__(
        self, inventory: Inventory, staged: StagedShares, capacity: Capacity, owner_quota: Optional[int]
    ) -> None:
        """`owner_quota`: bytes that one owner's shares may take; None for any number."""
        self._inventory = inventory
        self._staged = staged
        self._capacity = capacity
        self._owner_quota = owner_quota

    def has_room(self, owner: bytes, sizes: Sequence[int]) -> bool:
        """Whether this owner may begin all shares of these sizes; where not, some may still fit.

        One check for many shares, since each goes through all that are being stored.
        """
        try:
            self.require_another(owner, sum(sizes) + OVERHEAD * (len(sizes) - 1), alone=len(sizes) == 1)
        except Refusal:
            return False
        return True

    def require_another(self, owner: bytes, size: int, *, alone: bool = True) -> None:
        """Refusal(NO_ROOM) as `require`; BUSY where this owner has too much being stored to begin another share.

        `alone`: it is one share, which may take all if it is the first.
        """
        free = self.require(owner, size)
        under_way = self._under_way(owner)
        if (alone and not under_way) or not self._has_others(owner):
            return
        if under_way + size > (free + under_way) // 2:
            raise Refusal(Code.BUSY, "this vault has half of the room here under way")

    def require(self, owner: bytes, size: int) -> int:
        """The free bytes; Refusal(NO_ROOM) where this owner, or nobody, may take so many more."""
        if self._owner_quota is not None:
            taken = self._inventory.used_by(owner) + self._under_way(owner)
            if taken + size + OVERHEAD > self._owner_quota:
                raise Refusal(Code.NO_ROOM, "this vault's quota on this device is used up")
        return self._capacity.require(size)

    def _under_way(self, owner: bytes) -> int:
        return sum(
            max(staged.size, staged.expected_bytes) for staged in self._staged.of_owner(owner) if not staged.idle
        )

    def _has_others(self, owner: bytes) -> bool:
        """Whether other vaults use this device."""
        held_by_others = self._inventory.used_bytes > self._inventory.used_by(owner)
        return held_by_others or any(staged.owner != owner for staged in self._staged)
