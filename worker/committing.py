"""Makes staged shares durable, many in one round.

Trailers written → folders made that are missing → files fsynced → each renamed to its place, never over another → each
folder that got a name fsynced. Each step is done for all shares before the next: a journaling file system then has a
few things to write for a round, not a few for each share. A share's answer is granted only when all of that went well;
any other is dropped, wherever its file is by then. After a failed fsync nothing more is written, see `durability`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.protocol.messages import GRANTED, Answer, Code
from worker.disk import Disk
from worker.durability import Durability
from worker.refusals import disk_answer
from worker.share_file import ShareTrailer
from worker.staging import StagedShare

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingCommit:
    """A staged share with its checked trailer and its final path."""

    staged: StagedShare
    trailer: ShareTrailer
    share_bytes: int
    target: Path
    folder: Path  # of the target


class Committer:
    """The steps of a round."""

    def __init__(self, disk: Disk, durability: Durability) -> None:
        self._disk = disk
        self._durability = durability

    def run(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer. What is not granted is dropped."""
        answers = [self._write(commit) for commit in commits]
        self._make_folders(commits, answers)
        self._sync(commits, answers)
        answers = [self._place(commit) if answer.granted else answer for commit, answer in zip(commits, answers)]
        placed = {commit.folder for commit, answer in zip(commits, answers) if answer.granted}
        durable = self._sync_folders(placed)
        for index, commit in enumerate(commits):
            if answers[index].granted and commit.folder not in durable:
                answers[index] = self._durability.refusal or _BROKEN
            if not answers[index].granted:
                commit.staged.drop()
        return answers

    def _write(self, commit: PendingCommit) -> Answer:
        """Write the trailer."""
        durability, staged = self._durability, commit.staged
        if durability.refusal is not None:
            return durability.refusal
        if staged.dropped:
            return Answer(Code.NOT_OPEN, "this share was given up")
        try:
            staged.finish(commit.trailer)
        except OSError as error:
            return disk_answer(error)
        return GRANTED

    def _make_folders(self, commits: list[PendingCommit], answers: list[Answer]) -> None:
        """Make the folders of all shares whose answer is granted so far; it no longer is where there is none."""
        durability = self._durability
        wanted = [index for index, answer in enumerate(answers) if answer.granted]
        try:
            durability.make_folders({commits[index].folder for index in wanted})
        except OSError as error:
            log.error("cannot make folders for shares: %s", error)
            for index in wanted:
                if not durability.is_durable(commits[index].folder):
                    answers[index] = durability.refusal or disk_answer(error)

    def _sync(self, commits: list[PendingCommit], answers: list[Answer]) -> None:
        """Make the content of all files durable whose answer is granted so far."""
        if self._durability.refusal is not None:
            return  # `_place` answers
        written = [index for index, answer in enumerate(answers) if answer.granted]
        faults = self._durability.sync_files([commits[index].staged.descriptor for index in written])
        for index, fault in zip(written, faults):
            if fault is not None:
                answers[index] = self._durability.refusal or disk_answer(fault)

    def _place(self, commit: PendingCommit) -> Answer:
        """Give the file its name; none after a failed fsync, even of another file."""
        durability, staged, target = self._durability, commit.staged, commit.target
        if durability.refusal is not None:
            return durability.refusal
        try:
            staged.close()  # Windows renames no open file
            self._disk.rename_new(staged.path, target)
        except FileExistsError as error:
            return disk_answer(error)
        except OSError as error:
            log.error("cannot put the share %s in its place: %s", target.name, error)
            self._remove_half_renamed(target)
            return durability.refusal or disk_answer(error)
        staged.path = target
        return GRANTED

    def _remove_half_renamed(self, target: Path) -> None:
        """A rename is a link and an unlink: it may have failed with the new name there already."""
        try:
            self._disk.remove(target)
        except OSError as error:
            log.warning("%s may be left behind: %s", target, error)

    def _sync_folders(self, folders: Iterable[Path]) -> set[Path]:
        """Sync each folder once; those that are durable."""
        durable = set()
        for folder in folders:
            try:
                self._durability.sync_folder(folder)
            except OSError:
                continue  # logged where it happened; the answer is the refusal
            durable.add(folder)
        return durable


_BROKEN = Answer(Code.FAULT, "the share could not be made durable")
