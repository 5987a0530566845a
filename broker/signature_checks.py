"""How many signatures each device has this broker check: a token bucket each, so that none takes up the processor.

A device may tell all at once of as many deletions as are remembered of it; then as many as it is given time for. No
clock, no socket.
"""

from __future__ import annotations

from common.protocol.messages import MAX_TOMBSTONES_ON_A_DEVICE

BURST = MAX_TOMBSTONES_ON_A_DEVICE  # checks; each takes 0.1 ms
RATE = 250.0  # a second, from then on


class SignatureChecks:
    """`now` is monotonic seconds."""

    def __init__(self, burst: int = BURST) -> None:
        self._burst = burst
        self._spent: dict[bytes, tuple[float, float]] = {}  # device → checks that are not made up for, as of when

    def allow(self, device: bytes, now: float) -> bool:
        """Whether a device may have one more signature checked, which then counts."""
        spent = self._still_spent(device, now)
        if spent + 1 > self._burst:
            return False
        self._spent[device] = (spent + 1, now)
        return True

    def expire(self, now: float) -> None:
        """Forget who has made up for all; to be called now and then."""
        self._spent = {device: spent for device, spent in self._spent.items() if self._still_spent(device, now)}

    def _still_spent(self, device: bytes, now: float) -> float:
        spent, since = self._spent.get(device, (0.0, now))
        return max(0.0, spent - (now - since) * RATE)
