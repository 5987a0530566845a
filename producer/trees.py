"""The trees of one run, put together from below: a folder's once all that is in it is stored. Pure.

What a tree names is always stored before it: a file that failed is not in its folder's tree, and a folder's tree is
stored before that of the folder above. The root's is the last, and the snapshot names it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional, Union

import msgspec

from common.errors import TesseraError
from common.protocol.identifiers import DIGEST_SIZE
from common.vault.mapping import TREE
from common.vault.tree import KEPT, Entry, EntryType, encode_tree
from producer.events import FailedImage, LeftOut, Outcome, SkippedFile, StoredImage
from producer.sources import ROOT, FolderFound, FolderListed, LinkFound, Source

_WORD = 2**64
_NS = 1_000_000_000


@dataclass
class _Folder:
    """A folder whose tree is not stored yet."""

    found: Optional[FolderFound]  # None of the root
    entries: list[Entry] = field(default_factory=list)
    awaited: int = 0  # files and folders in it that are not settled
    listed: bool = False


class _Place(NamedTuple):
    """Where a folder is; nowhere, for the root."""

    name: str = "snapshot"
    parent: Optional[int] = None
    entry: Optional[Entry] = None


class Trees:
    """`root`: SHA-256 of the root's tree, once it is stored. The counts are of what was settled."""

    def __init__(self) -> None:
        self.root: Optional[bytes] = None
        self.files = self.folders = self.size = self.failed = self.skipped = 0
        self.found: set[bytes] = set()  # SHA-256 of what was stored already, by an earlier run or another machine
        self._stored = bytearray()  # SHA-256 of what this run stored itself, one behind the other
        self.degraded = False  # whether a tree has fewer shares than it should
        self._folders = {ROOT: _Folder(None)}
        self._whole: deque[Source] = deque()

    # --- what is found

    def take(self, found: Union[FolderFound, FolderListed, LinkFound]) -> None:
        if isinstance(found, LinkFound):
            self._folders[found.folder].entries.append(found.entry)
        elif isinstance(found, FolderFound):
            self._folders[found.parent].awaited += 1
            self._folders[found.number] = _Folder(found)
        else:
            self._folders[found.number].listed = True
            self._conclude(found.number)

    def expect(self, source: Source) -> None:
        """A source was found; what comes of it is told by `settle`."""
        if source.folder is not None:
            self._folders[source.folder].awaited += 1

    # --- what came of it

    def settle(self, source: Source, outcome: Outcome) -> None:
        """Take what came of a source that was found, or of a tree that was `next`."""
        self._count(source, outcome)
        if source.folder is None:
            if isinstance(outcome, StoredImage) and source.kind == TREE:
                self.root = outcome.sha256
            return
        folder = self._folders[source.folder]
        folder.awaited -= 1
        entry = _settled(source, outcome)
        if entry is not None:
            folder.entries.append(entry)
        self._conclude(source.folder)

    def next(self) -> Optional[Source]:
        """A tree that is to be stored now; None where none is."""
        return self._whole.popleft() if self._whole else None

    def stored(self) -> Iterator[bytes]:
        """The SHA-256s of what this run stored itself: of the first perhaps long ago."""
        return (bytes(self._stored[at : at + DIGEST_SIZE]) for at in range(0, len(self._stored), DIGEST_SIZE))

    def _count(self, source: Source, outcome: Outcome) -> None:
        if isinstance(outcome, StoredImage):
            if outcome.already_stored:
                self.found.add(outcome.sha256)
            else:
                self._stored += outcome.sha256
        if isinstance(outcome, FailedImage):
            self.failed += 1
        elif isinstance(outcome, SkippedFile):
            self.skipped += 1
        elif source.kind == TREE:
            self.folders += source.folder is not None
            self.degraded = self.degraded or outcome.degraded
        elif source.folder is not None:
            self.files += 1
            self.size += outcome.size

    def _conclude(self, number: int) -> None:
        folder = self._folders[number]
        if not folder.listed or folder.awaited:
            return
        del self._folders[number]
        if folder.found is None and not any(entry.type in KEPT for entry in folder.entries):
            return  # no path was given, or nothing of one could be stored
        shown, place = "the snapshot", _Place()
        if folder.found is not None:
            found = folder.found
            shown, place = found.shown, _Place(os.fsdecode(found.entry.name), found.parent, found.entry)
        source = Source(None, shown, place.name, kind=TREE, folder=place.parent, entry=place.entry)
        try:
            content = encode_tree(folder.entries)
        except TesseraError as error:
            self.settle(source, FailedImage(shown, error))
        else:
            self._whole.append(replace(source, content=content, size=len(content)))


def _settled(source: Source, outcome: Outcome) -> Optional[Entry]:
    """The entry of what is stored, or noted at least."""
    entry = source.entry
    if entry is None:
        return None
    if isinstance(outcome, StoredImage):
        if entry.type is EntryType.FOLDER:
            return msgspec.structs.replace(entry, content=outcome.sha256)
        modified, nanoseconds = divmod(_modified(entry.modified_ns, outcome), _NS)
        return msgspec.structs.replace(
            entry, modified=modified, nanoseconds=nanoseconds, size=outcome.size, content=outcome.sha256
        )
    if isinstance(outcome, SkippedFile) and outcome.reason is not LeftOut.NO_IMAGE and entry.type not in KEPT:
        return entry
    return None


def _modified(found: int, outcome: StoredImage) -> int:
    """When a file that was stored was modified, as it was read: ns since 1970. A stamp has that modulo 2^64."""
    if outcome.stamp is None:
        return found
    later = (outcome.stamp.modified - found) % _WORD
    return found + (later if later < _WORD // 2 else later - _WORD)
