"""Why a broker is not reached, in words.

libzmq tries again and again and tells of no error. So the system is asked when all is over, by a connection that says
nothing.
"""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Collection, Mapping

from common.discovery.addresses import BrokerAddress
from common.errors import UnreachableError
from common.link.connection import Change
from common.protocol.operations import Role

_TIMEOUT = 1.5  # seconds for all addresses together; names that are looked up take the longest
_SEEN = {
    Change.UP: "it took the connection and gives no answer",
    Change.NO_HANDSHAKE: "something answers there, but not with the broker's key",
    Change.MUTE: "something takes the connection there and says nothing: a broker that hangs, or another program",
    Change.NOT_ADMITTED: "something there ends the handshake",
}
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})
_NO_ANSWER = "no answer: it is off, in another network, or a firewall is in the way"


def diagnose(brokers: Collection[BrokerAddress], role: Role, seen: Mapping[str, Change]) -> UnreachableError:
    """The error that says of each address why the broker is not reached there; takes up to 1.5 s.

    `seen`: what a socket's monitor told, by endpoint.
    """
    ports = {broker.endpoint(role): (broker.host, broker.port(role)) for broker in brokers}
    asked = {endpoint: place for endpoint, place in ports.items() if endpoint not in seen}
    found = _ask(asked)
    whys = {end: _SEEN.get(seen[end], _NO_ANSWER) if end in seen else found.get(end, _NO_ANSWER) for end in ports}
    return UnreachableError("no answer from the broker at " + ", ".join(f"{end} ({why})" for end, why in whys.items()))


def _ask(places: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Of each place, by endpoint, what the system says; those that take too long are left out."""
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    end = time.monotonic() + _TIMEOUT
    for endpoint, (host, port) in places.items():
        # A thread that nobody waits for: the search for a name cannot be broken off.
        threading.Thread(
            target=lambda e, h, p: answers.put((e, _why(h, p))), args=(endpoint, host, port), daemon=True
        ).start()
    found: dict[str, str] = {}
    while len(found) < len(places):
        try:
            endpoint, why = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        found[endpoint] = why
    return found


def _why(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT):
            return "something listens there, and is not the broker or too busy"
    except (socket.gaierror, UnicodeError):
        return "that name is not known here"
    except ConnectionRefusedError:
        return "nothing listens there: the broker is not running, or at another port"
    except OSError as error:
        return "there is no way there from this machine" if error.errno in _NO_WAY else _NO_ANSWER
