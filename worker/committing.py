"""Staged shares made durable, many in one round.

For each share: trailer written → file fsynced → renamed to its place, never over another; then each folder that got a
name is fsynced once. A share's answer is granted only when all of that went well; any other is dropped, wherever its
file is by then. After a failed fsync nothing more is written, see `durability`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.protocol.messages import GRANTED, Answer, Code
from worker.declining import disk_answer
from worker.disk import Disk
from worker.durability import Durability
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
    """The steps of a round."""

    def __init__(self, disk: Disk, durability: Durability) -> None:
        self._disk = disk
        self._durability = durability

    def run(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer. What is not granted is dropped."""
        answers = [self._write(commit) for commit in commits]
        answers = [self._place(commit) if answer.granted else answer for commit, answer in zip(commits, answers)]
        placed = {commit.target.parent for commit, answer in zip(commits, answers) if answer.granted}
        durable = self._sync_folders(placed)
        for index, commit in enumerate(commits):
            if answers[index].granted and commit.target.parent not in durable:
                answers[index] = self._durability.refusal or _BROKEN
            if not answers[index].granted:
                commit.staged.drop()
        return answers

    def _write(self, commit: PendingCommit) -> Answer:
        """Write the trailer and make the file's content durable."""
        durability, staged = self._durability, commit.staged
        if durability.refusal is not None:
            return durability.refusal
        if staged.dropped:
            return Answer(Code.NOT_OPEN, "this share was given up")
        try:
            staged.finish(commit.trailer)
            durability.sync_file(staged.descriptor)
        except OSError as error:
            return durability.refusal or disk_answer(error)
        return GRANTED

    def _place(self, commit: PendingCommit) -> Answer:
        """Give the file its name; after a failed fsync not even one whose own went well."""
        durability, staged, target = self._durability, commit.staged, commit.target
        if durability.refusal is not None:
            return durability.refusal
        try:
            staged.close()  # Windows renames no open file
            durability.make_folders(target.parent)
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
                continue  # said where it happened; the answer is the refusal
            durable.add(folder)
        return durable


_BROKEN = Answer(Code.FAULT, "the share could not be made durable")
