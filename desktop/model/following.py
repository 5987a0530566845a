"""Looking at the cluster again and again, as long as a view that shows it is in front."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Callable, Optional

from common.errors import TesseraError
from common.link.link import Link
from desktop.background import Background, Task, as_tessera_error, void
from desktop.model.model import Model

_AGAIN_AFTER = 3.0  # seconds, where there was no answer


class Following:
    """Has `look` called with a link, `every` so many seconds, until it is stopped.

    `look` is a coroutine of the loop's thread and posts what it finds. Where the cluster cannot be reached the model
    shows the error, once for as long as that lasts; it is gone when an answer comes.
    """

    def __init__(
        self, model: Model, link: Callable[[], Link], look: Callable[[Link], Awaitable[None]], every: float
    ) -> None:
        self._model = model
        self._link = link
        self._look = look
        self._every = every
        self._task: Optional[Task] = None
        self._told: Optional[TesseraError] = None

    @property
    def _background(self) -> Background:
        return self._model.background

    def begin(self) -> None:
        if self._task is None:
            self._task = self._background.start(self._follow, done=void, failed=self._model.fail)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def look_now(self) -> None:
        """Look again without waiting: something was changed."""
        if self._task is not None:
            self.stop()
            self.begin()

    async def _follow(self) -> None:
        while True:
            try:
                async with self._link() as link:
                    while True:
                        await self._look(link)
                        self._background.post(self._answered)
                        await asyncio.sleep(self._every)
            except Exception as error:
                self._background.post(self._failed, as_tessera_error(error))
                await asyncio.sleep(_AGAIN_AFTER)

    def _answered(self) -> None:
        if self._told is not None and self._model.error is self._told:
            self._model.dismiss_error()
        self._told = None

    def _failed(self, error: TesseraError) -> None:
        if self._told is None:
            self._told = error
            self._model.fail(error)
