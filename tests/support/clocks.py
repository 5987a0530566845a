"""Clocks that a test sets."""

from __future__ import annotations

import time
from pathlib import Path

from worker.clock import Clock

START = 1_800_000_000.0  # Unix seconds


def wait_for_another_tick(folder: Path) -> None:
    """Until what is written in a folder gets another time than what was written before; a tick takes milliseconds."""
    probe, deadline = folder / ".tick", time.monotonic() + 10
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        assert time.monotonic() < deadline, "the file system's clock stands still"
        probe.touch()
    probe.unlink()


class SetClock(Clock):
    """A wall clock and a monotonic one; `pass_time` moves both, setting `wall` alone is a leap."""

    def __init__(self, wall: float = START) -> None:
        self.wall = wall
        self.now = 0.0
        super().__init__(lambda: self.wall, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds
