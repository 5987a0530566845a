"""A few threads beside the event loop, for blocking work: reading, syncing journals, pictures.

They are daemons, which those of `concurrent.futures` are not: a read from stdin that never returns must not keep a
program from ending that was interrupted, or has failed for another reason.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar, Union

from common.vault.mapping import MAX_THUMBNAIL
from viewer.picture import Picture
from viewer.process import Viewer

T = TypeVar("T")
Content = Union[memoryview, Path]
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]
_COUNT = 3


class Threads:
    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._looking = asyncio.Lock()
        self._work: queue.SimpleQueue[Optional[_Work]] = queue.SimpleQueue()
        for _ in range(_COUNT):
            threading.Thread(target=self._serve, daemon=True).start()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` in a thread; what it raises is raised here."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._work.put((lambda: work(*arguments), outcome, loop))
        return await outcome

    async def look_at(self, content: Content, thumbnail_limit: int = MAX_THUMBNAIL) -> Picture:
        """The viewer's result for an image."""
        return (await self.look_at_all([(content, thumbnail_limit)]))[0]

    async def look_at_all(self, images: Sequence[tuple[Content, int]]) -> list[Picture]:
        """The viewer's results for images, each given with the most bytes of its thumbnail.

        All in one thread, so that waiting for the viewer leaves the others free to read.
        """
        async with self._looking:
            return await self.run(lambda: [self._viewer.look_at(*image) for image in images])

    def close(self) -> None:
        """Have the threads end after what they are doing; does not wait."""
        for _ in range(_COUNT):
            self._work.put(None)

    def _serve(self) -> None:
        while True:
            item = self._work.get()
            if item is None:
                return
            work, outcome, loop = item
            try:
                result, error = work(), None
            except BaseException as caught:
                result, error = None, caught
            try:
                loop.call_soon_threadsafe(_settle, outcome, result, error)
            except RuntimeError:
                return  # the loop is closed: the program is ending


def _settle(outcome: asyncio.Future[Any], result: Any, error: Optional[BaseException]) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)
