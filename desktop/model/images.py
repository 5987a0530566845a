"""The images of the vault, from this machine's index and from the cluster.

There are two sources, so that something is shown at once: first the vault's index as it was left (`read_kept`, for a
thread), then the cluster (`look`, for the loop of the link), which brings the index in step. What is here of an image
is the number of its row; entries are read from the index as they are looked at (`shown`). Nothing decrypted is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

import numpy as np

from common.chunks import chunks
from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.vault.dates import Dates, Numbers
from common.vault.index import Cursor, VaultIndex, located
from common.vault.index_rows import ObjectRow
from desktop.model.entries import Entry, Search, entry_of, format_of, newest_first, nothing_read

_MOST_KEPT = 1000  # entries of mappings, where the cluster was never asked
_GROWS = 2  # times as many images are there at each time that they are told of while they come
_AT_ONCE = 200  # rows searched between two pauses
_PAUSE = 0.001  # seconds, so that the window's thread can run


@dataclass(frozen=True)
class Order:
    """The images by the numbers of their rows, the newest first, and the formats that they have."""

    numbers: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    formats: tuple[str, ...] = ()

    @classmethod
    def of(cls, dates: Dates) -> Order:
        return cls(dates.newest_first(), tuple(sorted(set(map(format_of, dates.media_types)))))


def read_order(index: VaultIndex) -> Order:
    """What this machine's index knows."""
    return Order.of(index.dates())


def read_kept(index: VaultIndex) -> list[Entry]:
    """Of what was stored by this machine, which has never asked the cluster what there is, the newest."""
    entries = []
    for name in index.kept_mappings():
        mapping = index.mapping(*name)
        if mapping is not None and mapping.kind is None:
            entries.append(entry_of(mapping, name))
            if len(entries) == _MOST_KEPT:
                break
    return newest_first(entries)


@dataclass(frozen=True)
class State:
    """What was told last: where nothing of it differs, all is as it was."""

    cursor: Optional[Cursor]
    names: dict[bytes, str]  # of devices
    alive: frozenset[bytes]
    unreadable: int  # images of which no connected device has the mapping


@dataclass(frozen=True)
class Look:
    """What the vault holds by the cluster; `order`: None where that is as it was known."""

    order: Optional[Order]
    state: State
    snapshots: tuple[EncodingAt, ...] = ()


async def look(repository: Repository, known: Optional[State], tell: Callable[[Order], None]) -> Look:
    """Bring the index in step with the cluster, and take from it which images there are.

    While devices are asked what they are, which may take a while, those that came are passed to `tell` now and then.
    `known`: the state that is shown.
    """
    await repository.catch_up()
    index, alive = repository.index, repository.alive
    told = index.count_images()
    async for _ in repository.learn():
        if index.count_images() >= max(_AT_ONCE, _GROWS * told):
            told = index.count_images()
            tell(await asyncio.to_thread(read_order, index))
    names = {device.device_id: device.name for device in repository.listed}
    state = State(index.cursor, names, alive, index.count_lacking())
    snapshots = tuple(each for row in index.snapshots() for each in located(row, alive))
    return Look(None if state == known else await asyncio.to_thread(read_order, index), state, snapshots)


@dataclass(frozen=True)
class Rows:
    """Rows of the index as entries; for any thread. `alive`: the devices that are connected, where that is known."""

    index: VaultIndex
    alive: Optional[frozenset[bytes]] = None

    def read(self, numbers: Sequence[int]) -> list[Entry]:
        """The entry of each number."""
        return [
            self._entry(number, rows) if rows else nothing_read(number, "gone")
            for number, rows in zip(numbers, self.index.numbered(numbers))
        ]

    def find(self, sha256s: Iterable[str]) -> dict[str, Entry]:
        """The images of these SHA-256s that there are."""
        found = {}
        for sha256 in sha256s:
            rows = sorted(self.index.find(sha256), key=_is_shared)
            if rows:
                found[sha256] = self._entry(0, rows)
        return found

    async def search(self, search: Search, numbers: Numbers, now: float) -> AsyncIterator[list[int]]:
        """The numbers of those that match, some at a time, in order; `now`: Unix seconds."""
        rows = self if search.unwell else replace(self, alive=None)  # to know how each is takes most of the time
        for some in chunks(numbers.tolist(), _AT_ONCE):
            entries = await asyncio.to_thread(rows.read, some)
            yield [entry.number for entry in search.find(entries, now)]
            await asyncio.sleep(_PAUSE)

    def _entry(self, number: int, rows: Sequence[ObjectRow]) -> Entry:
        described = rows[0].described
        if described is None:
            return nothing_read(number, "not known yet")
        entry = entry_of(described, (rows[0].object_id, described.encoding_id), number)
        if self.alive is None:
            return entry
        return entry.known_at([each for row in rows for each in located(row, self.alive)])


def _is_shared(row: ObjectRow) -> bool:
    return row.described is not None and row.described.is_named_by_lookup


class Images:
    """What is known of them in the window's thread.

    `looked`: whether the cluster has been asked. `kept`: all that is known before this machine ever asked it.
    """

    def __init__(self) -> None:
        self.order = Order()
        self.kept: list[Entry] = []
        self.state: Optional[State] = None
        self.looked = False

    def __len__(self) -> int:
        return len(self.order.numbers) or len(self.kept)

    @property
    def formats(self) -> list[str]:
        return sorted({*self.order.formats, *(entry.format for entry in self.kept)})

    @property
    def names(self) -> dict[bytes, str]:
        """Of devices, by id."""
        return {} if self.state is None else self.state.names

    @property
    def alive(self) -> Optional[frozenset[bytes]]:
        """The devices that are connected; None where that is not known."""
        return None if self.state is None else self.state.alive

    @property
    def unreadable(self) -> int:
        """How many objects there are that no connected device can tell of."""
        return 0 if self.state is None else self.state.unreadable

    def take(self, found: Look) -> bool:
        """Know what the cluster has; whether anything changed."""
        changed = found.order is not None or not self.looked
        self.looked, self.state = True, found.state
        if found.order is not None:
            self.order, self.kept = found.order, []
        return changed
