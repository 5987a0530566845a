"""Admits or refuses every peer before its first message: the ZeroMQ Authentication Protocol (RFC 27, ZAP).

By its CURVE key, or at the port for lanes by a token that it was given over CURVE.

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
from common.link.sockets import LANES
from common.protocol.identifiers import CURVE_KEY_SIZE

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_CREDENTIALS = 6  # the frames before them: version, request id, domain, address, identity, mechanism


def _untold(public_key: bytes, domain: str, address: str, reason: str) -> None:
    """Where nobody wants to know who was not let in."""


def _no_lanes(lane_id: str, token: str) -> bool:
    """Where the broker has none."""
    return False


class Authentication:
    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admits: Callable[[bytes, str], Optional[str]],
        refused: Callable[[bytes, str, str, str], None] = _untold,
        admits_lane: Callable[[str, str], bool] = _no_lanes,
    ) -> None:
        """`admits(public key, domain)` gives None to admit a peer, else the reason why not.

        `refused(public key, domain, address, reason)` is told of each peer that was not let in; the key is empty where
        it came for a lane. `admits_lane(lane id, token)`, both hexadecimal as they came, uses the token up.
        """
        self._admits = admits
        self._admits_lane = admits_lane
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
        if len(frames) <= _CREDENTIALS or frames[0] != _VERSION:
            return refusal
        domain, address, mechanism = (each.decode("ascii", "replace") for each in (frames[2], frames[3], frames[5]))
        credentials = frames[_CREDENTIALS:]
        if mechanism == "PLAIN" and domain == LANES and len(credentials) == 2:
            lane_id, token = (each.decode("ascii", "replace") for each in credentials)
            key, user_id = b"", lane_id
            reason = None if self._admits_lane(lane_id, token) else "nobody was granted a lane with its token"
        elif mechanism == "CURVE" and domain != LANES and [len(each) for each in credentials] == [CURVE_KEY_SIZE]:
            key, user_id = credentials[0], credentials[0].hex()
            reason = self._admits(key, domain)
        else:
            return refusal
        if reason is not None:
            self._refused(key, domain, unmapped(address), reason)
            return refusal
        return [_VERSION, request_id, b"200", b"", user_id.encode("ascii"), b""]


def authenticated_key(frame: zmq.Frame) -> bytes:
    """The CURVE public key (32 bytes) of the peer that sent this frame, as ZAP established it."""
    return _user_id(frame)


def lane_of(frame: zmq.Frame) -> bytes:
    """The id of the lane that this frame came on, as ZAP established it."""
    return _user_id(frame)


def _user_id(frame: zmq.Frame) -> bytes:
    return bytes.fromhex(str(frame.get("User-Id")))
