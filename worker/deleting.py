"""Deletes, undeletes and discards shares; a crash at any moment leaves either state.

    DELETE     check the owner's signature → write the tombstone → move the shares to the trash
    UNDELETE   check the owner's signature → write the tombstone anew → move the shares back
    DISCARD    move the share to the trash

The tombstone is durable before a share moves, and it alone decides: where moving failed or was interrupted, the next
start does what the tombstone says. A share is moved only by a tombstone that its owner signed, so one of another
owner's share deletes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Optional

from common.errors import IntegrityError
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import NEVER, Code, Tombstone
from common.protocol.signatures import is_tombstone_signed
from worker.amendments import Amendments
from worker.disk import Disk
from worker.durability import Durability
from worker.inventory import Inventory, announced, unreadable
from worker.layout import Layout, ShareKey, file_name
from worker.reading import OpenShare, is_damage
from worker.refusals import Refusal, disk_answer
from worker.share_file import ShareTrailer
from worker.tombstones import Tombstones
from worker.trash import DAMAGED, DELETED, Trash, TrashedShare

log = logging.getLogger(__name__)

_SURPLUS_KEPT = 24 * 3600  # seconds


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
        self._unsettled: set[bytes] = set()  # encodings whose tombstone is not carried out yet
        self.tombstones = Tombstones(disk, layout, durability)

    def require_not_deleted(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal(CONFLICT) where this owner has deleted the encoding, FAULT where that cannot be told here."""
        self.tombstones.require_known(encoding_id)
        known = self.tombstones.get(encoding_id)
        if known is not None and known.owner == owner and known.deleted:
            raise Refusal(Code.CONFLICT, "this encoding was deleted")

    def delete(self, tombstone: Tombstone, owner: bytes) -> None:
        """Move this owner's shares of an encoding to the trash, durably; harmless where that was done."""
        if not tombstone.deleted or tombstone.ends < tombstone.trash_until:
            raise Refusal(Code.MALFORMED, "this is no deletion")
        _require_signed(tombstone, owner)
        known = self._known(tombstone)
        if known is None:
            self._require_deletable(tombstone)
        if known is None or known.generation < tombstone.generation:
            known = tombstone
            self._write(known)
        elif not known.deleted:
            raise Refusal(Code.CONFLICT, "this deletion was taken back")
        self._carry_out(known)

    def undelete(self, tombstone: Tombstone, owner: bytes) -> None:
        """Take this owner's shares of an encoding out of the trash, durably; harmless where that was done."""
        if tombstone.deleted:
            raise Refusal(Code.MALFORMED, "this takes no deletion back")
        _require_signed(tombstone, owner)
        known = self._known(tombstone)
        if known is None:
            raise _nothing_here()
        if known.generation < tombstone.generation:
            if known.deleted and not self._trash.deleted(tombstone.encoding_id):
                raise Refusal(Code.NOT_FOUND, "nothing of this is in the trash any more")
            known = tombstone
            self._write(known)
        elif known.deleted:
            raise Refusal(Code.CONFLICT, "this was deleted again since")
        self._carry_out(known)

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
        self._unsettled |= {key[0] for key in self._inventory.shares} | self._trash.deleted_encodings()
        self.settle_rest()

    def settle_rest(self) -> None:
        for encoding_id in list(self._unsettled):
            tombstone = self.tombstones.get(encoding_id)
            if tombstone is None:
                self._unsettled.discard(encoding_id)
                continue
            try:
                self._carry_out(tombstone)
            except Refusal as error:
                log.warning("the deletion of the encoding %s is not carried out: %s", encoding_id.hex(), error)

    def purge(self, unix: float) -> None:
        """Empty the trash of what has expired, and drop expired tombstones."""
        in_trash = self._trash.deleted_encodings()
        for tombstone in self.tombstones:
            over = unix >= tombstone.trash_until and tombstone.deleted and tombstone.encoding_id in in_trash
            ended = unix >= tombstone.ends
            if (over or ended) and self._empty(tombstone) and ended:
                try:
                    self.tombstones.forget(tombstone)
                except OSError as error:
                    log.warning("cannot forget the deletion of %s: %s", tombstone.encoding_id.hex(), error)
        self._drop_amendments(unix)
        try:
            self._trash.purge_surplus(unix)
        except OSError as error:
            log.warning("cannot purge the trash: %s", error)

    def _empty(self, tombstone: Tombstone) -> bool:
        """Remove an encoding from the trash; whether all of it could be removed."""
        try:
            for share in self._trash.deleted(tombstone.encoding_id):
                self._trash.remove(share)
                log.info("purged the deleted share %s", file_name(share.key))
        except OSError as error:
            log.warning("cannot purge the encoding %s: %s", tombstone.encoding_id.hex(), error)
            return False
        return True

    def _drop_amendments(self, unix: float) -> None:
        """Remove the amendments to shares that are neither held nor may come back, be it from a trash that is away."""
        deleted = self._trash.deleted_encodings()
        deleted |= {stone.encoding_id for stone in self.tombstones if stone.deleted and unix < stone.trash_until}
        inventory = self._inventory
        self._amendments.drop(lambda key: key in inventory.shares or inventory.unknown(key) or key[0] in deleted)

    # --- the right

    def _known(self, tombstone: Tombstone) -> Optional[Tombstone]:
        """This owner's tombstone; Refusal, as if nothing were here, where it is another owner's.

        One that another owner has undone does not count: the share may have been amended since.
        """
        self.tombstones.require_known(tombstone.encoding_id)
        known = self.tombstones.get(tombstone.encoding_id)
        if known is None or known.owner_key == tombstone.owner_key:
            return known
        if known.deleted:
            raise _nothing_here()
        return None

    def _require_deletable(self, tombstone: Tombstone) -> None:
        """Refusal unless a share here is its owner's. Of which object may have been amended since on other devices."""
        trailers = self._trailers(tombstone.encoding_id, tombstone.owner)
        if any(trailer is not None and trailer.owner == tombstone.owner for trailer in trailers):
            return
        if None in trailers:
            raise Refusal(Code.DAMAGED, "the share here is too damaged to tell who may delete it")
        if self._inventory.unknown_of_encoding(tombstone.encoding_id):
            raise Refusal(Code.FAULT, "a share here is of a version that this worker does not know")
        raise _nothing_here()

    def _trailers(self, encoding_id: bytes, owner: bytes) -> list[Optional[ShareTrailer]]:
        """The trailer of each share of an encoding, held or deleted; None of one that cannot be read.

        Shares known to be another owner's are not read: the time would show that they are here.
        """
        keys = self._inventory.of_encoding(encoding_id)
        own = [key for key in keys if self._inventory.shares[key].owner in (owner, NO_OWNER)]
        held = [(key, self._inventory.place(key)) for key in own]
        deleted = [(share.key, share.path) for share in self._trash.deleted(encoding_id)]
        return [self._read_trailer(path, key) for key, path in held + deleted]

    def _belongs(self, key: ShareKey, tombstone: Tombstone) -> bool:
        """Whether this tombstone deletes a held share; it does where the share is too damaged to say whose it is."""
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

    def _write(self, tombstone: Tombstone) -> None:
        self._durability.require_writable()
        with self._durability.answering():
            self.tombstones.write(tombstone)
        self._inventory.add_tombstone(tombstone)
        done = "deleted" if tombstone.deleted else "took back the deletion of"
        log.info("%s the encoding %s", done, tombstone.encoding_id.hex())

    def _carry_out(self, tombstone: Tombstone) -> None:
        """Carry out a tombstone; Refusal where the disk refuses, and it will be tried again."""
        self._unsettled.add(tombstone.encoding_id)
        with self._durability.answering():
            if tombstone.deleted:
                for key in list(self._inventory.of_encoding(tombstone.encoding_id)):
                    if self._belongs(key, tombstone):
                        self._move_to_trash(key, DELETED if self._inventory.sound(key) else DAMAGED)
                if tombstone.trash_until == NEVER:
                    self._empty(tombstone)
            else:
                for share in self._trash.deleted(tombstone.encoding_id):
                    self._put_back(share)
        self._unsettled.discard(tombstone.encoding_id)

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
        if share.key in self._inventory.shares:
            return  # it was stored anew; this one is removed when the tombstone expires
        sound = share.fate == DELETED
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


def _require_signed(tombstone: Tombstone, owner: bytes) -> None:
    """Refusal unless this owner signed it."""
    if tombstone.owner != owner or not is_tombstone_signed(tombstone):
        raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this")


def _nothing_here() -> Refusal:
    return Refusal(Code.NOT_FOUND, "nothing of this encoding is here")
