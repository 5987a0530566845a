"""Which shares to take a segment's blocks from, and which next when one fails. Pure: no socket, no clock.

Data shares come first, since where all k are there nothing needs decoding. A share with faults goes behind those
without, but is not given up: a block that is bad says nothing about the next one. A slow device goes behind all others,
since one that hangs costs more than a bad block. A device that is gone is given up.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional


class Holder(NamedTuple):
    """A device that holds a share."""

    share: int
    device: bytes


class Choice:
    """The shares of one encoding that are at hand; k of them are needed for a segment."""

    def __init__(self, k: int, holders: Collection[Holder]) -> None:
        self._k = k
        self._faults = dict.fromkeys(holders, 0)
        self._gone: set[bytes] = set()

    def next(self, asked: Collection[Holder], taken: Collection[int], slow: Collection[bytes] = ()) -> Optional[Holder]:
        """Whom to ask for one more block of a segment; None where nobody is left.

        `asked`: holders that were asked for this segment before; `taken`: shares that delivered or are about to;
        `slow`: devices that are late.
        """
        fit = [
            holder
            for holder in self._faults
            if holder not in asked and holder.share not in taken and holder.device not in self._gone
        ]
        return min(fit, key=lambda holder: (holder.device in slow, *self._rank(holder)), default=None)

    def _rank(self, holder: Holder) -> tuple[int, bool, int]:
        return (self._faults[holder], holder.share >= self._k, holder.share)

    def fault(self, holder: Holder) -> None:
        """A block of this holder was bad or did not come."""
        self._faults[holder] += 1

    def gone(self, device: bytes) -> None:
        """A device does not answer; it is not asked again."""
        self._gone.add(device)
