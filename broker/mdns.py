"""The process that announces a broker by mDNS: `python -m broker.mdns HOST CLIENT_PORT WORKER_PORT PUBLIC_KEY`.

Started by the broker with a pipe for its stdin, and ends when that closes. Its arguments are what it announces, nothing
of which is secret. Every two seconds it looks whether the machine has other addresses by now, as after a new lease or
when the network came up late, and then announces those.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import sys
import threading
from typing import Any, Optional

from broker.listening import Listening
from broker.memory import cap_memory, forbid_core_dumps, watch_memory
from broker.supervisor import stop_with_supervisor
from common.discovery.announcement import MAX_ADDRESSES, SERVICE, Announcement
from common.process.stopping import stop_on_signals
from common.process.streams import LineFormatter

log = logging.getLogger(__name__)

_LOOK_EVERY = 2.0  # seconds
_MEMORY = 96 << 20  # bytes; at rest it has some 30 MiB


class Responder:
    """Answers who asks the LAN for brokers; with no address, nobody."""

    def __init__(self, announcement: Announcement) -> None:
        self._announcement = announcement
        self._addresses: list[str] = []
        self._zeroconf: Optional[Any] = None
        self._warned = False

    def announce_at(self, addresses: list[str]) -> None:
        """Announce the broker at these addresses, and at no others any more. Says once that it cannot be."""
        if addresses == self._addresses and (self._zeroconf is not None or not addresses):
            return
        self.close()
        self._addresses = addresses
        if not addresses:
            return
        from zeroconf import Error

        try:
            self._begin(addresses)
        except (OSError, RuntimeError, Error) as error:
            if not self._warned:
                log.warning("the broker cannot be announced on the LAN (mDNS): %s; invites work all the same", error)
            self._warned = True
            self.close()
            return
        self._warned = False
        log.info("the broker is announced on the LAN at %s", ", ".join(addresses))

    def _begin(self, addresses: list[str]) -> None:
        from zeroconf import ServiceInfo, Zeroconf

        said = self._announcement
        # Those that ask do so by IPv4 wherever they have it.
        self._zeroconf = Zeroconf(interfaces=[a for a in addresses if ":" not in a] or addresses)
        info = ServiceInfo(
            SERVICE,
            said.instance,
            port=said.client_port,
            addresses=[ipaddress.ip_address(address).packed for address in addresses],
            properties=said.properties(),
            server=said.host,
        )
        # Asks nobody whether the name is free: it follows from the key, and whoever denied it would silence the broker.
        self._zeroconf.register_service(info, cooperating_responders=True)

    def close(self) -> None:
        """Take the announcement back."""
        if self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            with contextlib.suppress(OSError):
                zeroconf.close()


def announce(announcement: Announcement, listening: Listening, stopping: threading.Event) -> None:
    """Announce a broker that listens so until the event is set, wherever it is reached by then."""
    responder = Responder(announcement)
    try:
        responder.announce_at(listening.announced_at()[:MAX_ADDRESSES])
        while not stopping.wait(_LOOK_EVERY):
            responder.announce_at(listening.announced_at()[:MAX_ADDRESSES])
    finally:
        responder.close()


def main(host: str, client_port: str, worker_port: str, public_key: str) -> int:
    """Announce until stdin closes; the exit code: 1 where it ended to be started again."""
    handler = logging.StreamHandler(sys.stderr)
    debug = os.environ.get("TESSERA_DEBUG") == "1"
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s", tracebacks=debug))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    forbid_core_dumps()
    stopping = stop_on_signals()
    stop_with_supervisor(stopping, sys.stdin.fileno())
    cap_memory(_MEMORY)
    exceeded = watch_memory(_MEMORY, stopping)
    listening = Listening(host, int(client_port), int(worker_port), announced=True)
    said = Announcement(listening.client_port, listening.worker_port, bytes.fromhex(public_key))
    announce(said, listening, stopping)
    return 1 if exceeded.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
