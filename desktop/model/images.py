"""The images of the vault: from what this machine keeps of them, then from what the cluster says.

Two sources, in this order, so that there is something to see before anybody is asked: the sealed mappings in the
vault's folder (`read_kept`, for a thread), and the catalog of the cluster (`look`, for the loop of the link). Both
hand over entries; `Images` is where the window's thread puts them together. Nothing decrypted is written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Callable, Optional

from admin.session import Session
from common.link.questions import list_devices, list_encodings
from common.protocol.messages import EncodingAt
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from desktop.model.entries import Entry, MappingName, Search, entry_of, formats_of

_BATCH = 200  # entries handed over at a time


def read_kept(vault: VaultFolder, key: VaultKey) -> Iterator[list[Entry]]:
    """The images whose mappings this machine keeps, the latest kept first, some at a time."""
    batch: list[Entry] = []
    for object_id, encoding_id in vault.kept_mappings():
        mapping = vault.mapping(key, object_id, encoding_id)
        if mapping is None:
            continue  # damaged, or another vault's: the devices have it
        batch.append(entry_of(mapping, (object_id, encoding_id)))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class Look:
    """What the cluster says the vault holds."""

    entries: list[Entry]
    unreadable: int  # images of which no connected device has the mapping
    names: dict[bytes, str]  # of devices


async def look(session: Session, known: dict[MappingName, Entry], tell: Callable[[list[Entry]], None]) -> Look:
    """Ask the cluster for all images and their shares.

    `known` entries need no mapping to be opened again; of others, which may come from far, `tell` is called as they
    come.
    """
    names = {device.device_id: device.name for device in await list_devices(session.link)}
    encodings = await list_encodings(session.link)
    entries, missing = dict(known), [e for e in encodings if _name(e) not in known]
    for start in range(0, len(missing), _BATCH):
        fetched = await session.mappings.of(missing[start : start + _BATCH])
        new = {name: entry_of(mapping, name) for name, mapping in fetched.items()}
        entries.update(new)
        tell(list(new.values()))
    groups: dict[bytes, list[EncodingAt]] = {}
    for encoding in encodings:
        groups.setdefault(encoding.object_id, []).append(encoding)
    by_hash: dict[str, tuple[Entry, list[EncodingAt]]] = {}
    unreadable = 0
    for group in groups.values():
        entry = next((entries[_name(e)] for e in group if _name(e) in entries), None)
        if entry is None:
            unreadable += 1
        else:  # stored here, and perhaps shared by another as well
            by_hash.setdefault(entry.sha256, (entry, []))[1].extend(group)
    return Look([entry.known_at(group) for entry, group in by_hash.values()], unreadable, names)


def _name(encoding: EncodingAt) -> MappingName:
    return encoding.object_id, encoding.encoding_id


class Images:
    """The entries as the window shows them; for one thread."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._by_mapping: dict[MappingName, Entry] = {}
        self.names: dict[bytes, str] = {}
        self.unreadable = 0
        self.looked = False  # whether the cluster has been asked

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def known(self) -> dict[MappingName, Entry]:
        """The entries by the mappings they come from, for the next `look`."""
        return dict(self._by_mapping)

    def entry(self, sha256: str) -> Optional[Entry]:
        return self._entries.get(sha256)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take up what was kept here, or came just now; what the cluster has said already is not lost."""
        for entry in entries:
            self._by_mapping[entry.mapping] = replace(entry, health=None, encodings=())
            self._entries.setdefault(entry.sha256, entry)

    def take(self, found: Look) -> bool:
        """Take up what the cluster said, in place of all that was known before; whether anything is different now."""
        entries = {entry.sha256: entry for entry in found.entries}
        changed = entries != self._entries or found.unreadable != self.unreadable or not self.looked
        self._entries, self.names, self.unreadable, self.looked = entries, found.names, found.unreadable, True
        for entry in found.entries:
            self._by_mapping[entry.mapping] = replace(entry, health=None, encodings=())
        return changed

    def find(self, search: Search, now: float) -> list[Entry]:
        return search.find(self._entries.values(), now)

    @property
    def formats(self) -> list[str]:
        return formats_of(self._entries.values())
