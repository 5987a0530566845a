"""An event loop that lets its tasks tidy up before an interruption ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, Callable, Optional, TypeVar

from common.process.running_time import RunningLoop
from common.process.stopping import ASKING

R = TypeVar("R")


def run_until_interrupted(work: Coroutine[Any, Any, R]) -> R:
    """As `asyncio.run`, in a `RunningLoop`.

    Asked to end, it cancels the task, and raises KeyboardInterrupt once that has tidied up.

    So does asyncio since Python 3.11, for Ctrl-C alone and not where that is ignored. A KeyboardInterrupt out of
    whatever task is running would end the loop before those that wait for it could tidy up. Asked twice, it ends so.
    """
    interrupted = False
    task: Optional[asyncio.Task[Any]] = None

    def interrupt(_number: int, _frame: Optional[FrameType]) -> None:
        nonlocal interrupted
        if interrupted or (task is not None and task.done()):
            raise KeyboardInterrupt
        interrupted = True
        if task is not None:
            task.cancel()
            task.get_loop().call_soon_threadsafe(lambda: None)  # a loop that waits is to notice

    async def interruptible() -> R:
        nonlocal task
        task = asyncio.current_task()
        if interrupted:  # while the loop was being made
            work.close()
            raise asyncio.CancelledError
        return await work

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
    """Have the signals that ask to end, but those that are ignored, call this; in the main thread, which gets them."""
    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]
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
