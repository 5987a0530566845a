"""The shares on this device: kept as one file each, and promised only once they are durable.

    <store>/staging/…            shares being stored; emptied when a worker starts
    <store>/shares/ab/cd/…       committed shares: <encoding id in hex>.<share in hex>
    <store>/device.key …         this device's identity, see `registration`
    <store>/store.lock           held by the worker, so that no second one works on the same store

A commit is: trailer written, file fsynced, renamed to its place (never over another), the folders fsynced, and only
then acknowledged. Many commits go through these steps together (`commit_round`). A failed fsync is never tried
again: the file is dropped and the store takes nothing more until the worker is started anew, since a disk that
failed once has proven nothing about the next file."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError
from common.files import lock, make_folder
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import GRANTED, AnnouncedShare, Answer, Code, Commitment, Open
from common.recipe import decode_recipe
from worker.disk import Disk
from worker.reading import OpenShare, OpenShares
from worker.share_file import ShareTrailer
from worker.staging import StagedShare, remove_abandoned

log = logging.getLogger(__name__)

_MAX_RESERVE = 1 << 30  # bytes of the disk that are left free, or 5 % where that is less
_OVERHEAD = 64 * 1024  # bytes beside the blocks that a share may take: header, records, mapping
_ABANDONED_AFTER = 15 * 60.0  # seconds
_FILE_NAME = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{2})")
ShareKey = tuple[bytes, int]  # encoding id, share


class DeclineError(Exception):
    """An operation that the store does not carry out, with the answer that says why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(code, text)


@dataclass(frozen=True)
class PendingCommit:
    """A staged share with what is to be written behind its blocks, checked."""

    staged: StagedShare
    trailer: ShareTrailer
    share_bytes: int


class ShareStore:
    def __init__(self, folder: Path, capacity: Optional[int] = None, disk: Optional[Disk] = None) -> None:
        """Open the store and read what it holds; UsageError where another worker has it open.

        `capacity`: bytes that shares may take; None for all that the disk has but a reserve.
        """
        self.folder = folder
        self._capacity = capacity
        self._disk = disk or Disk()
        self._shares_folder = folder / "shares"
        self._staging_folder = folder / "staging"
        make_folder(folder)
        self._lock = lock(folder / "store.lock")
        for part in (self._shares_folder, self._staging_folder):
            self._disk.make_folder(part)
        remove_abandoned(self._staging_folder)
        self._staged: dict[ShareKey, StagedShare] = {}
        self._reading = OpenShares(self._disk)
        self._read_only: Optional[str] = None
        self._used = 0
        self._held: dict[ShareKey, AnnouncedShare] = {}
        self._scan()

    # --- what is here

    def held(self) -> Mapping[ShareKey, AnnouncedShare]:
        """All committed shares, the damaged ones marked."""
        return self._held

    @property
    def used_bytes(self) -> int:
        return self._used

    def capacity_bytes(self) -> int:
        return self._used + self.free_bytes()

    def free_bytes(self) -> int:
        """Room for further shares; 0 where the store takes none."""
        if self._read_only is not None:
            return 0
        free, total = self._disk.free_bytes(self.folder)
        room = free - min(_MAX_RESERVE, total // 20)
        if self._capacity is not None:
            room = min(room, self._capacity - self._used)
        promised = sum(max(0, staged.expected_bytes - staged.size) for staged in self._staged.values())
        return max(0, room - promised)

    def _scan(self) -> None:
        for path in sorted(self._shares_folder.glob("*/*/*")):
            match = _FILE_NAME.fullmatch(path.name)
            if match is None:
                continue
            key = (bytes.fromhex(match[1]), int(match[2], 16))
            try:
                opened = OpenShare(self._disk, path, *key)
            except (IntegrityError, OSError) as error:
                log.warning("the share in %s is damaged: %s", path, error)
                self._held[key] = AnnouncedShare(key[0], key[1], None, NO_OWNER, 1, 1, 0, sound=False)
                continue
            self._hold(opened)
            opened.close()

    def _hold(self, opened: OpenShare) -> None:
        header, trailer = opened.information.header, opened.information.trailer
        key = (header.encoding_id, header.share)
        self._held[key] = AnnouncedShare(
            *key,
            trailer.object_id,
            trailer.owner,
            header.k,
            header.n,
            opened.information.recipe.share_bytes,
        )
        self._used += opened.size

    # --- storing

    def open(self, request: Open, owner: bytes, now: float) -> None:
        """Begin to store a share. Saying so again is harmless."""
        key = (request.encoding_id, request.share)
        if key in self._held:
            raise DeclineError(Code.CONFLICT, "this share is stored already")
        if request.share >= request.n or request.k > request.n:
            raise DeclineError(Code.MALFORMED, "no such share")
        staged = self._staged.get(key)
        if staged is not None:
            same = (staged.owner, staged.k, staged.n, staged.block_size)
            if same != (owner, request.k, request.n, request.block_size):
                raise DeclineError(Code.CONFLICT, "this share is being stored otherwise")
            return
        self._require_room(request.share_bytes)
        path = self._staging_folder / _file_name(key)
        with _disk_faults():
            self._staged[key] = StagedShare(
                self._disk,
                path,
                request.encoding_id,
                request.share,
                request.k,
                request.n,
                request.block_size,
                owner,
                request.share_bytes + _OVERHEAD,
                now,
            )

    def append(self, key: ShareKey, owner: bytes, segment: int, digest: bytes, block: memoryview, now: float) -> None:
        """Append a block that was checked against its digest. The same block again is harmless."""
        staged = self._staged_share(key, owner)
        staged.touched = now
        there = staged.blocks.get(segment)
        if there is not None:
            if there.digest != digest:
                raise DeclineError(Code.CONFLICT, f"another block of segment {segment} came before")
            return
        if block.nbytes > staged.block_size:
            raise DeclineError(Code.MALFORMED, "the block is larger than the share's blocks")
        if staged.size + block.nbytes > staged.expected_bytes:
            self._require_room(block.nbytes)
        with _disk_faults():
            staged.append(segment, digest, block)

    def prepare_commit(self, key: ShareKey, owner: bytes, commitment: Commitment) -> Optional[PendingCommit]:
        """Check what is to be committed; None where it was committed before, for the same owner."""
        held = self._held.get(key)
        if held is not None:
            if held.owner != owner:
                raise DeclineError(Code.CONFLICT, "this share is stored already")
            return None
        staged = self._staged_share(key, owner)
        try:
            recipe = decode_recipe(commitment.recipe)
            offsets = staged.offsets(recipe)
        except IntegrityError as error:
            raise DeclineError(Code.CONFLICT, str(error)) from None
        trailer = ShareTrailer(
            commitment.object_id,
            owner,
            commitment.recipe,
            commitment.mapping,
            commitment.delete_hash,
            offsets,
        )
        return PendingCommit(staged, trailer, recipe.share_bytes)

    def commit_round(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer, granted only once it cannot be lost any more."""
        answers = [self._finish(commit) for commit in commits]
        placed: list[Optional[Path]] = [
            self._rename(commit) if answer.granted else None for commit, answer in zip(commits, answers)
        ]
        failed = self._sync_folders({path.parent for path in placed if path is not None})
        for index, (commit, path) in enumerate(zip(commits, placed)):
            if path is not None and path.parent not in failed:
                self._acknowledge(commit)
            elif answers[index].granted:
                answers[index] = Answer(Code.FAULT, "the share could not be put in its place")
        return answers

    def committed(self, key: ShareKey, owner: bytes) -> bool:
        """Whether this owner's share is durable here."""
        held = self._held.get(key)
        return held is not None and held.sound and held.owner == owner

    def _finish(self, commit: PendingCommit) -> Answer:
        """Write the trailer and make the file's content durable."""
        if self._read_only is not None:
            return Answer(Code.READ_ONLY, self._read_only)
        staged = commit.staged
        try:
            staged.finish(commit.trailer)
        except OSError as error:
            self.abandon((staged.encoding_id, staged.share), staged.owner)
            return _disk_answer(error)
        try:
            self._disk.sync(staged.descriptor)
        except OSError as error:
            self._stop_writing(f"fsync failed: {error.strerror}")
            self.abandon((staged.encoding_id, staged.share), staged.owner)
            return Answer(Code.READ_ONLY, self._read_only or "")
        return GRANTED

    def _rename(self, commit: PendingCommit) -> Optional[Path]:
        staged = commit.staged
        key = (staged.encoding_id, staged.share)
        target = self._path(key)
        staged.close()  # Windows renames no open file
        try:
            if self._disk.make_folder(target.parent):
                self._disk.sync_folder(target.parent.parent)
                self._disk.sync_folder(self._shares_folder)
            self._disk.rename_new(staged.path, target)
        except OSError as error:
            log.error("cannot put the share %s in its place: %s", target.name, error)
            self.abandon(key, staged.owner)
            return None
        return target

    def _sync_folders(self, folders: set[Path]) -> set[Path]:
        """Sync each folder once; those that failed."""
        failed = set()
        for folder in folders:
            try:
                self._disk.sync_folder(folder)
            except OSError as error:
                self._stop_writing(f"fsync of a folder failed: {error.strerror}")
                failed.add(folder)
        return failed

    def _acknowledge(self, commit: PendingCommit) -> None:
        staged, trailer = commit.staged, commit.trailer
        key = (staged.encoding_id, staged.share)
        self._held[key] = AnnouncedShare(*key, trailer.object_id, staged.owner, staged.k, staged.n, commit.share_bytes)
        self._used += staged.size
        self._staged.pop(key, None)

    def abandon(self, key: ShareKey, owner: bytes) -> None:
        """Give up a share that is being stored; harmless where there is none."""
        staged = self._staged.get(key)
        if staged is not None and staged.owner == owner:
            del self._staged[key]
            staged.drop()

    def expire(self, now: float) -> None:
        """Drop what nobody has continued for a quarter of an hour."""
        for key, staged in list(self._staged.items()):
            if now - staged.touched > _ABANDONED_AFTER:
                log.warning("dropped a share that nobody continued to store")
                self.abandon(key, staged.owner)

    # --- reading

    def share(self, key: ShareKey, owner: bytes) -> OpenShare:
        """A committed share of this owner; DeclineError(DAMAGED) where its file is not what was stored."""
        held = self._held.get(key)
        if held is None or (held.owner != owner and held.sound):
            raise DeclineError(Code.NOT_FOUND, "no such share here")
        try:
            opened = self._reading.get(self._path(key), *key)
        except (IntegrityError, OSError) as error:
            log.warning("the share %s is damaged: %s", _file_name(key), error)
            raise DeclineError(Code.DAMAGED, f"the share is damaged: {error}"[:500]) from None
        if opened.information.trailer.owner != owner:
            raise DeclineError(Code.NOT_FOUND, "no such share here")
        return opened

    def block(self, key: ShareKey, owner: bytes, segment: int) -> bytes:
        """One block, of a committed share or of one being stored, checked."""
        staged = self._staged.get(key)
        try:
            if staged is not None and staged.owner == owner:
                return staged.read(segment)
            return self.share(key, owner).block(segment)
        except KeyError:
            raise DeclineError(Code.NOT_FOUND, f"no block of segment {segment} here") from None
        except (IntegrityError, OSError) as error:
            log.warning("share %s: %s", _file_name(key), error)
            raise DeclineError(Code.DAMAGED, str(error)[:500]) from None

    def close(self) -> None:
        for staged in self._staged.values():
            staged.drop()
        self._staged.clear()
        self._reading.close()
        self._lock.close()

    # --- inside

    def _staged_share(self, key: ShareKey, owner: bytes) -> StagedShare:
        staged = self._staged.get(key)
        if staged is None or staged.owner != owner:
            raise DeclineError(Code.NOT_OPEN, "this share is not being stored here")
        return staged

    def _require_room(self, size: int) -> None:
        if self._read_only is not None:
            raise DeclineError(Code.READ_ONLY, self._read_only)
        if self.free_bytes() < size + _OVERHEAD:
            raise DeclineError(Code.NO_ROOM, "the store is full")

    def _stop_writing(self, why: str) -> None:
        self._read_only = f"the store is read-only: {why}"
        log.error("%s; it takes no more shares until the worker is started anew", self._read_only)

    def _path(self, key: ShareKey) -> Path:
        name = _file_name(key)
        return self._shares_folder / name[:2] / name[2:4] / name


def _file_name(key: ShareKey) -> str:
    return f"{key[0].hex()}.{key[1]:02x}"


def _disk_answer(error: OSError) -> Answer:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Answer(Code.NO_ROOM, "the disk is full")
    return Answer(Code.FAULT, f"the disk refuses: {os.strerror(error.errno or 0)}")


@contextlib.contextmanager
def _disk_faults() -> Iterator[None]:
    """Turns what the operating system refuses into an answer."""
    try:
        yield
    except OSError as error:
        answer = _disk_answer(error)
        raise DeclineError(answer.code, answer.text) from None
