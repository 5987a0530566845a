"""Who holds what: object → encoding → share → device.

Nothing here outlives the broker. Workers announce what they hold when they register, and every share when they have
committed it; a device that is gone keeps its entries, so that what it held is known to be missing rather than unknown.

A device may be wrong, or lie. So what a share is said to be part of (owner, object, encoding, k, n, length) is a claim,
and shares with different claims are never put together: a false claim is listed apart and hides nothing of what the
others say. A share too damaged to say whose it is shows with every claim to its encoding. To whom a share is granted is
a claim as well, of that owner's, which only clients see. A share whose revision is below the one that k devices agree
on is stale: it still counts for what it says, and the steward is told.

Encodings that were deleted stay here as long as a device holds shares of them, and are shown to no client. Which
encodings changed since it was last asked, the catalog tells the steward (`take_touched`). Made for 100,000 images: an
index by device, so that what a device says anew costs what it holds, and tuples, not sets, for few places.

All of it is charged to the devices that say it (`budget`). Where it becomes too much, what the device that weighs most
says alone goes, the newest first, and nothing more is taken up of it (`cut_off`).
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

from broker.budget import CLAIM, DAMAGED, PLACE, TOMBSTONE, MemoryBudget, part
from broker.change_log import ChangeLog
from broker.tombstones import Tombstones
from common.protocol.messages import (
    MAX_SHARES_ON_A_DEVICE,
    AnnouncedShare,
    EncodingAt,
    ShareAt,
    ToldTombstone,
    shares_at_hand,
)

Code = tuple[int, int]  # k, n
Alive = Callable[[bytes], bool]  # of a device id: is the device connected now?
BUDGET = 192 << 20  # bytes, of a broker with 384 MiB
_MAX_ENCODINGS = 64  # of one object that are found by the word of one device alone; honest ones have one or two
_MAX_FORMER = 1000  # object ids of before that an owner's order may have beside as many as there are
_HELD_BACK = 8  # the part of the budget that is not for devices that were cut off
_RELIEF = 16  # the part of the budget that is made free at once where it is used up


class Place(NamedTuple):
    """A share of an encoding on a device."""

    share: int
    device: bytes


class Claim(NamedTuple):
    """What devices say of shares that they hold."""

    owner: bytes
    object_id: bytes
    encoding_id: bytes
    k: int
    n: int
    share_bytes: int
    granted: bool = False  # somebody else's, who lets this owner read it
    depositor: Optional[bytes] = None  # who left it for the owner, and whom it counts for

    @property
    def shape(self) -> tuple[int, int, int, bool]:
        """What an amendment leaves as it is, beside the encoding id."""
        return self.k, self.n, self.share_bytes, self.granted


class Known(NamedTuple):
    """What is known of an encoding, by the claim that is believed most."""

    claim: Claim
    sound: tuple[Place, ...]
    damaged: tuple[Place, ...]
    contrary: frozenset[bytes]  # devices that claim otherwise
    stale: tuple[Place, ...] = ()  # whose devices were away when they were amended elsewhere


@dataclass
class _Holding:
    """What a device holds."""

    encodings: dict[bytes, int] = field(default_factory=dict)  # encoding id → its shares, a bit for each
    shares: int = 0
    sound_bytes: int = 0


class Catalog:
    def __init__(self, has_retired: Callable[[bytes], bool] = lambda owner: False, budget: int = BUDGET) -> None:
        """`has_retired`: whether an owner's vault key was replaced by another. `budget`: bytes of memory."""
        self._has_retired = has_retired
        self.budget = MemoryBudget(budget)
        self.tombstones = Tombstones(self.budget)
        self.cut_off: set[bytes] = set()  # devices of which something was not taken up, or was dropped
        self._sound: dict[Claim, tuple[Place, ...]] = {}
        self._revisions: dict[bytes, dict[Place, int]] = {}  # encoding id → of its sound shares, where it is not 1
        self._doubted: dict[bytes, set[Claim]] = {}  # encoding id → claims to it that others are tried before
        self._damaged: dict[bytes, tuple[Place, ...]] = {}  # encoding id → shares that are not whole
        self._encodings: dict[bytes, tuple[Claim, ...]] = {}  # encoding id → the claims to it
        self._objects: dict[bytes, dict[bytes, tuple[Claim, ...]]] = {}  # owner → object id → claims
        self._order: dict[bytes, list[bytes]] = {}  # owner → its object ids, those of before among them
        self._unsorted: set[bytes] = set()  # owners whose order is to be brought up to what they have
        self._on: dict[bytes, _Holding] = {}  # device id → what it holds
        self._places: dict[Place, Place] = {}  # one object for each, since they recur in many encodings
        self._touched: dict[bytes, None] = {}
        self.changes = ChangeLog()
        self._owned: dict[bytes, dict[bytes, list[int]]] = {}  # owner → device → bytes of blocks, and of memory
        self._until_relief = 0  # shares that find no room until it is looked again for what can be dropped
        self.codes: Counter[Code] = Counter()  # how many encodings are claimed to have this k and n

    # --- what devices say

    def announce(self, device: bytes, shares: Iterable[AnnouncedShare]) -> None:
        """A device says that it holds these shares; the last word on a share counts.

        What goes beyond the number that one device may have, or its part of the memory, is not taken up.
        """
        for share in shares:
            place = self._place(share.share, device)
            self._remove(share.encoding_id, place)
            if self.shares_on(device) >= MAX_SHARES_ON_A_DEVICE or not self._makes_room(device, _weight(share)):
                self.cut_off.add(device)
                continue
            if share.object_id is None or not share.sound:
                self._add_damaged(share.encoding_id, place)
            else:
                whose = share.owner, share.object_id, share.encoding_id
                claim = Claim(*whose, share.k, share.n, share.share_bytes, depositor=share.depositor)
                grants = dict.fromkeys((grant.owner, grant.object_id) for grant in share.grants)
                self._add(claim, place, 1 + len(grants))
                for grant in grants:
                    self._enlist(claim._replace(owner=grant[0], object_id=grant[1], granted=True), place)
                if share.revision != 1:
                    self._revisions.setdefault(share.encoding_id, {})[place] = share.revision

    def withdraw(self, device: bytes, shares: Iterable[tuple[bytes, int]]) -> None:
        """A device does not hold these shares (encoding id, index) any more."""
        for encoding_id, share in shares:
            self._remove(encoding_id, self._place(share, device))

    def distrust(self, encoding_id: bytes, place: Place) -> None:
        """A block of this share was found bad: it counts as damaged until its device says something new of it."""
        if self._remove(encoding_id, place):
            self._add_damaged(encoding_id, self._place(*place))

    def add_tombstones(self, device: bytes, tombstones: Iterable[ToldTombstone], today: int) -> None:
        """A device tells of deletions that it knows. `today`: Unix seconds."""
        for told in tombstones:
            stone, trash_until, ends = told.tombstone, today + told.trash_left, today + told.left
            if not self._makes_room(device, TOMBSTONE) or not self.tombstones.tell(device, stone, trash_until, ends):
                self.cut_off.add(device)
            self.touch(stone.encoding_id)

    def forget_device(self, device: bytes) -> None:
        """Before a device announces anew all that it holds, or as it is no member any more: all that it said goes."""
        holding = self._on.get(device, _Holding())
        for encoding_id, bits in list(holding.encodings.items()):
            self._remove_all(encoding_id, bits, device)
        for encoding_id in self.tombstones.forget_device(device):
            self.touch(encoding_id)
        self._on.pop(device, None)
        self.cut_off.discard(device)
        self.budget.forget(device)

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
        held = list(self._on.get(device, _Holding()).encodings.items())
        for encoding_id, bits in reversed(held):
            if self.budget.total <= enough:
                return True
            if self.holders(encoding_id) == {device} or self.budget.of(device) > 2 * other:
                self._remove_all(encoding_id, bits, device)
        for encoding_id in self.tombstones.drop_untold_by_others(device, enough):
            self.touch(encoding_id)
        helped = self.budget.total < before
        if not helped:
            self._until_relief = len(held)
        return helped

    def _remove_all(self, encoding_id: bytes, bits: int, device: bytes) -> None:
        for share in _shares(bits):
            self._remove(encoding_id, self._place(share, device))

    # --- what clients ask

    def locate(self, owner: bytes, object_id: bytes, alive: Alive) -> list[EncodingAt]:
        """The encodings of one owner's object, the one with most shares at hand first; empty where there are none."""
        found = [self._describe(claim, alive) for claim in self._shown(owner, object_id)]
        if len(found) < 2:
            return found
        return sorted(found, key=lambda e: (-len(shares_at_hand(e)), e.encoding_id))

    def page(self, owner: bytes, after: bytes, limit: int, alive: Alive) -> tuple[list[EncodingAt], bool]:
        """Up to `limit` of an owner's objects behind `after`, in order, and whether that was the rest."""
        order = self._sorted(owner)
        objects: list[bytes] = []
        for position in range(bisect.bisect_right(order, after), len(order)):
            if not self._shown(owner, order[position]):
                continue
            if len(objects) == limit:
                return [encoding for object_id in objects for encoding in self.locate(owner, object_id, alive)], False
            objects.append(order[position])
        return [encoding for object_id in objects for encoding in self.locate(owner, object_id, alive)], True

    # --- what the steward asks

    def __len__(self) -> int:
        """How many encodings there are, deleted ones and damaged ones among them."""
        return len(self._encodings) + sum(encoding_id not in self._encodings for encoding_id in self._damaged)

    def __contains__(self, encoding_id: bytes) -> bool:
        return encoding_id in self._encodings or encoding_id in self._damaged

    def known(self, encoding_id: bytes) -> Optional[Known]:
        """An encoding by the claim that is believed most; None where none of its shares can say what it is."""
        claims = [claim for claim in self._encodings.get(encoding_id, ()) if not claim.granted]
        if not claims:
            return None
        best = claims[0] if len(claims) == 1 else self._most_believed(claims)
        stale: tuple[Place, ...] = ()
        if encoding_id in self._revisions:
            alike = [claim for claim in claims if claim.shape == best.shape]
            best = max(alike, key=lambda claim: (self._agreed_revision(claim), claim == best))
            stale = self._stale(alike, self._agreed_revision(best))
        contrary = frozenset(place.device for claim in claims if claim != best for place in self._sound[claim])
        return Known(best, self._sound[best], self._damaged.get(encoding_id, ()), contrary, stale)

    def _most_believed(self, claims: list[Claim]) -> Claim:
        """The claim that most devices make, of those that were not disputed.

        An honest device has one share of an encoding: one that names several has no vote, unless none has.
        """
        doubted = self._doubted.get(claims[0].encoding_id, set())
        votes = Counter(place.device for claim in claims for place in self._sound[claim])

        def weight(claim: Claim) -> tuple[bool, int, int, Claim]:
            devices = {place.device for place in self._sound[claim]}
            last = claim._replace(depositor=claim.depositor or b"")  # None has no order beside bytes
            return claim not in doubted, sum(votes[device] == 1 for device in devices), len(devices), last

        return max(claims, key=weight)

    def doubt(self, claim: Claim) -> bool:
        """Its devices do not show what they claim: others are tried before it, and when all are doubted, it again.

        Whether there is another that was not tried yet.
        """
        claims = {other for other in self._encodings.get(claim.encoding_id, ()) if not other.granted}
        doubted = self._doubted.setdefault(claim.encoding_id, set())
        doubted.add(claim)
        self.touch(claim.encoding_id)
        if claims <= doubted:
            del self._doubted[claim.encoding_id]
            return False
        return True

    def _agreed_revision(self, claim: Claim) -> int:
        """The highest revision at which k devices make a claim; 0 where they do at none."""
        devices: dict[int, set[bytes]] = {}
        for place in self._sound[claim]:
            devices.setdefault(self._revision(claim, place), set()).add(place.device)
        return max((revision for revision, group in devices.items() if len(group) >= claim.k), default=0)

    def _stale(self, claims: Iterable[Claim], revision: int) -> tuple[Place, ...]:
        places = [(claim, place) for claim in claims for place in self._sound[claim]]
        return tuple(place for claim, place in places if self._revision(claim, place) < revision)

    def _revision(self, claim: Claim, place: Place) -> int:
        return self._revisions.get(claim.encoding_id, {}).get(place, 1)

    def encodings_of(self, owner: bytes, object_id: bytes) -> list[bytes]:
        """The encodings of an object that were not deleted, without those that are another owner's."""
        return sorted({claim.encoding_id for claim in self._shown(owner, object_id) if not claim.granted})

    def owners_of(self, encoding_id: bytes) -> set[bytes]:
        """Whose this encoding is, as its devices claim, and to whom it is granted."""
        return {claim.owner for claim in self._encodings.get(encoding_id, ())}

    def encodings_on(self, device: bytes) -> KeysView[bytes]:
        """The encodings that a device holds shares of."""
        return self._on.get(device, _Holding()).encodings.keys()

    def holders(self, encoding_id: bytes) -> set[bytes]:
        """The devices that hold anything of an encoding, whatever they claim."""
        return self._devices_of(encoding_id, self._encodings.get(encoding_id, ()))

    def holders_of(self, encoding_id: bytes, owner: bytes) -> set[bytes]:
        """The devices that hold shares of an encoding which are this owner's, or too damaged to tell.

        The latter only where others hold some of this owner's, or nobody any that can tell.
        """
        claims = [claim for claim in self._encodings.get(encoding_id, ()) if not claim.granted]
        own = [claim for claim in claims if claim.owner == owner]
        return self._devices_of(encoding_id, own) if own or not claims else set()

    def _devices_of(self, encoding_id: bytes, claims: Iterable[Claim]) -> set[bytes]:
        groups = [self._sound[claim] for claim in claims]
        return {place.device for group in [*groups, self._damaged.get(encoding_id, ())] for place in group}

    def shares_on(self, device: bytes) -> int:
        return self._on.get(device, _Holding()).shares

    def bytes_on(self, device: bytes) -> int:
        """Bytes of blocks in the sound shares of a device."""
        return self._on.get(device, _Holding()).sound_bytes

    def bytes_of(self, owner: bytes) -> int:
        """Bytes of blocks in all sound shares of a vault, on all devices.

        Of one device no more than of the one that has second most: what one alone claims may be made up.
        """
        return _capped(counted[0] for counted in self._owned.get(owner, {}).values())

    def memory_of(self, owner: bytes) -> int:
        """Bytes of memory that a vault's shares, whom they are granted to, counted likewise, and its deletions take."""
        shares = _capped(counted[1] for counted in self._owned.get(owner, {}).values())
        return shares + self.tombstones.memory_of(owner)

    def touch(self, encoding_id: bytes) -> None:
        """Something about it changed, although not what is held."""
        self._touched[encoding_id] = None
        for claim in self._encodings.get(encoding_id, ()):
            self.changes.note(claim.owner, claim.object_id)

    def take_touched(self) -> list[bytes]:
        """The encodings of which anything changed since this was last asked."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    # --- the indexes

    def _place(self, share: int, device: bytes) -> Place:
        place = Place(share, device)
        return self._places.setdefault(place, place)

    def _add(self, claim: Claim, place: Place, claims: int) -> None:
        """Enter a sound share; `claims`: how many are made of it, the grants among them."""
        self._enlist(claim, place)
        self._enter(claim.encoding_id, place).sound_bytes += claim.share_bytes
        self._count_for_owner(claim, place, claims)

    def _count_for_owner(self, claim: Claim, place: Place, claims: int) -> None:
        """Count a share for its owner, or who left it for them; where `claims` is negative, no more."""
        owner = claim.depositor or claim.owner
        devices = self._owned.setdefault(owner, {})
        counted = devices.setdefault(place.device, [0, 0])
        counted[0] += claim.share_bytes if claims > 0 else -claim.share_bytes
        counted[1] += claims * part(CLAIM, PLACE, claim.n)
        if not counted[1]:
            del devices[place.device]
            if not devices:
                del self._owned[owner]

    def _enlist(self, claim: Claim, place: Place) -> None:
        """Have a share found by a claim."""
        places = self._sound.get(claim, ())
        if not places:
            self._encodings[claim.encoding_id] = (*self._encodings.get(claim.encoding_id, ()), claim)
            if not claim.granted:
                self.codes[claim.k, claim.n] += 1
            self._enter_object(claim, place.device)
        self._set_places(claim, (*places, place))

    def _enter_object(self, claim: Claim, device: bytes) -> None:
        objects = self._objects.setdefault(claim.owner, {})
        claims = objects.get(claim.object_id, ())
        if len(claims) >= _MAX_ENCODINGS and self._count_of(claims, device) >= _MAX_ENCODINGS:
            return
        order = self._order.setdefault(claim.owner, [])
        if claim.object_id not in objects:
            if len(order) >= 2 * len(objects) + _MAX_FORMER:
                order[:] = objects
            order.append(claim.object_id)
            self._unsorted.add(claim.owner)
        objects[claim.object_id] = (*claims, claim)

    def _count_of(self, claims: Iterable[Claim], device: bytes) -> int:
        return sum(self._sound[claim][0].device == device for claim in claims)

    def _set_places(self, claim: Claim, places: tuple[Place, ...]) -> None:
        """Whoever makes a claim bears its memory, in equal parts."""
        former = [place[1] for place in self._sound.get(claim, ())]
        self.budget.divide(former, [place[1] for place in places], CLAIM, PLACE)
        self._sound[claim] = places
        self.changes.note(claim.owner, claim.object_id)

    def _add_damaged(self, encoding_id: bytes, place: Place) -> None:
        self._damaged[encoding_id] = (*self._damaged.get(encoding_id, ()), place)
        self.budget.charge(place.device, DAMAGED)
        self._enter(encoding_id, place)
        self.touch(encoding_id)

    def _enter(self, encoding_id: bytes, place: Place) -> _Holding:
        """Put a share into the index of its device."""
        claims = self._encodings.get(encoding_id)
        encoding_id = claims[0].encoding_id if claims else encoding_id  # one object of equal bytes for all devices
        holding = self._on.get(place.device)
        if holding is None:
            holding = self._on[place.device] = _Holding()
        holding.encodings[encoding_id] = holding.encodings.get(encoding_id, 0) | 1 << place.share
        holding.shares += 1
        self._touched[encoding_id] = None
        return holding

    def _remove(self, encoding_id: bytes, place: Place) -> bool:
        """Forget what was said of a share before; False where nothing was."""
        holding = self._on.get(place.device)
        bits = holding.encodings.get(encoding_id, 0) if holding is not None else 0
        if holding is None or not bits >> place.share & 1:
            return False
        if bits == 1 << place.share:
            del holding.encodings[encoding_id]
        else:
            holding.encodings[encoding_id] = bits ^ 1 << place.share
        holding.shares -= 1
        self._touched[encoding_id] = None
        damaged = self._damaged.get(encoding_id, ())
        if place in damaged:
            self.budget.charge(place.device, -DAMAGED)
            if len(damaged) == 1:
                del self._damaged[encoding_id]
            else:
                self._damaged[encoding_id] = _without(damaged, place)
            self.touch(encoding_id)
            return True
        claims = [claim for claim in self._encodings[encoding_id] if place in self._sound[claim]]
        for claim in claims:
            if not claim.granted:
                holding.sound_bytes -= claim.share_bytes
                self._count_for_owner(claim, place, -len(claims))
            self._set_places(claim, _without(self._sound[claim], place))
            if not self._sound[claim]:
                self._drop(claim)
        revisions = self._revisions.get(encoding_id, {})
        if revisions.pop(place, None) is not None and not revisions:
            del self._revisions[encoding_id]
        return True

    def _drop(self, claim: Claim) -> None:
        """A claim that nobody makes any more."""
        del self._sound[claim]
        if not claim.granted:
            self.codes[claim.k, claim.n] -= 1
        claims = tuple(other for other in self._encodings[claim.encoding_id] if other != claim)
        if claims:
            self._encodings[claim.encoding_id] = claims
        else:
            del self._encodings[claim.encoding_id]
            self._doubted.pop(claim.encoding_id, None)
        objects = self._objects.get(claim.owner, {})
        claims = tuple(other for other in objects.get(claim.object_id, ()) if other != claim)
        if claims:
            objects[claim.object_id] = claims
        elif objects.pop(claim.object_id, None) is not None:
            self._unsorted.add(claim.owner)
        if not objects:
            self._objects.pop(claim.owner, None)
            self._order.pop(claim.owner, None)
            self._unsorted.discard(claim.owner)

    def _sorted(self, owner: bytes) -> list[bytes]:
        """The object ids of an owner in order. Only few came since it was sorted last, so that sorting is quick."""
        if owner in self._unsorted:
            self._unsorted.discard(owner)
            order, objects = self._order[owner], self._objects[owner]
            order.sort()
            self._order[owner] = [object_id for object_id in dict.fromkeys(order) if object_id in objects]
        return self._order.get(owner, [])

    def hides(self, claim: Claim) -> bool:
        """Whether what a claim is about was deleted, by whose it is; to whom it is granted, where all these did so."""
        if claim.encoding_id not in self.tombstones:
            return False
        claims = self._encodings.get(claim.encoding_id, ())
        owners = {each.owner for each in claims if not each.granted} if claim.granted else {claim.owner}
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

    def _shown(self, owner: bytes, object_id: bytes) -> list[Claim]:
        claims = self._objects.get(owner, {}).get(object_id, ())
        return [claim for claim in claims if not self.hides(claim)]

    def _describe(self, claim: Claim, alive: Alive) -> EncodingAt:
        sound = [(place, True) for place in self._sound[claim]]
        damaged = [(place, False) for place in self._damaged.get(claim.encoding_id, ())]
        shares = [ShareAt(*place, is_sound, alive(place[1])) for place, is_sound in sorted(sound + damaged)]
        c = claim
        return EncodingAt(c.object_id, c.encoding_id, c.k, c.n, c.share_bytes, shares, c.granted)


def _capped(parts: Iterable[int]) -> int:
    """The sum of these, of which the largest counts like the second."""
    most, *rest = sorted(parts, reverse=True) or [0]
    return min(most, max(rest, default=0)) + sum(rest)


def _weight(share: AnnouncedShare) -> int:
    """Bytes of memory that a share takes which nobody else announces."""
    return (CLAIM + PLACE) * (1 + len(share.grants))


def _shares(bits: int) -> Iterator[int]:
    return (share for share in range(bits.bit_length()) if bits >> share & 1)


def _without(places: tuple[Place, ...], place: Place) -> tuple[Place, ...]:
    return tuple(other for other in places if other != place)
