"""Ending a program cleanly when it is asked to: SIGTERM, Ctrl-C, and on Windows Ctrl-Break.

A program that serves sets a flag and ends after the round it is in (`stop_on_signals`). One that does a person's work
ends in the one way that it knows for Ctrl-C, whatever signal asked (`end_as_interrupted`); what waits in an event loop
then tidies up first (`interruption`). Before either, while it is being loaded, it just ends.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Optional

ASKING = ("SIGINT", "SIGTERM", "SIGBREAK")  # as far as the system has them


def stop_on_signals() -> threading.Event:
    """An event that is set once the process is asked to end. To be called in the main thread."""
    stopping = threading.Event()

    def stop(_number: int, _frame: Optional[FrameType]) -> None:
        stopping.set()

    for name in ASKING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    return stopping


def end_silently_while_loading() -> None:
    """Until `end_as_interrupted`, have Ctrl-C end the process at once: it has nothing to tidy up, nor to tell.

    Otherwise a traceback of imports is what a person sees who thought better of it in the first moment.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as behind a shell's `&`
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_as_interrupted() -> None:
    """From now on Ctrl-C, SIGTERM, and on Windows Ctrl-Break interrupt alike. To be called in the main thread."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(_number: int, frame: Optional[FrameType]) -> None:
        # Where Ctrl-C is ignored, as behind the shell's `&`, this ends it all the same: it was asked for by name.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)


def end_at_once() -> None:
    """From now on a signal that asks to end does so by itself: there is nothing left to tidy up, nor to tell."""
    for name in ASKING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
