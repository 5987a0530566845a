"""Staged shares made durable, many in one round.

For each share: trailer written → file fsynced → renamed to its place, never over another; then each folder that got a
name is fsynced once. A share's answer is granted only when all of that went well; any other is dropped, wherever its
file is by then.

A failed fsync is never tried again: nothing is written after it until the worker is started anew, since a disk that
failed once has proven nothing about the next file. That holds for folders too: one that was made, but whose name could
not be made durable, looks like any other afterwards. For the same reason a folder that an earlier process made is
believed durable only after its parent was fsynced once by this one.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.protocol.messages import GRANTED, Answer, Code
from worker.disk import Disk
from worker.share_file import ShareTrailer
from worker.staging import StagedShare

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingCommit:
    """A staged share with what is to be written behind its blocks, checked, and the place it is to have."""

    staged: StagedShare
    trailer: ShareTrailer
    share_bytes: int
    target: Path


class Committer:
    """The steps of a round. `refusal` is the answer to whatever would write, once an fsync failed."""

    def __init__(self, disk: Disk, shares_folder: Path) -> None:
        self._disk = disk
        self._shares_folder = shares_folder
        self._durable: set[str] = set()  # folders below `shares/` whose names are known to be durable
        self.refusal: Optional[Answer] = None

    def run(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer. What is not granted is dropped."""
        answers = [self._write(commit) for commit in commits]
        answers = [self._place(commit) if answer.granted else answer for commit, answer in zip(commits, answers)]
        placed = {commit.target.parent for commit, answer in zip(commits, answers) if answer.granted}
        durable = self._sync_folders(placed)
        for index, commit in enumerate(commits):
            if answers[index].granted and commit.target.parent not in durable:
                answers[index] = self.refusal or _BROKEN
            if not answers[index].granted:
                commit.staged.drop()
        return answers

    def _write(self, commit: PendingCommit) -> Answer:
        """Write the trailer and make the file's content durable."""
        if self.refusal is not None:
            return self.refusal
        staged = commit.staged
        if staged.dropped:
            return Answer(Code.NOT_OPEN, "this share was given up")
        try:
            staged.finish(commit.trailer)
        except OSError as error:
            return disk_answer(error)
        try:
            self._disk.sync(staged.descriptor)
        except OSError as error:
            return self._stop("fsync failed", error)
        return GRANTED

    def _place(self, commit: PendingCommit) -> Answer:
        """Give the file its name; after a failed fsync not even one whose own went well."""
        if self.refusal is not None:
            return self.refusal
        staged, target = commit.staged, commit.target
        try:
            staged.close()  # Windows renames no open file
            self._make_folders(target.parent)
            self._disk.rename_new(staged.path, target)
        except FileExistsError as error:
            return disk_answer(error)
        except OSError as error:
            log.error("cannot put the share %s in its place: %s", target.name, error)
            self._remove_half_renamed(target)
            return self.refusal or disk_answer(error)
        staged.path = target
        return GRANTED

    def _remove_half_renamed(self, target: Path) -> None:
        """A rename is a link and an unlink: it may have failed with the new name there already."""
        try:
            self._disk.remove(target)
        except OSError as error:
            log.warning("%s may be left behind: %s", target, error)

    def _make_folders(self, folder: Path) -> None:
        """Make a folder two levels below `shares/`, its own name and its parent's durable; OSError."""
        for made in (folder.parent, folder):
            name = made.relative_to(self._shares_folder).as_posix()
            if name not in self._durable:
                self._disk.make_folder(made)
                self._sync_folder(made.parent)
                self._durable.add(name)

    def _sync_folders(self, folders: Iterable[Path]) -> set[Path]:
        """Sync each folder once; those that are durable."""
        durable = set()
        for folder in folders:
            try:
                self._sync_folder(folder)
            except OSError:
                continue  # said by _sync_folder; the answer is the refusal
            durable.add(folder)
        return durable

    def _sync_folder(self, folder: Path) -> None:
        try:
            self._disk.sync_folder(folder)
        except OSError as error:
            self._stop("fsync of a folder failed", error)
            raise

    def _stop(self, what: str, error: OSError) -> Answer:
        self.refusal = Answer(Code.READ_ONLY, f"the store is read-only: {what}: {_reason(error)}")
        log.error("%s; it takes no more shares until the worker is started anew", self.refusal.text)
        return self.refusal


_BROKEN = Answer(Code.FAULT, "the share could not be made durable")


def disk_answer(error: OSError) -> Answer:
    """What to answer where the operating system refuses to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Answer(Code.NO_ROOM, "the disk is full")
    return Answer(Code.FAULT, f"the disk refuses: {_reason(error)}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "no reason given"
