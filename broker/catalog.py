"""Who holds what: object → encoding → share → device.

Workers announce what they hold when they register, and every share when they have committed it; a device that is gone
keeps its entries, so that what it held is known to be missing rather than unknown. All of it lies in rows of SQLite
(`catalog_rows`), a cache of what the devices know: lost, they announce it anew. Of the rows some thousand are held here
as they are worked on, so that memory does not grow with what there is.

A device may be wrong, or lie. So what a share is said to be part of (owner, object, encoding, k, n, length) is a claim,
and shares with different claims are never put together: a false claim is listed apart and hides nothing of what the
others say. A share too damaged to say whose it is shows with every claim to its encoding. To whom a share is granted is
a claim as well, of that owner's, which only clients see. A share whose revision is below the one that k devices agree
on is stale: it still counts for what it says, and the steward is told.

Encodings that were deleted stay here as long as a device holds shares of them, and are shown to no client. Which
encodings changed since it was last asked, the catalog tells the steward (`take_touched`).

All of it is charged to the devices that say it (`budget`). Where it becomes too much, what the device that weighs most
says alone goes, the newest first, and nothing more is taken up of it (`cut_off`).
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from broker.budget import CLAIM, DAMAGED, PLACE, TOMBSTONE, Budget, part
from broker.catalog_rows import SCHEMA, CatalogRows, DeviceRow, Kept, Storage
from broker.change_log import ChangeLog
from broker.claims import Claim, Entry, Known, Place, announced, claims_in
from broker.entries import Entries
from broker.objects import Objects
from broker.owned import Owned
from broker.plain import Plain, claim_of, devices_in
from broker.tombstones import Tombstones
from common.protocol.announcements import DIGEST_SIZE, MODULUS, digest_of
from common.protocol.messages import (
    MAX_SHARES_ON_A_DEVICE,
    AnnouncedShare,
    EncodingAt,
    KnownUpTo,
    ShareAt,
    ToldTombstone,
    shares_at_hand,
)

Code = tuple[int, int]  # k, n
Alive = Callable[[bytes], bool]  # of a device id: is the device connected now?
BUDGET = 192 << 20  # bytes, of a broker with 384 MiB
_MAX_ENCODINGS = 64  # of one object that are found by the word of one device alone; honest ones have one or two
_HELD_BACK = 8  # the part of a budget that is not for devices that were cut off
_RELIEF = 16  # the part of a budget that is made free at once where it is used up
_TOUCHED = 20_000  # encodings that changed are named to the steward
_PARTS = 5  # of so many rows as follows, at a time


@dataclass
class _Holding:
    """What is counted of a device."""

    shares: int = 0
    sound_bytes: int = 0
    digest: int = 0
    epoch: Optional[bytes] = None
    sequence: int = 0


class _Seen:
    """Which encodings a device has named since it began to announce all that it holds."""

    def __init__(self) -> None:
        self.shares = 0
        self.are_all_there = True  # none of what was named went since
        self._bits = bytearray()

    def first(self, ref: int) -> bool:
        """Note one; whether it was not named before."""
        at, bit = ref >> 3, 1 << (ref & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at - len(self._bits) + 4096))
        if self._bits[at] & bit:
            return False
        self._bits[at] |= bit
        return True

    def __contains__(self, ref: object) -> bool:
        if not isinstance(ref, int) or ref >> 3 >= len(self._bits):
            return False
        return bool(self._bits[ref >> 3] & 1 << (ref & 7))


class Catalog:
    """CatalogDamaged from any method where the rows cannot be read or written: whoever has it makes it anew."""

    def __init__(
        self,
        has_retired: Callable[[bytes], bool] = lambda owner: False,
        budget: int = BUDGET,
        storage: Optional[Storage] = None,
    ) -> None:
        """`has_retired`: whether an owner's vault key was replaced by another. `budget`: bytes of memory for what
        devices tell. `storage`: where the rows lie; None for a database in memory.
        """
        self._has_retired = has_retired
        storage = storage or Storage(in_memory())
        self.rows = CatalogRows(storage.connection)
        self.budget = Budget(budget if storage.room is None else storage.room)
        self.tombstones = Tombstones(Budget(budget))
        self.cut_off: set[bytes] = set()  # devices of which something was not taken up, or was dropped
        self._entries = Entries(self.rows)
        self._objects = Objects(self.rows)
        self._owned = Owned(self.rows)
        self._doubted: dict[bytes, set[Claim]] = {}  # encoding id → claims to it that others are tried before
        self._announcing: dict[bytes, _Seen] = {}  # devices that have yet to announce all that they hold
        self._dropping: dict[bytes, tuple[_Seen, Iterator[list[Entry]]]] = {}  # of those that have, what is left to go
        self._touched: dict[bytes, None] = {}
        self._are_many_touched = False  # so many that they are not named
        self.changes = ChangeLog(self.rows)
        self._is_counted_anew = False  # what is counted of devices is to be written
        self._until_relief = 0  # shares that find no room until it is looked again for what can be dropped
        self._on = {
            d: _Holding(r.shares, r.sound_bytes, r.digest, r.epoch, r.sequence) for d, r in self._load_devices()
        }
        self.codes: Counter[Code] = self.rows.codes()  # how many encodings are claimed to have this k and n

    def _load_devices(self) -> Iterator[tuple[bytes, _Holding]]:
        for device, row in self.rows.devices().items():
            self.budget.charge(device, row.room)
            yield device, _Holding(row.shares, row.sound_bytes, row.digest, row.epoch, row.sequence)

    # --- what devices say

    def announce(self, device: bytes, shares: Sequence[AnnouncedShare]) -> None:
        """A device says that it holds these shares; the last word on a share counts.

        What goes beyond the number that one device may have, or its part of the room, is not taken up.
        """
        self.hold([share.encoding_id for share in shares])
        seen = self._announcing.get(device) or self._dropping.get(device, (None, None))[0]
        for share in self._announce_alike(device, shares, seen):
            entry, place, claims = self._entries.get(share.encoding_id), Place(share.share, device), claims_in(share)
            if entry is None or not entry.says(place):
                self._announce(share, place, claims)
            elif not entry.says_so(place, claims, share.revision):
                self._remove(share.encoding_id, place)
                self._announce(share, place, claims)
            elif share.encoding_id in self.tombstones:  # which the device may have to be told of again
                self._touched[share.encoding_id] = None
            if seen is not None:
                self._note(seen, share.encoding_id, place)
        self._name_no_more()

    def _announce_alike(
        self, device: bytes, shares: Sequence[AnnouncedShare], seen: Optional[_Seen]
    ) -> Sequence[AnnouncedShare]:
        """Take up what is the first word on an encoding, or says of it what all others do; returns the rest."""
        enough = self.budget.fits(len(shares) * (CLAIM + PLACE)) and device not in self.cut_off
        if not enough or self.shares_on(device) + len(shares) > MAX_SHARES_ON_A_DEVICE:
            return shares
        bit, places = self.rows.bit_of(device), self.rows.places_on(device)
        added, new, rest = [], [], []
        borne: Counter[bytes] = Counter()  # by the devices that encodings had before: many have the same
        for share in shares:
            plain, claim = self._entries.plain(share.encoding_id), claim_of(share)
            if plain is not None and claim and not plain.devices & bit and plain.claim in (b"", claim):
                if not plain.claim:
                    self._entries.enter(plain)
                    plain.claim = claim
                    new.append(share)
                borne[devices_in(plain.places)] += 1
                plain.places += places[share.share]
                plain.devices |= bit
                added.append(share)
                self._change(plain)
            elif plain is None or not claim or plain.claim != claim or not self._is_only(plain, share.share, device):
                rest.append(share)
                if plain is not None:
                    self._entries.unpack(plain)  # so that what comes of it behind comes after this
                continue
            elif share.encoding_id in self.tombstones:  # which the device may have to be told of again
                self._touched[share.encoding_id] = None
            if seen is not None and seen.first(plain.ref):
                seen.shares += 1
        if added:
            self._count_added(device, added, new, borne)
        return rest

    def _is_only(self, plain: Plain, share: int, device: bytes) -> bool:
        """Whether this share is all that a device is said to hold of an encoding."""
        places = [place for place in self.rows.unpacked_places(plain.places) if place.device == device]
        return places == [Place(share, device)]

    def _count_added(
        self, device: bytes, added: Sequence[AnnouncedShare], new: Sequence[AnnouncedShare], borne: Counter[bytes]
    ) -> None:
        """Count shares that a device was not said to hold, of plain encodings; of `new` ones nothing was said."""
        holding = self._on.setdefault(device, _Holding())
        holding.shares += len(added)
        holding.sound_bytes += sum(share.share_bytes for share in added)
        holding.digest = (holding.digest + sum(map(digest_of, added))) % MODULUS
        for devices, times in borne.items():
            former = self.rows.unpacked_devices(devices)
            self.budget.divide(former, [*former, device], CLAIM, PLACE, times=times)
        owned: Counter[tuple[bytes, int, int]] = Counter((s.depositor or s.owner, s.n, s.share_bytes) for s in added)
        for (owner, n, size), times in owned.items():
            self._owned.count(owner, device, times * size, times * part(CLAIM, PLACE, n))
        found = _objects_of(new)
        self._objects.hold(found)
        for share, (owner, object_id) in zip(new, found):
            self.codes[share.k, share.n] += 1
            self._enter_object(owner, object_id, share.encoding_id, device)
        self.changes.note_all(_objects_of(added))

    def _announce(self, share: AnnouncedShare, place: Place, claims: Sequence[Claim]) -> None:
        """Take up what was not said before; `claims`: none where the share is damaged."""
        device = place.device
        if self.shares_on(device) >= MAX_SHARES_ON_A_DEVICE or not self._makes_room(device, _weight(share)):
            self.cut_off.add(device)
            return
        entry = self._entries.get(share.encoding_id) or self._entries.add(share.encoding_id)
        if not claims:
            self._add_damaged(entry, place)
        else:
            for claim in claims:
                self._enlist(entry, claim, place)
            self._enter(entry, place).sound_bytes += share.share_bytes
            self._count_owned(claims[0], device, len(claims))
            if share.revision != 1:
                entry.revisions[place] = share.revision
        self._count_digest(device, digest_of(share))

    def _note(self, seen: _Seen, encoding_id: bytes, place: Place) -> None:
        """What else a device said of an encoding before it began to announce anew goes as it names it again."""
        entry = self._entries.get(encoding_id)
        if entry is None or not entry.says(place) or not seen.first(entry.ref):
            return
        seen.shares += 1
        for other in entry.shares_on(place.device):
            if other != place:
                self._remove(encoding_id, other)

    def withdraw(self, device: bytes, shares: Sequence[tuple[bytes, int]]) -> None:
        """A device does not hold these shares (encoding id, index) any more."""
        self.hold([encoding_id for encoding_id, _ in shares])
        for encoding_id, share in shares:
            self._remove(encoding_id, Place(share, device))
        self._name_no_more()

    def distrust(self, encoding_id: bytes, place: Place) -> None:
        """A block of this share was found bad: it counts as damaged until its device says something new of it."""
        if self._remove(encoding_id, place):
            self._add_damaged(self._entries.get(encoding_id) or self._entries.add(encoding_id), place)
            damaged = AnnouncedShare(encoding_id, place.share, None, b"", 1, 1, 0, sound=False)
            self._count_digest(place.device, digest_of(damaged))

    def add_tombstones(self, device: bytes, tombstones: Iterable[ToldTombstone], today: int) -> None:
        """A device tells of deletions that it knows. `today`: Unix seconds."""
        for told in tombstones:
            stone, trash_until, ends = told.tombstone, today + told.trash_left, today + told.left
            if not self._has_memory(device) or not self.tombstones.tell(device, stone, trash_until, ends):
                self.cut_off.add(device)
            elif not told.trash_left and self.tombstones.trash_until(stone) > today:
                self.tombstones.note_emptied(device, stone)  # before its time, as approvers signed
            self.touch(stone.encoding_id)

    def register(self, device: bytes, *, anew: bool = True) -> None:
        """A device is about to announce what came since it was known, or `anew`, all that it holds.

        Then what it does not name goes when it has. Deletions it always tells of anew.
        """
        if anew:
            self.know_up_to(device, None)
            self._dropping.pop(device, None)
            self._announcing[device] = _Seen()
        for encoding_id in self.tombstones.forget_device(device):
            self.touch(encoding_id)
        self.cut_off.discard(device)

    def end_announcing(self, device: bytes) -> bool:
        """It has announced all that it was to; whether that is all that it holds."""
        seen = self._announcing.pop(device, None)
        if seen is None:
            return False
        if not seen.are_all_there or seen.shares != self.shares_on(device):
            self._dropping[device] = seen, self._entries.parts_on(device, seen)
            self.drop_unnamed()
        return True

    def drop_unnamed(self) -> None:
        """Go on forgetting what devices did not name when they announced anew, part by part."""
        for device, (_, unseen) in list(self._dropping.items()):
            parts = 0
            for entries in itertools.islice(unseen, _PARTS):
                parts += 1
                for entry in entries:
                    self._remove_all(entry, device)
            if parts < _PARTS:
                del self._dropping[device]

    def know_up_to(self, device: bytes, epoch: Optional[bytes], sequence: int = 0) -> None:
        """All that a device announced is known, of this epoch of its numbering up to this number; durable with it.

        Not where it has yet to announce all. `epoch`: None where it does not number, or what is known is not to count.
        """
        holding = self._on.get(device)
        if device in self._announcing or device in self._dropping or (holding is None and epoch is None):
            return
        holding = self._on.setdefault(device, _Holding())
        if (holding.epoch, holding.sequence) != (epoch, sequence):
            holding.epoch, holding.sequence = epoch, sequence
            self._is_counted_anew = True

    def known_of(self, device: bytes) -> Optional[KnownUpTo]:
        """Up to where a device's announcements are known; None where it does not number them, or nothing is."""
        holding = self._on.get(device)
        if holding is None or holding.epoch is None:
            return None
        return KnownUpTo(holding.epoch, holding.sequence, holding.digest.to_bytes(DIGEST_SIZE, "big"))

    def forget_device(self, device: bytes, most: Optional[int] = None) -> None:
        """It is no member any more: all that it said goes, of no more than `most` encodings at once."""
        for entry in itertools.islice(self._entries.on(device), most):
            self._remove_all(entry, device)
        if self.shares_on(device):
            return
        self._announcing.pop(device, None)
        self._dropping.pop(device, None)
        for encoding_id in self.tombstones.forget_device(device):
            self.touch(encoding_id)
        self._on.pop(device, None)
        self.cut_off.discard(device)
        self.budget.forget(device)
        self._write()
        self.rows.drop_device(device)

    def devices(self) -> set[bytes]:
        """Those of which anything is known."""
        return self._on.keys() | self.tombstones.devices() | self.cut_off

    # --- what becomes too much

    def _makes_room(self, device: bytes, more: int) -> bool:
        """See to it that there is room for so many bytes of a device's; False where that one has too much itself."""
        if device in self.cut_off and not self.budget.fits(more + self.budget.limit // _HELD_BACK):
            return False  # or it would take what was made free for others
        while not self.budget.fits(more):
            heaviest = self.budget.heaviest(device, more)
            if heaviest == device or not self._may_relieve():
                return False
            if not self._relieve(heaviest, self.budget.of(device) + more):
                return False
        return True

    def _may_relieve(self) -> bool:
        """Looking for what can be dropped costs what a device holds: once for as many shares that found no room."""
        self._until_relief -= 1
        return self._until_relief < 0

    def _relieve(self, device: bytes, other: int) -> bool:
        """Drop what this device alone says, and the rest down to twice what another takes; whether that helped."""
        self.cut_off.add(device)
        before = self.budget.total
        enough = before - self.budget.limit // _RELIEF
        for entry in self._entries.last_on(device):
            if self.budget.total <= enough:
                return True
            if entry.devices() == {device} or self.budget.of(device) > 2 * other:
                self._remove_all(entry, device)
        helped = self.budget.total < before
        if not helped:
            self._until_relief = self.shares_on(device)
        return helped

    def _has_memory(self, device: bytes) -> bool:
        """The same for one more tombstone of a device's."""
        budget = self.tombstones.budget
        if device in self.cut_off and not budget.fits(TOMBSTONE + budget.limit // _HELD_BACK):
            return False
        while not budget.fits(TOMBSTONE):
            heaviest = budget.heaviest(device, TOMBSTONE)
            if heaviest == device:
                return False
            self.cut_off.add(heaviest)
            before = budget.total
            dropped = self.tombstones.drop_untold_by_others(heaviest, before - budget.limit // _RELIEF)
            for encoding_id in dropped:
                self.touch(encoding_id)
            if budget.total == before:
                return False
        return True

    def _remove_all(self, entry: Entry, device: bytes) -> None:
        for place in entry.shares_on(device):
            self._remove(entry.encoding_id, place)

    # --- what clients ask

    def locate(self, owner: bytes, object_id: bytes, alive: Alive) -> list[EncodingAt]:
        """The encodings of one owner's object, the one with most shares at hand first; empty where there are none."""
        return self.locate_all(owner, [object_id], alive)

    def locate_all(self, owner: bytes, object_ids: Sequence[bytes], alive: Alive) -> list[EncodingAt]:
        """The same of several objects, one after the other."""
        found = [(object_id, self._objects.encodings_of(owner, object_id)) for object_id in object_ids]
        return self._described(owner, found, alive)

    def page(self, owner: bytes, after: bytes, limit: int, alive: Alive) -> tuple[list[EncodingAt], bool]:
        """Up to `limit` of an owner's objects behind `after`, in order, and whether that was the rest."""
        shown: list[tuple[bytes, list[bytes]]] = []
        while len(shown) <= limit:
            objects = self._objects.behind(owner, after, limit + 1)
            if not objects:
                return self._described(owner, shown, alive), True
            self.hold([encoding_id for encodings in objects.values() for encoding_id in encodings])
            shown += [found for found in objects.items() if self._shown(owner, *found)]
            after = max(objects)
        return self._described(owner, shown[:limit], alive), False

    def _described(
        self, owner: bytes, objects: Sequence[tuple[bytes, Sequence[bytes]]], alive: Alive
    ) -> list[EncodingAt]:
        self.hold([encoding_id for _, encodings in objects for encoding_id in encodings])
        described: list[EncodingAt] = []
        for object_id, encodings in objects:
            claims = self._shown(owner, object_id, encodings)
            entries = {claim.encoding_id: self._entries.get(claim.encoding_id) for claim in claims}
            found = [_describe(entry, claim, alive) for claim in claims if (entry := entries[claim.encoding_id])]
            if len(found) > 1:
                found.sort(key=lambda e: (-len(shares_at_hand(e)), e.encoding_id))
            described += found
        return described

    # --- what the steward asks

    def __len__(self) -> int:
        """How many encodings there are, deleted ones and damaged ones among them."""
        return self._entries.count

    def __contains__(self, encoding_id: bytes) -> bool:
        return self._entries.get(encoding_id) is not None

    def known(self, encoding_id: bytes) -> Optional[Known]:
        """An encoding by the claim that is believed most; None where none of its shares can say what it is."""
        entry = self._entries.get(encoding_id)
        claims = entry.own_claims() if entry is not None else []
        if entry is None or not claims:
            return None
        best = claims[0] if len(claims) == 1 else self._most_believed(entry, claims)
        stale: tuple[Place, ...] = ()
        if entry.revisions:
            alike = [claim for claim in claims if claim.shape == best.shape]
            best = max(alike, key=lambda claim: (entry.agreed_revision(claim), claim == best))
            stale = entry.below(entry.agreed_revision(best), alike)
        contrary = frozenset(place.device for claim in claims if claim != best for place in entry.sound[claim])
        return Known(best, entry.sound[best], entry.damaged, contrary, stale)

    def _most_believed(self, entry: Entry, claims: list[Claim]) -> Claim:
        """The claim that most devices make, of those that were not disputed.

        An honest device has one share of an encoding: one that names several has no vote, unless none has.
        """
        doubted = self._doubted.get(entry.encoding_id, set())
        votes = Counter(place.device for claim in claims for place in entry.sound[claim])

        def weight(claim: Claim) -> tuple[bool, int, int, Claim]:
            devices = {place.device for place in entry.sound[claim]}
            last = claim._replace(depositor=claim.depositor or b"")  # None has no order beside bytes
            return claim not in doubted, sum(votes[device] == 1 for device in devices), len(devices), last

        return max(claims, key=weight)

    def doubt(self, claim: Claim) -> bool:
        """Its devices do not show what they claim: others are tried before it, and when all are doubted, it again.

        Whether there is another that was not tried yet.
        """
        doubted = self._doubted.setdefault(claim.encoding_id, set())
        doubted.add(claim)
        self.touch(claim.encoding_id)
        if doubted.issuperset(self._own_claims(claim.encoding_id)):
            del self._doubted[claim.encoding_id]
            return False
        return True

    def encodings_of(self, owner: bytes, object_id: bytes) -> list[bytes]:
        """The encodings of an object that were not deleted, without those that are another owner's."""
        shown = self._shown(owner, object_id, self._objects.encodings_of(owner, object_id))
        return sorted({claim.encoding_id for claim in shown if not claim.granted})

    def owners_of(self, encoding_id: bytes) -> set[bytes]:
        """Whose this encoding is, as its devices claim, and to whom it is granted."""
        entry = self._entries.get(encoding_id)
        return set() if entry is None else {claim.owner for claim in entry.sound}

    def encodings_on(self, device: bytes) -> Iterator[bytes]:
        """The encodings that a device holds shares of."""
        return (entry.encoding_id for entry in self._entries.on(device) if entry.shares_on(device))

    def holders(self, encoding_id: bytes) -> set[bytes]:
        """The devices that hold anything of an encoding, whatever they claim."""
        entry = self._entries.get(encoding_id)
        return set() if entry is None else entry.devices()

    def holders_of(self, encoding_id: bytes, owner: bytes) -> set[bytes]:
        """The devices that hold shares of an encoding which are this owner's, or too damaged to tell.

        The latter only where others hold some of this owner's, or nobody any that can tell.
        """
        entry = self._entries.get(encoding_id)
        if entry is None:
            return set()
        claims = entry.own_claims()
        own = [claim for claim in claims if claim.owner == owner]
        groups = [*(entry.sound[claim] for claim in own), entry.damaged] if own or not claims else []
        return {place.device for group in groups for place in group}

    def shares_on(self, device: bytes) -> int:
        holding = self._on.get(device)
        return 0 if holding is None else holding.shares

    def bytes_on(self, device: bytes) -> int:
        """Bytes of blocks in the sound shares of a device."""
        holding = self._on.get(device)
        return 0 if holding is None else holding.sound_bytes

    def bytes_of(self, owner: bytes) -> int:
        """Bytes of blocks in all sound shares of a vault, on all devices.

        Of one device no more than of the one that has second most: what one alone claims may be made up.
        """
        return self._owned.bytes_of(owner)

    def room_of(self, owner: bytes) -> int:
        """Bytes of the catalog that a vault's shares, and whom they are granted to, take, counted likewise."""
        return self._owned.room_of(owner)

    def memory_of(self, owner: bytes) -> int:
        """Bytes of memory that a vault's deletions take."""
        return self.tombstones.memory_of(owner)

    def tells_of(self, owner: bytes) -> bool:
        """Whether a vault has shares or deletions here."""
        return self._owned.has(owner) or self.memory_of(owner) > 0

    def touch(self, encoding_id: bytes) -> None:
        """Something about it changed, although not what is held."""
        self._touched[encoding_id] = None
        entry = self._entries.get(encoding_id)
        for claim in entry.sound if entry is not None else ():
            self.changes.note(claim.owner, claim.object_id)

    def take_touched(self) -> Optional[list[bytes]]:
        """The encodings of which anything changed since this was last asked; None where these are very many."""
        touched = None if self._are_many_touched else list(self._touched)
        self._touched.clear()
        self._are_many_touched = False
        return touched

    def to_look_at(
        self, refs: range, changed: Optional[Iterable[bytes]], away: Iterable[bytes], limit: int
    ) -> list[tuple[int, bytes]]:
        """Refs and ids of encodings, of these refs and in order, that are not simply whole, on devices that are here.

        `changed`: devices that they have to be on one of, None for any; `away`: devices that are not here.
        """
        self._entries.write()
        bits = -1 if changed is None else self.rows.bits(changed)
        return self.rows.to_look_at(refs, bits, self.rows.bits(away), limit)

    def is_simply_whole(self, encoding_id: bytes, away: int) -> bool:
        """Whether an encoding that `hold` was asked for has each share once, on devices that are here, and no more.

        `away`: bits of devices that are not here. False also of some that are whole: of those more is known.
        """
        plain = self._entries.plain(encoding_id)
        if plain is None or plain.devices & away or encoding_id in self.tombstones:
            return False
        return self.rows.is_complete(plain)

    @property
    def several(self) -> set[tuple[bytes, bytes]]:
        """Owners and object ids that have several encodings."""
        return self._objects.several

    @property
    def last_ref(self) -> int:
        """Of the encoding that came last."""
        return self._entries.last_ref

    # --- the rows

    def commit(self) -> None:
        """Make durable what was said so far."""
        self._write()
        self.rows.commit()

    def _write(self) -> None:
        for each in (self._entries, self._objects, self._owned, self.changes):
            each.write()
        if self._is_counted_anew:
            self._is_counted_anew = False
            self.rows.write_devices({device: self._counted(device) for device in self._on})
            self.rows.write_codes(self.codes)

    def _name_no_more(self) -> None:
        """Where very many encodings changed, the steward is not told which."""
        if len(self._touched) > _TOUCHED:
            self._touched.clear()
            self._are_many_touched = True

    def _counted(self, device: bytes) -> DeviceRow:
        on = self._on[device]
        slot = self.rows.slot_of(device)
        return DeviceRow(slot, on.shares, on.sound_bytes, self.budget.of(device), on.digest, on.epoch, on.sequence)

    def hold(self, encoding_ids: Sequence[bytes]) -> None:
        """Read all of these at once, since they are asked for next."""
        self._entries.hold(encoding_ids)

    def _own_claims(self, encoding_id: bytes) -> list[Claim]:
        entry = self._entries.get(encoding_id)
        return [] if entry is None else entry.own_claims()

    # --- what changes

    def _enlist(self, entry: Entry, claim: Claim, place: Place) -> None:
        """Have a sound share found by a claim."""
        places = entry.sound.get(claim, ())
        if not places:
            if not claim.granted:
                self.codes[claim.k, claim.n] += 1
            self._enter_object(claim.owner, claim.object_id, entry.encoding_id, place.device)
        self._set_places(entry, claim, (*places, place))

    def _enter_object(self, owner: bytes, object_id: bytes, encoding_id: bytes, device: bytes) -> None:
        """Have an encoding found by its object, unless that device alone names very many of that object already."""
        others = self._objects.count(owner, object_id)
        if others:
            self.several.add((owner, object_id))
        if others >= _MAX_ENCODINGS:
            named = self._objects.encodings_of(owner, object_id)
            self.hold(named)
            alone = sum(other is not None and other.devices() == {device} for other in map(self._entries.get, named))
            if alone >= _MAX_ENCODINGS:
                return
        self._objects.add(owner, object_id, encoding_id)

    def _set_places(self, entry: Entry, claim: Claim, places: tuple[Place, ...]) -> None:
        """Whoever makes a claim bears its room, in equal parts."""
        former = [place[1] for place in entry.sound.get(claim, ())]
        self.budget.divide(former, [place[1] for place in places], CLAIM, PLACE)
        entry.sound[claim] = places
        self.changes.note(claim.owner, claim.object_id)

    def _add_damaged(self, entry: Entry, place: Place) -> None:
        entry.damaged = (*entry.damaged, place)
        self.budget.charge(place.device, DAMAGED)
        self._enter(entry, place)
        self.touch(entry.encoding_id)

    def _enter(self, entry: Entry, place: Place) -> _Holding:
        """Count a share for its device."""
        holding = self._on.get(place.device)
        if holding is None:
            holding = self._on[place.device] = _Holding()
        holding.shares += 1
        self._change(entry)
        return holding

    def _change(self, kept: Kept) -> None:
        self._entries.change(kept)
        self._is_counted_anew = True
        self._touched[kept.encoding_id] = None

    def _remove(self, encoding_id: bytes, place: Place) -> bool:
        """Forget what was said of a share before; False where nothing was."""
        entry = self._entries.get(encoding_id)
        if entry is None:
            return False
        said = announced(entry, place)
        if said is None:
            return False
        if place in entry.damaged:
            self.budget.charge(place.device, -DAMAGED)
            entry.damaged = _without(entry.damaged, place)
            self.touch(encoding_id)
        else:
            self._remove_sound(entry, place)
        self._on[place.device].shares -= 1
        if place.device in self._announcing:
            self._announcing[place.device].are_all_there = False
        self._count_digest(place.device, -digest_of(said))
        self._change(entry)
        if entry.is_empty:
            self._entries.count -= 1
        return True

    def _remove_sound(self, entry: Entry, place: Place) -> None:
        claims = entry.claims_of(place)
        for claim in claims:
            if not claim.granted:
                self._on[place.device].sound_bytes -= claim.share_bytes
                self._count_owned(claim, place.device, -len(claims))
            self._set_places(entry, claim, _without(entry.sound[claim], place))
            if not entry.sound[claim]:
                self._drop(entry, claim)
        entry.revisions.pop(place, None)

    def _drop(self, entry: Entry, claim: Claim) -> None:
        """A claim that nobody makes any more."""
        del entry.sound[claim]
        if not claim.granted:
            self.codes[claim.k, claim.n] -= 1
        if not entry.sound:
            self._doubted.pop(entry.encoding_id, None)
        found = claim.owner, claim.object_id
        if not any((other.owner, other.object_id) == found for other in entry.sound):
            self._objects.remove(*found, entry.encoding_id)

    def _count_owned(self, claim: Claim, device: bytes, claims: int) -> None:
        """Count a share for its owner, or who left it: how many claims are made of it; negative, so many less."""
        size, room = claim.share_bytes, claims * part(CLAIM, PLACE, claim.n)
        self._owned.count(claim.depositor or claim.owner, device, size if claims > 0 else -size, room)

    def _count_digest(self, device: bytes, digest: int) -> None:
        self._on[device].digest = (self._on[device].digest + digest) % MODULUS

    # --- what was deleted

    def hides(self, claim: Claim) -> bool:
        """Whether what a claim is about was deleted, by whose it is; to whom it is granted, where all these did so."""
        if claim.encoding_id not in self.tombstones:
            return False
        owners = {each.owner for each in self._own_claims(claim.encoding_id)} if claim.granted else {claim.owner}
        return all(self.tombstones.deleted(claim.encoding_id, owner) for owner in owners)

    def is_deleted(self, encoding_id: bytes) -> bool:
        """Whether an encoding was deleted by the owner that most devices name.

        By anybody where none can say, or where what is left is an owner's whose vault key was replaced: of devices that
        were away when the key was, and the image deleted under the next.
        """
        if encoding_id not in self.tombstones:
            return False
        known = self.known(encoding_id)
        if known is None or self._has_retired(known.claim.owner):
            return any(each.deleted for each in self.tombstones.of_encoding(encoding_id))
        return self.hides(known.claim)

    def _shown(self, owner: bytes, object_id: bytes, encodings: Iterable[bytes]) -> list[Claim]:
        """What is claimed of an object and may be shown, of one device's word alone no more than _MAX_ENCODINGS."""
        shown: list[Claim] = []
        alone: Counter[bytes] = Counter()
        for entry in map(self._entries.get, encodings):
            for claim, places in entry.sound.items() if entry is not None else ():
                if (claim.owner, claim.object_id) != (owner, object_id) or self.hides(claim):
                    continue
                if len({place.device for place in places}) == 1:
                    alone[places[0].device] += 1
                    if alone[places[0].device] > _MAX_ENCODINGS:
                        continue
                shown.append(claim)
        return shown


def in_memory() -> sqlite3.Connection:
    """A database for a catalog that nothing keeps."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(SCHEMA)
    return connection


def _describe(entry: Entry, claim: Claim, alive: Alive) -> EncodingAt:
    sound = [(place, True) for place in entry.sound[claim]]
    damaged = [(place, False) for place in entry.damaged]
    shares = [ShareAt(*place, is_sound, alive(place[1])) for place, is_sound in sorted(sound + damaged)]
    c = claim
    return EncodingAt(c.object_id, c.encoding_id, c.k, c.n, c.share_bytes, shares, c.granted)


def _objects_of(shares: Iterable[AnnouncedShare]) -> list[tuple[bytes, bytes]]:
    """Owners and object ids of shares that say these."""
    return [(share.owner, share.object_id) for share in shares if share.object_id is not None]


def _weight(share: AnnouncedShare) -> int:
    """Bytes of the catalog that a share takes which nobody else announces."""
    return (CLAIM + PLACE) * (1 + len(share.grants))


def _without(places: tuple[Place, ...], place: Place) -> tuple[Place, ...]:
    return tuple(other for other in places if other != place)
