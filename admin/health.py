"""How much of an image is at hand, and what that means for its owner. Pure: judges what the catalog says."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from common.protocol.messages import EncodingAt, shares_at_hand
from common.redundancy import DeviceCount


class Standing(enum.Enum):
    """From best to worst, in the words of `verify`."""

    WHOLE = "whole"  # every share is at hand
    LACKING = "shares missing"  # some are not, and one more may be lost
    IN_DANGER = "in danger"  # exactly as many as are needed: the loss of one more device loses the image
    LOST = "cannot be restored"  # fewer than are needed are at hand


@dataclass(frozen=True)
class ImageHealth:
    """The best encoding of an image: of `n` shares made, `good` are at hand, and any `k` restore it."""

    k: int
    n: int
    good: int
    damaged: int  # on connected devices, and known to be bad
    away: int  # on devices that are not connected

    @property
    def standing(self) -> Standing:
        if self.good >= self.n:
            return Standing.WHOLE
        if self.good > self.k:
            return Standing.LACKING
        return Standing.IN_DANGER if self.good == self.k else Standing.LOST

    @property
    def restorable(self) -> bool:
        return self.good >= self.k

    @property
    def spare(self) -> int:
        """How many of the devices that hold it now may be lost, and it still can be restored."""
        return max(0, self.good - self.k)


def judge(encodings: Sequence[EncodingAt]) -> ImageHealth:
    """The health of an image by its best encoding; `encodings` has at least one."""
    return max((_judge(encoding) for encoding in encodings), key=lambda health: (health.good - health.k, health.n))


def could_be_stronger(
    encodings: Sequence[EncodingAt], devices: DeviceCount, wanted: Optional[tuple[int, int]] = None
) -> bool:
    """Whether one of an image's encodings is weaker than one that is stored now; see `DeviceCount`."""
    return any(devices.could_be_stronger(encoding.k, encoding.n, wanted) for encoding in encodings)


def _judge(encoding: EncodingAt) -> ImageHealth:
    at_hand = shares_at_hand(encoding)
    damaged = {s.share for s in encoding.shares if s.alive and not s.sound} - set(at_hand)
    away = {s.share for s in encoding.shares if not s.alive} - set(at_hand) - damaged
    return ImageHealth(encoding.k, encoding.n, len(at_hand), len(damaged), len(away))
