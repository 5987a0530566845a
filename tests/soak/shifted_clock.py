"""Starts a program whose clock on the wall is wrong: `shifted_clock.py PROGRAM ARGUMENTS…`.

SOAK_CLOCK_OFFSET has the seconds, and is read here and nowhere else. The monotonic clock goes on as it does, and so do
the times that the file system gives to files: a wrong clock shows against right ones on disk, the harder case.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)  # the checkout's root, in place of this folder


def shift(seconds: float) -> None:
    """From now on this process believes that it is `seconds` later."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    shift(float(os.environ["SOAK_CLOCK_OFFSET"]))
    program = sys.argv.pop(1)
    importlib.import_module(f"{program}.command").main()
