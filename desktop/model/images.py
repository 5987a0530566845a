"""The images of the vault, from this machine's mappings and from the cluster.

There are two sources, so that something is shown at once: first the sealed mappings in the vault's folder (`read_kept`,
for a thread), then the catalog of the cluster (`look`, for the loop of the link). `Images` combines their entries in
the window's thread. Nothing decrypted is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional

from common.chunks import chunks
from common.link.questions import device_names, list_encodings
from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from desktop.model.entries import Entry, MappingName, Search, entry_of, newest_first

_BATCH = 200  # entries yielded at a time
_PIECE = 100  # images assessed between two pauses
_PAUSE = 0.001  # seconds


def read_kept(vault: VaultFolder, key: VaultKey) -> Iterator[list[Entry]]:
    """The images whose mappings this machine keeps, the latest kept first, some at a time."""
    batch: list[Entry] = []
    index = vault.index(key)
    for object_id, encoding_id in index.kept_mappings():
        mapping = index.mapping(object_id, encoding_id)
        if mapping is None:
            continue  # damaged, or another vault's: the devices have it
        if mapping.kind is None:
            batch.append(entry_of(mapping, (object_id, encoding_id)))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class Known:
    """What the window shows, for another thread."""

    entries: dict[str, Entry]
    by_mapping: dict[MappingName, Entry]
    unreadable: int = 0
    names: dict[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What the vault holds by the cluster; `changed`: whether that differs from what was known."""

    entries: dict[str, Entry]  # by SHA-256, the newest first
    by_mapping: dict[MappingName, Entry]
    unreadable: int  # images of which no connected device has the mapping
    names: dict[bytes, str]  # of devices
    changed: bool = True
    others: tuple[EncodingAt, ...] = ()  # of what is no image, or not known to be one


async def look(repository: Repository, known: Known, tell: Callable[[list[Entry]], None]) -> Look:
    """Ask the cluster for all images and their shares.

    The mappings of `known` entries are not opened again; others, which may take a while, are passed to `tell` as they
    come. Pauses between pieces, so that the window's thread can run.
    """
    names = await device_names(repository.link)
    encodings = await list_encodings(repository.link)
    by_mapping, missing = dict(known.by_mapping), [e for e in encodings if _name(e) not in known.by_mapping]
    for some in chunks(missing, _BATCH):
        fetched = await repository.mappings.of(some)
        new = {name: entry_of(mapping, name) for name, mapping in fetched.items()}
        by_mapping.update(new)
        tell([entry for entry in new.values() if entry.is_image])
    groups, unreadable = await _grouped(encodings, by_mapping)
    entries: list[Entry] = []
    for number, (sha256, (entry, group)) in enumerate(groups.items()):
        before = known.entries.get(sha256)
        same = before is not None and before.encodings == tuple(group)
        entries.append(before if before is not None and same else entry.known_at(group))
        if number % _PIECE == 0:
            await asyncio.sleep(_PAUSE)
    found = {entry.sha256: entry for entry in newest_first(entries) if entry.is_image}
    same_as_before = len(found) == len(known.entries) and all(
        entry is known.entries.get(sha256) for sha256, entry in found.items()
    )
    changed = not same_as_before or (unreadable, names) != (known.unreadable, known.names)
    others = tuple(each for each in encodings if not _is_image(by_mapping.get(_name(each))))
    return Look(found, by_mapping, unreadable, names, changed, others)


def _is_image(entry: Optional[Entry]) -> bool:
    return entry is not None and entry.is_image


async def _grouped(
    encodings: list[EncodingAt], by_mapping: dict[MappingName, Entry]
) -> tuple[dict[str, tuple[Entry, list[EncodingAt]]], int]:
    """The encodings of each image, by SHA-256, and the number of images whose mapping is not known."""
    by_object: dict[bytes, list[EncodingAt]] = {}
    for encoding in encodings:
        by_object.setdefault(encoding.object_id, []).append(encoding)
    await asyncio.sleep(_PAUSE)
    groups: dict[str, tuple[Entry, list[EncodingAt]]] = {}
    unreadable = 0
    for group in by_object.values():
        entry = next((by_mapping[_name(e)] for e in group if _name(e) in by_mapping), None)
        if entry is None:
            unreadable += 1
        else:  # stored here, and perhaps shared by another as well
            groups.setdefault(entry.sha256, (entry, []))[1].extend(group)
    return groups, unreadable


def _name(encoding: EncodingAt) -> MappingName:
    return encoding.object_id, encoding.encoding_id


class Images:
    """The entries as the window shows them; for one thread only."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._by_mapping: dict[MappingName, Entry] = {}
        self.names: dict[bytes, str] = {}
        self.unreadable = 0
        self.looked = False  # whether the cluster has been asked
        self.formats: list[str] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def known(self) -> Known:
        """A copy, for the next `look` in another thread."""
        return Known(self._entries.copy(), self._by_mapping.copy(), self.unreadable, self.names)

    def entry(self, sha256: str) -> Optional[Entry]:
        return self._entries.get(sha256)

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries; the health of known ones is kept."""
        for entry in entries:
            self._by_mapping[entry.mapping] = entry
            self._entries.setdefault(entry.sha256, entry)
        self._entries = {entry.sha256: entry for entry in newest_first(self._entries.values())}
        self.formats = sorted({*self.formats, *(entry.format for entry in entries)})

    def take(self, found: Look) -> bool:
        """Replace all entries by what the cluster has; whether anything changed."""
        changed = found.changed or not self.looked
        self.looked = True
        if changed:
            self._entries, self._by_mapping = dict(found.entries), dict(found.by_mapping)
            self.names, self.unreadable = found.names, found.unreadable
        return changed

    def find(self, search: Search, now: float) -> list[Entry]:
        return search.find(self._entries.values(), now)
