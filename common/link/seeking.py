"""Looks for a link's brokers on the LAN, by their public keys, as long as it has no session.

That begins when a broker that was only started again would be back, so most links never do it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Callable, Optional

from common.errors import UnreachableError
from common.finding.addresses import BrokerAddress, is_loopback
from common.finding.looking import look

AFTER = 1.5  # seconds without a session
_FOR = 60.0  # seconds until a search is given up for another, which begins with nothing that the first heard


class Seeking:
    def __init__(self, found: Callable[[BrokerAddress], None]) -> None:
        """`found` is called with each address, in the event loop."""
        self._found = found
        self._task: Optional[asyncio.Task[None]] = None

    def begin(self, brokers: Sequence[BrokerAddress]) -> None:
        """Look for these from now on; nothing where that is done already, or they are on this machine."""
        if self._task is None and not all(is_loopback(broker.host) for broker in brokers):
            self._task = asyncio.get_running_loop().create_task(self._seek({b.public_key for b in brokers}))

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _seek(self, keys: set[bytes]) -> None:
        await asyncio.sleep(AFTER)
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                try:
                    await asyncio.wait_for(look(self._found, keys), _FOR)
                except UnreachableError:
                    return  # then the link's own error says that its brokers do not answer
