"""When a device is late, by how long it took lately, as TCP has its timeouts (RFC 6298). Pure: no clock.

A request is late once it has taken longer than the smoothed time of that device's answers and four times their
deviation. A device that is not known yet is given half a second. A device is *slow* while a request to it is late, and
for a while after it was late several times in a row: it is asked only where nobody else is left. So a device that hangs
holds few places among the requests under way, and is asked again once it has answered.

    request ──▶ under way ──answered in time──▶ measured; none late in a row
                    │ its time is over
                    └──▶ late: the device is slow ──answered──▶ measured; after three in a row slow a while longer
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

FIRST_LATE_AFTER = 0.5  # seconds; for a device that has not answered yet
MIN_LATE_AFTER = 0.25  # seconds; less is normal on a busy machine, or without the disk's cache
SLOW_AFTER = 3  # times late in a row
SLOW_FOR = 10.0  # seconds after the last of them
_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4  # RFC 6298, section 2


@dataclass(eq=False)
class Asked:
    """A request under way; times in seconds."""

    at: float
    late_at: float


class Latency:
    """How long one device takes to answer."""

    def __init__(self) -> None:
        self._smoothed: Optional[float] = None
        self._deviation = 0.0
        self._under_way: list[Asked] = []
        self._late_in_a_row = 0
        self._last_late = float("-inf")

    @property
    def late_after(self) -> float:
        """Seconds after which a request that is sent now is late."""
        if self._smoothed is None:
            return FIRST_LATE_AFTER
        return max(MIN_LATE_AFTER, self._smoothed + _DEVIATIONS * self._deviation)

    def asked(self, now: float) -> Asked:
        """A request goes out."""
        asked = Asked(now, now + self.late_after)
        self._under_way.append(asked)
        return asked

    def answered(self, asked: Asked, now: float) -> None:
        """Its answer is here."""
        self.given_up(asked)
        self._learn(now - asked.at)
        if now <= asked.late_at:
            self._late_in_a_row = 0
        elif asked.at >= self._last_late:  # requests that were under way together are late together, and count once
            self._late_in_a_row += 1
            self._last_late = now

    def given_up(self, asked: Asked) -> None:
        """The request was cancelled or the device is gone: nothing is measured."""
        self._under_way.remove(asked)

    def is_slow(self, now: float) -> bool:
        if any(asked.late_at < now for asked in self._under_way):
            return True
        return self._late_in_a_row >= SLOW_AFTER and now - self._last_late < SLOW_FOR

    def _learn(self, seconds: float) -> None:
        if self._smoothed is None:
            self._smoothed, self._deviation = seconds, seconds / 2
            return
        self._deviation += _DEVIATION_GAIN * (abs(self._smoothed - seconds) - self._deviation)
        self._smoothed += _GAIN * (seconds - self._smoothed)


class Latencies:
    """Those of all devices."""

    def __init__(self) -> None:
        self._devices: dict[bytes, Latency] = {}

    def of(self, device: bytes) -> Latency:
        return self._devices.setdefault(device, Latency())

    def slow(self, now: float) -> set[bytes]:
        """The devices that are late now, or were again and again."""
        return {device for device, latency in self._devices.items() if latency.is_slow(now)}
