"""The shares on this device, acknowledged only once they are durable.

Decides who may store, read, delete what, and when; the work is done by `packs` and `index` (where shares lie, and in
which state), `recovery` (what both say at the start), `staging`, `committing`, `reading`, `amending`, `deleting`,
`removing`, `compaction`, `reserve`, `scrub` and `capacity`. Once the store is open every OSError becomes the answer to
a request, and the worker goes on.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional, TypeVar

import msgspec

from common.coding.commitments import CommitmentVerifier, leaf_of
from common.coding.recipe import decode_recipe, digest
from common.errors import IntegrityError, TesseraError, UsageError, cannot_write
from common.protocol.device_messages import Open, SegmentRange, ShareName, SignedCommitment, WholeShare
from common.protocol.identifiers import NO_ACCOUNT, NO_OWNER
from common.protocol.messages import (
    TOMBSTONE_LIFETIME,
    AnnouncedShare,
    Answer,
    Code,
    Emptied,
    EmptiedPart,
    EmptyTrash,
    ToldTombstone,
    Tombstone,
)
from worker.amending import Amending, HeldCommitment
from worker.approving import Approving
from worker.capacity import Capacity, OwnerQuota, Quota
from worker.clock import Clock
from worker.committing import Committer, PendingCommit
from worker.compaction import Compaction
from worker.deleting import Deletion
from worker.disk import Disk
from worker.durability import Durability
from worker.format_version import UnknownVersionError
from worker.index import Changes, Index, Numbering
from worker.layout import Layout, ShareKey, file_name
from worker.packs import Packs
from worker.reading import OpenShare, Shares, is_damage, is_lasting
from worker.recovery import Recovery
from worker.refusals import Refusal, disk_answer
from worker.removing import Remover
from worker.reserve import Reserve
from worker.scrub import SCRUB_EVERY, Scrub
from worker.share_file import ShareTrailer, mapping_for, size_of
from worker.share_states import HERE, KeptShare, State, announced
from worker.staging import OVERHEAD, Payer, StagedShare, StagedShares

log = logging.getLogger(__name__)

T = TypeVar("T")
_EARLIER_FOLDERS = ("quarantine", "trash", "tombstones", "amendments")
_PURGE_EVERY = 300.0  # seconds


class ShareStore:
    """`now` is monotonic seconds."""

    def __init__(
        self,
        folder: Path,
        capacity: Optional[int] = None,
        disk: Optional[Disk] = None,
        clock: Optional[Clock] = None,
        scrub_every: float = SCRUB_EVERY,
        owner_quota: Optional[OwnerQuota] = None,
        hold: float = 0.0,
    ) -> None:
        """Open the store and read what it holds; UsageError where another worker has it open.

        NoRoomError where the disk refuses, UsageError where no store can have this path.

        `capacity`: bytes that shares may take; None for all that the disk has but a reserve. `scrub_every`: seconds in
        which all shares are read once. `owner_quota`: what one member's shares may take; None for any number.
        `hold`: seconds for which what was deleted stays in the trash, whatever its owner signed.
        """
        self.folder = folder
        self._disk = disk = disk or Disk()
        self._clock = clock or Clock()
        self._layout = layout = Layout(folder)
        self._durability = durability = Durability(disk, folder)
        self._index = index = Index(disk, layout)
        self._packs = packs = Packs(disk, layout, durability)
        self._shares = shares = Shares(disk, layout, packs)
        self._staged = StagedShares(disk, layout)
        self._remover = Remover(disk, layout, durability, packs, index, self._release)
        self._committing = Committer(disk, layout, durability, packs, index, self._remover)
        self.hold = int(hold)
        self._deletion = Deletion(durability, packs, index, shares, self._remover, self.hold)
        self.approving = Approving(durability, packs, index, self._deletion, self._clock, self.hold)
        self._reserve = Reserve(disk, layout)
        self._capacity = Capacity(disk, folder, capacity, durability, index, self._remover, self._staged)
        self._quota = Quota(index, self._staged, self._capacity, owner_quota)
        self._amending = Amending(
            durability,
            packs,
            index,
            shares,
            self._deletion,
            self._capacity,
            self._opened,
            self._release,
            self.hold,
        )
        self._recovery = Recovery(disk, layout, durability, packs, index, shares)
        again = self._recovery.look_again
        self.scrub = Scrub(index, shares, self._clock, scrub_every, self._found_bad, self._found_good, again)
        self.compaction = Compaction(durability, packs, index, self._release)
        self._verifier = CommitmentVerifier()
        self._purge_at = self._clock.monotonic()
        with contextlib.ExitStack() as undo:
            try:
                disk.make_folder(folder)
                self._require_this_layout()
                self._lock = undo.enter_context(disk.lock(layout.lock))
                if disk.writable(folder):
                    durability.prepare(folder, layout.folders)
                else:
                    durability.serve_only("its disk, or its permissions, take nothing")
                self._require_one_file_system()
                self._load()
            except OSError as error:
                index.close()
                raise _unusable(folder, error) from None
            undo.pop_all()

    def _require_this_layout(self) -> None:
        """UsageError where a worker kept each share as a file: none of them would be found."""
        earlier = [name for name in _EARLIER_FOLDERS if self._disk.exists(self.folder / name)]
        if earlier:
            raise UsageError(
                f"{self.folder} was written by an earlier version of the worker: it has a folder {earlier[0]}",
                advice="keep it for that version, and give this one another folder with --store",
            )

    def _require_one_file_system(self) -> None:
        """UsageError where a file cannot be renamed on its way: no large share could be committed."""
        staging, shares = self._layout.staging, self._layout.shares
        if self._disk.file_system(staging) != self._disk.file_system(shares):
            raise UsageError(
                f"{staging} and {shares} are on two file systems, and files move between them",
                advice="put the whole store on one, with a link or a mount to its uppermost folder",
            )

    def _load(self) -> None:
        """Learn what is here, and recover what the last worker did not finish."""
        self._packs.load()
        self._index.rebuild = lambda: self._recovery.catch_up(made_anew=True)
        try:
            self._catch_up(in_memory=self._durability.refusal is not None)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            log.warning("the disk is full: until the next start the index is in memory")
            self._catch_up(in_memory=True)

    def _catch_up(self, *, in_memory: bool) -> None:
        there = self._index.open(in_memory=in_memory)
        try:
            self._recovery.catch_up(made_anew=not there)
            self._take_up()
        except Refusal:  # it is damaged
            self._index.make_anew()
            self._take_up()

    def _take_up(self) -> None:
        """Go on with what the last worker did not finish."""
        self._staged.recover(self._wanted, self._clock.unix(), self._clock.monotonic())
        for staged in self._staged:
            staged.payer = self.payer(staged.owner)
        self.scrub.load()
        for kept in self._index.in_state(State.DAMAGED):
            self.scrub.ask(kept.key)  # it may have been good all the time
        self._index.changes()  # everything is announced when this worker registers

    def _wanted(self, staged: StagedShare) -> bool:
        """Whether a share whose storing was interrupted may be resumed."""
        kept = self._index.held(staged.key)
        if kept is not None and kept.sound:
            return False
        return not self._deletion.has_deleted(staged.key[0], staged.owner)

    # --- what is here

    def count(self) -> int:
        """How many shares are held, the damaged ones too."""
        return self._index.count(*HERE)

    def pages(self) -> Iterator[list[AnnouncedShare]]:
        """All held shares, some at a time, the damaged ones marked."""
        return self._index.pages()

    def held(self, keys: Iterable[ShareKey]) -> dict[ShareKey, AnnouncedShare]:
        """Those of these shares that are held, the damaged ones marked."""
        found = ((key, self._index.held(key)) for key in keys)
        return {key: kept.announced for key, kept in found if kept is not None}

    def holds(self, key: ShareKey, owner: bytes) -> bool:
        """Whether a share of this owner is committed here, and nothing bad was found of it."""
        kept = self._index.held(key)
        return kept is not None and kept.is_held_by(owner)

    def tombstones(self) -> Iterator[Tombstone]:
        """All deletions that are known here, those that were taken back too."""
        return (placed.kept.tombstone for page in self._index.all_tombstones() for placed in page)

    def told(self, tombstone: Tombstone) -> Optional[ToldTombstone]:
        """What this device says of a deletion, with what is left of its time; None where it has forgotten it."""
        placed = self._index.tombstone(tombstone.encoding_id, tombstone.owner)
        if placed is None:
            return None
        kept, unix = placed.kept, int(self._clock.unix())
        trash_left = kept.trash_until - unix if kept.tombstone.deleted else 0
        return ToldTombstone(
            kept.tombstone,
            min(max(0, trash_left), kept.tombstone.trash_seconds),
            min(max(0, kept.ends - unix), TOMBSTONE_LIFETIME),
        )

    @property
    def numbering(self) -> Numbering:
        """How far what is announced was numbered, and a digest of all of it."""
        return Numbering(self._index.epoch, self._index.sequence, self._index.digest)

    def since(self, sequence: int) -> Optional[tuple[list[ShareName], Iterator[list[AnnouncedShare]]]]:
        """What was withdrawn and what is announced since a change; None where that is not known any more."""
        return self._index.since(sequence)

    def changes(self) -> Changes:
        """What is to be announced to every broker since the last call."""
        return self._index.changes()

    @property
    def used_bytes(self) -> int:
        return self._capacity.used_bytes

    def capacity_bytes(self) -> int:
        return self._capacity.used_bytes - self._capacity.surplus_bytes + self._capacity.free_bytes()

    def free_bytes(self) -> int:
        """Room for further shares; 0 where the store takes none."""
        return self._capacity.free_bytes()

    @property
    def held_for(self) -> int:
        """Seconds until all that was deleted or replaced here is held no more."""
        latest = self._index.last_superseded()
        if self._index.count(State.DELETED):
            latest = max(latest, self._deletion.latest)
        return max(0, int(latest + self.hold - self._clock.unix()))

    # --- storing

    def payer(self, owner: bytes, account: bytes = NO_ACCOUNT, members: int = 0) -> Payer:
        """Whom it counts for what is stored for an owner; `account`, where the broker said that."""
        return Payer(self._index.account_of(owner)) if account == NO_ACCOUNT else Payer(account, members)

    def over(self) -> list[bytes]:
        """Accounts that lately had, or wanted, more than their part of the room."""
        return self._staged.over()

    def require_places(self, count: int, payer: Payer) -> None:
        """Refusal(BUSY) where so many more shares cannot be stored at once."""
        self._staged.require_places(count, payer.account)

    def has_room(self, payer: Payer, sizes: Sequence[int]) -> bool:
        """Whether all shares of these sizes, in bytes, may be begun; each need not be checked then."""
        return self._capacity.has_place(len(sizes)) and self._quota.has_room(payer, sizes)

    def copies_of(self, encoding_id: bytes, owner: bytes) -> list[KeptShare]:
        """All that is here of an encoding, in whatever state; Refusal(CONFLICT) where this owner has deleted it."""
        self._deletion.require_not_deleted(encoding_id, owner)
        return self._index.of_encoding(encoding_id)

    def known_of(self, encoding_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these encodings of which anything is here, in whatever state, or was deleted."""
        return self._index.known_of(encoding_ids)

    def take_whole(
        self, share: WholeShare, owner: bytes, payer: Payer, signed: SignedCommitment, block: memoryview, now: float
    ) -> Optional[PendingCommit]:
        """A small share that came whole, ready to be committed; None where it is to be opened, to see what is wrong.

        Nothing of its encoding is here, and there is room. IntegrityError where the commitment has no recipe.
        """
        commitment = signed.commitment
        recipe = decode_recipe(commitment.recipe)
        block_digest = digest(block)
        if (
            (recipe.encoding_id, recipe.k, recipe.n) != (share.encoding_id, share.k, share.n)
            or recipe.segment_count != 1
            or len(block) != recipe.last_block_size
            or block_digest != recipe.digest_of(0, share.share)
            or commitment.owner != owner
            or size_of(commitment) > OVERHEAD // 2
            or self._durability.refusal is not None
            or self._verifier.fault(signed, share.encoding_id) is not None
        ):
            return None
        staged = self._staged.take_whole(share, recipe, signed, payer, block_digest, block, now)
        if staged is None:
            return None
        return PendingCommit(staged, ShareTrailer(signed, [staged.blocks[0].offset]), recipe.share_bytes)

    def open(
        self,
        request: Open,
        owner: bytes,
        now: float,
        *,
        payer: Optional[Payer] = None,
        copies: Optional[Sequence[KeptShare]] = None,
        has_room: bool = False,
    ) -> bool:
        """Begin to store a share; False where it was begun before, even before a restart.

        `payer`: None for whom the owner's shares count. `copies`: as of `copies_of`, where that was asked. `has_room`:
        that was checked already.
        """
        payer = payer or self.payer(owner)
        key = (request.encoding_id, request.share)
        copies = self.copies_of(request.encoding_id, owner) if copies is None else copies
        self._require_free([copy for copy in copies if copy.key == key], owner)
        if request.share >= request.n or request.k > request.n:
            raise Refusal(Code.MALFORMED, "no such share")
        expected = request.share_bytes + OVERHEAD
        staged = self._staged.get(key, owner)
        if staged is None:
            self.require_places(1, payer)
            if not self._capacity.has_place() and self._index.held(key) is None:
                self._capacity.require_place()
            if not has_room:
                self._quota.require(payer, request.share_bytes)
            with self._durability.answering():
                self._staged.begin(request, owner, payer, expected, now)
            return True
        header = staged.header
        if (header.k, header.n, header.block_size) != (request.k, request.n, request.block_size):
            raise Refusal(Code.CONFLICT, "this share is being stored otherwise")
        staged.touched, staged.payer = now, payer
        if expected > staged.expected_bytes:  # what it was before the restart is not known any more
            self._quota.require(payer, expected - staged.expected_bytes)
            staged.expected_bytes = expected
        return False

    def _require_free(self, copies: Sequence[KeptShare], owner: bytes) -> None:
        """Refusal where this owner has the share already; a damaged one may be stored anew.

        Another owner's share of that name is not revealed here: only the commit fails.
        """
        if any(copy.state is State.LEFT_ALONE for copy in copies):
            raise Refusal(Code.FAULT, "a share that this worker cannot read is in the way")
        if any(copy.here and copy.sound and copy.belongs_to(owner) for copy in copies):
            raise Refusal(Code.CONFLICT, "this share is stored already")

    def append(self, key: ShareKey, owner: bytes, segment: int, digest: bytes, block: memoryview, now: float) -> None:
        """Append a block that was checked against its digest. The same block again is harmless."""
        staged = self._being_stored(key, owner)
        there = staged.blocks.get(segment)
        if there is not None:
            if there.digest != digest:
                raise Refusal(Code.CONFLICT, f"another block of segment {segment} came before")
            return
        if block.nbytes > staged.header.block_size:
            raise Refusal(Code.MALFORMED, "the block is larger than the share's blocks")
        staged.grow(now)
        if staged.size + block.nbytes > staged.expected_bytes:
            self._quota.require(staged.payer, block.nbytes)
        with self._durability.answering():
            try:
                self._staged.make_room(staged, block.nbytes)
                staged.append(segment, digest, block)
            finally:
                if staged.dropped:
                    self._staged.forget(staged)

    def prepare_commit(
        self,
        key: ShareKey,
        owner: bytes,
        signed: SignedCommitment,
        copies: Optional[Sequence[KeptShare]] = None,
    ) -> Optional[PendingCommit]:
        """Check what is to be committed; None where the same was committed before, for the same owner.

        `copies`: as of `copies_of`, where that was asked.
        """
        self._require_signed(key[0], owner, signed)
        copies = self.copies_of(key[0], owner) if copies is None else copies
        held = next((copy for copy in copies if copy.here and copy.key == key), None)
        if held is not None and held.is_held_by(owner):
            self._require_same(held, signed)
            return None
        staged = self._being_stored(key, owner)
        self._require_one_content(copies, signed.commitment.recipe)
        if held is not None and not held.belongs_to(owner):
            raise Refusal(Code.CONFLICT, "this share is stored already")
        try:
            recipe = decode_recipe(signed.commitment.recipe)
            offsets = staged.offsets(recipe)
        except IntegrityError as error:
            raise Refusal(Code.CONFLICT, str(error)) from None
        ending_bytes = size_of(signed.commitment) + 16 * len(offsets)
        if staged.size + ending_bytes > staged.expected_bytes:
            self._quota.require(staged.payer, ending_bytes)
        staged.ending = True
        return PendingCommit(staged, ShareTrailer(signed, offsets), recipe.share_bytes, held)

    def _require_signed(self, encoding_id: bytes, owner: bytes, signed: SignedCommitment) -> None:
        """Refusal unless a commitment is this owner's of an encoding, and signed as it must be."""
        if signed.commitment.owner != owner:
            raise Refusal(Code.NOT_ALLOWED, "the commitment is another owner's")
        fault = self._verifier.fault(signed, encoding_id)
        if fault is not None:
            raise Refusal(Code.NOT_ALLOWED, fault)

    def _require_same(self, held: KeptShare, signed: SignedCommitment) -> None:
        """Refusal unless a held share is still whole and has this commitment."""
        if leaf_of(self._opened(held).commitment) != leaf_of(signed.commitment):
            raise Refusal(Code.CONFLICT, "this share was committed otherwise")

    def _require_one_content(self, copies: Sequence[KeptShare], recipe: bytes) -> None:
        """Refusal where anything of the encoding is here, be it in the trash, that has other blocks.

        An encoding is stored once, so who does that has its owner's key and wants to have others in its place.
        """
        for copy in copies:
            try:
                there = self._shares.get(copy).commitment.recipe
            except (IntegrityError, OSError):
                continue  # it may be stored anew
            if there != recipe:
                raise Refusal(Code.CONFLICT, "other blocks of this encoding are here, held or in the trash")

    def commit_round(self, commits: list[PendingCommit]) -> list[Answer]:
        """Make shares durable together; for each the answer."""
        answers = self._committing.run(commits)
        for commit in commits:
            self._staged.forget(commit.staged)
        return answers

    def progress(
        self, key: ShareKey, owner: bytes, now: float, *, payer: Optional[Payer] = None
    ) -> Optional[list[SegmentRange]]:
        """The segments whose blocks are here of a share being stored; None of one that is committed and good.

        `payer`: as for `open`, of whom goes on with it.
        """
        if self.holds(key, owner):
            return None
        staged = self._being_stored(key, owner)
        staged.touched, staged.payer = now, payer or staged.payer
        return staged.ranges()

    def abandon(self, key: ShareKey, owner: bytes) -> None:
        """Give up a share that is being stored; harmless where there is none."""
        staged = self._staged.get(key, owner)
        if staged is not None:
            self._staged.drop(staged)

    def expire(self, now: float) -> None:
        """Drop shares that were idle for a day; every few minutes, while the wall clock is trusted, purge the trash."""
        self._staged.expire(now)
        if now < self._purge_at or self._durability.refusal is not None:
            return
        self._purge_at = now + _PURGE_EVERY
        self._reserve.keep()
        if self._clock.trusted():
            self._deletion.purge(self._clock.unix())
            self._amending.purge(self._clock.unix())

    # --- reading

    def share(self, key: ShareKey, owner: bytes) -> OpenShare:
        """A committed share that this owner may read; Refusal(DAMAGED) where it is not what was stored."""
        return self._share(self._index.held(key), owner)

    def _share(self, held: Optional[KeptShare], owner: bytes) -> OpenShare:
        if held is None or (owner not in held.readers and (held.sound or held.owner != NO_OWNER)):
            raise Refusal(Code.NOT_FOUND, "no such share here")
        opened = self._opened(held)
        if mapping_for(opened.commitment, owner) is None:
            raise Refusal(Code.NOT_FOUND, "no such share here")
        return opened

    def block(self, key: ShareKey, owner: bytes, segment: int) -> bytes:
        """One block, checked, of a committed share or of one being stored."""
        held = self._index.held(key)
        staged = None if held is not None and held.is_held_by(owner) else self._staged.get(key, owner)
        if staged is not None and segment not in staged.blocks:
            staged = None
        try:
            if staged is not None:
                return staged.read(segment)
            if held is not None and held.sound and segment == 0 and owner in held.readers:
                block = self._shares.only_block(held)
                if block is not None:
                    return block
            return self._share(held, owner).block(segment)
        except KeyError:
            raise Refusal(Code.NOT_FOUND, f"no block of segment {segment} here") from None
        except (IntegrityError, OSError) as error:
            held = self._index.held(key)
            if staged is None and held is not None:
                raise self._unreadable(held, error) from None
            log.warning("share %s: %s", file_name(key), error)
            raise Refusal(Code.DAMAGED, str(error)) from None

    def check(self, key: ShareKey) -> None:
        """Have a held share read from the disk soon; the result is announced."""
        if self._index.held(key) is None:
            self._index.reannounce(key)  # a broker has it in its catalog
            raise Refusal(Code.NOT_FOUND, "no such share here")
        self.scrub.ask(key)

    # --- changing, giving up

    def amend(self, encoding_id: bytes, signed: SignedCommitment, owner: bytes) -> None:
        """Replace the commitments of an encoding's shares, which this owner gets or has, durably."""
        self._require_signed(encoding_id, owner, signed)
        self._amending.amend(encoding_id, signed, self._clock.unix())

    def superseded(self, owner: bytes, after: int) -> Iterator[list[HeldCommitment]]:
        """What was replaced of this owner's and is held, of one share at a time, from behind a share's serial on."""
        return self._amending.held_for(owner, after, self._clock.unix())

    def delete(self, tombstone: Tombstone, owner: bytes) -> None:
        """Move this owner's shares of an encoding to the trash, as that owner signed."""
        self._with_reserve(lambda: self._deletion.delete(tombstone, owner, self._clock.unix()))
        self._staged.drop_encoding(tombstone.encoding_id, owner)

    def undelete(self, tombstone: Tombstone, owner: bytes) -> None:
        """Take this owner's shares of an encoding out of the trash, as that owner signed."""
        self._with_reserve(lambda: self._deletion.undelete(tombstone, owner, self._clock.unix()))

    def empty(self, approved: EmptyTrash, part: EmptiedPart, owner: bytes) -> Emptied:
        """Empty the trash of some of this owner's deletions before their time, as approvers signed."""
        return self._with_reserve(lambda: self.approving.empty(approved, part, owner))

    def _with_reserve(self, change: Callable[[], T]) -> T:
        """Do this, where the disk is full with the room that is kept for it."""
        try:
            return change()
        except Refusal as refusal:
            if refusal.answer.code is not Code.NO_ROOM or not self._reserve.release():
                raise
            try:
                return change()
            finally:
                self._reserve.keep()

    def discard(self, key: ShareKey, owner: bytes) -> None:
        """Move a share to the trash that other devices have too."""
        self._deletion.discard(key, owner, self._clock.unix())

    def close(self) -> None:
        """Close all files; shares being stored are kept for the next start."""
        self.scrub.close()
        self._staged.close()
        self._shares.close()
        self._packs.close()
        self._index.close()
        self._lock.close()

    # --- inside

    def _being_stored(self, key: ShareKey, owner: bytes) -> StagedShare:
        self._durability.require_writable()
        staged = self._staged.get(key, owner)
        if staged is None:
            raise Refusal(Code.NOT_OPEN, "this share is not being stored here")
        return staged

    def _opened(self, kept: KeptShare) -> OpenShare:
        """A held share, of any owner; Refusal where it cannot be read."""
        try:
            return self._shares.get(kept)
        except (IntegrityError, OSError) as error:
            raise self._unreadable(kept, error) from None

    def _unreadable(self, kept: KeptShare, error: Exception) -> Refusal:
        """The answer where a share cannot be read; a bad one is marked."""
        if is_lasting(error):
            self._found_bad(kept, error)
        if is_damage(error):
            return Refusal(Code.DAMAGED, f"the share is damaged: {error}")
        log.warning("the share %s cannot be read: %s", file_name(kept.key), error)
        answer = disk_answer(error)
        return Refusal(answer.code, answer.text)

    def _found_bad(self, kept: KeptShare, found: Exception) -> None:
        """Mark a share as damaged, and have that announced; one of an unknown version is left alone."""
        self._release(kept.serial)
        now = self._index.of_serial(kept.serial)
        if now is None or not now.here:
            return
        if isinstance(found, UnknownVersionError):
            log.error("the share %s is left alone and not announced: %s", file_name(kept.key), found)
            self._change(now, msgspec.structs.replace(now, state=State.LEFT_ALONE))
        else:
            log.warning("the share %s is damaged: %s", file_name(kept.key), found)
            self._change(now, now.found(sound=False))

    def _found_good(self, kept: KeptShare, opened: OpenShare) -> None:
        """Mark a share as sound that could not be read at the start, or was found bad once, and reads now."""
        now = self._index.of_serial(kept.serial)
        if now is not None and now.state is State.DAMAGED:
            self._change(now, now.kept(announced(opened.information)))
            log.warning("the share %s is good after all", file_name(kept.key))

    def _change(self, before: KeptShare, after: KeptShare) -> None:
        try:
            with self._index.transaction():
                self._index.change(before, after)
        except (OSError, Refusal) as error:
            log.warning("cannot write down the state of the share %s: %s", file_name(before.key), error)

    def _release(self, serial: int) -> None:
        self._shares.forget(serial)
        self.scrub.release(serial)


def _unusable(folder: Path, error: OSError) -> TesseraError:
    """Why no worker can serve from a folder: something of it can neither be read nor made."""
    kind = type(cannot_write(folder, error))
    advice = "see that its disk is mounted, and that this account may read and write all of it"
    return kind(f"cannot use {error.filename or folder}: {error.strerror or error}", advice=advice)
