"""Makes files and names durable, and ends all writing once an fsync failed.

A failed fsync is never tried again: nothing is written after it until the worker is started anew, since the next file
may fare no better. That holds for folders too: one that was made, but whose name could not be made durable, looks like
any other afterwards. For the same reason a folder that an earlier process made counts as durable only after this one
has fsynced its parent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Optional

from common.protocol.messages import Answer, Code
from worker.disk import Disk
from worker.format_version import UnknownVersionError
from worker.refusals import Refusal, disk_answer, reason

log = logging.getLogger(__name__)


class Durability:
    """`refusal` is the answer to whatever would write, once an fsync failed. Methods raise OSError as the disk does."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._durable = {folder}  # folders whose names are known to be durable
        self.refusal: Optional[Answer] = None

    def require_writable(self) -> None:
        """Refusal once an fsync failed."""
        if self.refusal is not None:
            raise Refusal(self.refusal.code, self.refusal.text)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Raise the block's OSErrors, and UnknownVersionErrors, as Refusal."""
        try:
            yield
        except (OSError, UnknownVersionError) as error:
            answer = self.refusal or disk_answer(error)
            raise Refusal(answer.code, answer.text) from None

    def prepare(self, folder: Path, parts: tuple[Path, ...]) -> None:
        """Make the folders that lie directly in the store's, all their names durable."""
        for part in parts:
            self._disk.make_folder(part)
        self._disk.sync_folder(folder)
        self._durable |= set(parts)

    def serve_only(self, why: str) -> None:
        """Refuse whatever would write, from the start: the store can be read and no more."""
        self.refusal = Answer(Code.READ_ONLY, f"the store is read-only: {why}")
        log.warning("%s; shares are served, and none are taken", self.refusal.text)

    def is_durable(self, folder: Path) -> bool:
        """Whether a folder was made, and its name is known to be durable."""
        return folder in self._durable

    def make_folders(self, folders: Iterable[Path]) -> None:
        """Make folders below the store's, their own names and their parents' durable; each parent is fsynced once."""
        missing = [folder for folder in folders if folder not in self._durable]
        if not missing:
            return
        parents: dict[Path, list[Path]] = {}
        for folder in missing:
            parents.setdefault(folder.parent, []).append(folder)
        self.make_folders(parents)
        for folder in missing:
            self._disk.make_folder(folder)
        for parent, made in parents.items():
            self.sync_folder(parent)
            self._durable.update(made)

    def sync_file(self, descriptor: int) -> None:
        """Make a file's content durable; after an OSError the file is to be dropped."""
        try:
            self._disk.sync(descriptor)
        except OSError as error:
            self._stop("fsync failed", error)
            raise

    def sync_files(self, descriptors: Sequence[int]) -> list[Optional[OSError]]:
        """Make the content of several files durable; for each why not. A file with an OSError is to be dropped."""
        faults = self._disk.sync_all(descriptors)
        for fault in faults:
            if fault is not None:
                self._stop("fsync failed", fault)
        return faults

    def sync_folder(self, folder: Path) -> None:
        try:
            self._disk.sync_folder(folder)
        except OSError as error:
            self._stop("fsync of a folder failed", error)
            raise

    def _stop(self, what: str, error: OSError) -> None:
        self.refusal = Answer(Code.READ_ONLY, f"the store is read-only: {what}: {reason(error)}")
        log.error("%s; it takes no more shares until the worker is started anew", self.refusal.text)
