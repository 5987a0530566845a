"""Polls the cluster while a view that shows it is in front."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import datetime
from typing import Callable, Optional

from common.errors import TesseraError, UnreachableError
from common.link.link import Link
from common.link.questions import list_devices
from desktop.background import Background, Task, as_tessera_error, void
from desktop.model.model import Model

_AGAIN_AFTER = 3.0  # seconds, where there was no answer
_PULSE_EVERY = 2.0  # seconds between two checks that the broker is there, however long a poll takes
_PULSE_TIMEOUT = 4.0  # seconds
_FRESH = 20.0  # seconds for which a result is still current when its view comes back to the front


class Following:
    """Calls `look` with a link, `every` so many seconds, until it is stopped.

    `look` is a coroutine of the loop's thread and posts what it finds. While the cluster is not reached the model shows
    the error, once, until an answer comes. `notice` says how old the model's state is, where it may be outdated.
    """

    def __init__(
        self,
        model: Model,
        link: Callable[[], Link],
        look: Callable[[Link], Awaitable[None]],
        every: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._link = link
        self._look = look
        self._every = every
        self._clock = clock
        self._task: Optional[Task] = None
        self._told: Optional[TesseraError] = None
        self._as_of: Optional[float] = None  # the time of the last answer
        self._reached: Optional[bool] = None  # None while it is being asked

    @property
    def notice(self) -> str:
        """As "as of 02:16, the broker is not reached"; empty where the state is current, or there is none."""
        if self._reached or (self._reached is None and self._as_of is None):
            return ""
        what = "asking the broker …" if self._reached is None else "the broker is not reached"
        return what if self._as_of is None else f"as of {_moment(self._as_of, self._clock())}, {what}"

    @property
    def _background(self) -> Background:
        return self._model.background

    def begin(self) -> None:
        if self._task is None:
            if self._as_of is not None and self._clock() - self._as_of > _FRESH:
                self._reached = None
            self._start()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def look_now(self) -> None:
        """Poll at once: something was changed."""
        if self._task is not None:
            self.stop()
            self._start()

    def _start(self) -> None:
        self._task = self._background.start(self._follow, done=void, failed=self._model.fail)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._link() as link:
                    pulse = asyncio.create_task(self._feel(link))
                    try:
                        while True:
                            await self._look(link)
                            self._background.post(self._answered, self._clock())
                            await asyncio.sleep(self._every)
                    finally:
                        pulse.cancel()
            except Exception as error:
                self._background.post(self._failed, as_tessera_error(error))
                await asyncio.sleep(_AGAIN_AFTER)

    async def _feel(self, link: Link) -> None:
        """Notice soon that the broker is gone: a poll may come late, take long, and waits longer for an answer."""
        missed = False
        while True:
            await asyncio.sleep(_PULSE_EVERY)
            try:
                await asyncio.wait_for(list_devices(link), _PULSE_TIMEOUT)
            except (asyncio.TimeoutError, TesseraError) as error:
                missed = True
                said = error if isinstance(error, TesseraError) else _silent(link)
                self._background.post(self._failed, said)
            else:
                if missed:
                    self._background.post(self.look_now)
                    return

    def _answered(self, at: float) -> None:
        told, self._told = self._told, None
        changed = not self._reached
        self._as_of, self._reached = at, True
        if told is not None and self._model.error is told:
            self._model.dismiss_error()
        elif changed:
            self._model.changed()

    def _failed(self, error: TesseraError) -> None:
        self._reached = False
        if self._told is None:
            self._told = error
            self._model.fail(error)
        else:
            self._model.changed()


def _silent(link: Link) -> TesseraError:
    return UnreachableError(
        f"no answer from the broker at {link.address}", advice="is its computer on, and in the same network?"
    )


def _moment(at: float, now: float) -> str:
    """The time of day, with the day where it was another one."""
    then = datetime.fromtimestamp(at)
    same_day = then.date() == datetime.fromtimestamp(now).date()
    return then.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")
