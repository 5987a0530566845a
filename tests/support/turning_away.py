"""A machine that has no broker's key, and ends every handshake as a broker does that does not admit the peer.

In ZMTP's CURVE handshake an ERROR command is neither encrypted nor authenticated (RFC 26), so anybody can say it.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from common.discovery.addresses import BrokerAddress

_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
_ERROR = b"\x05ERROR" + b"\x03400"
_HELLO_SIZE = 2 + 200


class TurningAway:
    """Listens on loopback until closed; `asked` counts those it turned away."""

    def __init__(self) -> None:
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def posing_as(self, public_key: bytes) -> BrokerAddress:
        """What it has announced: another's key, at its own address."""
        port = self._socket.getsockname()[1]
        return BrokerAddress("127.0.0.1", port, port, public_key)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                with contextlib.suppress(OSError), peer:
                    peer.settimeout(5.0)
                    peer.sendall(_GREETING)
                    self._read(peer, len(_GREETING) + _HELLO_SIZE)
                    peer.sendall(bytes([4, len(_ERROR)]) + _ERROR)
                    self.asked += 1
                    self._read(peer, 1)

    @staticmethod
    def _read(peer: socket.socket, size: int) -> None:
        while size > 0 and (got := peer.recv(size)):
            size -= len(got)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
