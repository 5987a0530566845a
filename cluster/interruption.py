"""Ends the cluster's command on Ctrl-C, `kill` and a closed terminal, without leaving processes behind.

The first signal becomes a KeyboardInterrupt, so that every `finally` runs; later ones are ignored, so that it can
finish. Work that must not be interrupted at all is done under `held`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    _ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGBREAK]
else:
    _ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first signal raises KeyboardInterrupt; later ones do nothing."""

    def interrupt(number: int, frame: object) -> None:
        for ending in heeded:
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt

    # One that is ignored at the start stays so, as with `nohup` and the shell's `&`.
    heeded = [ending for ending in _ENDINGS if signal.getsignal(ending) is not signal.SIG_IGN]
    previous = {ending: signal.signal(ending, interrupt) for ending in heeded}
    try:
        yield
    finally:
        for ending, handler in previous.items():
            signal.signal(ending, handler)


@contextmanager
def held() -> Iterator[None]:
    """Within, those signals do nothing; for work that ends soon. No effect in a thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals and may set handlers
        return
    previous = {ending: signal.signal(ending, signal.SIG_IGN) for ending in _ENDINGS}
    try:
        yield
    finally:
        for ending, handler in previous.items():
            signal.signal(ending, handler)
