"""Restored files are made durable in groups, as databases commit: what is proven while one is under way makes the next.

So many small files wait for the disk a few times, not twice each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Optional

from common.errors import TesseraError
from consumer.output import Output, keep_all


class GroupCommit:
    """Keeps outputs in a thread, one group at a time."""

    def __init__(self) -> None:
        self._waiting: dict[Output, asyncio.Future[None]] = {}
        self._under_way = False

    async def keep(self, output: Output) -> None:
        """As `Output.keep`. One that is given up before its turn is discarded, later it is kept all the same."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting[output] = kept
        if not self._under_way:
            self._under_way = True
            loop.call_soon(self._begin)  # with all that are proven in the same moment
        try:
            await kept
        except asyncio.CancelledError:
            if self._waiting.pop(output, None) is not None:
                output.discard()
            raise

    def _begin(self) -> None:
        group, self._waiting = self._waiting, {}
        self._under_way = bool(group)
        if group:
            work = asyncio.get_running_loop().run_in_executor(None, keep_all, list(group))
            work.add_done_callback(lambda done: self._ended(list(group.values()), done))

    def _ended(self, group: Sequence[asyncio.Future[None]], work: asyncio.Future[list[Optional[TesseraError]]]) -> None:
        errors = [work.exception()] * len(group) if work.exception() is not None else work.result()
        for kept, error in zip(group, errors):
            if kept.done():
                continue  # given up
            if error is None:
                kept.set_result(None)
            else:
                kept.set_exception(error)
        self._begin()
