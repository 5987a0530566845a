"""How many bytes of the catalog, and of memory, each device's word takes, by estimate, and when it is too much.

What several devices say alike is borne by them in equal parts, so that true shares weigh little on each, and what one
made up weighs on it alone. Nobody is bounded while there is room. Once there is none, whoever weighs most is cut off,
and no honest device has to pay for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

CLAIM = 200  # bytes of rows and their indexes for one claim
PLACE = 5  # of one more device or share by it
DAMAGED = 80  # of a share that is not whole
TOMBSTONE = 1000  # bytes of memory
TELLER = 40  # of one more device that tells of it; 8 where all know the same


def part(whole: int, each: int, count: int) -> int:
    """What each of so many bears of something that takes `whole`, and `each` for every one of them."""
    return whole // count + each


class Budget:
    """`limit`: bytes that all devices may take together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._charges: Counter[bytes] = Counter()  # device → bytes

    def charge(self, device: bytes, size: int) -> None:
        """A device takes so many bytes more (or less, where `size` is negative)."""
        self._charges[device] += size
        self.total += size

    def divide(
        self, former: Sequence[bytes], bearers: Sequence[bytes], whole: int, each: int, *, times: int = 1
    ) -> None:
        """What `former` bore of something in equal parts, `bearers` bear now; a device may be among them several times.

        whole, each: bytes, as for `part`. `times`: of how many things.
        """
        charges = self._charges
        if former:
            before = part(whole, each, len(former)) * times
            for device in former:
                charges[device] -= before
            self.total -= before * len(former)
        if bearers:
            after = part(whole, each, len(bearers)) * times
            for device in bearers:
                charges[device] += after
            self.total += after * len(bearers)

    def of(self, device: bytes) -> int:
        """What a device takes now."""
        return self._charges[device]

    def fits(self, more: int) -> bool:
        """Whether there is room for so many bytes."""
        return self.total + more <= self.limit

    def heaviest(self, device: bytes, more: int) -> bytes:
        """Who weighs most, were this device to take so many bytes more; the device itself where it is among them."""
        weight, heaviest = max(((size, other) for other, size in self._charges.items()), default=(0, device))
        return device if self._charges[device] + more >= weight else heaviest

    def forget(self, device: bytes) -> None:
        """A device that takes nothing any more."""
        if not self._charges[device]:
            del self._charges[device]
