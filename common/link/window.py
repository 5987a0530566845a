"""How much a client may have under way: so many requests, and so many bytes of payload, as the broker granted."""

from __future__ import annotations

import asyncio
from collections import deque


class Window:
    """Admits requests in the order in which they came, as long as both limits hold.

    A single request larger than the whole credit is admitted alone, so that nothing waits for ever.
    """

    def __init__(self, requests: int, credit: int) -> None:
        self._requests = requests
        self._credit = credit
        self._under_way = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def _fits(self, size: int) -> bool:
        if self._under_way == 0:
            return True
        return self._under_way < self._requests and self._bytes + size <= self._credit

    async def enter(self, size: int) -> None:
        """Wait until a request with `size` bytes of payload (both ways together) may be sent."""
        if not self._waiting and self._fits(size):
            self._admit(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(size)  # admitted in the very moment it was cancelled
            raise

    def leave(self, size: int) -> None:
        """A request that had entered is answered or given up."""
        self._under_way -= 1
        self._bytes -= size
        while self._waiting:
            following, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(following):
                    return
                self._admit(following)
                turn.set_result(None)
            self._waiting.popleft()

    def _admit(self, size: int) -> None:
        self._under_way += 1
        self._bytes += size
