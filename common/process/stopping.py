"""Ending a program cleanly on SIGTERM, on SIGHUP (its terminal is gone), on Ctrl-C, and on Windows Ctrl-Break.

A program that serves sets a flag and ends after the round it is in (`stop_on_signals`). Any other ends as by Ctrl-C,
whatever the signal (`end_as_interrupted`); tasks of an event loop clean up first (`interruption`). Before either, while
it is being loaded, it just ends.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Callable, Optional

END_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # as far as the system has them


def stop_on_signals() -> threading.Event:
    """An event that is set once the process is asked to end. To be called in the main thread."""
    stopping = threading.Event()

    def stop(_number: int, _frame: Optional[FrameType]) -> None:
        stopping.set()

    for name in END_SIGNALS:
        _handle(name, stop)
    return stopping


def end_silently_while_loading() -> None:
    """Until `end_as_interrupted`, have Ctrl-C end the process at once, without a traceback of imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as behind a shell's `&`
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_as_interrupted() -> None:
    """From now on Ctrl-C, SIGTERM, SIGHUP, and on Windows Ctrl-Break interrupt alike; for the main thread."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(_number: int, frame: Optional[FrameType]) -> None:
        # Where Ctrl-C is ignored, as behind the shell's `&`, this signal ends it all the same.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    for name in END_SIGNALS[1:]:
        _handle(name, interrupt)


def _handle(name: str, handler: Callable[[int, Optional[FrameType]], None]) -> None:
    """Handle a signal by this, where the system has it; but SIGHUP stays ignored, as behind nohup."""
    number = getattr(signal, name, None)
    if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
        return
    signal.signal(number, handler)


def end_at_once() -> None:
    """From now on a signal that asks to end does so at once: nothing is left to clean up or to print."""
    for name in END_SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
