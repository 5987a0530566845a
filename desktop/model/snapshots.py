"""The snapshots of the vault, and the folder of one that is looked at.

Only the folder in view is read, and those that it lies in are kept: going back asks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from common.errors import TesseraError
from common.protocol.messages import EncodingAt
from common.repository.repository import Repository
from common.text import count, printable
from common.vault.mapping import UNKNOWN_MEDIA_TYPE
from common.vault.tree import Entry as TreeEntry
from common.vault.tree import EntryType
from consumer.snapshots import KeptSnapshot, Path, SnapshotReader, shown_path, shown_time
from desktop.background import Background, Task
from desktop.model.commands import command_line
from desktop.model.entries import Entry
from desktop.model.model import Model
from desktop.session import Session

SHOWN_ID = 8  # digits
_NOT_AT_HAND = "not at hand"
_REMARKS = {
    EntryType.FOLDER: "folder",
    EntryType.PIPE: "named pipe, not kept",
    EntryType.SOCKET: "socket, not kept",
    EntryType.DEVICE: "device, not kept",
}


@dataclass
class Step:
    """A folder on the way to the one in view; `inside`: None until it is read."""

    path: Path
    tree: bytes
    inside: Optional[list[TreeEntry]] = None

    @property
    def name(self) -> str:
        return printable(shown_path(self.path[-1:]))


class SnapshotsModel(Model):
    """`kept`: all snapshots, the newest first. `chosen`: the one that is looked at; None: all pictures.

    `trail`: the folders from its root to the one in view. `entries`: what is in that; None until it is read.
    """

    def __init__(
        self,
        session: Session,
        background: Background,
        images: Callable[[], Callable[[Iterable[str]], Mapping[str, Entry]]],
        moved: Callable[[], None],
    ) -> None:
        """`images`: gives what finds those that the vault is known to hold, by SHA-256, in any thread. `moved`: called
        when others are to be shown.
        """
        super().__init__(session, background)
        self.kept: list[KeptSnapshot] = []
        self.unread = 0  # snapshots that cannot be read now
        self.chosen: Optional[KeptSnapshot] = None
        self.trail: list[Step] = []
        self.entries: Optional[list[Entry]] = None
        self._images, self._moved = images, moved
        self._read: dict[bytes, KeptSnapshot] = {}  # by object id, for the loop's thread
        self._task: Optional[Task] = None

    # --- which there are

    async def look(self, repository: Repository, encodings: Iterable[EncodingAt]) -> None:
        """Read the snapshots that came since the last look. In the loop's thread."""
        there = [each for each in encodings if repository.key.is_snapshot(each.object_id)]
        new = [each for each in there if each.object_id not in self._read]
        found, failed = await SnapshotReader(repository).snapshots(new) if new else ([], [])
        read = {each.object_id: self._read[each.object_id] for each in there if each.object_id in self._read}
        read.update({repository.key.snapshot_object_id(kept.sha256): kept for kept in found})
        self._read = read
        newest_first = sorted(read.values(), key=lambda kept: (kept.snapshot.taken_at, kept.sha256), reverse=True)
        self.background.post(self._see, newest_first, len(failed))

    def _see(self, kept: list[KeptSnapshot], unread: int) -> None:
        if (kept, unread) == (self.kept, self.unread):
            return
        self.kept, self.unread = kept, unread
        if self.chosen is not None and self.chosen not in kept:  # it was forgotten
            self.choose(None)
        self.changed()

    # --- which is looked at

    def choose(self, sha256: Optional[bytes]) -> None:
        """Look at the root of this snapshot, or at all pictures."""
        chosen = next((kept for kept in self.kept if kept.sha256 == sha256), None)
        if chosen != self.chosen:
            self.chosen = chosen
            self._show([] if chosen is None else [Step((), chosen.snapshot.root)])

    def enter(self, folder: Entry) -> None:
        """Look into a folder of those in view."""
        path = tuple(map(os.fsencode, folder.place.split("/")))
        self._show([*self.trail, Step(path, bytes.fromhex(folder.sha256))])

    def back_to(self, depth: int) -> None:
        """Go back to the folder so deep below the snapshot's root."""
        if 0 <= depth < len(self.trail):
            self._show(self.trail[: depth + 1])

    def up(self) -> None:
        self.back_to(len(self.trail) - 2)

    def refresh(self) -> None:
        """More is known of the images: show the folder with it."""
        if self.trail and self.trail[-1].inside is not None:
            self._build(self.trail[-1])

    @property
    def path(self) -> Path:
        """The folder in view."""
        return self.trail[-1].path if self.trail else ()

    @property
    def listing_command(self) -> str:
        """The command that lists the folder in view."""
        if self.chosen is None:
            return command_line("consumer", "--snapshots")
        return command_line("consumer", "--ls", self.chosen.id[:SHOWN_ID], *path_option(self.path))

    def _show(self, trail: list[Step]) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.trail, self.entries = trail, None
        self._moved()
        if trail and trail[-1].inside is None:
            step = trail[-1]
            self._task = self.background.start(
                lambda: self._tree(step.tree), done=lambda tree: self._opened(step, tree), failed=self._unreadable
            )
        else:
            self.refresh()

    async def _tree(self, sha256: bytes) -> list[TreeEntry]:
        async with self.session.opened() as repository:
            return await SnapshotReader(repository).tree(sha256)

    def _opened(self, step: Step, tree: list[TreeEntry]) -> None:
        step.inside = tree
        self._build(step)

    def _build(self, step: Step) -> None:
        """Make the entries, beside the window's thread: a folder may have many thousands."""
        inside, find = step.inside or [], self._images()
        if self._task is not None:
            self._task.cancel()
        self._task = self.background.run(
            lambda: folder_entries(inside, step.path, find(_files(inside))), done=self._built, failed=self._unreadable
        )

    def _built(self, entries: list[Entry]) -> None:
        self._task, self.entries = None, entries
        self._moved()

    def _unreadable(self, error: TesseraError) -> None:
        self._task, self.entries = None, []
        self.fail(error)
        self._moved()


def path_option(path: Path) -> list[str]:
    return ["--path", printable(shown_path(path))] if path else []


def folder_entries(tree: Iterable[TreeEntry], path: Path, images: Mapping[str, Entry]) -> list[Entry]:
    """What is in a folder, folders first, each by name. `images`: those that the vault is known to hold."""
    entries = [_entry(each, shown_path((*path, each.name)), images) for each in tree]
    return sorted(entries, key=lambda entry: (not entry.is_folder, entry.name.casefold(), entry.place))


def _files(tree: Iterable[TreeEntry]) -> set[str]:
    """The SHA-256s of files."""
    return {each.content.hex() for each in tree if each.type is EntryType.FILE and each.content is not None}


def _entry(each: TreeEntry, place: str, images: Mapping[str, Entry]) -> Entry:
    name = printable(shown_path((each.name,)))
    sha256 = "" if each.content is None else each.content.hex()
    known = images.get(sha256) if each.type is EntryType.FILE else None
    if known is not None:
        return replace(known, name=name, place=place)
    remark = _REMARKS.get(each.type, _NOT_AT_HAND)
    if each.target is not None:
        remark = f"link to {printable(shown_path((each.target,)))}"
    return Entry(
        sha256=sha256,
        name=name,
        media_type="inode/link" if each.type is EntryType.LINK else UNKNOWN_MEDIA_TYPE,
        width=None,
        height=None,
        size=each.size or 0,
        stored_at=max(0, each.modified),
        mapping=(b"", b""),
        has_thumbnail=False,
        is_image=False,
        is_folder=each.type is EntryType.FOLDER,
        place=place,
        remark=remark,
    )


def snapshot_lines(kept: KeptSnapshot) -> tuple[str, str, str]:
    """What the list says of a snapshot: when, of what, how many files."""
    snapshot = kept.snapshot
    by_default = snapshot.label.startswith(f"{snapshot.host}:")
    of = ", ".join(shown_path((path,)) for path in snapshot.paths) if by_default else snapshot.label
    lacking = "" if snapshot.complete else ", incomplete"
    return shown_time(snapshot.taken_at), printable(of), f"{count(snapshot.files, 'file')}{lacking}"


def places(kept: Sequence[KeptSnapshot], chosen: Optional[KeptSnapshot]) -> int:
    """Where the chosen one is in the list, in which all pictures come first."""
    return 0 if chosen is None else kept.index(chosen) + 1
