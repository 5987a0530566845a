"""Ending a long-running program cleanly: SIGTERM and Ctrl-C (on Windows Ctrl-C and Ctrl-Break) set a flag."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Optional


def stop_on_signals() -> threading.Event:
    """An event that is set once the process is asked to end. To be called in the main thread."""
    stopping = threading.Event()

    def stop(_number: int, _frame: Optional[FrameType]) -> None:
        stopping.set()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    return stopping
