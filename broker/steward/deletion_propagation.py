"""Sees to it that every device with shares of an encoding learns what its owner signed of its deletion.

A device believes no broker: it is sent the tombstone that another device was shown, and acts on it only if the owner of
the share it has signed that. So the broker deletes nothing on its own authority. One that says "taken back" goes to all
that hold a share, too: a device that never heard of it would act on an older one, were that shown to it again. Each is
told until it answers, with growing pauses.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Optional

from broker.catalog import Catalog
from broker.steward.requests import Reply, Request, Requests
from broker.steward.turns import Turns
from common.protocol.envelope import Operation
from common.protocol.messages import Code, Tombstone

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds until a device that did not do it is told again
_AT_ONCE = 50  # deletions that one device is told of and has not answered yet
_OWNERS = 64  # whose deletions a device is shown that cannot tell whose its share is
_Deletion = tuple[bytes, bytes]  # encoding id, owner


@dataclass
class _Pending:
    """What one device is to be told."""

    pauses: dict[_Deletion, float] = field(default_factory=dict)  # → seconds until it is told again, if need be
    due: Turns[_Deletion] = field(default_factory=Turns)  # what is to be asked now: owners take turns
    later: list[tuple[float, _Deletion]] = field(default_factory=list)  # a heap of when it is due again
    asked: set[_Deletion] = field(default_factory=set)

    def add(self, deletion: _Deletion) -> None:
        if deletion not in self.pauses:
            self.pauses[deletion] = _FIRST_PAUSE
            self.due.add(deletion[1], deletion)

    def next(self, now: float) -> Optional[_Deletion]:
        """What is due, and asked now; None where nothing is, or too much is asked already."""
        while self.later and self.later[0][0] <= now:
            _, again = heapq.heappop(self.later)
            self.due.add(again[1], again)
        return self.due.take() if len(self.asked) < _AT_ONCE else None

    def again(self, deletion: _Deletion, now: float) -> None:
        pause = self.pauses.get(deletion, _FIRST_PAUSE)
        self.pauses[deletion] = min(2 * pause, _LONGEST_PAUSE)
        self.asked.discard(deletion)
        heapq.heappush(self.later, (now + pause, deletion))

    def done(self, deletion: _Deletion) -> None:
        self.pauses.pop(deletion, None)
        self.asked.discard(deletion)


class DeletionPropagation:
    """`now` is monotonic seconds."""

    def __init__(self, catalog: Catalog, requests: Requests) -> None:
        self._catalog = catalog
        self._requests = requests
        self._pending: dict[bytes, _Pending] = {}  # by device

    def look(self, encoding_id: bytes) -> None:
        """Something about this encoding's shares changed: who is to be told of its deletion?"""
        if encoding_id not in self._catalog.tombstones:
            return
        owners: Iterable[bytes] = self._catalog.owners_of(encoding_id)
        if not owners:  # only shares that cannot tell whose they are
            stones = itertools.islice(self._catalog.tombstones.of_encoding(encoding_id), _OWNERS)
            owners = [stone.owner for stone in stones]
        for owner in owners:
            self._look_at((encoding_id, owner))

    def depends_on(self, device: bytes, others: Set[bytes]) -> bool:
        """Whether any of the others is still to be told of a deletion, or its undoing, that only this one knows."""
        return any(self._to_be_told(stone) & others for stone in self._catalog.tombstones.known_only_by(device))

    def tick(self, now: float, alive: Callable[[bytes], bool]) -> None:
        """Tell whom there is to tell, as far as they are here."""
        for changed in self._catalog.tombstones.take_changed():
            self._look_at(changed)
        for device, pending in self._pending.items():
            while alive(device) and (deletion := pending.next(now)) is not None:
                tombstone = self._catalog.tombstones.of_owner(*deletion)
                if tombstone is None or device not in self._to_be_told(tombstone):
                    pending.done(deletion)
                else:
                    pending.asked.add(deletion)
                    self._tell(device, tombstone)

    def _look_at(self, deletion: _Deletion) -> None:
        tombstone = self._catalog.tombstones.of_owner(*deletion)
        for device in self._to_be_told(tombstone) if tombstone is not None else ():
            self._pending.setdefault(device, _Pending()).add(deletion)

    def _to_be_told(self, tombstone: Tombstone) -> set[bytes]:
        tombstones = self._catalog.tombstones
        holders = self._catalog.holders_of(tombstone.encoding_id, tombstone.owner)
        if not tombstone.deleted:
            holders -= tombstones.told_by(tombstone)
        return (holders | set(tombstones.behind(tombstone))) - tombstones.refused_by(tombstone)

    def _tell(self, device: bytes, tombstone: Tombstone) -> None:
        operation = Operation.DELETE if tombstone.deleted else Operation.UNDELETE
        request = Request(device, tombstone.owner, operation, tombstone)
        self._requests.add(request, partial(self._answered, device, tombstone))

    def _answered(self, device: bytes, tombstone: Tombstone, reply: Reply, now: float) -> None:
        deletion, pending = (tombstone.encoding_id, tombstone.owner), self._pending[device]
        tombstones = self._catalog.tombstones
        if reply.answer.granted or (reply.code is Code.NOT_FOUND and device in tombstones.behind(tombstone)):
            # What cannot be taken out of the trash any more is not asked for again: as good as done.
            tombstones.done(device, tombstone)
            tombstones.refuse(device, tombstone)  # where it tells more than is taken up of one device
            self._catalog.touch(tombstone.encoding_id)
            pending.done(deletion)
        elif reply.code is Code.NOT_ALLOWED or (reply.code is Code.NOT_FOUND and self._holds(device, deletion)):
            # Its share is another owner's, or was amended for one.
            tombstones.refuse(device, tombstone)
            pending.done(deletion)
        elif reply.code is Code.NOT_FOUND or (reply.code is Code.DAMAGED and not tombstone.deleted):
            pending.done(deletion)
        else:
            pending.again(deletion, now)

    def _holds(self, device: bytes, deletion: _Deletion) -> bool:
        return device in self._catalog.holders_of(*deletion)
