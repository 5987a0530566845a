"""The search for brokers on the LAN, with python-zeroconf: in an event loop, or in a thread of its own.

python-zeroconf is imported when a search begins, since most runs of most programs never search. A search is made of
rounds of some seconds, each with sockets and a cache of its own: so what a hostile machine fills is dropped with its
round, and networks that come up meanwhile are searched too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Collection, Sequence
from typing import Any, Callable, Optional

from common.discovery.addresses import BrokerAddress
from common.discovery.announcement import SERVICE, Candidates, read_announcement
from common.errors import ProtocolError, UnreachableError
from common.process.running_time import RunningTime

log = logging.getLogger(__name__)

ROUND = 10.0  # seconds
_BEAT = 0.25  # seconds between two looks at the clock
_DETAILS_TIMEOUT = 2000  # ms for what an announcement left out
Interfaces = Sequence[str]  # own IPv4 addresses, one an interface


async def browse(
    found: Callable[[BrokerAddress], None],
    keys: Optional[Collection[bytes]] = None,
    interfaces: Optional[Interfaces] = None,
) -> None:
    """Search for brokers until cancelled; `found` is called with each address, once.

    `keys`: the public keys of those that are wanted; any broker's if left out. `interfaces`: where to look; everywhere
    if left out. UnreachableError where the system does not let this process take part in mDNS.
    """
    candidates = Candidates(keys)
    while True:
        await _round(candidates, found, interfaces)


async def _round(
    candidates: Candidates, found: Callable[[BrokerAddress], None], interfaces: Optional[Interfaces]
) -> None:
    from zeroconf import Error, InterfaceChoice
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def look_into(instance: str) -> None:
        brokers: list[BrokerAddress] = []
        try:
            details = AsyncServiceInfo(SERVICE, instance)
            if await details.async_request(zeroconf.zeroconf, _DETAILS_TIMEOUT):
                brokers = read_announcement(instance, details.properties, details.parsed_addresses())
        except (ProtocolError, Error, ValueError) as error:
            log.debug("an announcement is passed over: %s", error)
        finally:
            new = candidates.end(instance, brokers)
        for broker in new:
            found(broker)

    def seen(name: str, state_change: Any, **_: object) -> None:
        if state_change.name != "Removed" and candidates.begin(name):
            task = loop.create_task(look_into(name))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    try:
        zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All if interfaces is None else list(interfaces))
    except (OSError, RuntimeError, Error) as error:
        raise UnreachableError(f"this machine cannot look for brokers on the LAN (mDNS): {error}") from None
    try:
        AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[seen])
        await asyncio.sleep(ROUND)
    finally:
        for task in tasks:
            task.cancel()
        await zeroconf.async_close()


class Search:
    """A search of some seconds in a thread of its own, for programs without an event loop."""

    def __init__(
        self, seconds: float, keys: Optional[Collection[bytes]] = None, interfaces: Optional[Interfaces] = None
    ) -> None:
        """As `browse`, which see."""
        self._found: queue.SimpleQueue[Optional[BrokerAddress]] = queue.SimpleQueue()
        self._seconds = seconds
        self._keys = keys
        self._interfaces = interfaces
        self._ended = False
        self._stop: Optional[Callable[[], object]] = None
        self._stopped = threading.Event()
        self.fault: Optional[UnreachableError] = None  # why it failed, once it has ended
        threading.Thread(target=self._serve, name="search", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it is over, and `next` gave all that was found."""
        return self._ended

    def next(self, seconds: float = 0.0) -> Optional[BrokerAddress]:
        """The next address, waited for up to so many seconds; None where there is none yet, or no more (`ended`)."""
        if self._ended:
            return None
        try:
            broker = self._found.get(timeout=seconds) if seconds > 0 else self._found.get_nowait()
        except queue.Empty:
            return None
        self._ended = broker is None
        return broker

    def close(self) -> None:
        """Stop the search, without waiting for its thread."""
        self._stopped.set()
        if self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._stop()

    def _serve(self) -> None:
        try:
            asyncio.run(self._look())
        except UnreachableError as error:
            self.fault = error
        finally:
            self._found.put(None)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        browsing = loop.create_task(browse(self._found.put, self._keys, self._interfaces))
        self._stop = lambda: loop.call_soon_threadsafe(browsing.cancel)
        if self._stopped.is_set():
            browsing.cancel()
        now = RunningTime()
        end = now() + self._seconds
        while not browsing.done() and now() < end:
            await asyncio.wait({browsing}, timeout=_BEAT)
        browsing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await browsing


def find(
    wanted: Callable[[BrokerAddress], bool], seconds: float, grace: float, interfaces: Optional[Interfaces] = None
) -> list[BrokerAddress]:
    """The addresses that `wanted` accepts, within `grace` seconds of the first; none where none comes in `seconds`.

    UnreachableError as `browse`.
    """
    search = Search(seconds + grace, interfaces=interfaces)
    chosen: list[BrokerAddress] = []
    now = RunningTime()
    end = now() + seconds
    try:
        while not search.ended and (wait := end - now()) > 0:
            broker = search.next(min(wait, _BEAT))
            if broker is not None and wanted(broker):
                if not chosen:
                    end = now() + grace
                chosen.append(broker)
    finally:
        search.close()
    if search.fault is not None:
        raise search.fault
    return chosen
