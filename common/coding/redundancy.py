"""How many shares an image gets and how many of them restore it; and whether a stored one could have more to spare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from common.errors import NotEnoughError, UsageError
from common.protocol.messages import MAX_SHARES, Device

MIN_DEVICES = 3
_CHOICES = {3: (2, 3), 4: (2, 4), 5: (3, 5)}
_FROM_SIX = (4, 6)
_TOO_FEW = (
    "connect a device, or add one: python broker/broker.py invite worker; two alone keep images without any "
    "redundancy (-k 2 -n 2), until there are three and `admin.py strengthen`"
)
_LATER = "connect what is away, or have it made up for when it is back: --accept-degraded"


def choose(live_devices: int, k: Optional[int] = None, n: Optional[int] = None) -> tuple[int, int]:
    """(k, n) for so many live devices; what the user left out is chosen to fit the rest.

    NotEnoughError where there are too few devices, UsageError where the user's k and n don't go together.
    """
    if k is None and n is None:
        if live_devices < MIN_DEVICES:
            raise NotEnoughError(f"{live_devices} of at least {MIN_DEVICES} devices are alive", advice=_TOO_FEW)
        return _CHOICES.get(live_devices, _FROM_SIX)
    if n is None:
        n = max(k or 0, min(live_devices, (k or 0) + 2))
    if k is None:
        k = max(1, n - 2) if n > 3 else max(1, n - 1)
    require_possible(k, n)
    if n > live_devices:
        raise NotEnoughError(f"n = {n} needs as many live devices; {live_devices} are alive")
    return k, n


def require_possible(k: Optional[int], n: Optional[int]) -> None:
    """UsageError where there are no such k and n, whatever devices there are; what is None is left open."""
    least, most = 2 if k is None else k, MAX_SHARES if n is None else n
    if k == 1 and 1 <= most <= MAX_SHARES:
        raise UsageError("k = 1 would put a whole image on one device; k is at least 2")
    if not 2 <= least <= most <= MAX_SHARES:
        given = " and ".join(f"{name} = {value}" for name, value in (("k", k), ("n", n)) if value is not None)
        raise UsageError(f"{given} is not possible: 2 ≤ k ≤ n ≤ {MAX_SHARES}")


@dataclass(frozen=True)
class DeviceCount:
    """Numbers of devices, without those that are retiring: `listed` in the cluster, and `live` of these."""

    live: int
    listed: int

    def could_be_stronger(self, k: int, n: int, wanted: Optional[tuple[int, int]] = None) -> bool:
        """Whether an image of k of n is weaker than one that is stored now: fewer devices that hold it may be lost.

        `wanted`: (k, n) to compare with; those of `choose` for the live devices if left out. A share for which there is
        no device does not count.
        """
        if wanted is None:
            if self.live < MIN_DEVICES:
                return False
            wanted = choose(self.live)
        return min(n, self.listed) - k < wanted[1] - wanted[0]

    def choose(self, k: Optional[int], n: Optional[int], *, accept_degraded: bool) -> tuple[int, int]:
        """(k, n) as of the function `choose`, for the live devices.

        `accept_degraded`: for all that are listed, where at least k of them are live. The steward makes the missing
        shares when the others are back.
        """
        try:
            whole = choose(self.live, k, n)
            if not accept_degraded:
                return whole
        except NotEnoughError as error:
            later = self._choose_for_all(k, n)
            if later is not None and not accept_degraded:
                error.advice = _LATER
            if later is None or not accept_degraded:
                raise
            return later
        return self._choose_for_all(k, n) or whole

    def _choose_for_all(self, k: Optional[int], n: Optional[int]) -> Optional[tuple[int, int]]:
        """(k, n) for all devices that are listed; None where fewer than k of them are live."""
        try:
            chosen = choose(self.listed, k, n)
        except NotEnoughError:
            return None
        return chosen if chosen[0] <= self.live else None


def count_devices(devices: Iterable[Device]) -> DeviceCount:
    """How many devices there are for shares."""
    staying = [device for device in devices if not device.retiring]
    return DeviceCount(sum(device.alive for device in staying), len(staying))
