"""At a worker's start the index is brought up to date: by what the packs have beyond it, and by the files there are.

    what each pack has behind where the index stopped   → records in the order of their serials → the index
    files in `shares/` that the index does not have     → their names made durable, read, and held
    files that it has, and that are not there           → damaged, unless their folder cannot be listed

Where there is no index all packs are read from their beginning, and the same makes one. What a store holds follows from
its records in the order of their serials, so it does not matter how often, or from where, they are read.

Where something of a pack could not be read, or a folder not be listed while the index was made, the index says so, and
the next start makes it anew: what is found then may be older than what is known. For folders the scrub does so, too,
after a round, once all can be listed.

A record behind where the index stopped was not acknowledged, but after a power cut. It may be in the page cache only,
left by a worker whose fsync failed; so it is appended to a new pack, durably, before it counts. (Where there is no
index that would be all of it: then what is there is believed.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional, TypeVar

import msgspec

from common.chunks import chunks
from common.errors import IntegrityError
from common.protocol.identifiers import NO_OWNER
from worker.amendments import read_amendment
from worker.approver_lists import decode_approvers
from worker.deleting import settle, settle_waiting
from worker.disk import Disk
from worker.durability import Durability
from worker.format_version import UnknownVersionError
from worker.index import FoundRecord, Index, PlacedApprovers, PlacedTombstone, Removal
from worker.layout import Layout, Place, ShareKey, file_name, read_share_name
from worker.pack_format import Kind, body_digest, make_frame
from worker.packs import Packs, Record
from worker.reading import Shares, is_damage
from worker.refusals import Refusal
from worker.share_states import KeptShare, State, amended, announced, unreadable
from worker.tombstones import decode_tombstone

log = logging.getLogger(__name__)

_AT_ONCE = 64  # records that are copied
_FILES = 0  # in place of a pack's number
_NOWHERE = Place(0, 0, 0)  # of what is not there any more


_Placed = TypeVar("_Placed", PlacedTombstone, PlacedApprovers)


class Recovery:
    def __init__(
        self, disk: Disk, layout: Layout, durability: Durability, packs: Packs, index: Index, shares: Shares
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._durability = durability
        self._packs = packs
        self._index = index
        self._shares = shares
        self._known = 0  # the last serial that the index had seen before
        self._displaced: list[int] = []  # serials of what gave way to another owner's share

    def catch_up(self, *, made_anew: bool) -> None:
        """Enter what the index lacks; OSError where the disk refuses. `made_anew`: it is empty."""
        index = self._index
        with index.transaction():
            self._known = 0 if made_anew else index.last_serial
            self._packs.pass_number(max(index.packs, default=0))
            self._look_at_left_alone()
            self._find(copied=not made_anew and self._durability.refusal is None)
            listed, unlisted = self._list_files()
            if made_anew and unlisted:
                self._packs.unread.add(_FILES)  # what is read of their shares in packs is of none that is known
            self._find_files(listed)
            for found in index.found():
                index.pass_serial(found.serial)
                self._enter(found)
            self._drop_displaced()
            self._look_for_packs()
            self._look_for_files(listed, unlisted)
            index.complete(self._packs.unread)

    def look_again(self) -> None:
        """Serve what could not be read, or listed, at the start, and can be now."""
        try:
            with self._index.transaction():
                self._look_at_left_alone()
            if _FILES in self._packs.unread and not self._list_files()[1]:
                self._packs.unread.discard(_FILES)
                self._index.make_anew()
        except (OSError, Refusal) as error:
            log.warning("what could not be read at the start is not looked at again now: %s", error)

    # --- packs

    def _look_for_packs(self) -> None:
        """See that each pack that the index knows is there, and as long as it was."""
        sizes = self._packs.sizes
        for number, read in self._index.packs.items():
            if number not in sizes and self._index.was_rewritten(number):
                self._forget(number)
            elif number not in sizes:
                log.error("pack %d is not there any more: what lay in it is damaged", number)
                self._lose(number, 0)
                self._index.forget_pack(number)
            elif sizes[number] < read:
                log.error("pack %d was cut short: what lay behind its end is damaged", number)
                self._lose(number, sizes[number])
                self._index.passed(number, sizes[number])
            elif (error := self._fault_of(number)) is not None:
                log.error("what lies in pack %d is left alone and not announced: %s", number, error)
                self._leave_alone(number)

    def _fault_of(self, number: int) -> Optional[OSError]:
        """Why a pack cannot be opened, which may be over at the next start."""
        try:
            self._packs.read_at(number, 0, 1)
        except OSError as error:
            return None if is_damage(error) else error
        return None

    def _forget(self, number: int) -> None:
        """What an older index has in a pack, and is not elsewhere, was needed no more when that was written anew."""
        for kept in self._all_in_pack(number):
            self._index.remove(kept)
        for placed in self._index.tombstones_in_pack(number):
            self._index.forget_tombstone(placed)
        for approvers in self._index.approvers_in_pack(number):
            self._index.forget_approvers(approvers.kept.owner)
        self._index.forget_pack(number)

    def _lose(self, number: int, size: int) -> None:
        """Note that the shares behind a pack's end are damaged, and those whose amendments lay there.

        Tombstones and approvers that lay there are written anew, since the index has them whole.
        """

        def is_lost(place: Optional[Place]) -> bool:
            return place is not None and place.pack == number and place.offset + place.length > size

        for kept in (*self._all_in_pack(number), *self._index.amended_in_pack(number)):
            now = self._index.of_serial(kept.serial) or kept
            place = _NOWHERE if is_lost(now.place) else now.place
            amendment = _NOWHERE if is_lost(now.amendment) else now.amendment
            lost = msgspec.structs.replace(now, place=place, amendment=amendment)
            damaged = lost != now and now.here
            lost = lost.without(lambda each: is_lost(each.place))
            if lost != now:
                self._index.change(now, lost.found(sound=False) if damaged else lost)
        index = self._index
        tombstones = [each for each in index.tombstones_in_pack(number) if is_lost(each.place)]
        approvers = [each for each in index.approvers_in_pack(number) if is_lost(each.place)]
        self._write_anew(tombstones, index.put_tombstone)
        self._write_anew(approvers, index.put_approvers)

    def _leave_alone(self, number: int) -> None:
        for kept in self._all_in_pack(number):
            if kept.here:
                self._index.change(kept, msgspec.structs.replace(kept, state=State.LEFT_ALONE))

    def _all_in_pack(self, number: int) -> Iterator[KeptShare]:
        after = 0
        while page := self._index.in_pack(number, after):
            after = page[-1].serial
            yield from page

    def _write_anew(self, placed: Sequence[_Placed], put: Callable[[_Placed], None]) -> None:
        if not placed or self._durability.refusal is not None:
            return
        places = self._packs.append([each.record for each in placed])
        self._packs.sync()
        for each, place in zip(placed, places):
            put(each._replace(place=place))

    def _find(self, *, copied: bool) -> None:
        """Note the records that the index does not have; `copied`: after they were appended anew, durably."""
        batch: list[Record] = []
        for number, size in self._packs.sizes.items():
            read = self._index.packs.get(number, 0)
            if size <= read:
                continue
            try:
                for frame, place in self._packs.frames(number, read):
                    body = self._body(place)
                    whole = body is not None and body_digest(body) == frame.digest
                    if body is None or not copied:
                        self._index.note(FoundRecord.of(frame, place, whole))
                    else:
                        key = frame.encoding_id, frame.share
                        batch.append(Record(frame.kind, key, frame.serial, frame.about, body, whole))
            except OSError as error:
                log.error("pack %d cannot be read, and what lies in it is left alone: %s", number, error)
                self._packs.unread.add(number)
                if self._durability.refusal is None:  # what is known of other packs may be superseded there
                    self._durability.serve_only(f"pack {number} cannot be read: {error.strerror}")
                batch.clear()
                continue
            self._index.passed(number, size)
            self._copy(batch, number)
            batch.clear()

    def _copy(self, records: Sequence[Record], number: int) -> None:
        for some in chunks(records, _AT_ONCE):
            for record, place in zip(some, self._packs.append(some)):
                frame = make_frame(record.kind, record.key, record.serial, record.about, record.body)
                self._index.note(FoundRecord.of(frame, place, record.good))
                if record.kind is Kind.SHARE:
                    self._index.moved(record.serial, number)
        if records:
            self._packs.sync()

    def _body(self, place: Place) -> Optional[bytes]:
        """The body of a record; None where the disk cannot read it any more."""
        try:
            return self._packs.body(place)
        except OSError as error:
            if not is_damage(error):
                raise
            self._packs.unread.add(place.pack)
            return None

    # --- files

    def _find_files(self, listed: dict[int, tuple[ShareKey, int]]) -> None:
        """Note the files that the index does not have; remove what a power cut brought back."""
        folders: set[Path] = set()
        for serial, (key, size) in listed.items():
            if self._index.was_removed(serial):
                self._drop(key, serial)
                continue
            known = self._index.of_serial(serial)
            if known is not None and known.place == _NOWHERE:  # its folder was away
                back = msgspec.structs.replace(known, place=Place(0, 0, size))
                self._index.change(known, self._looked_at(back) if known.here else back)
            elif known is None:
                folders.add(self._layout.share_folder(key))
                self._index.note(FoundRecord(serial, Kind.SHARE, *key, 0, Place(0, 0, size), True))
        if self._durability.refusal is None:
            self._make_names_durable(folders)

    def _look_for_files(self, listed: dict[int, tuple[ShareKey, int]], unlisted: set[Path]) -> None:
        """See that the file of each large share is there."""
        for kept in self._all_in_pack(0):
            if not kept.here or kept.place == _NOWHERE:
                continue
            if kept.serial in listed:
                if kept.sound and listed[kept.serial][1] != kept.place.length:
                    log.error("the file of the share %s has not the length that it had", file_name(kept.key))
                    self._index.change(kept, kept.found(sound=False))
            elif self._layout.share_folder(kept.key) in unlisted:
                self._index.change(kept, msgspec.structs.replace(kept, state=State.LEFT_ALONE))
            else:
                log.error("the file of the share %s is not there any more", file_name(kept.key))
                gone = msgspec.structs.replace(kept, place=_NOWHERE)
                self._index.change(kept, gone.found(sound=False))

    def _make_names_durable(self, folders: set[Path]) -> None:
        """A worker may have been killed between naming a file and fsyncing its folder; its content was fsynced."""
        self._durability.make_folders(folders)
        for folder in folders:
            self._durability.sync_folder(folder)

    def _list_files(self) -> tuple[dict[int, tuple[ShareKey, int]], set[Path]]:
        """The files of large shares by serial, and the folders that cannot be listed."""
        listed: dict[int, tuple[ShareKey, int]] = {}
        unlisted: set[Path] = set()
        for folder in self._disk.entries(self._layout.shares):
            if not folder.is_folder:
                continue
            try:
                entries = self._disk.entries(folder.path)
            except OSError as error:
                log.error(
                    "the shares in %s are left alone and not announced: it cannot be listed: %s", folder.path, error
                )
                unlisted.add(folder.path)
                continue
            for entry in entries:
                read = read_share_name(entry.path.name)
                if read is None:
                    continue
                if entry.path == self._layout.share(*read):
                    listed[read[1]] = read[0], entry.size
                else:
                    log.warning("%s is not in its place; it is left alone", entry.path)
        return listed, unlisted

    # --- what was left alone

    def _look_at_left_alone(self) -> None:
        """What could not be read before may be by now, or be known."""
        for kept in self._index.in_state(State.LEFT_ALONE):
            if self._index.of_serial(kept.serial) == kept:  # it did not give way to another one
                now = self._looked_at(kept)
                self._index.change(kept, now)
                self._displace_others(now)
                self._settle(kept.key)

    def _settle(self, key: ShareKey) -> None:
        for placed in self._index.tombstones_of(key[0]):
            settle(self._index, placed)

    def _looked_at(self, kept: KeptShare) -> KeptShare:
        """A copy as it reads now."""
        try:
            opened = self._shares.open(kept)
        except (IntegrityError, OSError) as error:
            if is_damage(error):
                return kept.kept(unreadable(kept.key))
            log.error("the share %s is left alone and not announced: %s", file_name(kept.key), error)
            return msgspec.structs.replace(kept, state=State.LEFT_ALONE)
        opened.close()
        return kept.kept(announced(opened.information))

    # --- records

    def _enter(self, found: FoundRecord) -> None:
        if found.kind is Kind.SHARE:
            self._enter_share(found)
        elif found.kind is Kind.AMENDMENT:
            self._enter_amendment(found)
        elif found.kind is Kind.TOMBSTONE:
            self._enter_tombstone(found)
        elif found.kind is Kind.REMOVAL:
            self._enter_removal(found)
        elif found.kind is Kind.APPROVERS:
            self._enter_approvers(found)
        else:
            self._enter_rewritten(found)

    def _enter_share(self, found: FoundRecord) -> None:
        index, key, serial = self._index, found.key, found.serial
        known = index.of_serial(serial)
        if known is not None:
            if known.key == key:
                moved = msgspec.structs.replace(known, place=found.place)
                index.change(known, self._looked_at(moved) if known.here and not known.sound and found.whole else moved)
            return
        if found.place.pack and serial <= self._known:
            return  # it went, and what says so was read before
        kept = self._looked_at(KeptShare(serial, State.HELD, found.place, unreadable(key)))
        if kept.here and not found.whole:
            kept = kept.found(sound=False)
        index.add(kept)
        self._displace_others(kept)
        self._settle(key)

    def _displace_others(self, kept: KeptShare) -> None:
        """Of a copy that is here, and others of the same share, the newest stays."""
        for copy in self._index.copies(kept.key) if kept.here else ():
            if copy.here and copy.serial != kept.serial:
                self._displace(*sorted((copy, kept), key=lambda each: each.serial))

    def _displace(self, older: KeptShare, newer: KeptShare) -> None:
        """Of two copies that were not deleted, as far as is known, the older gave way to the newer.

        Its owner's share was stored anew. Another's was in the trash by then, by a deletion that comes later if it, or
        what replaced it, counts still.
        """
        if older.owner in (newer.owner, NO_OWNER):
            self._index.remove(older)
            self._drop(older.key, older.serial)
        else:
            self._index.change(older, older.trashed(State.DELETED, deleted_by=older.owner))
            self._displaced.append(older.serial)

    def _drop_displaced(self) -> None:
        """Remove what gave way to another owner's share, and was not deleted: it was surplus."""
        for serial in self._displaced:
            kept = self._index.of_serial(serial)
            if kept is None or kept.state is not State.DELETED:
                continue
            if self._index.tombstone(kept.key[0], kept.deleted_by) is None:
                self._index.remove(kept)
                self._drop(kept.key, serial)
        self._displaced.clear()

    def _drop(self, key: ShareKey, serial: int) -> None:
        """Remove the file of a share that is gone, if it had one; what lies in a pack is dead there."""
        if self._durability.refusal is None:
            self._disk.remove_or_leave(self._layout.share(key, serial))

    def _enter_amendment(self, found: FoundRecord) -> None:
        index, known = self._index, self._index.of_serial(found.about)
        if known is None:
            return
        if known.amended_by > found.serial:
            index.change(known, known.moved_amendment(found.serial, found.place))
            return
        try:
            if not found.whole:
                raise IntegrityError("what amends it is damaged")
            signed, replaced = read_amendment(self._packs.body(found.place))
        except IntegrityError as error:
            log.error("what amends the share %s cannot be read: %s", file_name(known.key), error)
            # Whose it is now is not known; the commitment before is superseded.
            after = msgspec.structs.replace(
                known, announced=unreadable(known.key), amendment=found.place, amended_by=found.serial
            )
            if known.here:
                after = msgspec.structs.replace(after, state=State.DAMAGED if is_damage(error) else State.LEFT_ALONE)
        else:
            if known.amended_by == found.serial:
                again = amended(known.announced, signed)
                after = msgspec.structs.replace(known, announced=again, amendment=found.place)
            else:
                after = known.amended(found.place, found.serial, signed, replaced)
            taken_back = known.amended_by < found.serial and after.is_settled_by_taking_back()
            if known.here or (taken_back and index.held(known.key) is None):
                after = after.kept(after.announced)
        index.change(known, after)

    def _enter_tombstone(self, found: FoundRecord) -> None:
        try:
            if not found.whole:
                raise IntegrityError("its record is damaged")
            kept = decode_tombstone(self._packs.body(found.place))
        except UnknownVersionError as error:
            self._leave_encoding_alone(found, error)
            return
        except IntegrityError as error:
            log.error("a tombstone of the encoding %s cannot be read: %s", found.key[0].hex(), error)
            return
        placed = PlacedTombstone(kept, found.serial, found.place)
        before = self._index.tombstone(kept.tombstone.encoding_id, kept.tombstone.owner)
        if before is None or before.serial <= found.serial:
            self._index.put_tombstone(placed)
            settle(self._index, placed)

    def _leave_encoding_alone(self, found: FoundRecord, error: UnknownVersionError) -> None:
        """What a tombstone of another version does to an encoding is not known: nothing is done for or against it."""
        self._packs.unread.add(found.place.pack)
        if self._durability.refusal is None:
            self._durability.serve_only(f"a tombstone was written by another version of the worker: {error}")
        for kept in self._index.of_encoding(found.encoding_id):
            if kept.here:
                self._index.change(kept, msgspec.structs.replace(kept, state=State.LEFT_ALONE))

    def _enter_approvers(self, found: FoundRecord) -> None:
        owner = found.encoding_id
        before = self._index.approvers(owner)
        if before is not None and before.serial > found.serial:
            return
        try:
            if not found.whole:
                raise IntegrityError("their record is damaged")
            placed = PlacedApprovers(decode_approvers(self._packs.body(found.place)), found.serial, found.place)
            if placed.kept.owner != owner:
                raise IntegrityError("they are another vault's")
        except UnknownVersionError as error:
            self._packs.unread.add(found.place.pack)
            if self._durability.refusal is None:
                self._durability.serve_only(f"approvers were written by another version of the worker: {error}")
        except IntegrityError as error:
            log.error("the approvers of the vault %s cannot be read, and count for nothing: %s", owner.hex(), error)
            self._index.forget_approvers(owner)  # those before were replaced
        else:
            self._index.put_approvers(placed)

    def _enter_removal(self, found: FoundRecord) -> None:
        known = self._index.of_serial(found.about)
        if known is None:
            self._index.move_removal(found.serial, found.place)
            return
        self._index.remove(known)
        self._index.add_removal(Removal(found.serial, known.serial, known.place.pack, found.place))
        if not known.place.pack:
            self._drop(known.key, known.serial)
        settle_waiting(self._index, known.key[0])

    def _enter_rewritten(self, found: FoundRecord) -> None:
        if self._index.was_rewritten(found.about):
            self._index.move_removal(found.serial, found.place)
        else:
            self._index.add_removal(Removal.of_pack(found.serial, found.about, found.place))
