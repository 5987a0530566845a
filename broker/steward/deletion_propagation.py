"""Sees to it that every device with shares of a deleted encoding learns of the deletion, also those that were away.

A device proves a deletion to itself: it is sent the capability that another device was shown, and acts on it only if
that fits the share it has. So the broker deletes nothing on its own authority. The same with a deletion that was taken
back, for devices that know only the deletion. Each is told until it answers, with growing pauses.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import partial
from typing import Callable

from broker.catalog import Catalog
from broker.steward.requests import Reply, Request, Requests
from common.protocol.device_messages import Delete, Undelete
from common.protocol.envelope import Operation
from common.protocol.messages import Code, Message, Tombstone

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds until a device that did not do it is told again
_AT_ONCE = 50  # deletions that one device is told of and has not answered yet


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
        self._pending: dict[bytes, dict[bytes, _Pending]] = {}  # device → encoding id → when, what is due longest first

    def look(self, encoding_id: bytes, now: float) -> None:
        """Something about this encoding changed: who is to be told of its deletion?"""
        tombstone = self._catalog.tombstones.holds(encoding_id)
        for device in self._to_be_told(tombstone) if tombstone is not None else ():
            self._pending.setdefault(device, {}).setdefault(encoding_id, _Pending(now))

    def tick(self, now: float, alive: Callable[[bytes], bool]) -> None:
        """Tell whom there is to tell, as far as they are here."""
        for device in [device for device in self._pending if alive(device)]:
            first = list(itertools.islice(self._pending[device].items(), _AT_ONCE))
            for encoding_id, pending in first:
                if pending.asked or pending.due > now:
                    continue
                tombstone = self._catalog.tombstones.holds(encoding_id)
                if tombstone is None or device not in self._to_be_told(tombstone):
                    self._done(device, encoding_id)
                else:
                    pending.asked = True
                    self._tell(device, tombstone)

    def _to_be_told(self, tombstone: Tombstone) -> set[bytes]:
        tombstones, encoding_id = self._catalog.tombstones, tombstone.encoding_id
        behind = set(tombstones.behind(encoding_id))
        if tombstone.deleted:
            behind |= self._catalog.holders(encoding_id)
        return {device for device in behind if not tombstones.stands_against(encoding_id, device)}

    def _tell(self, device: bytes, tombstone: Tombstone) -> None:
        t = tombstone
        header: Message = Undelete(t.encoding_id, t.capability, t.generation)
        if t.deleted:
            header = Delete(t.encoding_id, t.capability, t.generation, t.trash_until, t.ends)
        operation = Operation.DELETE if t.deleted else Operation.UNDELETE
        self._requests.add(Request(device, t.owner, operation, header), partial(self._answered, device, tombstone))

    def _answered(self, device: bytes, tombstone: Tombstone, reply: Reply, now: float) -> None:
        encoding_id = tombstone.encoding_id
        if reply.answer.granted or (reply.code is Code.NOT_FOUND and not tombstone.deleted):
            # What cannot be taken out of the trash any more is not asked for again: as good as done.
            self._catalog.add_tombstones(device, [tombstone])
            self._done(device, encoding_id)
        elif reply.code is Code.NOT_ALLOWED or (reply.code is Code.NOT_FOUND and self._holds(device, encoding_id)):
            # Its share is another owner's, or was amended for one.
            log.warning("a device tells of a deletion that is not the owner's, as another with a share of it finds")
            self._catalog.tombstones.refute(device, tombstone)
            self._catalog.touch(encoding_id)
            self._done(device, encoding_id)
        elif reply.code is Code.NOT_FOUND:
            self._done(device, encoding_id)
        else:
            pending = self._pending[device].pop(encoding_id, _Pending(now))
            self._pending[device][encoding_id] = _Pending(now + pending.pause, min(2 * pending.pause, _LONGEST_PAUSE))

    def _holds(self, device: bytes, encoding_id: bytes) -> bool:
        known = self._catalog.known(encoding_id)
        return known is not None and any(place.device == device for place in known.sound)

    def _done(self, device: bytes, encoding_id: bytes) -> None:
        self._pending[device].pop(encoding_id, None)
