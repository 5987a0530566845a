"""Who holds what: object → encoding → share → device.

Nothing here outlives the broker. Workers announce what they hold when they register, and every share when they have
committed it; a device that is gone keeps its entries, so that what it held is known to be missing rather than unknown.

A device may be wrong, or lie. So what a share is said to be part of (owner, object, encoding, k, n, length) is a claim,
and shares with different claims are never put together: a false claim stands apart and hides nothing of what the
others say. A share too damaged to say whose it is shows with every claim to its encoding.
"""

from __future__ import annotations

import bisect
import builtins
from collections.abc import Iterable
from typing import Callable, NamedTuple, TypeVar

from common.protocol.messages import AnnouncedShare, EncodingAt, ShareAt, shares_at_hand

Alive = Callable[[bytes], bool]  # of a device id: is the device connected now?
K = TypeVar("K")
_Place = tuple[int, bytes]  # share, device id


class _Claim(NamedTuple):
    """What devices say of shares that they hold."""

    owner: bytes
    object_id: bytes
    encoding_id: bytes
    k: int
    n: int
    share_bytes: int


class Catalog:
    def __init__(self) -> None:
        self._sound: dict[_Claim, set[_Place]] = {}
        self._damaged: dict[bytes, set[_Place]] = {}  # encoding id → shares that cannot tell what they are
        self._encodings: dict[bytes, set[_Claim]] = {}  # encoding id → the claims to it
        self._objects: dict[tuple[bytes, bytes], set[_Claim]] = {}  # (owner, object id) → claims
        self._order: dict[bytes, list[bytes]] = {}  # owner → its object ids, sorted
        self._held: dict[bytes, int] = {}  # device id → how many shares it holds
        self._places: dict[_Place, _Place] = {}  # one object for each, since they recur in many encodings

    def announce(self, device: bytes, shares: Iterable[AnnouncedShare]) -> None:
        """A device says that it holds these shares; the last word on a share counts."""
        for share in shares:
            place = self._places.setdefault((share.share, device), (share.share, device))
            self._remove(share.encoding_id, place)
            if share.object_id is None or not share.sound:
                self._damaged.setdefault(share.encoding_id, set()).add(place)
            else:
                claim = _Claim(share.owner, share.object_id, share.encoding_id, share.k, share.n, share.share_bytes)
                self._add(claim, place)
            self._held[device] = self._held.get(device, 0) + 1

    def _add(self, claim: _Claim, place: _Place) -> None:
        self._sound.setdefault(claim, set()).add(place)
        self._encodings.setdefault(claim.encoding_id, set()).add(claim)
        claims = self._objects.setdefault((claim.owner, claim.object_id), set())
        if not claims:
            bisect.insort(self._order.setdefault(claim.owner, []), claim.object_id)
        claims.add(claim)

    def _remove(self, encoding_id: bytes, place: _Place) -> None:
        """Forget what was said of a share before."""
        groups = [self._sound[claim] for claim in self._encodings.get(encoding_id, ())]
        for group in [*groups, self._damaged.get(encoding_id, set())]:
            if place in group:
                group.remove(place)
                self._held[place[1]] -= 1
        for claim in list(self._encodings.get(encoding_id, ())):
            if not self._sound[claim]:
                self._drop(claim)
        if not self._damaged.get(encoding_id, True):
            del self._damaged[encoding_id]

    def _drop(self, claim: _Claim) -> None:
        """A claim that nobody makes any more."""
        del self._sound[claim]
        _discard(self._encodings, claim.encoding_id, claim)
        _discard(self._objects, (claim.owner, claim.object_id), claim)
        if (claim.owner, claim.object_id) not in self._objects:
            order = self._order[claim.owner]
            del order[bisect.bisect_left(order, claim.object_id)]

    def forget_device(self, device: bytes) -> None:
        """Before a device announces anew all that it holds: what it no longer names is gone."""
        if not self._held.pop(device, 0):
            return
        self._held[device] = 0
        encodings = {claim.encoding_id for claim, places in self._sound.items() if _is_on(device, places)}
        encodings |= {encoding for encoding, places in self._damaged.items() if _is_on(device, places)}
        for encoding_id in encodings:
            for place in [place for place in self._places if place[1] == device]:
                self._remove(encoding_id, place)
        self._held[device] = 0

    def locate(self, owner: bytes, object_id: bytes, alive: Alive) -> list[EncodingAt]:
        """The encodings of one owner's object, the one with most shares at hand first; empty where there are none."""
        found = [self._describe(claim, alive) for claim in self._objects.get((owner, object_id), ())]
        return sorted(found, key=lambda e: (-len(shares_at_hand(e)), e.encoding_id))

    def list(self, owner: bytes, after: bytes, limit: int, alive: Alive) -> tuple[builtins.list[EncodingAt], bool]:
        """Up to `limit` of an owner's objects behind `after`, in order, and whether that was the rest."""
        order = self._order.get(owner, [])
        start = bisect.bisect_right(order, after)
        page = order[start : start + limit]
        held = [encoding for object_id in page for encoding in self.locate(owner, object_id, alive)]
        return held, start + limit >= len(order)

    def shares_on(self, device: bytes) -> int:
        return self._held.get(device, 0)

    def _describe(self, claim: _Claim, alive: Alive) -> EncodingAt:
        sound = [(place, True) for place in self._sound[claim]]
        damaged = [(place, False) for place in self._damaged.get(claim.encoding_id, ())]
        shares = [ShareAt(*place, is_sound, alive(place[1])) for place, is_sound in sorted(sound + damaged)]
        return EncodingAt(claim.object_id, claim.encoding_id, claim.k, claim.n, claim.share_bytes, shares)


def _is_on(device: bytes, places: Iterable[_Place]) -> bool:
    return any(place[1] == device for place in places)


def _discard(index: dict[K, set[_Claim]], key: K, claim: _Claim) -> None:
    claims = index[key]
    claims.discard(claim)
    if not claims:
        del index[key]
