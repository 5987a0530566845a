"""What is deleted, taken back and given up, so that a crash at any moment leaves one or the other.

    DELETE     prove the right → write the tombstone → move the shares to the trash
    UNDELETE   prove the right → write the tombstone anew → move the shares back
    DISCARD    move the share to the trash

The tombstone is durable before a share moves, and it alone says what holds: where moving failed or was interrupted, the
next start does what the tombstone says. A share goes only with a tombstone whose capability fits the hash that lies
beside the share since it was stored, so whoever writes a tombstone of a share that is not his deletes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path
from typing import Callable, Optional

import msgspec

from common.errors import IntegrityError
from common.protocol.device_messages import Delete, Undelete
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import NEVER, Code, Tombstone
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
        self._unsettled: set[bytes] = set()  # encodings of which a tombstone is not carried out yet
        self.tombstones = Tombstones(disk, layout, durability)

    def require_not_deleted(self, encoding_id: bytes, owner: bytes) -> None:
        """Refusal(CONFLICT) where this owner has deleted the encoding."""
        known = self.tombstones.get(encoding_id)
        if known is not None and known.owner == owner and known.deleted:
            raise Refusal(Code.CONFLICT, "this encoding was deleted")

    def delete(self, request: Delete, owner: bytes) -> None:
        """Move this owner's shares of an encoding to the trash, durably; harmless where that was done."""
        if request.generation % 2 == 0 or request.ends < request.trash_until:
            raise Refusal(Code.MALFORMED, "this is no deletion")
        known = self._known(request.encoding_id, owner, request.capability)
        if known is None or known.generation < request.generation:
            object_id = known.object_id if known is not None else self._proven(request, owner).object_id
            known = Tombstone(
                request.encoding_id,
                object_id,
                owner,
                request.capability,
                request.generation,
                request.trash_until,
                request.ends,
            )
            self._write(known)
        elif not known.deleted:
            raise Refusal(Code.CONFLICT, "this deletion was taken back")
        self._carry_out(known)

    def undelete(self, request: Undelete, owner: bytes) -> None:
        """Take this owner's shares of an encoding out of the trash, durably; harmless where that was done."""
        if request.generation % 2 == 1:
            raise Refusal(Code.MALFORMED, "this takes no deletion back")
        known = self._known(request.encoding_id, owner, request.capability)
        if known is None:
            raise _nothing_here()
        if known.generation < request.generation:
            if known.deleted and not self._trash.deleted(request.encoding_id):
                raise Refusal(Code.NOT_FOUND, "nothing of this is in the trash any more")
            known = msgspec.structs.replace(known, generation=request.generation)
            self._write(known)
        elif known.deleted:
            raise Refusal(Code.CONFLICT, "this was deleted again since")
        self._carry_out(known)

    def discard(self, key: ShareKey, owner: bytes, unix: float) -> None:
        """Move a share that is surplus to the trash, durably, for a day; harmless where there is none."""
        self._durability.require_writable()
        held = self._inventory.shares.get(key)
        if held is None:
            self._inventory.tell(key)  # somebody believes that it is here
            return
        if held.owner not in (owner, NO_OWNER):
            raise Refusal(Code.NOT_FOUND, "no such share here")
        with self._durability.answering():
            self._throw_away(key, str(int(unix) + _SURPLUS_KEPT))
        log.info("discarded the share %s", file_name(key))

    def settle(self) -> None:
        """Do what tombstones say that is not done yet: at the start, and for what the disk refused before."""
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
        """Remove what is in the trash for long enough, and forget what need not be remembered any more."""
        in_trash = self._trash.deleted_encodings()
        for tombstone in self.tombstones:
            over = unix >= tombstone.trash_until and tombstone.deleted and tombstone.encoding_id in in_trash
            ended = unix >= tombstone.ends
            if (over or ended) and self._empty(tombstone) and ended:
                try:
                    self.tombstones.forget(tombstone)
                except OSError as error:
                    log.warning("cannot forget the deletion of %s: %s", tombstone.encoding_id.hex(), error)
        self.drop_amendments()
        try:
            self._trash.purge_surplus(unix)
        except OSError as error:
            log.warning("cannot purge the trash: %s", error)

    def _empty(self, tombstone: Tombstone) -> bool:
        """Remove what is in the trash of an encoding; whether the disk let us."""
        try:
            for share in self._trash.deleted(tombstone.encoding_id):
                self._trash.remove(share)
                log.info("purged the deleted share %s", file_name(share.key))
        except OSError as error:
            log.warning("cannot purge the encoding %s: %s", tombstone.encoding_id.hex(), error)
            return False
        return True

    def drop_amendments(self) -> None:
        """Remove the amendments to shares that are neither held nor may come back."""
        deleted = self._trash.deleted_encodings()
        self._amendments.drop(lambda key: key in self._inventory.shares or key[0] in deleted)

    # --- the right

    def _known(self, encoding_id: bytes, owner: bytes, capability: bytes) -> Optional[Tombstone]:
        """What this owner has deleted or taken back; Refusal, as if nothing were here, where somebody else has.

        What was taken back by another right says nothing any more: it may have been amended since.
        """
        known = self.tombstones.get(encoding_id)
        if known is None:
            return None
        fitting = hmac.compare_digest(known.capability, capability)
        if not known.deleted and not (known.owner == owner and fitting):
            return None
        if known.owner != owner:
            raise _nothing_here()
        if not fitting:
            raise _not_allowed()
        return known

    def _proven(self, request: Delete, owner: bytes) -> ShareTrailer:
        """What lies beside a share here that the capability fits; Refusal where there is none."""
        trailers = self._trailers(request.encoding_id, owner)
        own = [trailer for trailer in trailers if trailer is not None and trailer.owner == owner]
        for trailer in own:
            if fits(request.capability, trailer):
                return trailer
        if own:
            raise _not_allowed()
        if None in trailers:
            raise Refusal(Code.DAMAGED, "the share here is too damaged to tell who may delete it")
        raise _nothing_here()

    def _trailers(self, encoding_id: bytes, owner: bytes) -> list[Optional[ShareTrailer]]:
        """What lies beside each share of an encoding, held or deleted; None beside one that does not read.

        What is known to be another owner's is not even read: that would take longer than where nothing is.
        """
        keys = self._inventory.of_encoding(encoding_id)
        own = [key for key in keys if self._inventory.shares[key].owner in (owner, NO_OWNER)]
        held = [(key, self._inventory.place(key)) for key in own]
        deleted = [(share.key, share.path) for share in self._trash.deleted(encoding_id)]
        return [self._read_trailer(path, key) for key, path in held + deleted]

    def _belongs(self, key: ShareKey, tombstone: Tombstone) -> bool:
        """Whether a held share is one that this tombstone deletes; one that does not say whose it is is no loss."""
        trailer = self._read_trailer(self._inventory.place(key), key)
        return trailer is None or (trailer.owner == tombstone.owner and fits(tombstone.capability, trailer))

    def _read_trailer(self, path: Path, key: ShareKey) -> Optional[ShareTrailer]:
        """What lies beside a share; None where its file does not say so, Refusal where it cannot be asked now."""
        try:
            opened = OpenShare(self._disk, path, *key, self._amendments)
        except IntegrityError:
            return None
        except OSError as error:
            if is_damage(error):
                return None
            answer = disk_answer(error)
            raise Refusal(answer.code, answer.text) from None
        opened.close()
        return opened.information.trailer

    # --- the doing

    def _write(self, tombstone: Tombstone) -> None:
        self._durability.require_writable()
        with self._durability.answering():
            self.tombstones.write(tombstone)
        self._inventory.add_tombstone(tombstone)
        done = "deleted" if tombstone.deleted else "took back the deletion of"
        log.info("%s the encoding %s", done, tombstone.encoding_id.hex())

    def _carry_out(self, tombstone: Tombstone) -> None:
        """Do what a tombstone says; Refusal where the disk refuses, and it will be tried again."""
        self._unsettled.add(tombstone.encoding_id)
        with self._durability.answering():
            if tombstone.deleted:
                for key in list(self._inventory.of_encoding(tombstone.encoding_id)):
                    if self._belongs(key, tombstone):
                        self._throw_away(key, DELETED if self._inventory.sound(key) else DAMAGED)
                if tombstone.trash_until == NEVER:
                    self._empty(tombstone)
            else:
                for share in self._trash.deleted(tombstone.encoding_id):
                    self._put_back(share)
        self._unsettled.discard(tombstone.encoding_id)

    def _throw_away(self, key: ShareKey, fate: str) -> None:
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
            return  # it was stored anew; this one goes when the tombstone's time is over
        sound = share.fate == DELETED
        try:
            opened = OpenShare(self._disk, share.path, *share.key, self._amendments)
        except (IntegrityError, OSError) as error:
            if isinstance(error, OSError) and not is_damage(error):
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


def fits(capability: bytes, trailer: ShareTrailer) -> bool:
    """Whether this is the right to delete, or change, what the trailer lies beside."""
    return hmac.compare_digest(hashlib.sha256(capability).digest(), trailer.delete_hash)


def _nothing_here() -> Refusal:
    return Refusal(Code.NOT_FOUND, "nothing of this encoding is here")


def _not_allowed() -> Refusal:
    return Refusal(Code.NOT_ALLOWED, "this is not the right to delete it")
