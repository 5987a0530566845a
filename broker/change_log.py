"""Which objects changed lately, so that clients ask for these alone: an owner's index is in step up to a number.

Kept in memory and bounded: where it becomes too much all of it is forgotten, and whoever is in step only up to what is
forgotten lists everything. The epoch is this log's own; another broker, or this one after a restart, counts anew.
"""

from __future__ import annotations

import secrets
from itertools import takewhile
from typing import NamedTuple

from common.protocol.identifiers import IDENTIFIER_SIZE

LIMIT = 20_000  # objects of all owners; about 250 bytes each


class Changed(NamedTuple):
    """`objects`: some that changed, the first first; `number`: up to where one is in step who knows these."""

    objects: list[bytes]
    number: int
    complete: bool


class ChangeLog:
    def __init__(self, limit: int = LIMIT) -> None:
        self.epoch = secrets.token_bytes(IDENTIFIER_SIZE)
        self.number = 0  # of the last change
        self._limit = limit
        self._forgotten = 0  # the number up to which nothing is known any more
        self._changed: dict[tuple[bytes, bytes], int] = {}  # owner, object id → its last change, in this order

    def note(self, owner: bytes, object_id: bytes) -> None:
        """What is known of an owner's object changed."""
        self.number += 1
        self._changed.pop((owner, object_id), None)
        self._changed[owner, object_id] = self.number
        if len(self._changed) > self._limit:
            self._changed.clear()
            self._forgotten = self.number

    def knows(self, epoch: bytes, number: int) -> bool:
        """Whether all is known that changed since then."""
        return epoch == self.epoch and self._forgotten <= number <= self.number

    def since(self, owner: bytes, number: int, limit: int) -> Changed:
        """Up to `limit` of an owner's objects that changed behind a number."""
        latest = takewhile(lambda each: each[1] > number, reversed(self._changed.items()))
        changed = [(object_id, count) for (whose, object_id), count in latest if whose == owner][::-1]
        some = changed[:limit]
        complete = len(some) == len(changed)
        return Changed([object_id for object_id, _ in some], self.number if complete else some[-1][1], complete)
