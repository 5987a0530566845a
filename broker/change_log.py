"""Which objects changed lately, so that clients ask for these alone: an owner's index is in step up to a number.

Bounded: where it becomes too much all of it is forgotten, and whoever is in step only up to what is forgotten lists
everything. It lies beside the catalog's rows and is committed with them, so that a number holds over a restart. Each
start has an epoch of its own, and knows up to which number those before it came: what a file that is older than what
clients were told has not, is never taken for something that came later.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Collection, Iterator
from itertools import takewhile
from typing import NamedTuple

import msgspec

from broker.catalog_rows import CatalogDamaged, CatalogRows
from common.protocol.identifiers import IDENTIFIER_SIZE

LIMIT = 20_000  # objects of all owners; about 250 bytes each
_FORMER = 64  # starts whose numbers still count
_MODULUS = 1 << 32


class Changed(NamedTuple):
    """`objects`: some that changed, the first first; `number`: up to where one is in step who knows these."""

    objects: list[bytes]
    number: int
    complete: bool


class _Row(NamedTuple):
    number: int
    owner: bytes
    object_id: bytes

    def checksum(self) -> int:
        return zlib.crc32(self.number.to_bytes(8, "big") + self.owner + self.object_id)


class _State(msgspec.Struct, array_like=True):
    forgotten: int = 0  # the number up to which nothing is known any more
    checksum: int = 0  # of all rows: the sum of theirs
    epochs: list[tuple[bytes, int]] = msgspec.field(default_factory=list)  # and their last numbers, the latest last


class ChangeLog:
    def __init__(self, rows: CatalogRows, limit: int = LIMIT) -> None:
        """CatalogDamaged as from `write`, where the rows cannot be read or written."""
        self._rows = rows
        self._limit = limit
        self.epoch = secrets.token_bytes(IDENTIFIER_SIZE)
        self._state = self._load_state()
        self._former = dict(self._state.epochs)
        self._changed = {(row.owner, row.object_id): row.number for row in self._load()}  # the last change of each
        self.number = max(self._former.values(), default=0)  # of the last change
        self._told = self.number  # up to which somebody may be in step
        self._written = self.number  # up to which all is in the rows
        self._is_begun = False  # this start's epoch is in there
        self._gone: list[_Row] = []  # that are in there still

    def _load_state(self) -> _State:
        with self._rows.asked():
            found = self._rows.connection.execute("SELECT state, checksum FROM change_log").fetchone()
            if found is None:
                return _State()
            state, checksum = found
            if zlib.crc32(state) != checksum:
                raise CatalogDamaged("how far the catalog counted changes is damaged")
            return msgspec.msgpack.decode(state, type=_State)

    def _load(self) -> list[_Row]:
        with self._rows.asked():
            found = self._rows.connection.execute("SELECT number, owner, object FROM changes ORDER BY number")
            rows = [_Row(*row) for row in found]
            if sum(row.checksum() for row in rows) % _MODULUS != self._state.checksum:
                raise CatalogDamaged("what changed of the catalog is damaged")
            return rows

    def note_all(self, objects: Collection[tuple[bytes, bytes]]) -> None:
        """What is known of these owners' objects changed."""
        if self._is_followed:
            for owner, object_id in objects:
                self.note(owner, object_id)
        else:
            self.number += len(objects)
            self._state.forgotten = self.number

    @property
    def _is_followed(self) -> bool:
        """Whether somebody may be in step; nobody is while devices announce for the first time."""
        return self._told >= self._state.forgotten

    def note(self, owner: bytes, object_id: bytes) -> None:
        """What is known of an owner's object changed."""
        self.number += 1
        if not self._is_followed:
            self._state.forgotten = self.number
            return
        before = self._changed.pop((owner, object_id), None)
        if before is not None and before <= self._written:
            self._gone.append(_Row(before, owner, object_id))
        self._changed[owner, object_id] = self.number
        if len(self._changed) > self._limit:
            self._changed.clear()
            self._gone.clear()
            self._state.forgotten, self._state.checksum = self.number, 0

    def tell(self) -> int:
        """The number of the last change, for somebody who is in step from then on."""
        self._told = self.number
        return self.number

    def knows(self, epoch: bytes, number: int) -> bool:
        """Whether all is known that changed since then."""
        last = self.number if epoch == self.epoch else self._former.get(epoch, -1)
        return self._state.forgotten <= number <= last

    def since(self, owner: bytes, number: int, limit: int) -> Changed:
        """Up to `limit` of an owner's objects that changed behind a number."""
        changed = [row for row in self._behind(number) if row.owner == owner][::-1]
        some = changed[:limit]
        complete = len(some) == len(changed)
        return Changed([row.object_id for row in some], self.number if complete else some[-1].number, complete)

    def _behind(self, number: int) -> Iterator[_Row]:
        """The last change first."""
        rows = (_Row(count, *found) for found, count in reversed(self._changed.items()))
        return takewhile(lambda row: row.number > number, rows)

    def write(self) -> None:
        """Have the rows say what is known, and which epoch this start has."""
        if self._is_begun and self._written == self.number:
            return
        added = list(self._behind(self._written))
        self._state.checksum += sum(row.checksum() for row in added) - sum(row.checksum() for row in self._gone)
        self._state.checksum %= _MODULUS
        self._state.epochs = [*list(self._former.items())[-_FORMER:], (self.epoch, self.number)]
        state = msgspec.msgpack.encode(self._state)
        with self._rows.asked():
            self._rows.begin()
            execute, execute_many = self._rows.connection.execute, self._rows.connection.executemany
            execute("DELETE FROM changes WHERE number <= ?", (self._state.forgotten,))
            execute_many("DELETE FROM changes WHERE number = ?", [row[:1] for row in self._gone])
            execute_many("INSERT INTO changes VALUES (?, ?, ?)", reversed(added))
            execute("DELETE FROM change_log")
            execute("INSERT INTO change_log VALUES (?, ?)", (state, zlib.crc32(state)))
        self._gone.clear()
        self._written, self._is_begun = self.number, True
