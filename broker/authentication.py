"""Admits or refuses every CURVE key before its peer's first message: the ZeroMQ Authentication Protocol (RFC 27, ZAP).

libzmq asks a REP socket inside this process, and lets everybody in when nobody listens there. So the handler is bound
before the ROUTERs are, and served by the very loop that serves them: there is no thread of its own that could die
alone, from when on everybody would be admitted. What it grants is only the handshake; the key of every message is
looked up again.
"""

from __future__ import annotations

from typing import Callable, Optional

import zmq

from common.discovery.addresses import unmapped
from common.errors import TesseraError
from common.protocol.identifiers import CURVE_KEY_SIZE

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_REQUEST_FRAMES = 7  # version, request id, domain, address, identity, mechanism, CURVE public key


def _untold(public_key: bytes, domain: str, address: str, reason: str) -> None:
    """Where nobody wants to know who was not let in."""


class Authentication:
    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admits: Callable[[bytes, str], Optional[str]],
        refused: Callable[[bytes, str, str, str], None] = _untold,
    ) -> None:
        """`admits(public key, domain)` gives None to admit a peer, else the reason why not.

        `refused(public key, domain, address, reason)` is told of each peer that was not let in.
        """
        self._admits = admits
        self._refused = refused
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)

    def require(self) -> None:
        """TesseraError where the handler is gone: from then on libzmq would let everybody in."""
        if self.socket.closed:
            raise TesseraError("nobody decides who may connect any more, so nobody is served")

    def answer(self) -> None:
        """Answer one question of libzmq's; it asks one at a time."""
        frames = self.socket.recv_multipart()
        self.socket.send_multipart(self._reply(frames))

    def _reply(self, frames: list[bytes]) -> list[bytes]:
        request_id = frames[1] if len(frames) > 1 else b""
        refusal = [_VERSION, request_id, b"400", b"not admitted", b"", b""]
        if len(frames) != _REQUEST_FRAMES or frames[0] != _VERSION:
            return refusal
        domain, address, mechanism, key = frames[2], frames[3], frames[5], frames[6]
        if mechanism != b"CURVE" or len(key) != CURVE_KEY_SIZE:
            return refusal
        asked_for = domain.decode("ascii", "replace")
        reason = self._admits(key, asked_for)
        if reason is not None:
            self._refused(key, asked_for, unmapped(address.decode("ascii", "replace")), reason)
            return refusal
        return [_VERSION, request_id, b"200", b"", key.hex().encode("ascii"), b""]


def authenticated_key(frame: zmq.Frame) -> bytes:
    """The CURVE public key (32 bytes) of the peer that sent this frame, as ZAP established it."""
    return bytes.fromhex(str(frame.get("User-Id")))
