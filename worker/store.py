"""The shares on this device: kept as one file each, and promised only once they are durable.

    <store>/staging/…            shares being stored; emptied when a worker starts
    <store>/shares/ab/cd/…       committed shares: <encoding id in hex>.<share in hex>
    <store>/device.key …         this device's identity, see `registration`
    <store>/store.lock           held by the worker, so that no second one works on the same store

This keeps the books: who stores what, what is held, how much room there is. How a share becomes durable is in
`committing`, how it is read in `reading`. No fault of the disk leaves this module as an OSError once the store is
open: each becomes the answer to what was asked, and the worker goes on.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from common.errors import IntegrityError, UsageError
from common.files import lock, make_folder
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import AnnouncedShare, Answer, Code, Commitment, Open
from common.recipe import decode_recipe
from worker.committing import Committer, PendingCommit, disk_answer
from worker.disk import Disk
from worker.reading import OpenShare, OpenShares
from worker.share_file import ShareTrailer
from worker.staging import StagedShare, remove_abandoned

log = logging.getLogger(__name__)

_MAX_RESERVE = 1 << 30  # bytes of the disk that are left free, or 5 % where that is less
_OVERHEAD = 64 * 1024  # bytes beside the blocks that a share may take: header, records, mapping
_ABANDONED_AFTER = 15 * 60.0  # seconds
_MAX_STAGED = 512  # each has a file open, and a process may often have no more than 1024
_FILE_NAME = re.compile(r"([0-9a-f]{32})\.([0-3][0-9a-f])")
ShareKey = tuple[bytes, int]  # encoding id, share


class DeclineError(Exception):
    """An operation that the store does not carry out, with the answer that says why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(code, text)


class ShareStore:
    def __init__(self, folder: Path, capacity: Optional[int] = None, disk: Optional[Disk] = None) -> None:
        """Open the store and read what it holds; UsageError where another worker has it open, or the disk refuses.

        `capacity`: bytes that shares may take; None for all that the disk has but a reserve.
        """
        self.folder = folder
        self._capacity = capacity
        self._disk = disk or Disk()
        self._shares_folder = folder / "shares"
        self._staging_folder = folder / "staging"
        self._staged: dict[ShareKey, StagedShare] = {}
        self._reading = OpenShares(self._disk)
        self._committing = Committer(self._disk, self._shares_folder)
        self._used = 0
        self._held: dict[ShareKey, AnnouncedShare] = {}
        with contextlib.ExitStack() as undo:
            try:
                make_folder(folder)
                self._lock = undo.enter_context(lock(folder / "store.lock"))
                self._prepare_folders()
                self._scan()
            except OSError as error:
                raise UsageError(f"{folder} cannot keep shares: {error.strerror}") from None
            undo.pop_all()

    def _prepare_folders(self) -> None:
        for part in (self._shares_folder, self._staging_folder):
            self._disk.make_folder(part)
        self._disk.sync_folder(self.folder)
        remove_abandoned(self._disk, self._staging_folder)

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
        if self._committing.refusal is not None:
            return 0
        try:
            free, total = self._disk.free_bytes(self.folder)
        except OSError as error:
            log.error("cannot tell how much room %s has: %s", self.folder, error)
            return 0
        written = sum(staged.size for staged in self._staged.values())
        promised = sum(max(staged.size, staged.expected_bytes) for staged in self._staged.values())
        room = free - min(_MAX_RESERVE, total // 20) + written  # `free` is already without what was written
        if self._capacity is not None:
            room = min(room, self._capacity - self._used)
        return max(0, room - promised)

    def _scan(self) -> None:
        for path in sorted(self._shares_folder.glob("*/*/*")):
            match = _FILE_NAME.fullmatch(path.name)
            if match is None:
                continue
            key = (bytes.fromhex(match[1]), int(match[2], 16))
            if path != self._path(key):
                log.warning("%s is not in its place; it is left alone", path)
                continue
            try:
                opened = OpenShare(self._disk, path, *key)
            except (IntegrityError, OSError) as error:
                log.warning("the share in %s is damaged: %s", path, error)
                self._held[key] = AnnouncedShare(key[0], key[1], None, NO_OWNER, 1, 1, 0, sound=False)
                self._used += path.lstat().st_size  # it takes its room all the same
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

    def require_places(self, count: int) -> None:
        """DeclineError(BUSY) where so many more shares cannot be stored at once."""
        if len(self._staged) + count > _MAX_STAGED:
            raise DeclineError(Code.BUSY, "too many shares are being stored at once")

    def open(self, request: Open, owner: bytes, now: float) -> bool:
        """Begin to store a share; False where it was begun before. Saying so again is harmless."""
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
            return False
        self.require_places(1)
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
        return True

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
            try:
                staged.append(segment, digest, block)
            finally:
                if staged.dropped:
                    del self._staged[key]

    def prepare_commit(self, key: ShareKey, owner: bytes, commitment: Commitment) -> Optional[PendingCommit]:
        """Check what is to be committed; None where the very same was committed before, for the same owner."""
        if key in self._held:
            self._require_same(key, owner, commitment)
            return None
        staged = self._staged_share(key, owner)
        try:
            recipe = decode_recipe(commitment.recipe)
            offsets = staged.offsets(recipe)
        except IntegrityError as error:
            raise DeclineError(Code.CONFLICT, str(error)) from None
        ending_bytes = len(commitment.recipe) + len(commitment.mapping) + 16 * len(offsets)
        if staged.size + ending_bytes > staged.expected_bytes:
            self._require_room(ending_bytes)
        trailer = ShareTrailer(
            commitment.object_id,
            owner,
            commitment.recipe,
            commitment.mapping,
            commitment.delete_hash,
            offsets,
        )
        return PendingCommit(staged, trailer, recipe.share_bytes, self._path(key))

    def _require_same(self, key: ShareKey, owner: bytes, commitment: Commitment) -> None:
        """A share that is held is acknowledged again only if it is still whole, and what was just said."""
        if self._held[key].owner != owner:
            raise DeclineError(Code.CONFLICT, "this share is stored already")
        trailer = self.share(key, owner).information.trailer
        stored = Commitment(trailer.object_id, trailer.recipe, trailer.mapping, trailer.delete_hash)
        if stored != commitment:
            raise DeclineError(Code.CONFLICT, "this share was committed otherwise")

    def commit_round(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer, granted only once it cannot be lost any more."""
        answers = self._committing.run(commits)
        for commit, answer in zip(commits, answers):
            staged = commit.staged
            key = (staged.encoding_id, staged.share)
            if self._staged.get(key) is staged:
                del self._staged[key]
            if answer.granted:
                self._held[key] = AnnouncedShare(
                    *key, commit.trailer.object_id, staged.owner, staged.k, staged.n, commit.share_bytes
                )
                self._used += staged.size
        return answers

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
        self._require_writable()
        if staged is None or staged.owner != owner:
            raise DeclineError(Code.NOT_OPEN, "this share is not being stored here")
        return staged

    def _require_room(self, size: int) -> None:
        self._require_writable()
        if self.free_bytes() < size + _OVERHEAD:
            raise DeclineError(Code.NO_ROOM, "the store is full")

    def _require_writable(self) -> None:
        refusal = self._committing.refusal
        if refusal is not None:
            raise DeclineError(refusal.code, refusal.text)

    def _path(self, key: ShareKey) -> Path:
        name = _file_name(key)
        return self._shares_folder / name[:2] / name[2:4] / name


def _file_name(key: ShareKey) -> str:
    return f"{key[0].hex()}.{key[1]:02x}"


@contextlib.contextmanager
def _disk_faults() -> Iterator[None]:
    """Turns what the operating system refuses into an answer."""
    try:
        yield
    except OSError as error:
        answer = disk_answer(error)
        raise DeclineError(answer.code, answer.text) from None
