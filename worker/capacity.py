"""How much more this device takes, what is removed where that is too little, and how much of it one member may take.

A reserve of the disk stays free. The expected bytes of shares being stored count as used, unless they are idle. Surplus
in the trash and idle shares count as free, since they are removed before a put is refused: the oldest surplus first,
then what is idle for longest, then what others have reserved beyond their part. What was deleted stays until its time
is over.
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
from worker.staging import OVERHEAD, Payer, StagedShares

log = logging.getLogger(__name__)

_MAX_RESERVE = 1 << 30  # bytes of the disk that are left free, or 5 % where that is less
_LOOKED_AT = 64  # surplus shares, for one that may go
OwnerQuota = Union[int, Fraction]  # bytes, or a part of the device
_NOBODY = Payer(b"")


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
        return self.room()

    def room(self) -> int:
        """Bytes that one may store further who has nothing under way: what is free, or an even part at least."""
        at_hand, reserved = self._at_hand(), self._staged.reserved()
        if at_hand is None:
            return 0
        free = max(0, at_hand + self.surplus_bytes + self._staged.idle_bytes)
        return max(free, (free + sum(reserved.values())) // (len(reserved) + 1))

    def shared(self) -> int:
        """Bytes of the device for all its members: what they have here, and what is free."""
        at_hand = self._at_hand()
        if at_hand is None:
            return 0
        return max(0, at_hand + sum(staged.reserved for staged in self._staged)) + self.used_bytes

    def require_place(self) -> None:
        """Refusal(NO_ROOM) where brokers would not remember one share more of this device: nobody would find it."""
        if not self.has_place():
            raise Refusal(Code.NO_ROOM, f"{MAX_SHARES_ON_A_DEVICE} shares are here: as many as brokers remember")

    def has_place(self, more: int = 1) -> bool:
        """Whether brokers would remember so many shares more."""
        return self._index.count(*HERE) + len(self._staged) + more <= MAX_SHARES_ON_A_DEVICE

    def require(self, size: int, payer: Payer = _NOBODY, kept_free: int = 0) -> None:
        """Remove what may be, where needed; Refusal(NO_ROOM) where so many bytes do not fit.

        payer: before whom others give way that have more being stored. kept_free: bytes that have to be left.
        """
        self._durability.require_writable()
        needed = size + OVERHEAD + kept_free
        at_hand = self._at_hand()
        if at_hand is None:
            raise Refusal(Code.NO_ROOM, "the store is full")
        lacking = needed - at_hand - self.surplus_bytes
        giving = self._staged.giving_way(lacking, payer.account, size + OVERHEAD, lambda staged: staged.reserved)
        while giving is not None and at_hand is not None and at_hand < needed:
            if not self._purge_oldest():
                if not giving:
                    break
                self._staged.give_up(giving.pop(0))
            at_hand = self._at_hand()
        if giving is None or at_hand is None or at_hand < needed:
            if self._staged.reserved()[payer.account]:
                self._staged.note_over(payer.account)
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
        return room - sum(staged.reserved for staged in self._staged)


class Quota:
    """How much of the device one account may have: all vaults that one member brought, and what it left for others.

    What is held, being stored and in the trash counts, since what was deleted keeps its room for days. `--owner-quota`
    is a number of bytes, or a part of the device: so much is for who comes first, and of the rest each member is sure
    of an even part. So who has more than that must leave the even parts of all others free. Where the cluster has one
    client only, it may have all.

    What is reserved and not committed gives way to others (`StagedShares.giving_way`).
    """

    def __init__(
        self, index: Index, staged: StagedShares, capacity: Capacity, owner_quota: Optional[OwnerQuota]
    ) -> None:
        """`owner_quota`: what one account's shares may take; None for any number."""
        self._index = index
        self._staged = staged
        self._capacity = capacity
        self._owner_quota = owner_quota

    def has_room(self, payer: Payer, sizes: Sequence[int]) -> bool:
        """Whether this account may begin all shares of these sizes; where not, some may still fit.

        One check for many shares, since each goes through all that are being stored.
        """
        try:
            self.require(payer, sum(sizes) + OVERHEAD * (len(sizes) - 1))
        except Refusal:
            return False
        return True

    def require(self, payer: Payer, size: int) -> None:
        """Have others give way where needed; Refusal(NO_ROOM) where this account, or nobody, may take so many more."""
        limit, more, kept_free = self._owner_quota, size + OVERHEAD, 0
        taken = self._index.charged_to(payer.account) + self._staged.reserved()[payer.account]
        if isinstance(limit, Fraction) and payer.members > 1:
            sure = int(self._capacity.shared() * (1 - limit)) // payer.members
            kept_free = sure * (payer.members - 1) if taken + more > sure else 0
        fits = not isinstance(limit, int) or taken + more <= limit
        try:
            if fits:
                self._capacity.require(size, payer, kept_free)
                return
        except Refusal as refusal:
            if not kept_free or refusal.answer.code is not Code.NO_ROOM:
                raise
        self._staged.note_over(payer.account)
        has = f"what this client stored takes {format_size(taken)} of this device"
        raise Refusal(Code.NO_ROOM, f"{has}, whose --owner-quota leaves it no more")
