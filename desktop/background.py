"""Runs work in other threads, so that the window's never waits.

A blocking call gets a daemon thread of its own; coroutines share one daemon thread with an asyncio loop, for the links
to the cluster. Calls into the window are queued, and the window's thread empties the queue (`deliver`, called from a Tk
timer; see `app`). Nothing here imports Tk, so tests call `deliver` themselves.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Coroutine
from typing import Any, Callable, Optional, TypeVar

from common.errors import TesseraError, refused_by_system
from common.process.running_time import RunningLoop

log = logging.getLogger(__name__)

T = TypeVar("T")
Done = Callable[[T], None]
Failed = Callable[[TesseraError], None]
_END_TIMEOUT = 5.0  # seconds that cancelled coroutines have to clean up


class Task:
    """One piece of work; its outcome is delivered only while it is `running`."""

    def __init__(self) -> None:
        self.running = True
        self._cancel: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        """Cancel a coroutine, which may take a while to end; of a blocking call drop the outcome.

        Neither `done` nor `failed` is called any more; `cancelled` is, once a coroutine has ended.
        """
        self.running = False
        self._cancel()


class Background:
    def __init__(self) -> None:
        self._deliveries: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._loop = RunningLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    # --- called on the window's thread

    def run(self, work: Callable[[], T], *, done: Done[T], failed: Failed) -> Task:
        """Run a blocking call in a thread of its own."""
        task = Task()

        def serve() -> None:
            try:
                result = work()
            except Exception as caught:
                self._settle(task, failed, as_tessera_error(caught))
            else:
                self._settle(task, done, result)

        threading.Thread(target=serve, daemon=True).start()
        return task

    def start(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        done: Done[T],
        failed: Failed,
        cancelled: Callable[[], None] = lambda: None,
    ) -> Task:
        """Start a coroutine in the loop's thread. `cancelled`: called once it has ended after `Task.cancel`."""
        task = Task()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            begun.append(self._loop.create_task(work()))
            begun[0].add_done_callback(ended)

        def ended(finished: asyncio.Task[T]) -> None:
            if finished.cancelled():
                self.post(cancelled)
                return
            error = finished.exception()
            if error is None:
                self._settle(task, done, finished.result(), cancelled)
            else:
                self._settle(task, failed, as_tessera_error(error), cancelled)

        self._loop.call_soon_threadsafe(begin)
        task._cancel = lambda: void(self._loop.call_soon_threadsafe(lambda: void(begun[0].cancel())))
        return task

    def deliver(self, seconds: float = 0.008) -> bool:
        """Make the queued calls, for about so many seconds; whether some are left. In the window's thread."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                call = self._deliveries.get_nowait()
            except queue.Empty:
                return False
            call()
        return not self._deliveries.empty()

    def close(self) -> None:
        """Cancel all coroutines and wait for them to end: a put closes its journal, so that it can be resumed."""
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_END_TIMEOUT + 1)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_TIMEOUT)

    # --- called from anywhere

    def post(self, call: Callable[..., None], *arguments: object) -> None:
        """Queue a call for the window's thread; calls are made in order."""
        self._deliveries.put(lambda: call(*arguments))

    def _settle(
        self,
        task: Task,
        call: Callable[[Any], None],
        outcome: object,
        cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        def settle() -> None:
            if task.running:
                task.running = False
                call(outcome)
            else:
                cancelled()  # just as it ended

        self.post(settle)


def as_tessera_error(error: BaseException) -> TesseraError:
    """The error itself; for an unexpected one an internal fault, with advice."""
    if isinstance(error, TesseraError):
        return error
    refused = refused_by_system(error) if isinstance(error, OSError) else None
    if refused is not None:
        return refused
    log.error("internal fault", exc_info=error)
    return TesseraError(
        f"internal fault: {type(error).__name__}: {error}",
        advice="start it again with --debug and report what it prints",
    )


def void(_: object) -> None:
    """The callback that ignores a result."""


async def _cancel_all() -> None:
    own: Optional[asyncio.Task[Any]] = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_END_TIMEOUT)
