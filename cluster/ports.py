"""The TCP ports of brokers on this machine: for each two, one for clients, the one after it for workers.

A port that is in use is refused before anything is started, with a clear error. That check is no reservation: where
another process takes the port in between, the broker fails as it starts, and its log says so.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Sequence

from common.errors import UsageError

HOST = "127.0.0.1"
# Below the range from which Linux (32768) and Windows (49152) take the local ports of outgoing connections.
SEARCHED = range(20000, 32000, 2)


def port_is_free(port: int) -> bool:
    """Whether a broker could listen on `port` of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform == "win32":
            # On Windows SO_REUSEADDR would let the probe share a port that another process listens on.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # As libzmq does: connections of the previous broker in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def port_answers(port: int) -> bool:
    """Whether TCP connections to `port` of 127.0.0.1 are accepted."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def require_free(ports: Sequence[int]) -> None:
    """Raise `UsageError` unless all the ports that the brokers are to have are free."""
    for port in ports:
        if not port_is_free(port):
            raise UsageError(
                f"port {port} of {HOST} is taken (the cluster needs {ports[0]} to {ports[-1]})",
                advice="stop what uses it, or choose other ports with --base-port",
            )


def find_base_port(brokers: int = 1, searched: range = SEARCHED) -> int:
    """A base port among those searched from which on the ports of so many brokers are free.

    Drawn at random, so that concurrent searches rarely find the same. UsageError where none of those tried is free.
    """
    for port in random.sample(searched, min(200, len(searched))):
        if all(port_is_free(each) for each in range(port, port + 2 * brokers)):
            return port
    raise UsageError(f"found no {2 * brokers} free ports between {searched.start} and {searched.stop}")
