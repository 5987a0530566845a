"""An image's health by the shares that are at hand, and its words; for `verify`, `repair` and the app alike.

Pure: assesses what the catalog says, or what reading every share showed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from common.coding.redundancy import DeviceCount
from common.protocol.messages import EncodingAt, shares_at_hand


class HealthStatus(enum.Enum):
    """From best to worst, in the words of `verify --json`."""

    WHOLE = "whole"  # every share is at hand
    LACKING = "shares missing"  # some are not, and one more may be lost
    IN_DANGER = "in danger"  # exactly as many as are needed: the loss of one more device loses the image
    LOST = "cannot be restored"  # fewer than are needed are at hand, or what is at hand was read and is not the image


@dataclass(frozen=True)
class ImageHealth:
    """The best encoding of an image: of `n` shares made, `good` are at hand, and any `k` restore it."""

    k: int
    n: int
    good: int
    damaged: int  # on connected devices, and known to be bad
    away: int  # on devices that are not connected
    proven: Optional[bool] = None  # whether it was restored from them; None where that was not tried

    @property
    def status(self) -> HealthStatus:
        if not self.restorable:
            return HealthStatus.LOST
        if self.good >= self.n:
            return HealthStatus.WHOLE
        return HealthStatus.LACKING if self.good > self.k else HealthStatus.IN_DANGER

    @property
    def words(self) -> str:
        """The status in a few words."""
        missing = self.n - self.good
        if self.status is HealthStatus.LACKING:
            return f"{missing} share{'s' if missing > 1 else ''} missing"
        return str(self.status.value)

    @property
    def restorable(self) -> bool:
        return self.good >= self.k and self.proven is not False

    @property
    def spare(self) -> int:
        """How many of the devices that hold it now may be lost."""
        return self.good - self.k if self.restorable else 0


def assess(encodings: Sequence[EncodingAt], *, proven: Optional[bool] = None) -> ImageHealth:
    """The health of an image by its best encoding; `encodings` has at least one.

    `proven`: whether it was restored from them; None where that was not tried.
    """
    return replace(_assess(best(encodings)), proven=proven)


def best(encodings: Sequence[EncodingAt]) -> EncodingAt:
    """The encoding of an image that survives the loss of the most devices; of several a whole one, then the largest."""

    def rank(encoding: EncodingAt) -> tuple[int, bool, int]:
        health = _assess(encoding)
        return health.good - health.k, health.good >= health.n, health.n

    return max(encodings, key=rank)


def _assess(encoding: EncodingAt) -> ImageHealth:
    at_hand = shares_at_hand(encoding)
    damaged = {s.share for s in encoding.shares if s.alive and not s.sound} - set(at_hand)
    away = {s.share for s in encoding.shares if not s.alive} - set(at_hand) - damaged
    return ImageHealth(encoding.k, encoding.n, len(at_hand), len(damaged), len(away))


def could_be_stronger(
    encodings: Sequence[EncodingAt], devices: DeviceCount, wanted: Optional[tuple[int, int]] = None
) -> bool:
    """Whether one of an image's encodings is weaker than one that is stored now; see `DeviceCount`."""
    return any(devices.could_be_stronger(encoding.k, encoding.n, wanted) for encoding in encodings)
