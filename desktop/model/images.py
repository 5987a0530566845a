"""The images of the vault, from this machine's index and from the cluster.

There are two sources, so that something is shown at once: first the vault's index as it was left (`read_kept`, for a
thread), then the cluster (`look`, for the loop of the link), which brings the index in step. `Images` combines their
entries in the window's thread. Nothing decrypted is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.index import Cursor, VaultIndex, located
from common.vault.index_rows import ObjectRow
from common.vault.keys import VaultKey
from desktop.model.entries import Entry, Search, entry_of, newest_first

_BATCH = 200  # entries at first
_GROWS = 4  # times as many in each batch as in the one before, since all are put in order at each
_PIECE = 100  # images assessed between two pauses
_PAUSE = 0.001  # seconds


def read_kept(vault: VaultFolder, key: VaultKey) -> Iterator[list[Entry]]:
    """The images that this machine's index knows, what was stored last first, some at a time."""
    index = vault.index(key)
    batch: list[Entry] = []
    size = _BATCH
    for entry in _entries_in(index) if index.count_images() else _entries_kept(index):
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch, size = [], size * _GROWS
    if batch:
        yield batch


def _entries_in(index: VaultIndex) -> Iterator[Entry]:
    return (entry for rows in index.images(newest_first=True) if (entry := _entry_of(rows)) is not None)


def _entries_kept(index: VaultIndex) -> Iterator[Entry]:
    """Of what was stored by this machine, which has never asked the cluster what there is."""
    for object_id, encoding_id in index.kept_mappings():
        mapping = index.mapping(object_id, encoding_id)
        if mapping is not None and mapping.kind is None:
            yield entry_of(mapping, (object_id, encoding_id))


def _entry_of(rows: Sequence[ObjectRow]) -> Optional[Entry]:
    described = rows[0].described
    return None if described is None else entry_of(described, (rows[0].object_id, described.encoding_id))


@dataclass(frozen=True)
class State:
    """What was told last: where nothing of it differs, all is as it was."""

    cursor: Optional[Cursor]
    names: dict[bytes, str]  # of devices
    alive: frozenset[bytes]
    unreadable: int  # images of which no connected device has the mapping


@dataclass(frozen=True)
class Known:
    """What the window shows, for another thread."""

    entries: dict[str, Entry]
    state: Optional[State] = None


@dataclass(frozen=True)
class Look:
    """What the vault holds by the cluster; `changed`: whether that differs from what was known."""

    entries: dict[str, Entry]  # by SHA-256, the newest first
    state: State
    changed: bool = True
    snapshots: tuple[EncodingAt, ...] = ()


async def look(repository: Repository, known: Known, tell: Callable[[list[Entry]], None]) -> Look:
    """Bring the index in step with the cluster, and take from it all images and their shares.

    Those of which devices have to be asked, which may take a while, are passed to `tell` as they come. Pauses between
    pieces, so that the window's thread can run.
    """
    await repository.catch_up()
    index, alive = repository.index, repository.alive
    async for learned in repository.learn():
        tell([entry_of(image.mapping, (image.object_id, image.mapping.encoding_id)) for image in learned])
    names = {device.device_id: device.name for device in repository.listed}
    state = State(index.cursor, names, alive, index.count_lacking())
    snapshots = tuple(each for row in index.snapshots() for each in located(row, alive))
    if state == known.state:
        return Look(known.entries, state, False, snapshots)
    entries: list[Entry] = []
    for number, rows in enumerate(index.images()):
        entry = _entry_of(rows)
        if entry is not None:
            group = tuple(each for row in rows for each in located(row, alive))
            before = known.entries.get(entry.sha256)
            same = before is not None and before.encodings == group and before.mapping == entry.mapping
            entries.append(before if before is not None and same else entry.known_at(group))
        if number % _PIECE == 0:
            await asyncio.sleep(_PAUSE)
    return Look({entry.sha256: entry for entry in newest_first(entries)}, state, True, snapshots)


class Images:
    """The entries as the window shows them; for one thread only."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._state: Optional[State] = None
        self.looked = False  # whether the cluster has been asked
        self.formats: list[str] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def known(self) -> Known:
        """A copy, for the next `look` in another thread."""
        return Known(self._entries.copy(), self._state)

    @property
    def names(self) -> dict[bytes, str]:
        """Of devices, by id."""
        return {} if self._state is None else self._state.names

    @property
    def unreadable(self) -> int:
        """How many objects there are that no connected device can tell of."""
        return 0 if self._state is None else self._state.unreadable

    def entry(self, sha256: str) -> Optional[Entry]:
        return self._entries.get(sha256)

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries; the health of known ones is kept."""
        for entry in entries:
            self._entries.setdefault(entry.sha256, entry)
        self._entries = {entry.sha256: entry for entry in newest_first(self._entries.values())}
        self.formats = sorted({*self.formats, *(entry.format for entry in entries)})

    def take(self, found: Look) -> bool:
        """Replace all entries by what the cluster has; whether anything changed."""
        changed = found.changed or not self.looked
        self.looked = True
        if changed:
            self._entries, self._state = dict(found.entries), found.state
        return changed

    def find(self, search: Search, now: float) -> list[Entry]:
        return search.find(self._entries.values(), now)
