"""How much more this device takes, what is removed where that is too little, and how much of it one owner may take.

A reserve of the disk stays free. The expected bytes of shares being stored count as used, unless they are idle. Surplus
in the trash and idle shares count as free, since they are removed before a put is refused: the oldest surplus first,
then what is idle for longest. What was deleted stays until its time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Optional, Union

from common.protocol.messages import MAX_SHARES_ON_A_DEVICE, Code
from common.text import format_size
from worker.disk import Disk
from worker.durability import Durability
from worker.index import Index
from worker.refusals import Refusal
from worker.removing import Remover
from worker.share_states import HERE, State
from worker.staging import StagedShares

log = logging.getLogger(__name__)

_MAX_RESERVE = 1 << 30  # bytes of the disk that are left free, or 5 % where that is less
_LOOKED_AT = 64  # surplus shares, for one that may go
OVERHEAD = 64 * 1024  # bytes beside the blocks that a share may take: header, records, mapping
OwnerQuota = Union[int, Fraction]  # bytes, or a part of what a vault has and of what is free


class Capacity:
    def __init__(
        self,
        disk: Disk,
        folder: Path,
        capacity: Optional[int],
        durability: Durability,
        index: Index,
        remover: Remover,
        staged: StagedShares,
    ) -> None:
        """`capacity`: bytes that shares may take; None for all that the disk has but a reserve."""
        self._disk = disk
        self._folder = folder
        self._capacity = capacity
        self._durability = durability
        self._index = index
        self._remover = remover
        self._staged = staged

    @property
    def used_bytes(self) -> int:
        """What shares take, the damaged ones and the trash included."""
        return self._index.bytes_of(*State)

    def free_bytes(self) -> int:
        """Room for further shares; 0 where the store takes none."""
        if self._durability.refusal is not None or not self.has_place():
            return 0
        return self.room() or 0

    def room(self) -> Optional[int]:
        """Bytes that further shares may take, as far as room goes; None where the disk fails."""
        at_hand = self._at_hand()
        return None if at_hand is None else max(0, at_hand + self._yielding_bytes())

    def require_place(self) -> None:
        """Refusal(NO_ROOM) where brokers would not remember one share more of this device: nobody would find it."""
        if not self.has_place():
            raise Refusal(Code.NO_ROOM, f"{MAX_SHARES_ON_A_DEVICE} shares are here: as many as brokers remember")

    def has_place(self) -> bool:
        """Whether brokers would remember one share more."""
        return self._index.count(*HERE) + len(self._staged) < MAX_SHARES_ON_A_DEVICE

    def require(self, size: int) -> int:
        """Remove what may be, where needed; the free bytes, or Refusal(NO_ROOM) where so many do not fit."""
        self._durability.require_writable()
        needed = size + OVERHEAD
        at_hand = self._at_hand()
        while at_hand is not None and (free := at_hand + self._yielding_bytes()) >= needed:
            if at_hand >= needed:
                return free
            if not self._purge_oldest() and not self._staged.evict(self._staged):
                break
            at_hand = self._at_hand()
        raise Refusal(Code.NO_ROOM, "the store is full")

    def _purge_oldest(self) -> bool:
        """Remove the oldest surplus share of which nothing is held; False where there is none, or it cannot be."""
        oldest = [kept for kept in self._index.in_state(State.SURPLUS, limit=_LOOKED_AT) if not kept.superseded][:1]
        try:
            self._remover.remove(oldest)
        except OSError as error:
            log.warning("cannot remove a surplus share: %s", error)
            return False
        if oldest:
            log.info("purged a surplus share from the trash: its room is needed")
        return bool(oldest)

    @property
    def surplus_bytes(self) -> int:
        """What is removed where room is needed."""
        return self._index.bytes_of(State.SURPLUS)

    def _at_hand(self) -> Optional[int]:
        """Free bytes without removing anything; below 0 where too much is expected, None where the disk fails."""
        try:
            free, total = self._disk.free_bytes(self._folder)
        except OSError as error:
            log.error("cannot tell how much room %s has: %s", self._folder, error)
            return None
        written = sum(staged.size for staged in self._staged if staged.on_disk)
        room = free - min(_MAX_RESERVE, total // 20) + written  # `free` is already without what was written
        room += self._index.dead_bytes  # of packs, which `compaction` gives back
        if self._capacity is not None:
            room = min(room, self._capacity - self.used_bytes)
        return room - sum(max(staged.size, staged.expected_bytes) for staged in self._staged)

    def _yielding_bytes(self) -> int:
        idle = sum(max(staged.size, staged.expected_bytes) for staged in self._staged if staged.idle)
        return self.surplus_bytes + idle


class Quota:
    """How much of the device one owner may take.

    `--owner-quota` bounds what is held, being stored and in the trash together, since what was deleted keeps its room
    for days; what was left for an owner counts for who left it, once it is committed. A part is one of what this owner
    has and of what is free: so the more an owner has, the more must stay free, and whoever stores without end comes to
    that before those who have less. On a device that others use too, an owner gets beyond the first share being stored
    at most half of the free room, so that shares that are opened and never finished keep nobody out. One share alone
    may take all that the quota leaves, since images can be large. Of the places in `staging` one owner gets half.
    """

    def __init__(
        self, index: Index, staged: StagedShares, capacity: Capacity, owner_quota: Optional[OwnerQuota]
    ) -> None:
        """`owner_quota`: what one owner's shares may take; None for any number."""
        self._index = index
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

    def require_deposited(self, depositor: bytes, size: int) -> None:
        """Refusal(NO_ROOM) where who leaves a share for another has left so much here already."""
        self._require("this client has left", self._index.used_by(depositor) + size, 0)  # it is staged

    def require(self, owner: bytes, size: int) -> int:
        """The free bytes; Refusal(NO_ROOM) where this owner, or nobody, may take so many more."""
        self._require("this vault has", self._index.used_by(owner) + self._under_way(owner), size + OVERHEAD)
        return self._capacity.require(size)

    def _require(self, who: str, taken: int, more: int) -> None:
        limit = self._owner_quota
        if isinstance(limit, Fraction):
            room = self._capacity.room()
            limit = None if room is None else int(limit * (taken + room))
        if limit is not None and taken + more > limit:
            has = f"{who} {format_size(taken)} of the {format_size(limit)} that one may have on this device"
            raise Refusal(Code.NO_ROOM, f"{has}: its --owner-quota")

    def _under_way(self, owner: bytes) -> int:
        return sum(
            max(staged.size, staged.expected_bytes) for staged in self._staged.of_owner(owner) if not staged.idle
        )

    def _has_others(self, owner: bytes) -> bool:
        """Whether other vaults use this device."""
        held_by_others = self._index.bytes_of(*HERE, State.DELETED) > self._index.used_by(owner)
        return held_by_others or any(staged.owner != owner for staged in self._staged)
