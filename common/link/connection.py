"""Watches one DEALER's connection: libzmq reconnects by itself, but whoever waits must know when, and when not to.

A peer that the broker does not admit is told so by ZMTP (an ERROR command after ZAP's answer 400), which reaches the
program only through the socket's monitor. So does how else a handshake ends; with libzmq 4.3.5, at

    a broker with another key           FAILED_NO_DETAIL (EPIPE, ECONNRESET): it closes what it cannot decrypt
    ZeroMQ without CURVE                FAILED_PROTOCOL
    another service (HTTP, SSH)         DISCONNECTED, no more; or FAILED_PROTOCOL
    what takes connections and is mute  FAILED_NO_DETAIL (EAGAIN) after handshake_ivl: a broker that hangs, too

Why there is no connection at all it does not tell (`unreached`).
"""

from __future__ import annotations

import enum
import errno

import zmq
from zmq.utils.monitor import parse_monitor_message

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


class Change(enum.Enum):
    """What happened to a connection."""

    UP = "up"
    DOWN = "down"
    NOT_ADMITTED = "not admitted"
    NO_HANDSHAKE = "no handshake"  # something answers there, but not the broker with the key that we expect
    MUTE = "mute"  # something takes connections there, and says nothing


_MEANING = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): Change.UP,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Change.NOT_ADMITTED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_DISCONNECTED): Change.DOWN,
}


_TIMED_OUT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ETIMEDOUT})


class ConnectionMonitor:
    """The changes of one socket's connection, in order."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._watched = socket
        self._shaking_hands = True
        self.socket = socket.get_monitor_socket(_EVENTS)

    def changes(self) -> list[Change]:
        """What happened since the last call; never waits."""
        seen: list[Change] = []
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return seen
            told = parse_monitor_message(frames)
            change = _MEANING.get(int(told["event"]))
            if change is Change.NO_HANDSHAKE and int(told["value"]) in _TIMED_OUT:
                change = Change.MUTE
            if change is Change.DOWN and self._shaking_hands:
                seen.append(Change.NO_HANDSHAKE)
            if change is not None:
                self._shaking_hands = change is Change.DOWN
                seen.append(change)

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)
