"""What the consumer's command line does with snapshots, and what it prints of them and of the images there are."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from common.chunks import chunks
from common.errors import NotFoundError
from common.facts import Facts
from common.process.events import Warned
from common.process.program import warn
from common.process.streams import for_stdout
from common.repository.images import Holdings, ListedImage, unreadable
from common.repository.repository import Repository
from common.text import format_size, printable
from common.vault.tree import Entry, EntryType
from consumer.destination import Destination
from consumer.events import NotRestored
from consumer.output import told_removed
from consumer.restore_tree import TreeRestorer
from consumer.restorer import Restorer
from consumer.restorer import restore_all as restore_images
from consumer.selecting import Selection
from consumer.snapshots import (
    NS,
    KeptSnapshot,
    Listed,
    Listing,
    SnapshotReader,
    choose,
    newest_of_each,
    shown_path,
    shown_time,
)
from consumer.target_folder import TargetFolder

_AT_ONCE = 250  # images printed together
_BESIDE = "in no snapshot"  # the folder of images that no snapshot names
_MARKS = {"added": "+", "removed": "-", "changed": "M", "renamed": "R"}
_TYPES = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.FOLDER: stat.S_IFDIR,
    EntryType.LINK: stat.S_IFLNK,
    EntryType.PIPE: stat.S_IFIFO,
    EntryType.SOCKET: stat.S_IFSOCK,
    EntryType.DEVICE: stat.S_IFCHR,
}


# --- restoring


@dataclass(frozen=True)
class Part:
    """What of which snapshot is restored; see the options of these names."""

    snapshot: str
    label: Optional[str]
    path: Optional[str]
    selection: Selection


async def restore_one(repository: Repository, part: Part, folder: Path, *, force: bool) -> None:
    """Restore a part of a snapshot into a folder."""
    reader = SnapshotReader(repository)
    kept = await _chosen(repository, reader, part.snapshot, part.label)
    below = _path(part.path)
    listing = await reader.listing(kept.snapshot.root, below)
    if part.selection:
        listing = _selected(listing, part.selection, await repository.holdings())
        if not listing.entries:
            raise NotFoundError("no image of the snapshot is like that")
    with TargetFolder(folder) as target:
        await TreeRestorer(repository, target, reader.locate, force=force).restore(listing, max(0, len(below) - 1))


async def restore_all(repository: Repository, selection: Selection, folder: Path, *, force: bool) -> None:
    """Restore what is selected of the newest snapshot of each label, and in a folder beside what no snapshot names.

    What two snapshots have under one name goes into folders named by their labels.
    """
    reader = SnapshotReader(repository)
    snapshots, _ = await _snapshots(repository, reader)
    holdings = await repository.holdings()
    whole = _together([(kept, await reader.listing(kept.snapshot.root)) for kept in newest_of_each(snapshots)])
    if selection:
        whole = _selected(whole, selection, holdings)
    if whole.entries or whole.failed:
        with TargetFolder(folder) as target:
            await TreeRestorer(repository, target, reader.locate, force=force).restore(whole)
    undated = selection.undated(image.mapping for image in holdings.files)
    if undated:
        repository.emit(Warned(f"not restored, since they do not tell when they were taken: {undated:,}"))
    named = await _named(repository, reader, snapshots)
    left = {
        image.sha256: image.encodings
        for image in holdings.files
        if image.mapping.image_sha256 not in named and selection.takes(image.mapping)
    }
    if left or not snapshots:
        place = folder / _BESIDE if snapshots else folder
        destination = Destination(str(place), several=True, force=force)
        if destination.removed:
            repository.emit(told_removed(destination.removed))
        await restore_images(Restorer(repository, repository.emit), left, destination.open)
    if selection and holdings.files and not left and not whole.entries:
        repository.emit(NotRestored("", NotFoundError("no image of the vault is like that")))
    if holdings.unreadable:
        repository.emit(NotRestored("", unreadable(holdings.unreadable)))


def _selected(listing: Listing, selection: Selection, holdings: Holdings) -> Listing:
    """The files of a listing that are selected, and the folders that they are in."""
    taken = {image.mapping.image_sha256: image.mapping.taken_at for image in holdings.files}
    files = [
        each
        for each in listing.entries
        if each.entry.type is EntryType.FILE
        and selection.matches(shown_path(each.path[-1:]), taken.get(each.entry.content or b""))
    ]
    kept = {each.path[:depth] for each in files for depth in range(1, len(each.path) + 1)}
    return Listing([each for each in listing.entries if each.path in kept], listing.failed)


def _together(listings: Sequence[tuple[KeptSnapshot, Listing]]) -> Listing:
    """Listings as one: each in a folder named by its label, where it has a name that another has too."""
    names = [{each.path[0] for each in listing.entries} for _, listing in listings]
    whole = Listing([], [])
    for (kept, listing), own in zip(listings, names):
        whole.failed.extend(listing.failed)
        if not any(own & other for other in names if other is not own):
            whole.entries.extend(listing.entries)
            continue
        name = kept.snapshot.label.replace("/", "_").replace("\0", "_").encode()[:200]
        made, nanoseconds = divmod(kept.snapshot.taken_at, NS)
        whole.entries.append(Listed((name,), Entry(name, EntryType.FOLDER, 0o755, made, nanoseconds)))
        whole.entries.extend(Listed((name, *each.path), each.entry) for each in listing.entries)
    return whole


async def _named(repository: Repository, reader: SnapshotReader, snapshots: Iterable[KeptSnapshot]) -> set[bytes]:
    """The SHA-256 of every file in any snapshot."""
    named, failed = await reader.contents(kept.snapshot.root for kept in snapshots)
    for sha256, error in failed.items():
        repository.emit(NotRestored(sha256.hex(), type(error)(f"what was in a folder: {error}")))
    return named


async def _snapshots(repository: Repository, reader: SnapshotReader) -> tuple[list[KeptSnapshot], int]:
    """All snapshots that can be read; of the others it is told, and how many they are."""
    found, failed = await reader.snapshots()
    for each in failed:
        repository.emit(each)
    return found, len(failed)


async def _chosen(repository: Repository, reader: SnapshotReader, wanted: str, label: Optional[str]) -> KeptSnapshot:
    """As `choose`, of all snapshots."""
    snapshots, unread = await _snapshots(repository, reader)
    return choose(snapshots, wanted, label, unread)


def _path(text: Optional[str]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(name) for name in (text or "").replace(os.sep, "/").split("/") if name)


# --- printing


async def list_files(repository: Repository, selection: Selection, *, as_json: bool) -> None:
    """Print the images that the vault holds of what is selected, with their paths in the newest snapshots.

    First those that this machine knows, by date; then those of which it has to ask the devices, as they come.
    """
    reader = SnapshotReader(repository)
    snapshots, unread = await _snapshots(repository, reader)
    newest = newest_of_each(snapshots)
    names = [kept.sha256 for kept in newest]
    paths: Optional[dict[bytes, list[bytes]]] = None
    complete = False
    if not repository.index.knows_paths(names):
        paths, complete = await _paths(reader, newest)
    tally = _Tally(selection, paths, as_json=as_json)
    for known in chunks(repository.images(), _AT_ONCE):
        tally.show(known)
    async for learned in repository.learn():
        tally.show(learned)
    tally.conclude(repository.index.count_lacking())
    if paths is not None and complete and not unread:
        repository.index.keep_paths(paths, names)


async def _paths(reader: SnapshotReader, snapshots: Iterable[KeptSnapshot]) -> tuple[dict[bytes, list[bytes]], bool]:
    """SHA-256 → where these snapshots have it, and whether all of their trees could be read."""
    paths: dict[bytes, list[bytes]] = {}
    complete = True
    for kept in snapshots:
        listing = await reader.listing(kept.snapshot.root)
        complete = complete and not listing.failed
        for each in listing.entries:
            if each.entry.type is EntryType.FILE and each.entry.content is not None:
                paths.setdefault(each.entry.content, []).append(b"/".join(each.path))
    return paths, complete


class _Tally:
    """Prints images, and counts them."""

    def __init__(self, selection: Selection, paths: Optional[dict[bytes, list[bytes]]], *, as_json: bool) -> None:
        """`paths`: in the newest snapshots, by SHA-256; None where the images know them."""
        self._selection = selection
        self._paths = paths
        self._as_json = as_json
        self._images = self._found = self._undated = 0

    def show(self, images: Iterable[ListedImage]) -> None:
        """Print those that are selected."""
        lines, selects = [], bool(self._selection)
        for image in images:
            self._images += 1
            paths = image.paths if self._paths is None else self._paths.get(image.mapping.image_sha256, [])
            known = [os.fsdecode(path) for path in paths]
            if selects:
                self._undated += self._selection.undated([image.mapping])
                names = [path.rpartition("/")[2] for path in known] or [image.mapping.name]
                if not any(self._selection.matches(name, image.mapping.taken_at) for name in names):
                    continue
            self._found += 1
            lines.append(json.dumps(described(image, known)) if self._as_json else line(image, known))
        if lines:
            print("\n".join(lines), flush=True)

    def conclude(self, unread: int) -> None:
        """`unread`: how many more there are that cannot be read now."""
        if unread:
            warn(f"consumer: {unreadable(unread)}")
        elif not self._images:
            warn("the vault holds no image")
        if self._selection and self._images:
            more = f"; do not tell when they were taken: {self._undated:,}" if self._undated else ""
            warn(f"{self._found:,} of {self._images:,} images are so{more}")


async def list_snapshots(repository: Repository, label: Optional[str], *, as_json: bool) -> None:
    snapshots, _ = await _snapshots(repository, SnapshotReader(repository))
    for kept in snapshots:
        if label in (None, kept.snapshot.label):
            print(json.dumps(kept.as_json()) if as_json else for_stdout(_snapshot_line(kept)))


def _snapshot_line(kept: KeptSnapshot) -> str:
    snapshot = kept.snapshot
    lacking = "" if snapshot.complete else f"  INCOMPLETE: {snapshot.failed:,} could not be stored"
    return (
        f"{kept.id[:8]}  {shown_time(snapshot.taken_at)}  {snapshot.files:>9,}  {format_size(snapshot.size):>9}"
        f"  {printable(snapshot.label)}{lacking}"
    )


async def list_folder(
    repository: Repository, wanted: str, label: Optional[str], path: Optional[str], *, as_json: bool
) -> None:
    """Print what is in a snapshot, as `ls -l`."""
    reader = SnapshotReader(repository)
    kept = await _chosen(repository, reader, wanted, label)
    listing = await reader.listing(kept.snapshot.root, _path(path))
    for each in listing.entries:
        print(json.dumps(_entry_json(each)) if as_json else for_stdout(_entry_line(each)))
    for failed in listing.failed:
        repository.emit(failed)


def _entry_json(each: Listed) -> dict[str, object]:
    entry = each.entry
    return {
        "path": each.shown,
        "type": entry.type.name.lower(),
        "mode": f"{entry.mode:04o}",
        "modified": entry.modified_ns,
        "bytes": entry.size,
        "sha256": entry.content.hex() if entry.type is EntryType.FILE and entry.content is not None else None,
        "target": None if entry.target is None else shown_path((entry.target,)),
    }


def _entry_line(each: Listed) -> str:
    entry = each.entry
    mode = stat.filemode(_TYPES[entry.type] | entry.mode)
    size = "" if entry.size is None else str(entry.size)
    target = "" if entry.target is None else f" -> {printable(shown_path((entry.target,)))}"
    return f"{mode}  {size:>12}  {shown_time(entry.modified_ns)}  {printable(each.shown)}{target}"


async def compare(repository: Repository, wanted: tuple[str, str], label: Optional[str], *, as_json: bool) -> None:
    """Print what differs between two snapshots: + added, - removed, M changed, R renamed."""
    from consumer.differences import differences

    reader = SnapshotReader(repository)
    snapshots, unread = await _snapshots(repository, reader)
    sides = []
    for each in wanted:
        listing = await reader.listing(choose(snapshots, each, label, unread).snapshot.root)
        for failed in listing.failed:
            repository.emit(failed)
        sides.append({one.path: one for one in listing.entries})
    for mark, path, other in differences(*sides):
        if as_json:
            print(json.dumps({"change": mark, "path": shown_path(path), "to": other and shown_path(other)}))
        else:
            to = "" if other is None else f" -> {printable(shown_path(other))}"
            print(for_stdout(f"{_MARKS[mark]}  {printable(shown_path(path))}{to}"))


def described(image: ListedImage, paths: Sequence[str]) -> dict[str, object]:
    """An image as JSON has it; `paths`: those that the newest snapshots have it under."""
    mapping = image.mapping
    facts = mapping.facts or Facts()
    latitude, longitude = facts.position or (None, None)
    return {
        "sha256": image.sha256,
        "name": mapping.name,
        "bytes": mapping.image_size,
        "media_type": mapping.media_type,
        "width": mapping.width,
        "height": mapping.height,
        "taken_at": facts.taken_at,
        "camera": facts.camera,
        "orientation": facts.orientation,
        "latitude": latitude,
        "longitude": longitude,
        "stored_at": datetime.fromtimestamp(mapping.stored_at, timezone.utc).isoformat(),
        "restorable": image.restorable,
        "paths": list(paths),
    }


def line(image: ListedImage, paths: Sequence[str]) -> str:
    mapping = image.mapping
    pixels = f"{mapping.width}×{mapping.height}" if mapping.width is not None else "-"
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(mapping.stored_at))
    taken = (mapping.taken_at or "-")[:16].replace("T", " ")
    state = "" if image.restorable else "  (too few devices connected)"
    name = ", ".join(map(printable, paths)) if paths else printable(mapping.name)
    return f"{image.sha256}  {mapping.image_size:>12}  {pixels:>11}  {date}  {taken:>16}  {name}{state}"
