"""Reads snapshots and their trees: which there are, and what was in the folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional, Union

from common.errors import NotFoundError, TesseraError, UsageError
from common.link.questions import list_encodings
from common.process.events import ignore, waiting
from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.vault.mapping import Mapping
from common.vault.snapshot import Snapshot, decode_snapshot
from common.vault.tree import Entry, EntryType, decode_tree
from consumer.events import NotRestored
from consumer.output import HeldOutput
from consumer.restorer import Restorer

LATEST = "latest"
_IN_MEMORY = 16 << 20  # bytes of one tree
_AT_ONCE = 256  # trees

Path = tuple[bytes, ...]  # the names from the snapshot's root on


@dataclass(frozen=True)
class KeptSnapshot:
    sha256: bytes
    snapshot: Snapshot

    @property
    def id(self) -> str:
        return self.sha256.hex()

    def as_json(self) -> dict[str, object]:
        snapshot = self.snapshot
        return {
            "id": self.id,
            "taken_at": datetime.fromtimestamp(snapshot.taken_at / 1e9, timezone.utc).isoformat(),
            "label": snapshot.label,
            "host": snapshot.host,
            "user": snapshot.user,
            "paths": [os.fsdecode(path) for path in snapshot.paths],
            "files": snapshot.files,
            "folders": snapshot.folders,
            "bytes": snapshot.size,
            "k": snapshot.k,
            "n": snapshot.n,
            "complete": snapshot.complete,
            "failed": snapshot.failed,
            "skipped": snapshot.skipped,
        }


@dataclass(frozen=True)
class Listed:
    """An entry of a snapshot, and where it is."""

    path: Path
    entry: Entry

    @property
    def shown(self) -> str:
        return shown_path(self.path)


def shown_path(path: Path) -> str:
    return os.fsdecode(b"/".join(path))


@dataclass(frozen=True)
class Listing:
    """What is in a snapshot, folders before what is in them; `failed`: folders that cannot be read now, and why."""

    entries: list[Listed]
    failed: list[NotRestored]

    @property
    def contents(self) -> set[bytes]:
        """The SHA-256 of all files and trees in it."""
        return {each.entry.content for each in self.entries if each.entry.content is not None}


class SnapshotReader:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._restorer = Restorer(repository, ignore)
        self._trees: dict[bytes, list[Entry]] = {}  # read before: snapshots of one source have most in common

    async def snapshots(self) -> tuple[list[KeptSnapshot], list[NotRestored]]:
        """All snapshots of the vault, the oldest first; and of those that cannot be read now, why."""
        with waiting(self._repository.emit, "listing the snapshots"):
            encodings = await list_encodings(self._repository.link)
            await self._repository.list_devices()
            by_object: dict[bytes, list[EncodingAt]] = {}
            for encoding in encodings:
                if self._repository.key.is_snapshot(encoding.object_id):
                    by_object.setdefault(encoding.object_id, []).append(encoding)
            read = await asyncio.gather(*map(self._snapshot, by_object.values()))
        found = [each for each in read if isinstance(each, KeptSnapshot)]
        found.sort(key=lambda each: (each.snapshot.taken_at, each.sha256))
        return found, [each for each in read if isinstance(each, NotRestored)]

    async def _snapshot(self, encodings: list[EncodingAt]) -> Union[KeptSnapshot, NotRestored]:
        try:
            sha256, content = await self._read(encodings, "a snapshot")
            return KeptSnapshot(sha256, decode_snapshot(content))
        except TesseraError as error:
            return NotRestored("", error)

    async def listing(self, root: bytes, below: Path = ()) -> Listing:
        """What is in the tree with this SHA-256, or in the folder `below` it; NotFoundError where there is none."""
        listing = Listing([], [])
        level: list[tuple[Path, bytes]] = [((), root)]
        while level:
            (trees, failed) = await self._read_trees(level)
            listing.failed.extend(failed)
            level = []
            for path, entries in trees:
                for entry in entries:
                    here = (*path, entry.name)
                    if here[: len(below)] == below[: len(here)]:
                        if len(here) >= len(below):
                            listing.entries.append(Listed(here, entry))
                        if entry.type is EntryType.FOLDER and entry.content is not None:
                            level.append((here, entry.content))
        listing.entries.sort(key=lambda each: each.path)
        if below and not listing.entries and not listing.failed:
            raise NotFoundError(f"the snapshot has nothing at {shown_path(below)}")
        return listing

    async def _read_trees(
        self, wanted: Sequence[tuple[Path, bytes]]
    ) -> tuple[list[tuple[Path, list[Entry]]], list[NotRestored]]:
        missing = list(dict.fromkeys(sha256 for _, sha256 in wanted if sha256 not in self._trees))
        errors: dict[bytes, TesseraError] = {}
        for chunk in _chunks(missing, _AT_ONCE):
            located = await self._repository.locate_all(chunk)
            read = await asyncio.gather(*(self._tree(located[sha256]) for sha256 in chunk))
            for sha256, tree in zip(chunk, read):
                if isinstance(tree, TesseraError):
                    errors[sha256] = tree
                else:
                    self._trees[sha256] = tree
        trees = [(path, self._trees[sha256]) for path, sha256 in wanted if sha256 in self._trees]
        failed = [
            NotRestored(sha256.hex(), type(errors[sha256])(f"{shown_path(path)}/: what was in it: {errors[sha256]}"))
            for path, sha256 in wanted
            if sha256 in errors
        ]
        return trees, failed

    async def _tree(self, encodings: Union[list[EncodingAt], NotFoundError]) -> Union[list[Entry], TesseraError]:
        if isinstance(encodings, NotFoundError):
            return encodings
        try:
            _, content = await self._read(encodings, "a folder's tree")
            return decode_tree(content)
        except TesseraError as error:
            return error

    async def _read(self, encodings: list[EncodingAt], what: str) -> tuple[bytes, bytes]:
        """The SHA-256 and content of one object."""
        read: list[tuple[Mapping, HeldOutput]] = []

        def open_output(mapping: Mapping) -> HeldOutput:
            read.append((mapping, HeldOutput(_IN_MEMORY)))
            return read[-1][1]

        try:
            await self._restorer.restore(encodings, what, open_output)
            mapping, output = read[-1]
            output.file.seek(0)
            return mapping.image_sha256, output.file.read()
        finally:
            for _, output in read:
                output.discard()


def newest_of_each(snapshots: Iterable[KeptSnapshot]) -> list[KeptSnapshot]:
    """The newest of each label, of snapshots that are given the oldest first."""
    newest = {each.snapshot.label: each for each in snapshots}
    return list(newest.values())


def choose(snapshots: Sequence[KeptSnapshot], wanted: str, label: Optional[str]) -> KeptSnapshot:
    """The snapshot with this id, or beginning of one; or the latest, of this label where one is given.

    NotFoundError where there is none, UsageError where it may be several.
    """
    of_label = [each for each in snapshots if label in (None, each.snapshot.label)]
    if not of_label:
        raise NotFoundError(
            "the vault has no snapshot" + (f" of {label}" if label is not None else ""),
            advice="see which there are with: python consumer/consumer.py --snapshots",
        )
    if wanted == LATEST:
        return of_label[-1]
    matches = [each for each in of_label if each.id.startswith(wanted.lower())]
    if len(matches) > 1:
        raise UsageError(f"several snapshots begin with {wanted}; give more digits")
    if not matches:
        raise NotFoundError(
            f"no snapshot begins with {wanted}",
            advice="see which there are with: python consumer/consumer.py --snapshots",
        )
    return matches[0]


def _chunks(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
