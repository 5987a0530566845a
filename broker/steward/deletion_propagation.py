"""Sees to it that every device with shares of a deleted encoding learns of the deletion, also those that were away.

A device believes no broker: it is sent the tombstone that another device was shown, and acts on it only if the owner of
the share it has signed that. So the broker deletes nothing on its own authority. The same with a deletion that was
taken back, for devices that know only the deletion. Each is told until it answers, with growing pauses.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import partial
from typing import Callable

from broker.catalog import Catalog
from broker.steward.requests import Reply, Request, Requests
from common.protocol.envelope import Operation
from common.protocol.messages import Code, Tombstone

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds until a device that did not do it is told again
_AT_ONCE = 50  # deletions that one device is told of and has not answered yet
_Deletion = tuple[bytes, bytes]  # encoding id, owner


@dataclass
class _Pending:
    """One device is to be told of one encoding's deletion."""

    due: float
    pause: float = _FIRST_PAUSE
    asked: bool = False


class DeletionPropagation:
    """`now` is monotonic seconds."""

    def __init__(self, catalog: Catalog, requests: Requests) -> None:
        self._catalog = catalog
        self._requests = requests
        # device → encoding id and owner → when, what is due longest first
        self._pending: dict[bytes, dict[_Deletion, _Pending]] = {}

    def look(self, encoding_id: bytes, now: float) -> None:
        """Something about this encoding changed: who is to be told of its deletion?"""
        for tombstone in self._catalog.tombstones.of_encoding(encoding_id):
            for device in self._to_be_told(tombstone):
                self._pending.setdefault(device, {}).setdefault((encoding_id, tombstone.owner), _Pending(now))

    def tick(self, now: float, alive: Callable[[bytes], bool]) -> None:
        """Tell whom there is to tell, as far as they are here."""
        for device in [device for device in self._pending if alive(device)]:
            first = list(itertools.islice(self._pending[device].items(), _AT_ONCE))
            for deletion, pending in first:
                if pending.asked or pending.due > now:
                    continue
                tombstone = self._catalog.tombstones.of_owner(*deletion)
                if tombstone is None or device not in self._to_be_told(tombstone):
                    self._done(device, deletion)
                else:
                    pending.asked = True
                    self._tell(device, tombstone)

    def _to_be_told(self, tombstone: Tombstone) -> set[bytes]:
        tombstones = self._catalog.tombstones
        behind = set(tombstones.behind(tombstone))
        if tombstone.deleted:
            behind |= self._catalog.holders_of(tombstone.encoding_id, tombstone.owner)
        return behind - tombstones.refused_by(tombstone)

    def _tell(self, device: bytes, tombstone: Tombstone) -> None:
        operation = Operation.DELETE if tombstone.deleted else Operation.UNDELETE
        request = Request(device, tombstone.owner, operation, tombstone)
        self._requests.add(request, partial(self._answered, device, tombstone))

    def _answered(self, device: bytes, tombstone: Tombstone, reply: Reply, now: float) -> None:
        deletion = (tombstone.encoding_id, tombstone.owner)
        if reply.answer.granted or (reply.code is Code.NOT_FOUND and not tombstone.deleted):
            # What cannot be taken out of the trash any more is not asked for again: as good as done.
            self._catalog.add_tombstones(device, [tombstone])
            self._done(device, deletion)
        elif reply.code is Code.NOT_ALLOWED or (reply.code is Code.NOT_FOUND and self._holds(device, deletion)):
            # Its share is another owner's, or was amended for one.
            self._catalog.tombstones.refuse(device, tombstone)
            self._done(device, deletion)
        elif reply.code is Code.NOT_FOUND:
            self._done(device, deletion)
        else:
            pending = self._pending[device].pop(deletion, _Pending(now))
            self._pending[device][deletion] = _Pending(now + pending.pause, min(2 * pending.pause, _LONGEST_PAUSE))

    def _holds(self, device: bytes, deletion: _Deletion) -> bool:
        return device in self._catalog.holders_of(*deletion)

    def _done(self, device: bytes, deletion: _Deletion) -> None:
        self._pending[device].pop(deletion, None)
