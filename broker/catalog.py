"""Who holds what: object → encoding → share → device.

Nothing here outlives the broker. Workers announce what they hold when they register, and every share when they have
committed it; a device that is gone keeps its entries, so that what it held is known to be missing rather than unknown.
A share too damaged to say whose it is, is known by its encoding alone, and shows as soon as a sound share tells more.
"""

from __future__ import annotations

import bisect
import builtins
from collections.abc import Iterable
from typing import Callable, Optional

from common.protocol.messages import AnnouncedShare, EncodingAt, ShareAt, shares_at_hand

Alive = Callable[[bytes], bool]  # of a device id: is the device connected now?


class _Encoding:
    __slots__ = ("k", "n", "object_id", "owner", "share_bytes", "shares")

    def __init__(self) -> None:
        self.object_id: Optional[bytes] = None
        self.owner = b""
        self.k = self.n = self.share_bytes = 0
        self.shares: dict[tuple[int, bytes], bool] = {}  # (share, device id) → is it sound


class Catalog:
    def __init__(self) -> None:
        self._encodings: dict[bytes, _Encoding] = {}
        self._objects: dict[tuple[bytes, bytes], set[bytes]] = {}  # (owner, object id) → encoding ids
        self._order: dict[bytes, list[bytes]] = {}  # owner → its object ids, sorted
        self._held: dict[bytes, int] = {}  # device id → how many shares it holds

    def announce(self, device: bytes, shares: Iterable[AnnouncedShare]) -> None:
        """A device says that it holds these shares; saying it again changes nothing."""
        for share in shares:
            encoding = self._encodings.setdefault(share.encoding_id, _Encoding())
            if (share.share, device) not in encoding.shares:
                self._held[device] = self._held.get(device, 0) + 1
            encoding.shares[(share.share, device)] = share.sound
            if encoding.object_id is None and share.object_id is not None and share.sound:
                encoding.object_id, encoding.owner = share.object_id, share.owner
                encoding.k, encoding.n, encoding.share_bytes = share.k, share.n, share.share_bytes
                self._enter(share.owner, share.object_id, share.encoding_id)

    def _enter(self, owner: bytes, object_id: bytes, encoding_id: bytes) -> None:
        encodings = self._objects.setdefault((owner, object_id), set())
        if not encodings:
            bisect.insort(self._order.setdefault(owner, []), object_id)
        encodings.add(encoding_id)

    def forget_device(self, device: bytes) -> None:
        """Before a device announces anew all that it holds: what it no longer names is gone."""
        self._held.pop(device, None)
        for encoding in self._encodings.values():
            for key in [key for key in encoding.shares if key[1] == device]:
                del encoding.shares[key]

    def locate(self, owner: bytes, object_id: bytes, alive: Alive) -> builtins.list[EncodingAt]:
        """The encodings of one owner's object, the one with most shares at hand first; empty where there are none."""
        found = [self._describe(e, alive) for e in self._objects.get((owner, object_id), ())]
        known = [encoding for encoding in found if encoding.shares]
        return sorted(known, key=lambda e: (-len(shares_at_hand(e)), e.encoding_id))

    def list(self, owner: bytes, after: bytes, limit: int, alive: Alive) -> tuple[builtins.list[EncodingAt], bool]:
        """Up to `limit` of an owner's objects behind `after`, in order, and whether that was the rest."""
        order = self._order.get(owner, [])
        start = bisect.bisect_right(order, after)
        page = order[start : start + limit]
        held = [encoding for object_id in page for encoding in self.locate(owner, object_id, alive)]
        return held, start + limit >= len(order)

    def shares_on(self, device: bytes) -> int:
        return self._held.get(device, 0)

    def _describe(self, encoding_id: bytes, alive: Alive) -> EncodingAt:
        encoding = self._encodings[encoding_id]
        shares = [
            ShareAt(share, device, sound, alive(device)) for (share, device), sound in sorted(encoding.shares.items())
        ]
        return EncodingAt(encoding.object_id or b"", encoding_id, encoding.k, encoding.n, encoding.share_bytes, shares)
