"""The trees of one run, put together from below: a folder's once all files in it are settled. Pure.

A file that failed is in no tree. A tree is known by its SHA-256 before it is stored: so those above that wait for
nothing else are made at once, and all of them are stored together. Where one cannot be stored, those above are made
anew without it. The snapshot names the root's, once all are stored.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional, Union

import msgspec

from common.errors import TesseraError
from common.protocol.identifiers import DIGEST_SIZE
from common.vault.mapping import TREE
from common.vault.tree import KEPT, Entry, encode_tree
from producer.events import FailedImage, LeftOut, Outcome, SkippedFile, StoredImage
from producer.sources import ROOT, FolderFound, FolderListed, LinkFound, Source

_WORD = 2**64
_NS = 1_000_000_000


@dataclass
class _Folder:
    """A folder whose tree, or one below it, is not stored yet."""

    found: Optional[FolderFound] = None  # None of the root
    above: Optional[_Folder] = None
    entries: list[Entry] = field(default_factory=list)
    awaited: int = 0  # files in it that are not settled, folders in it without a tree, its own tree that does not hold
    listed: bool = False
    tree: Optional[Source] = None  # that holds, be it stored or not
    is_stored: bool = False
    is_left_out: bool = False  # its tree could not be stored

    @property
    def number(self) -> int:
        return ROOT if self.found is None else self.found.number


class Trees:
    """`root`: SHA-256 of the root's tree, once it is stored. The counts are of what was settled."""

    def __init__(self) -> None:
        self.root: Optional[bytes] = None
        self.files = self.folders = self.size = self.failed = self.skipped = 0
        self.found: set[bytes] = set()  # SHA-256 of what was stored already, by an earlier run or another machine
        self._stored = bytearray()  # SHA-256 of what this run stored itself, one behind the other
        self.degraded = False  # whether a tree has fewer shares than it should
        self._folders = {ROOT: _Folder()}
        self._whole: deque[Source] = deque()

    # --- what is found

    def take(self, found: Union[FolderFound, FolderListed, LinkFound]) -> None:
        if isinstance(found, LinkFound):
            self._folders[found.folder].entries.append(found.entry)
        elif isinstance(found, FolderFound):
            above = self._folders[found.parent]
            above.awaited += 1
            self._folders[found.number] = _Folder(found, above)
        else:
            folder = self._folders[found.number]
            folder.listed = True
            self._conclude(folder)

    def expect(self, source: Source) -> None:
        """A source was found; what comes of it is told by `settle`."""
        if source.folder is not None:
            self._folders[source.folder].awaited += 1

    # --- what came of it

    def settle(self, source: Source, outcome: Outcome) -> bool:
        """Take what came of a source that was found, or of a tree that was `next`.

        False where that does not matter, as of a tree that does not hold any more.
        """
        folder = None if source.folder is None else self._folders[source.folder]
        if folder is not None and source.kind == TREE:
            return self._settle_tree(folder, source, outcome)
        self._count(source, outcome)
        if folder is not None:
            entry = _settled(source, outcome)
            if entry is not None:
                folder.entries.append(entry)
            folder.awaited -= 1
            self._conclude(folder)
        return True

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
            self.folders += source.folder != ROOT
            self.degraded = self.degraded or outcome.degraded
        elif source.folder is not None:
            self.files += 1
            self.size += outcome.size

    # --- trees

    def _conclude(self, folder: Optional[_Folder]) -> None:
        """Make the tree of a folder in which all is settled, and of those above that waited for nothing else."""
        while folder is not None and folder.listed and not folder.awaited and not folder.is_left_out:
            above = folder.above
            if above is None and not any(entry.type in KEPT for entry in folder.entries):
                return  # no path was given, or nothing of one could be stored
            self._make(folder)
            if above is not None:
                above.awaited -= 1
            folder = above

    def _make(self, folder: _Folder) -> None:
        shown, name, found = "the snapshot", "snapshot", folder.found
        if found is not None:
            shown, name = found.shown, os.fsdecode(found.entry.name)
        try:
            content = encode_tree(folder.entries)
        except TesseraError:
            self.failed += 1
            folder.is_left_out = True
            del self._folders[folder.number]
            return
        folder.tree = Source(None, shown, name, len(content), content=content, kind=TREE, folder=folder.number)
        self._whole.append(folder.tree)
        if found is not None and folder.above is not None:
            sha256 = hashlib.sha256(content).digest()
            folder.above.entries.append(msgspec.structs.replace(found.entry, content=sha256))

    def _settle_tree(self, folder: _Folder, tree: Source, outcome: Outcome) -> bool:
        if folder.tree is not tree:
            folder.awaited -= 1
            self._conclude(folder)
            return False
        self._count(tree, outcome)
        del self._folders[folder.number]
        if isinstance(outcome, StoredImage):
            folder.is_stored = True
            if folder.above is None:
                self.root = outcome.sha256
        else:
            folder.tree, folder.is_left_out = None, True
            self._unmake_above(folder)
            self._conclude(folder.above)
        return True

    def _unmake_above(self, folder: _Folder) -> None:
        """Have no tree that names this folder's: those above are made anew, once what came of them is known."""
        below, above = folder, folder.above
        while above is not None and below.found is not None:
            name = below.found.entry.name
            above.entries = [entry for entry in above.entries if entry.name != name]
            above.awaited += below is not folder
            if above.tree is None:
                return  # it is not made yet, or left out
            above.tree = None
            if above.is_stored:
                above.is_stored = False
                self._folders[above.number] = above
                self.folders -= above.above is not None
            else:
                above.awaited += 1
            below, above = above, above.above
        self.root = None


def _settled(source: Source, outcome: Outcome) -> Optional[Entry]:
    """The entry of what is stored, or noted at least."""
    entry = source.entry
    if entry is None:
        return None
    if isinstance(outcome, StoredImage):
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
