"""Clocks that go as a test tells them."""

from __future__ import annotations

from worker.clock import Clock

START = 1_800_000_000.0  # Unix seconds


class SetClock(Clock):
    """A wall clock and a monotonic one; `pass_time` moves both, setting `wall` alone is a leap."""

    def __init__(self, wall: float = START) -> None:
        self.wall = wall
        self.now = 0.0
        super().__init__(lambda: self.wall, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds
