"""Makes names and small files durable, and ends all writing once an fsync failed.

A failed fsync is never tried again: nothing is written after it until the worker is started anew, since the next file
may fare no better. That holds for folders too: one that was made, but whose name could not be made durable, looks like
any other afterwards. For the same reason a folder that an earlier process made counts as durable only after this one
has fsynced its parent.

A file is moved by one rename; then its new folder is fsynced, and then the old one: a power cut in
between may leave both names, and never none.
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

    def serve_only(self) -> None:
        """Refuse whatever would write, from the start: the store can be read and no more."""
        self.refusal = Answer(Code.READ_ONLY, "the store is read-only: its disk, or its permissions, take nothing")
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

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file, replacing the target; not durable before `sync_names`."""
        self.make_folders([target.parent])
        self._disk.rename_over(source, target)

    def sync_names(self, target: Path, source: Path) -> None:
        """Make a rename durable: the new name first, since until then a power cut might leave none."""
        self.sync_folder(target.parent)
        self.sync_folder(source.parent)

    def move_new(self, source: Path, target: Path) -> None:
        """Move a file to a name that nothing has, durably; FileExistsError where something has it.

        For a way on which files go in the other direction too. The start fsyncs folders in an order that suits one
        direction, so the new name is durable here before the old one goes.
        """
        self.make_folders([target.parent])
        try:
            self._disk.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # no hard links here (exFAT, some network shares): one step, and journaled where they are
            self._disk.rename_new(source, target)
        self.sync_folder(target.parent)
        self._disk.remove(source)
        self.sync_folder(source.parent)

    def write(self, target: Path, content: bytes) -> None:
        """Write a whole small file, so that after a crash it is the old one or the new one."""
        temporary = target.with_name(target.name + NEW)
        self._disk.remove(temporary)  # of an earlier try, whose fsync may have failed
        try:
            self._write_new(temporary, content)
            self._disk.rename_over(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):  # the next try removes it
                self._disk.remove(temporary)
            raise
        self.sync_folder(target.parent)

    def _write_new(self, path: Path, content: bytes) -> None:
        descriptor = self._disk.create(path)
        try:
            self._disk.append(descriptor, content)
            self.sync_file(descriptor)
        finally:
            self._disk.close(descriptor)

    def _stop(self, what: str, error: OSError) -> None:
        self.refusal = Answer(Code.READ_ONLY, f"the store is read-only: {what}: {reason(error)}")
        log.error("%s; it takes no more shares until the worker is started anew", self.refusal.text)


NEW = ".new"  # behind the name of a small file that is being written
