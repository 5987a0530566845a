"""`Admission` for coroutines: whoever would exceed the limits waits for its turn."""

from __future__ import annotations

import asyncio

from common.link.admission import Admission


class Window:
    """Admits so many requests at a time, and so many bytes, in the order in which they came."""

    def __init__(self, requests: int, credit: int) -> None:
        self._admission: Admission[asyncio.Future[None]] = Admission(requests, credit, _admit)

    async def enter(self, size: int) -> None:
        """Wait until a request with `size` bytes of payload (both ways together) may be sent."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admission.enter(turn, size)
        try:
            await turn
        except asyncio.CancelledError:
            self._admission.give_up(turn, size)  # though it may have been admitted in that very moment
            raise

    def leave(self, size: int) -> None:
        """A request that had entered is answered or given up."""
        self._admission.leave(size)


def _admit(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
