"""Reads snapshots and their trees: which there are, and what was in the folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256 as sha256_hash
from typing import Optional, Union

from common.chunks import chunks
from common.errors import NotEnoughError, NotFoundError, TesseraError, UsageError
from common.process.events import ignore, waiting
from common.protocol.messages import EncodingAt, is_at_hand
from common.repository.repository import Repository
from common.text import printable
from common.vault.index import located
from common.vault.mapping import Mapping
from common.vault.snapshot import Snapshot, decode_snapshot
from common.vault.tree import Entry, EntryType, decode_tree
from consumer.events import NotRestored
from consumer.output import HeldOutput
from consumer.restorer import Restorer

LATEST = "latest"
NS = 1_000_000_000
_IN_MEMORY = 16 << 20  # bytes of one tree
_AT_ONCE = 256  # trees

Path = tuple[bytes, ...]  # the names from the snapshot's root on
Located = Union[list[EncodingAt], NotFoundError]


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
            "taken_at": datetime.fromtimestamp(snapshot.taken_at / NS, timezone.utc).isoformat(),
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


def shown_time(nanoseconds: int) -> str:
    """A time, in ns since 1970, as this machine's clock has it."""
    try:
        return datetime.fromtimestamp(nanoseconds // NS).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # years that Python has no dates of
        return f"{nanoseconds // NS} s"


@dataclass(frozen=True)
class Listing:
    """What is in a snapshot, folders before what is in them; `failed`: folders that cannot be read now, and why."""

    entries: list[Listed]
    failed: list[NotRestored]


@dataclass(frozen=True)
class Place:
    """Where a snapshot has a content; `path` is empty for the tree of the snapshot itself."""

    kept: KeptSnapshot
    path: Path

    @property
    def line(self) -> str:
        """As commands show it: id, time, label, path."""
        snapshot = self.kept.snapshot
        when = shown_time(snapshot.taken_at)
        return printable(f"{self.kept.id[:8]}  {when}  {snapshot.label}  {shown_path(self.path) or '/'}")


class SnapshotReader:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._is_in_step = False
        self._restorer = Restorer(repository, ignore, early=True)
        self._trees: dict[bytes, list[Entry]] = {}  # read before: snapshots of one source have most in common

    async def snapshots(
        self, encodings: Optional[Iterable[EncodingAt]] = None
    ) -> tuple[list[KeptSnapshot], list[NotRestored]]:
        """All snapshots of the vault, the oldest first; and of those that cannot be read now, why.

        `encodings`: where they are listed already.
        """
        repository = self._repository
        if encodings is None:
            await repository.catch_up()
            self._is_in_step = True
            rows = repository.index.snapshots()
            groups = [located(row, repository.alive) for row in rows]
        else:
            by_object: dict[bytes, list[EncodingAt]] = {}
            for encoding in encodings:
                if repository.key.is_snapshot(encoding.object_id):
                    by_object.setdefault(encoding.object_id, []).append(encoding)
            groups = list(by_object.values())
        with waiting(repository.emit, "reading the snapshots"):
            read = await asyncio.gather(*map(self._snapshot, groups))
        found = [each for each in read if isinstance(each, KeptSnapshot)]
        found.sort(key=lambda each: (each.snapshot.taken_at, each.sha256))
        return found, [each for each in read if isinstance(each, NotRestored)]

    async def locate(self, contents: Sequence[bytes]) -> dict[bytes, Located]:
        """As `Repository.locate_all`; once `snapshots` listed all, without a question for what can be restored."""
        places: dict[bytes, Located] = {}
        if self._is_in_step:
            known = self._repository.located_here(contents)
            may_have_come = any(not device.alive for device in self._repository.listed)
            places = {
                sha256: each
                for sha256, each in known.items()
                if each and (not may_have_come or any(map(is_at_hand, each)))
            }
        lacking = [sha256 for sha256 in contents if sha256 not in places]
        if lacking:
            places.update(await self._repository.locate_all(lacking))
        return places

    async def _snapshot(self, encodings: list[EncodingAt]) -> Union[KeptSnapshot, NotRestored]:
        try:
            sha256, content = await self._kept_or_read(encodings, "a snapshot")
            return KeptSnapshot(sha256, decode_snapshot(content))
        except TesseraError as error:
            mappings = await self._repository.mappings.of(encodings)
            return NotRestored(next((mapping.image_sha256.hex() for mapping in mappings.values()), ""), error)

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
        for chunk in chunks(missing, _AT_ONCE):
            for sha256, tree in zip(chunk, await self._located_trees(chunk)):
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

    async def tree(self, sha256: bytes) -> list[Entry]:
        """What is in one folder; NotFoundError where the cluster has no such tree, or the error of reading it."""
        (tree,) = await self._located_trees([sha256])
        if isinstance(tree, TesseraError):
            raise tree
        return tree

    async def trees(self, roots: Iterable[bytes]) -> AsyncIterator[tuple[bytes, Union[list[Entry], TesseraError]]]:
        """Every tree at and below these, each once and kept nowhere; of one that cannot be read now, why."""
        left = list(dict.fromkeys(roots))
        seen = set(left)
        while left:
            chunk = left[-_AT_ONCE:]
            del left[-_AT_ONCE:]
            for sha256, tree in zip(chunk, await self._located_trees(chunk)):
                if not isinstance(tree, TesseraError):
                    below = dict.fromkeys(_folders(tree))
                    left.extend(content for content in below if content not in seen)
                    seen.update(below)
                yield sha256, tree

    async def contents(self, roots: Iterable[bytes]) -> tuple[set[bytes], dict[bytes, TesseraError]]:
        """The SHA-256 of all that these trees and those below name; and of trees that cannot be read now, why."""
        named: set[bytes] = set()
        failed: dict[bytes, TesseraError] = {}
        async for sha256, tree in self.trees(roots):
            if isinstance(tree, TesseraError):
                failed[sha256] = tree
            else:
                named.update(each.content for each in tree if each.content is not None)
        return named, failed

    async def places(
        self, snapshots: Sequence[KeptSnapshot], wanted: Collection[bytes]
    ) -> tuple[dict[bytes, list[Place]], list[TesseraError]]:
        """SHA-256 → where these snapshots have it, in their order; and of trees that cannot be read now, why."""
        inside: dict[bytes, list[Entry]] = {}  # of each tree its folders, and what is wanted
        above: dict[bytes, list[bytes]] = {}  # the trees that have a tree
        failed: list[TesseraError] = []
        async for sha256, tree in self.trees(kept.snapshot.root for kept in snapshots):
            if isinstance(tree, TesseraError):
                failed.append(tree)
                continue
            inside[sha256] = [each for each in tree if each.type is EntryType.FOLDER or each.content in wanted]
            for content in _folders(tree):
                above.setdefault(content, []).append(sha256)
        leading: set[bytes] = set()  # the trees through which a way goes to what is wanted
        left = [sha256 for sha256, entries in inside.items() if any(each.content in wanted for each in entries)]
        while left:
            sha256 = left.pop()
            if sha256 not in leading:
                leading.add(sha256)
                left.extend(above.get(sha256, []))
        places: dict[bytes, list[Place]] = {}
        for kept in snapshots:
            for path, content in _ways(kept.snapshot.root, inside, leading, wanted):
                places.setdefault(content, []).append(Place(kept, path))
        return places, failed

    async def _located_trees(self, contents: Sequence[bytes]) -> list[Union[list[Entry], TesseraError]]:
        located = await self.locate(contents)
        return await asyncio.gather(*(self._tree(located[sha256]) for sha256 in contents))

    async def _tree(self, encodings: Located) -> Union[list[Entry], TesseraError]:
        if isinstance(encodings, NotFoundError):
            return encodings
        try:
            _, content = await self._kept_or_read(encodings, "a folder's tree")
            return decode_tree(content)
        except TesseraError as error:
            return error

    async def _kept_or_read(self, encodings: list[EncodingAt], what: str) -> tuple[bytes, bytes]:
        """As `read`, of what never changes: from the index, where it was read before."""
        index, object_id = self._repository.index, encodings[0].object_id
        kept = index.content(object_id)
        if kept is not None:
            return sha256_hash(kept).digest(), kept
        digest, content = await self.read(encodings, what)
        index.keep_content(object_id, content)
        return digest, content

    async def read(self, encodings: list[EncodingAt], what: str) -> tuple[bytes, bytes]:
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


def require_readable(failed: Sequence[NotRestored], undone: str) -> None:
    """NotEnoughError where one cannot be read now: it may name anything. `undone`: what is not done therefore."""
    if failed:
        advice = "connect the devices that have it"
        if failed[0].sha256:
            advice += (
                "; where it is the rest of a put that was broken off, or they are gone for good, delete it: "
                f"python admin/admin.py delete --hash {failed[0].sha256}"
            )
        raise NotEnoughError(f"a snapshot cannot be read: {failed[0].error}; {undone}", advice=advice)


def newest_of_each(snapshots: Iterable[KeptSnapshot]) -> list[KeptSnapshot]:
    """The newest of each label, of snapshots that are given the oldest first."""
    newest = {each.snapshot.label: each for each in snapshots}
    return list(newest.values())


def choose(snapshots: Sequence[KeptSnapshot], wanted: str, label: Optional[str], unread: int = 0) -> KeptSnapshot:
    """The snapshot with this id, or beginning of one; or the latest, of this label where one is given.

    `unread`: how many there are that cannot be read now. NotEnoughError where it may be one of these, NotFoundError
    where there is none, UsageError where it may be several.
    """
    of_label = [each for each in snapshots if label in (None, each.snapshot.label)]
    matches = of_label if wanted == LATEST else [each for each in of_label if each.id.startswith(wanted.lower())]
    if not matches and unread:
        raise NotEnoughError(f"that snapshot is not among those that can be read now; {unread:,} cannot be")
    if not of_label:
        raise NotFoundError(
            "the vault has no snapshot" + (f" of {label}" if label is not None else ""),
            advice="see which there are with: python consumer/consumer.py --snapshots",
        )
    if wanted == LATEST:
        return of_label[-1]
    if len(matches) > 1:
        raise UsageError(f"several snapshots begin with {wanted}; give more digits")
    if not matches:
        raise NotFoundError(
            f"no snapshot begins with {wanted}",
            advice="see which there are with: python consumer/consumer.py --snapshots",
        )
    return matches[0]


def _folders(tree: Iterable[Entry]) -> Iterator[bytes]:
    """The SHA-256 of the trees in a tree."""
    return (each.content for each in tree if each.type is EntryType.FOLDER and each.content is not None)


def _ways(
    root: bytes, inside: dict[bytes, list[Entry]], leading: Collection[bytes], wanted: Collection[bytes]
) -> list[tuple[Path, bytes]]:
    """The paths to what is wanted from a root, through trees that lead there; sorted."""
    ways: list[tuple[Path, bytes]] = [((), root)] if root in wanted else []
    left: list[tuple[Path, bytes]] = [((), root)] if root in leading else []
    while left:
        path, tree = left.pop()
        for each in inside[tree]:
            if each.content is not None and each.content in wanted:
                ways.append(((*path, each.name), each.content))
            if each.type is EntryType.FOLDER and each.content is not None and each.content in leading:
                left.append(((*path, each.name), each.content))
    return sorted(ways)
