"""How long who answers nothing is waited for, when others who were asked the same have answered.

A device that reports in time counts as here, and may still answer nothing. Its operation's timeout is for the slowest
honest disk, up to a minute; whoever can do without its answer need not wait so long (Dean & Barroso 2013, "The Tail at
Scale").
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Callable, Optional

LEAST = 1.0  # seconds
_TIMES = 4


class Stragglers:
    """Of one kind of request, asked of several together."""

    def __init__(self) -> None:
        self._usual = 0.0  # seconds until enough had answered, where that took longest

    async def late(
        self, asked: Collection[asyncio.Future[Any]], enough: Optional[Callable[[], bool]] = None, *, few: bool = False
    ) -> set[asyncio.Future[Any]]:
        """Wait for all, once enough have come for four times as long again, and a second at least; what is late then.

        `enough`: whether enough have come; half of them where it is left out. `few`: these are too few to be measured
        by each other, so by those before.
        """
        loop = asyncio.get_running_loop()
        started, waiting = loop.time(), set(asked)
        if not (few and self._usual):
            while waiting and not (enough() if enough else 2 * len(waiting) <= len(asked)):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            self._usual = max(self._usual, loop.time() - started)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=max(LEAST, _TIMES * self._usual))
        return waiting
