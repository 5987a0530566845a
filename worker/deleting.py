"""Deletes, undeletes and discards shares; a crash at any moment leaves either state.

    DELETE     check the owner's signature → write the tombstone, durably → the shares are in the trash
    UNDELETE   check the owner's signature → write the tombstone anew, durably → the shares are held again
    DISCARD    the share is surplus

The tombstone alone decides: a share that was committed before it is what the tombstone says (`settle`), also where the
index has to be made anew. A share is deleted only by a tombstone that its owner signed, and each owner has their own:
nobody's deletes, replaces or stands in the way of another's. The first that comes of a generation counts, from when it
came, by this device's clock: shown again it changes nothing.

Whatever the owner signed, the trash is not emptied before this device's *hold* is over, counted likewise: who has
stolen the owner's key can delete everything, and nothing of that is gone until then. Nor can all generations be used up
at once, so that none is left for taking back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Optional

from common.errors import IntegrityError
from common.protocol.messages import (
    GRANTED,
    MAX_OWNERS_OF_AN_ENCODING,
    MAX_TOMBSTONES_ON_A_DEVICE,
    MOST_AHEAD,
    TOMBSTONE_LIFETIME,
    Code,
    DeletionName,
    Emptied,
    Tombstone,
)
from common.protocol.signatures import is_tombstone_signed, tombstone_rank
from worker.durability import Durability
from worker.index import Index, PlacedTombstone
from worker.layout import ShareKey, file_name
from worker.pack_format import NO_SHARE, Kind
from worker.packs import Packs, Record
from worker.reading import Shares, is_damage
from worker.refusals import Refusal
from worker.removing import Remover
from worker.share_states import KeptShare, State, announced
from worker.tombstones import KeptTombstone, encode_tombstone

log = logging.getLogger(__name__)

_SURPLUS_KEPT = 24 * 3600  # seconds
_MOST_TOMBSTONES = MAX_TOMBSTONES_ON_A_DEVICE  # as many as brokers remember of one device
_AT_A_TIME = 2500  # are forgotten, since all are looked through for it


def settle(index: Index, placed: PlacedTombstone) -> None:
    """Bring the shares of an encoding into the state that a tombstone wants; what came after it stays.

    So does what was given to its owner after that.
    """
    tombstone = placed.kept.tombstone
    if not tombstone.deleted:
        _take_back(index, placed)
        return
    for copy in index.of_encoding(tombstone.encoding_id):
        if max(copy.serial, copy.amended_by) <= placed.serial and copy.here and copy.belongs_to(tombstone.owner):
            index.change(copy, copy.trashed(State.DELETED, deleted_by=tombstone.owner))
    settle_waiting(index, tombstone.encoding_id)


def settle_waiting(index: Index, encoding_id: bytes) -> None:
    """Take back what was in the trash still, since another owner's share was in its place, which is free now."""
    for placed in index.tombstones_of(encoding_id):
        if not placed.kept.tombstone.deleted:
            _take_back(index, placed)


def _take_back(index: Index, placed: PlacedTombstone) -> None:
    tombstone = placed.kept.tombstone
    for copy in index.of_encoding(tombstone.encoding_id):
        deleted = copy.state is State.DELETED and copy.deleted_by == tombstone.owner
        if deleted and copy.serial <= placed.serial and index.held(copy.key) is None:
            index.change(copy, copy.kept(copy.announced))


class Deletion:
    def __init__(
        self, durability: Durability, packs: Packs, index: Index, shares: Shares, remover: Remover, hold: int
    ) -> None:
        """`hold`: seconds for which what was deleted stays in the trash, whatever its owner signed."""
        self._durability = durability
        self._packs = packs
        self._index = index
        self._shares = shares
        self._remover = remover
        self._hold = hold
        self._latest: Optional[int] = None  # once it was asked for
        self._looked_at = 0  # so many tombstones were there when none could be forgotten

    @property
    def latest(self) -> int:
        """When something was deleted or taken back here last, in Unix seconds."""
        if self._latest is None:
            self._latest = max(0, self._index.last_end() - TOMBSTONE_LIFETIME)
        return self._latest

    def require_not_deleted(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal(CONFLICT) where this owner has deleted the encoding."""
        if self.has_deleted(encoding_id, owner):
            raise Refusal(Code.CONFLICT, "this encoding was deleted")

    def has_deleted(self, encoding_id: bytes, owner: bytes) -> bool:
        """Whether this owner has deleted the encoding, and did not take that back."""
        placed = self._index.tombstone(encoding_id, owner)
        return placed is not None and placed.kept.tombstone.deleted

    def delete(self, tombstone: Tombstone, owner: bytes, unix: float) -> None:
        """Delete this owner's shares of an encoding, durably; harmless where that was done."""
        if not tombstone.deleted:
            raise Refusal(Code.MALFORMED, "this is no deletion")
        known = self._known(tombstone, owner)
        if known is None or _is_later(tombstone, known.tombstone):
            self._write(tombstone, known, unix)
        elif not known.tombstone.deleted:
            raise Refusal(Code.CONFLICT, "this deletion was taken back")
        placed = self._index.tombstone(tombstone.encoding_id, owner)
        if placed is not None and placed.kept.trash_until <= unix:
            self._empty(tombstone)

    def undelete(self, tombstone: Tombstone, owner: bytes, unix: float) -> None:
        """Take this owner's shares of an encoding out of the trash, durably; harmless where that was done.

        Where the trash is empty, or nothing was deleted here, the tombstone is kept all the same: an older one, shown
        again, deletes nothing from then on.
        """
        if tombstone.deleted:
            raise Refusal(Code.MALFORMED, "this takes no deletion back")
        known = self._known(tombstone, owner)
        if known is None or _is_later(tombstone, known.tombstone):
            self._write(tombstone, known, unix)
            self._look_at_what_is_back(tombstone)
        elif known.tombstone.deleted:
            raise Refusal(Code.CONFLICT, "this was deleted again since")
        self._require_places(tombstone)
        if not self._holds(tombstone.encoding_id, owner):
            self._require_all_known(self._index.of_encoding(tombstone.encoding_id))
            raise Refusal(Code.NOT_FOUND, "nothing of this is in the trash any more")

    def discard(self, key: ShareKey, owner: bytes, unix: float) -> None:
        """Hold a share as surplus, for a day, or as long as anything that was replaced of it; harmless without one."""
        self._durability.require_writable()
        kept = self._index.held(key)
        if kept is None:
            self._index.reannounce(key)  # a broker has it in its catalog
            return
        if not kept.belongs_to(owner):
            raise Refusal(Code.NOT_FOUND, "no such share here")
        with self._durability.answering(), self._index.transaction():
            until = max(int(unix) + _SURPLUS_KEPT, kept.last_superseded + self._hold)
            self._index.change(kept, kept.trashed(State.SURPLUS, until=until))
            settle_waiting(self._index, key[0])
        log.info("discarded the share %s", file_name(key))

    def purge(self, unix: float) -> None:
        """Empty the trash of what has expired, and forget expired tombstones.

        One that says "taken back" is kept as long as a share is here which an older one could delete again.
        """
        try:
            for placed in self._index.ended_trash(unix):
                if placed.kept.tombstone.deleted:
                    self._empty(placed.kept.tombstone)
            for placed in self._index.ended_tombstones(unix):
                tombstone = placed.kept.tombstone
                if not tombstone.deleted and self._holds(tombstone.encoding_id, tombstone.owner):
                    self._keep(self._from(tombstone, unix))
                else:
                    self._empty(tombstone)
                    self._forget(placed)
            self._remover.remove([kept for kept in self._index.in_state(State.SURPLUS) if kept.until <= unix])
        except (OSError, Refusal) as error:
            log.warning("cannot purge the trash: %s", error)

    def empty_early(self, deletions: Sequence[DeletionName], owner: bytes, unix: float) -> Emptied:
        """Empty the trash of these deletions of an owner's, durably, whatever is left of their time.

        What was another owner's within the hold stays: with a stolen key it is given to one who has approvers.
        """
        self._durability.require_writable()
        over: list[PlacedTombstone] = []
        shares: list[KeptShare] = []
        kept = 0
        for each in deletions:
            placed = self._index.tombstone(each.encoding_id, owner)
            tombstone = None if placed is None else placed.kept.tombstone
            if placed is None or tombstone is None or not tombstone.deleted or tombstone.generation != each.generation:
                continue
            trashed = self._trashed(each.encoding_id, owner)
            if any(self._was_anothers(copy, owner, unix) for copy in trashed):
                kept += 1
                continue
            shares += trashed
            over.append(placed._replace(kept=placed.kept._replace(trash_until=int(unix))))
        if over:
            with self._durability.answering():
                self._end(over)
                self._remover.remove(shares)
            log.info("emptied the trash of %d deletions early, as approvers signed", len(over))
        return Emptied(GRANTED, len(over), kept)

    def _was_anothers(self, copy: KeptShare, owner: bytes, unix: float) -> bool:
        return any(each.replaced.owner != owner for each in copy.held(self._hold, unix))

    def _end(self, over: Sequence[PlacedTombstone]) -> None:
        """Write tombstones anew, of which the trash is to be empty, durably."""
        places = self._packs.append([each.record for each in over])
        self._packs.sync()
        with self._index.transaction():
            for each, place in zip(over, places):
                self._index.put_tombstone(each._replace(place=place))

    def _empty(self, tombstone: Tombstone) -> None:
        """Remove what an owner deleted of an encoding from the trash; OSError where the disk refuses."""
        with self._durability.answering():
            self._remover.remove(self._trashed(tombstone.encoding_id, tombstone.owner))

    def _forget(self, placed: PlacedTombstone) -> None:
        with self._index.transaction():
            self._index.forget_tombstone(placed)

    # --- the right

    def _known(self, tombstone: Tombstone, owner: bytes) -> Optional[KeptTombstone]:
        """This owner's tombstone that is here, None where this is the first.

        Refusal where the owner did not sign it, or nothing of the owner's is here that it is about.
        """
        if tombstone.owner != owner or not is_tombstone_signed(tombstone):
            raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this")
        placed = self._index.tombstone(tombstone.encoding_id, owner)
        before = 0 if placed is None else placed.kept.tombstone.generation
        if tombstone.generation > before + MOST_AHEAD:
            raise Refusal(Code.NOT_ALLOWED, f"generation {tombstone.generation} is too far ahead of {before}")
        if placed is not None:
            return placed.kept
        self._require_owned(tombstone.encoding_id, owner)
        return None

    def _require_owned(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal unless a share here is this owner's. Of which object may have been amended since on other devices."""
        copies = self._index.of_encoding(encoding_id)
        own = [copy for copy in copies if (copy.here and copy.belongs_to(owner)) or copy.deleted_by == owner]
        if any(copy.owner == owner for copy in own):
            return
        if own:
            raise Refusal(Code.DAMAGED, "the share here is too damaged to tell who may delete it")
        self._require_all_known(copies)
        raise Refusal(Code.NOT_FOUND, "nothing of this encoding is here")

    def _require_all_known(self, copies: Sequence[KeptShare]) -> None:
        if any(copy.state is State.LEFT_ALONE for copy in copies):
            raise Refusal(Code.FAULT, "a share here is of a version that this worker does not know, or cannot be read")

    def _holds(self, encoding_id: bytes, owner: bytes) -> bool:
        return any(copy.here and copy.belongs_to(owner) for copy in self._index.of_encoding(encoding_id))

    def _trashed(self, encoding_id: bytes, owner: bytes) -> list[KeptShare]:
        """What this owner deleted of an encoding, and may take back."""
        copies = self._index.of_encoding(encoding_id)
        return [copy for copy in copies if copy.state is State.DELETED and copy.deleted_by == owner]

    def _require_places(self, tombstone: Tombstone) -> None:
        """Refusal where another owner's share is where one would be held again, as it is once that one goes."""
        for copy in self._trashed(tombstone.encoding_id, tombstone.owner):
            held = self._index.held(copy.key)
            if held is not None and not held.belongs_to(tombstone.owner):
                raise Refusal(Code.CONFLICT, "another owner's share is in its place")

    # --- carrying out

    def _write(self, tombstone: Tombstone, known: Optional[KeptTombstone], unix: float) -> None:
        self._durability.require_writable()
        kept = self._from(tombstone, unix)
        if known is not None and known.tombstone.generation == tombstone.generation:  # two machines deleted it at once
            kept = self._from(tombstone, known.ends - TOMBSTONE_LIFETIME)
        with self._durability.answering():
            if known is None:
                self._make_way(tombstone.encoding_id, unix)
                if self._index.count_tombstones() >= max(_MOST_TOMBSTONES, self._looked_at + _AT_A_TIME):
                    self._forget_of_most()
            self._keep(kept)
        done = "deleted" if tombstone.deleted else "took back the deletion of"
        log.info("%s the encoding %s", done, tombstone.encoding_id.hex())

    def _from(self, tombstone: Tombstone, unix: float) -> KeptTombstone:
        """A tombstone as it counts from that time on; a taking back has nothing in the trash."""
        trash_seconds = max(tombstone.trash_seconds, self._hold) if tombstone.deleted else 0
        return KeptTombstone(tombstone, int(unix) + trash_seconds, int(unix) + TOMBSTONE_LIFETIME)

    def _keep(self, kept: KeptTombstone) -> None:
        """Keep a tombstone durably, and do what it says; OSError where the disk refuses."""
        serial = self._index.next_serial()
        key = kept.tombstone.encoding_id, NO_SHARE
        (place,) = self._packs.append([Record(Kind.TOMBSTONE, key, serial, 0, encode_tombstone(kept))])
        self._packs.sync()
        self._latest = max(self.latest, kept.ends - TOMBSTONE_LIFETIME)
        with self._index.transaction():
            placed = PlacedTombstone(kept, serial, place)
            self._index.put_tombstone(placed)
            settle(self._index, placed)

    def _look_at_what_is_back(self, tombstone: Tombstone) -> None:
        """See whether what was taken back still reads; what was stored anew meanwhile is in the trash for nothing."""
        spare = []
        for copy in self._trashed(tombstone.encoding_id, tombstone.owner):
            held = self._index.held(copy.key)
            if held is not None and held.sound and held.belongs_to(tombstone.owner):
                spare.append(copy)
        with self._durability.answering():
            self._remover.remove(spare)
            for copy in self._index.of_encoding(tombstone.encoding_id):
                if copy.here and copy.belongs_to(tombstone.owner):
                    self._look_at(copy)

    def _look_at(self, copy: KeptShare) -> None:
        try:
            opened = self._shares.open(copy)
        except (IntegrityError, OSError) as error:
            if not is_damage(error):
                raise
            log.warning("the share %s was damaged in the trash: %s", file_name(copy.key), error)
            after = copy.found(sound=False)
        else:
            opened.close()
            after = copy.kept(announced(opened.information, sound=copy.sound))
        with self._index.transaction():
            self._index.change(copy, after)

    def _make_way(self, encoding_id: bytes, unix: float) -> None:
        """One more owner's tombstone of an encoding takes the place of what ends first, of owners with nothing here.

        Whoever first stored an encoding can give it to as many owners as they like, so it costs nobody else anything.
        """
        there = self._index.tombstones_of(encoding_id)
        if len(there) < MAX_OWNERS_OF_AN_ENCODING:
            return
        over = [placed for placed in there if self._is_over(placed.kept, unix)]
        first = min(over, key=lambda placed: placed.kept.ends, default=None)
        if first is None:
            raise Refusal(Code.NO_ROOM, "too many owners have deleted this encoding")
        self._empty(first.kept.tombstone)
        self._forget(first)
        log.info("forgot one of %d owners' deletions of the encoding %s", len(there), encoding_id.hex())

    def _is_over(self, kept: KeptTombstone, unix: float) -> bool:
        """Whether a deletion concerns nothing that is here, nor what is held in the trash."""
        name = kept.tombstone.encoding_id, kept.tombstone.owner
        held_until = kept.ends - TOMBSTONE_LIFETIME + self._hold
        return not self._holds(*name) and not (unix < held_until and self._trashed(*name))

    def _forget_of_most(self) -> None:
        """Of the owner with most tombstones forget what ends first, of what is neither here nor in the trash.

        So who stores and deletes without end fills no disk, and others' deletions stay. What is here or in the trash is
        bounded by the room for shares.
        """
        for owner in self._index.owners_of_tombstones():
            over = [
                placed
                for placed in self._index.tombstones_of_owner(owner)
                if not self._index.of_encoding(placed.kept.tombstone.encoding_id)
            ]
            if not over:
                continue
            with self._index.transaction():
                for placed in over[:_AT_A_TIME]:
                    self._index.forget_tombstone(placed)
            log.warning("forgot deletions of the vault %s, which has most: its oldest", owner.hex())
            self._looked_at = 0
            return
        self._looked_at = self._index.count_tombstones()


def _is_later(tombstone: Tombstone, known: Tombstone) -> bool:
    return tombstone_rank(tombstone) > tombstone_rank(known)
