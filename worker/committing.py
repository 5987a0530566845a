"""Makes staged shares durable, many in one round.

    small shares    trailers written → all appended to a pack → one fsync
    large shares    trailers written → folders made that are missing → files fsynced → each renamed to its place, never
                    over another → each folder that got a name fsynced
    then            one change of the index for all, which takes out what they are in place of: damaged ones

Each step is done for all shares before the next: a journaling file system then has a few things to write for a round,
not a few for each share. A share's answer is granted only when all of that went well; any other is dropped, wherever it
is by then. After a failed fsync nothing more is written, see `durability`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from common.protocol.messages import GRANTED, Answer, Code
from worker.disk import Disk
from worker.durability import Durability
from worker.index import Index
from worker.layout import Layout, Place, ShareKey
from worker.pack_format import MAX_PACKED, Kind
from worker.packs import Packs, Record
from worker.refusals import Refusal, disk_answer
from worker.removing import Remover
from worker.share_file import ShareTrailer
from worker.share_states import KeptShare, State, announcement
from worker.staging import FileBody, StagedShare

log = logging.getLogger(__name__)


@dataclass
class PendingCommit:
    """A staged share with its checked trailer; what becomes of it in a round."""

    staged: StagedShare
    trailer: ShareTrailer
    share_bytes: int
    damaged: Optional[KeptShare] = None  # what is stored anew by it
    serial: int = 0
    answer: Answer = GRANTED
    place: Optional[Place] = None
    file: Optional[Path] = None  # its own, once it is there

    @property
    def granted(self) -> bool:
        return self.answer is GRANTED

    def kept(self, place: Place) -> KeptShare:
        """As it is held from now on."""
        share = announcement(self.staged.header, self.trailer.signed, self.share_bytes)
        return KeptShare(self.serial, State.HELD, place, share)


class Committer:
    """The steps of a round."""

    def __init__(
        self, disk: Disk, layout: Layout, durability: Durability, packs: Packs, index: Index, remover: Remover
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._packs = packs
        self._index = index
        self._remover = remover

    def run(self, commits: Sequence[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer. What is not granted is dropped."""
        names: set[ShareKey] = set()
        for commit in commits:
            if commit.staged.key in names:
                commit.answer = Answer(Code.CONFLICT, "another owner's share of this name is stored in this round")
            else:
                names.add(commit.staged.key)
                self._write(commit)
        small = [commit for commit in commits if commit.granted and commit.staged.size <= MAX_PACKED]
        self._place_files([commit for commit in commits if commit.granted and commit.staged.size > MAX_PACKED])
        self._pack(small)
        self._enter([commit for commit in commits if commit.granted])
        for commit in commits:
            if not commit.granted:
                commit.staged.drop()
                if commit.file is not None:
                    self._disk.remove_or_leave(commit.file)
        return [commit.answer for commit in commits]

    def _write(self, commit: PendingCommit) -> None:
        """Write the trailer."""
        durability, staged = self._durability, commit.staged
        if durability.refusal is not None:
            commit.answer = durability.refusal
        elif staged.dropped:
            commit.answer = Answer(Code.NOT_OPEN, "this share was given up")
        else:
            try:
                staged.finish(commit.trailer)
                commit.serial = self._index.next_serial()
            except OSError as error:
                commit.answer = disk_answer(error)

    def _enter(self, commits: Sequence[PendingCommit]) -> None:
        """Enter what is durable. Where that fails nobody learns of it: it is dead, or found at the next start."""
        if not commits:
            return
        try:
            with self._index.transaction():
                damaged = self._damaged(commits)
                self._remover.forget(damaged)
                placed = [(each.staged.payer, each.kept(each.place)) for each in commits if each.place is not None]
                self._index.add(*[kept for _, kept in placed])
                for payer, owner in {(payer, kept.counts_for): None for payer, kept in placed}:
                    if payer.members:
                        self._index.charge(owner, payer.account)
        except (OSError, Refusal) as error:
            self._refuse(commits, error)
        else:
            self._remover.clear(damaged)

    def _damaged(self, commits: Sequence[PendingCommit]) -> list[KeptShare]:
        """What is stored anew, as it is by now."""
        serials = [commit.damaged.serial for commit in commits if commit.damaged is not None]
        return [kept for serial in serials if (kept := self._index.of_serial(serial)) is not None and kept.here]

    def _refuse(self, commits: Sequence[PendingCommit], error: Union[OSError, Refusal]) -> None:
        answer = error.answer if isinstance(error, Refusal) else disk_answer(error)
        for commit in commits:
            commit.answer = self._durability.refusal or answer

    # --- small shares

    def _pack(self, commits: Sequence[PendingCommit]) -> None:
        if not commits:
            return
        try:
            records = [
                Record(Kind.SHARE, each.staged.key, each.serial, 0, each.staged.body.read_at(0, each.staged.size))
                for each in commits
            ]
            places = self._packs.append(records)
            self._packs.sync()
        except OSError as error:
            log.error("cannot store %d shares in a pack: %s", len(commits), error)
            self._refuse(commits, error)
            return
        for commit, place in zip(commits, places):
            commit.place = place
            commit.staged.drop()

    # --- large shares

    def _place_files(self, commits: Sequence[PendingCommit]) -> None:
        if not commits:
            return
        folders = {self._layout.share_folder(commit.staged.key) for commit in commits}
        try:
            self._durability.make_folders(folders)
        except OSError as error:
            log.error("cannot make folders for shares: %s", error)
            for commit in commits:
                if not self._durability.is_durable(self._layout.share_folder(commit.staged.key)):
                    self._refuse([commit], error)
        files = [(each, each.staged.body) for each in commits if isinstance(each.staged.body, FileBody)]
        self._sync([(commit, body) for commit, body in files if commit.granted])
        for commit, body in files:
            if commit.granted:
                self._rename(commit, body)
        self._sync_folders([commit for commit in commits if commit.granted])

    def _sync(self, files: Sequence[tuple[PendingCommit, FileBody]]) -> None:
        """Make the content of all files durable."""
        if self._durability.refusal is not None:
            return  # `_rename` answers
        faults = self._durability.sync_files([body.descriptor for _, body in files])
        for (commit, _), fault in zip(files, faults):
            if fault is not None:
                self._refuse([commit], fault)

    def _rename(self, commit: PendingCommit, body: FileBody) -> None:
        """Give the file its name; none after a failed fsync, even of another file."""
        if self._durability.refusal is not None:
            commit.answer = self._durability.refusal
            return
        target = self._layout.share(commit.staged.key, commit.serial)
        try:
            body.close()  # Windows renames no open file
            self._disk.rename_new(body.path, target)
        except FileExistsError as error:
            self._refuse([commit], error)
            return
        except OSError as error:
            log.error("cannot put the share %s in its place: %s", target.name, error)
            self._refuse([commit], error)
            self._disk.remove_or_leave(target)  # a rename is a link and an unlink: it may be there already
            return
        body.path = commit.file = target
        commit.place = Place(0, 0, body.size)

    def _sync_folders(self, commits: Sequence[PendingCommit]) -> None:
        """Sync each folder once."""
        for folder in {self._layout.share_folder(commit.staged.key) for commit in commits}:
            try:
                self._durability.sync_folder(folder)
            except OSError as error:  # logged where it happened
                self._refuse([each for each in commits if self._layout.share_folder(each.staged.key) == folder], error)
