"""Approvers: whom an owner names, when that takes effect here, and the trash that enough of them let be emptied early.

    NAME_APPROVERS   check the owner's signature → write the list, durably → after the hold it is in effect
    EMPTY            check the approvers' signatures → the deletions' time is over, durably → the trash is emptied

Who has stolen the owner's key can name approvers of their own. So a list takes effect once this device's hold is over,
by its own clock and not while that is in doubt; until then the one before counts, or nobody approves, and the owner
sees what is under way.
"""

from __future__ import annotations

import logging
from typing import Optional

from common.protocol.approvals import fault_of_approval, fault_of_list, says_the_same
from common.protocol.messages import GRANTED, ApproverList, Code, Emptied, EmptiedPart, EmptyTrash, KnownApprovers
from worker.approver_lists import KeptApprovers, encode_approvers
from worker.clock import Clock
from worker.deleting import Deletion
from worker.durability import Durability
from worker.index import Index, PlacedApprovers
from worker.pack_format import NO_SHARE, Kind
from worker.packs import Packs, Record
from worker.refusals import Refusal

log = logging.getLogger(__name__)

_MOST_LISTS = 4096  # of as many owners: some 2 KiB each
_MOST_GENERATIONS = 256  # by which a list may be ahead of what is known here: none is the last


class Approving:
    def __init__(
        self, durability: Durability, packs: Packs, index: Index, deletion: Deletion, clock: Clock, hold: int
    ) -> None:
        """`hold`: seconds until a list takes effect."""
        self._durability = durability
        self._packs = packs
        self._index = index
        self._deletion = deletion
        self._clock = clock
        self._hold = hold

    def known(self, owner: bytes) -> KnownApprovers:
        """What is in effect and under way of this owner's."""
        kept, unix = self._now(owner), int(self._clock.unix())
        if kept is None or kept.under_way is None:
            return KnownApprovers(GRANTED, None if kept is None else kept.in_effect)
        left, age = max(0, kept.begins - unix), max(0, unix - kept.since)
        return KnownApprovers(GRANTED, kept.in_effect, kept.under_way, left, age)

    def name(self, named: ApproverList, owner: bytes) -> None:
        """Have this list count once the hold is over, durably; harmless where it is known."""
        fault = "its owner did not sign this list" if named.owner != owner else fault_of_list(named)
        if fault is not None:
            raise Refusal(Code.NOT_ALLOWED, fault)
        kept = self._now(owner)
        if kept is not None and named in (kept.in_effect, kept.under_way):
            return
        if kept is None and not self._index.used_by(owner):
            raise Refusal(Code.NOT_FOUND, "nothing of this vault is here")
        self._require_next(named, kept)
        self._write(self._following(named, kept), kept)
        log.info("the vault %s named %d approvers", owner.hex(), len(named.approvers))

    def empty(self, approved: EmptyTrash, part: EmptiedPart, owner: bytes) -> Emptied:
        """Empty the trash of deletions of this owner's before their time, as enough approvers signed."""
        self._require_clock()
        kept = self._now(owner)
        if kept is None or kept.in_effect is None or not kept.in_effect.needed:
            raise Refusal(Code.NOT_ALLOWED, "no approvers are in effect here, so nothing is emptied early")
        fault = fault_of_approval(kept.in_effect, part, approved.approvals)
        if fault is not None:
            raise Refusal(Code.NOT_ALLOWED, fault)
        return self._deletion.empty_early(part.deletions, owner, self._clock.unix())

    def _now(self, owner: bytes) -> Optional[KeptApprovers]:
        """An owner's lists as they count now; while the clock is in doubt nothing takes effect."""
        placed = self._index.approvers(owner)
        if placed is None:
            return None
        return placed.kept.at(self._clock.unix()) if self._clock.trusted() else placed.kept

    def _require_next(self, named: ApproverList, kept: Optional[KeptApprovers]) -> None:
        before = 0 if kept is None else kept.latest.generation
        if named.generation <= before:
            raise Refusal(Code.CONFLICT, f"list {before} is known here")
        if named.generation > before + _MOST_GENERATIONS:
            raise Refusal(Code.NOT_ALLOWED, f"list {named.generation} is too far ahead of {before}")
        if kept is not None and kept.under_way is not None:
            self._require_clock()

    def _require_clock(self) -> None:
        if not self._clock.trusted():
            raise Refusal(Code.FAULT, "this device's clock leapt ahead: what is in effect is known in an hour")

    def _following(self, named: ApproverList, kept: Optional[KeptApprovers]) -> KeptApprovers:
        unix = int(self._clock.unix())
        in_effect, under_way = (None, None) if kept is None else (kept.in_effect, kept.under_way)
        if in_effect is not None and says_the_same(named, in_effect):
            return KeptApprovers(named, None, unix, unix)
        if kept is not None and under_way is not None and says_the_same(named, under_way):
            return KeptApprovers(in_effect, named, kept.since, kept.begins)
        return KeptApprovers(in_effect, named, unix, unix + self._hold)

    def _write(self, kept: KeptApprovers, before: Optional[KeptApprovers]) -> None:
        self._durability.require_writable()
        if before is None:
            self._make_way()
        with self._durability.answering():
            serial = self._index.next_serial()
            record = Record(Kind.APPROVERS, (kept.owner, NO_SHARE), serial, 0, encode_approvers(kept))
            (place,) = self._packs.append([record])
            self._packs.sync()
            with self._index.transaction():
                self._index.put_approvers(PlacedApprovers(kept, serial, place))

    def _make_way(self) -> None:
        """Forget the lists of who has nothing here any more, where there are too many."""
        owners = self._index.owners_of_approvers()
        if len(owners) < _MOST_LISTS:
            return
        gone = [owner for owner in owners if not self._index.used_by(owner)]
        if not gone:
            raise Refusal(Code.NO_ROOM, "too many vaults have named approvers here")
        with self._index.transaction():
            for owner in gone:
                self._index.forget_approvers(owner)
