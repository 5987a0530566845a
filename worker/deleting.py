"""Deletes, undeletes and discards shares; a crash at any moment leaves either state.

    DELETE     check the owner's signature → write the tombstone → move the shares to the trash
    UNDELETE   check the owner's signature → write the tombstone anew → move the shares back
    DISCARD    move the share to the trash

The tombstone is durable before a share moves, and it alone decides: where moving failed or was interrupted, the next
start does what the tombstone says. A share is moved only by a tombstone that its owner signed, and each owner has their
own: nobody's deletes, replaces or stands in the way of another's. The first that comes of a generation counts, from
when it came, by this device's clock: shown again it changes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Optional

from common.errors import IntegrityError
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import (
    MAX_OWNERS_OF_AN_ENCODING,
    MAX_TOMBSTONES_ON_A_DEVICE,
    NO_TRASH,
    TOMBSTONE_LIFETIME,
    Code,
    Tombstone,
)
from common.protocol.signatures import is_tombstone_signed, tombstone_rank
from worker.amendments import Amendments
from worker.disk import Disk
from worker.durability import Durability
from worker.inventory import Inventory, announced, unreadable
from worker.layout import Layout, ShareKey, file_name
from worker.reading import OpenShare, is_damage
from worker.refusals import Refusal, disk_answer
from worker.share_file import ShareTrailer
from worker.tombstones import KeptTombstone, Tombstones
from worker.trash import Trash, TrashedShare, fate_of_deleted

log = logging.getLogger(__name__)

_SURPLUS_KEPT = 24 * 3600  # seconds
_MOST_TOMBSTONES = MAX_TOMBSTONES_ON_A_DEVICE  # as many as brokers remember of one device
_AT_A_TIME = 2500  # are forgotten, since all are looked through for it


class Deletion:
    """`release` closes whatever has a share's file open: Windows renames no open file."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        durability: Durability,
        inventory: Inventory,
        trash: Trash,
        amendments: Amendments,
        release: Callable[[ShareKey], None],
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._inventory = inventory
        self._trash = trash
        self._amendments = amendments
        self._release = release
        self._unsettled: set[tuple[bytes, bytes]] = set()  # encodings and owners whose tombstone is not carried out yet
        self._looked_at = 0  # so many tombstones were there when none could be forgotten
        self.tombstones = Tombstones(disk, layout, durability)

    def require_not_deleted(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal(CONFLICT) where this owner has deleted the encoding, FAULT where that cannot be told here."""
        self.tombstones.require_known(encoding_id)
        if self.tombstones.has_deleted(encoding_id, owner):
            raise Refusal(Code.CONFLICT, "this encoding was deleted")

    def delete(self, tombstone: Tombstone, owner: bytes, unix: float) -> None:
        """Move this owner's shares of an encoding to the trash, durably; harmless where that was done."""
        if not tombstone.deleted:
            raise Refusal(Code.MALFORMED, "this is no deletion")
        known = self._known(tombstone, owner)
        if known is None or _is_later(tombstone, known.tombstone):
            known = self._write(tombstone, known, unix)
        elif not known.tombstone.deleted:
            raise Refusal(Code.CONFLICT, "this deletion was taken back")
        self._carry_out(known.tombstone)

    def undelete(self, tombstone: Tombstone, owner: bytes, unix: float) -> None:
        """Take this owner's shares of an encoding out of the trash, durably; harmless where that was done.

        Where the trash is empty, or nothing was deleted here, the tombstone is kept all the same: an older one, shown
        again, deletes nothing from then on.
        """
        if tombstone.deleted:
            raise Refusal(Code.MALFORMED, "this takes no deletion back")
        known = self._known(tombstone, owner)
        if known is None or _is_later(tombstone, known.tombstone):
            known = self._write(tombstone, known, unix)
        elif known.tombstone.deleted:
            raise Refusal(Code.CONFLICT, "this was deleted again since")
        self._carry_out(known.tombstone)
        if not self._holds(tombstone.encoding_id, owner):
            raise Refusal(Code.NOT_FOUND, "nothing of this is in the trash any more")

    def discard(self, key: ShareKey, owner: bytes, unix: float) -> None:
        """Move a share that is surplus to the trash, durably, for a day; harmless where there is none."""
        self._durability.require_writable()
        held = self._inventory.shares.get(key)
        if held is None:
            self._inventory.reannounce(key)  # a broker has it in its catalog
            return
        if held.owner not in (owner, NO_OWNER):
            raise Refusal(Code.NOT_FOUND, "no such share here")
        with self._durability.answering():
            self._move_to_trash(key, str(int(unix) + _SURPLUS_KEPT))
        log.info("discarded the share %s", file_name(key))

    def settle(self) -> None:
        """Carry out the tombstones that are not yet: at the start, and where the disk refused before."""
        held, in_trash = {key[0] for key in self._inventory.shares}, self._trash.deleted_encodings()
        names = ((kept.tombstone.encoding_id, kept.tombstone.owner) for kept in self.tombstones)
        self._unsettled |= {name for name in names if name[0] in held or name in in_trash}
        self.settle_rest()

    def settle_rest(self) -> None:
        for encoding_id, owner in list(self._unsettled):
            kept = self.tombstones.get(encoding_id, owner)
            if kept is None:
                self._unsettled.discard((encoding_id, owner))
                continue
            try:
                self._carry_out(kept.tombstone)
            except Refusal as error:
                log.warning("the deletion of the encoding %s is not carried out: %s", encoding_id.hex(), error)

    def purge(self, unix: float) -> None:
        """Empty the trash of what has expired, and drop expired tombstones.

        One that says "taken back" is kept as long as a share is here which an older one could delete again.
        """
        in_trash = self._trash.deleted_encodings()
        for kept in self.tombstones:
            tombstone, ended = kept.tombstone, unix >= kept.ends
            name = tombstone.encoding_id, tombstone.owner
            over = unix >= kept.trash_until and tombstone.deleted and name in in_trash
            try:
                if ended and not tombstone.deleted and self._holds(*name):
                    self.tombstones.write(_from_now(tombstone, unix))
                elif (over or ended) and self._empty(tombstone) and ended:
                    self.tombstones.forget(kept)
            except OSError as error:
                log.warning("cannot forget the deletion of %s: %s", tombstone.encoding_id.hex(), error)
        self._drop_amendments(unix)
        try:
            self._trash.purge_surplus(unix)
        except OSError as error:
            log.warning("cannot purge the trash: %s", error)

    def _empty(self, tombstone: Tombstone) -> bool:
        """Remove what an owner deleted of an encoding from the trash; whether all of it could be removed."""
        try:
            for share in self._trash.deleted(tombstone.encoding_id, tombstone.owner):
                self._trash.remove(share)
                log.info("purged the deleted share %s", file_name(share.key))
        except OSError as error:
            log.warning("cannot purge the encoding %s: %s", tombstone.encoding_id.hex(), error)
            return False
        return True

    def _drop_amendments(self, unix: float) -> None:
        """Remove the amendments to shares that are neither held nor may come back, be it from a trash that is away."""
        deleted = {encoding_id for encoding_id, _ in self._trash.deleted_encodings()}
        deleted |= {each.tombstone.encoding_id for each in self.tombstones if unix < each.trash_until}
        inventory = self._inventory
        self._amendments.drop(lambda key: key in inventory.shares or inventory.unknown(key) or key[0] in deleted)

    # --- the right

    def _known(self, tombstone: Tombstone, owner: bytes) -> Optional[KeptTombstone]:
        """This owner's tombstone that lies here, None where this is the first.

        Refusal where the owner did not sign it, or nothing of the owner's is here that it is about.
        """
        if tombstone.owner != owner or not is_tombstone_signed(tombstone):
            raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this")
        self.tombstones.require_known(tombstone.encoding_id)
        known = self.tombstones.get(tombstone.encoding_id, owner)
        if known is None:
            self._require_owned(tombstone.encoding_id, owner)
        return known

    def _require_owned(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal unless a share here is this owner's. Of which object may have been amended since on other devices."""
        trailers = self._trailers(encoding_id, owner)
        if any(trailer is not None and trailer.owner == owner for trailer in trailers):
            return
        if None in trailers:
            raise Refusal(Code.DAMAGED, "the share here is too damaged to tell who may delete it")
        if self._inventory.unknown_of_encoding(encoding_id):
            raise Refusal(Code.FAULT, "a share here is of a version that this worker does not know")
        raise Refusal(Code.NOT_FOUND, "nothing of this encoding is here")

    def _holds(self, encoding_id: bytes, owner: bytes) -> bool:
        keys = self._inventory.of_encoding(encoding_id)
        return any(self._inventory.shares[key].owner in (owner, NO_OWNER) for key in keys)

    def _trailers(self, encoding_id: bytes, owner: bytes) -> list[Optional[ShareTrailer]]:
        """The trailer of each share of an encoding, held or deleted; None of one that cannot be read.

        Shares known to be another owner's are not read: the time would show that they are here.
        """
        keys = self._inventory.of_encoding(encoding_id)
        own = [key for key in keys if self._inventory.shares[key].owner in (owner, NO_OWNER)]
        held = [(key, self._inventory.place(key)) for key in own]
        deleted = [(share.key, share.path) for share in self._trash.deleted(encoding_id, owner)]
        return [self._read_trailer(path, key) for key, path in held + deleted]

    def _belongs(self, key: ShareKey, tombstone: Tombstone) -> bool:
        """Whether this tombstone deletes a held share; it does where the share is too damaged to say whose it is."""
        if self._inventory.shares[key].owner not in (tombstone.owner, NO_OWNER):
            return False
        trailer = self._read_trailer(self._inventory.place(key), key)
        return trailer is None or trailer.owner == tombstone.owner

    def _read_trailer(self, path: Path, key: ShareKey) -> Optional[ShareTrailer]:
        """A share's trailer; None where its file is damaged, Refusal where it cannot be read now."""
        try:
            opened = OpenShare(self._disk, path, *key, self._amendments)
        except (IntegrityError, OSError) as error:
            if is_damage(error):
                return None
            answer = disk_answer(error)
            raise Refusal(answer.code, answer.text) from None
        opened.close()
        return opened.information.trailer

    # --- carrying out

    def _write(self, tombstone: Tombstone, known: Optional[KeptTombstone], unix: float) -> KeptTombstone:
        self._durability.require_writable()
        kept = _from_now(tombstone, unix)
        if known is not None and known.tombstone.generation == tombstone.generation:  # two machines deleted it at once
            kept = _from_now(tombstone, known.ends - TOMBSTONE_LIFETIME)
        with self._durability.answering():
            if known is None:
                self._make_way(tombstone.encoding_id)
                if len(self.tombstones) >= max(_MOST_TOMBSTONES, self._looked_at + _AT_A_TIME):
                    self._forget_of_most()
            self.tombstones.write(kept)
        self._inventory.add_tombstone(tombstone)
        done = "deleted" if tombstone.deleted else "took back the deletion of"
        log.info("%s the encoding %s", done, tombstone.encoding_id.hex())
        return kept

    def _make_way(self, encoding_id: bytes) -> None:
        """One more owner's tombstone of an encoding takes the place of what ends first, of owners with nothing here.

        Whoever first stored an encoding can give it to as many owners as they like, so it costs nobody else anything.
        """
        there = self.tombstones.of_encoding(encoding_id)
        if len(there) < MAX_OWNERS_OF_AN_ENCODING:
            return
        over = [kept for kept in there if not self._holds(encoding_id, kept.tombstone.owner)]
        first = min(over, key=lambda kept: kept.ends, default=None)
        if first is None or not self._empty(first.tombstone):
            raise Refusal(Code.NO_ROOM, "too many owners have deleted this encoding")
        self.tombstones.forget(first)
        log.info("forgot one of %d owners' deletions of the encoding %s", len(there), encoding_id.hex())

    def _forget_of_most(self) -> None:
        """Of the owner with most tombstones forget what ends first, of what is neither here nor in the trash.

        So who stores and deletes without end fills no disk, and others' deletions stay. What is here or in the trash is
        bounded by the room for shares.
        """
        in_trash = self._trash.deleted_encodings()
        for of_one in self.tombstones.by_owner():
            names = [(kept.tombstone.encoding_id, kept.tombstone.owner) for kept in of_one]
            over = [kept for kept, name in zip(of_one, names) if name not in in_trash and not self._holds(*name)]
            if not over:
                continue
            for kept in over[:_AT_A_TIME]:
                self.tombstones.forget(kept)
            log.warning("forgot deletions of the vault %s, which has most: its oldest", names[0][1].hex())
            self._looked_at = 0
            return
        self._looked_at = len(self.tombstones)

    def _carry_out(self, tombstone: Tombstone) -> None:
        """Carry out a tombstone; Refusal where the disk refuses, and it will be tried again."""
        name = tombstone.encoding_id, tombstone.owner
        self._unsettled.add(name)
        with self._durability.answering():
            if tombstone.deleted:
                for key in list(self._inventory.of_encoding(tombstone.encoding_id)):
                    if self._belongs(key, tombstone):
                        fate = fate_of_deleted(tombstone.owner, sound=self._inventory.sound(key))
                        self._move_to_trash(key, fate)
                if tombstone.trash_seconds == NO_TRASH:
                    self._empty(tombstone)
            else:
                for share in self._trash.deleted(*name):
                    self._put_back(share)
        self._unsettled.discard(name)

    def _move_to_trash(self, key: ShareKey, fate: str) -> None:
        self._durability.require_writable()
        source = self._inventory.place(key)
        self._release(key)
        try:
            target = self._trash.take(source, key, self._inventory.size(key), fate)
        except FileNotFoundError:
            if self._disk.exists(source):
                raise
            self._inventory.remove(key)  # somebody removed it by hand
            return
        self._inventory.remove(key)
        self._durability.sync_names(target, source)

    def _put_back(self, share: TrashedShare) -> None:
        self._durability.require_writable()
        held = self._inventory.shares.get(share.key)
        if held is not None and held.owner not in (share.owner, NO_OWNER):
            raise Refusal(Code.CONFLICT, "another owner's share is in its place")
        if held is not None:
            if held.sound:  # it was stored anew
                self._trash.remove(share)
            return
        sound = share.sound
        try:
            opened = OpenShare(self._disk, share.path, *share.key, self._amendments)
        except (IntegrityError, OSError) as error:
            if not is_damage(error):
                raise
            log.warning("the share %s was damaged in the trash: %s", file_name(share.key), error)
            sound, held = False, unreadable(share.key)
        else:
            opened.close()
            held = announced(opened, sound=sound)
        target = self._layout.share(share.key) if sound else self._layout.quarantined(share.key)
        self._trash.put_back(share, target)
        self._inventory.put(held, share.size, quarantined=not sound)
        self._durability.sync_names(target, share.path)


def _is_later(tombstone: Tombstone, known: Tombstone) -> bool:
    return tombstone_rank(tombstone) > tombstone_rank(known)


def _from_now(tombstone: Tombstone, unix: float) -> KeptTombstone:
    return KeptTombstone(tombstone, int(unix) + tombstone.trash_seconds, int(unix) + TOMBSTONE_LIFETIME)
