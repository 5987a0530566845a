"""An event loop that lets its tasks clean up before an interruption ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, Callable, Optional, TypeVar

from common.process.running_time import RunningLoop
from common.process.stopping import END_SIGNALS

R = TypeVar("R")


def run_until_interrupted(work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run what `work` makes as `asyncio.run` does, in a `RunningLoop`.

    A signal cancels the task, and KeyboardInterrupt is raised once that has cleaned up; a second one raises at once.

    asyncio does so since Python 3.11, for Ctrl-C alone and not where that is ignored. Without, KeyboardInterrupt is
    raised in whatever task is running, and ends the loop before the others clean up.

    The coroutine is made in the loop: one that was made before, and interrupted until it runs, was "never awaited".
    """
    interrupted = False
    task: Optional[asyncio.Task[Any]] = None

    def interrupt(_number: int, _frame: Optional[FrameType]) -> None:
        nonlocal interrupted
        if task is not None and (interrupted or task.done()):
            raise KeyboardInterrupt
        interrupted = True
        if task is not None:
            task.cancel()
            task.get_loop().call_soon_threadsafe(lambda: None)  # wakes a loop that waits

    async def interruptible() -> R:
        nonlocal task
        task = asyncio.current_task()
        if interrupted:  # while the loop was being made
            raise asyncio.CancelledError
        return await work()

    try:
        with _asked_by_signals(interrupt):
            return _run(interruptible())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def _run(work: Coroutine[Any, Any, R]) -> R:
    """As `asyncio.run`, which takes no loop before Python 3.12."""
    loop = RunningLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


@contextlib.contextmanager
def _asked_by_signals(interrupt: Callable[[int, Optional[FrameType]], None]) -> Iterator[None]:
    """Handle the signals that ask to end, but those that are ignored, by this; in the main thread only."""
    numbers = [getattr(signal, name) for name in END_SIGNALS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    heard = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in heard:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
