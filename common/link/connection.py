"""Watches one DEALER's connection: libzmq reconnects by itself, but whoever waits must know when, and when not to.

A peer that the broker does not admit is told so by ZMTP (an ERROR command after ZAP's answer 400), which reaches the
program only through the socket's monitor.
"""

from __future__ import annotations

import enum

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


_MEANING = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): Change.UP,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Change.NOT_ADMITTED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_DISCONNECTED): Change.DOWN,
}


class ConnectionMonitor:
    """The changes of one socket's connection, in order."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._watched = socket
        self.socket = socket.get_monitor_socket(_EVENTS)

    def changes(self) -> list[Change]:
        """What happened since the last call; never waits."""
        seen: list[Change] = []
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return seen
            event = int(parse_monitor_message(frames)["event"])
            if event in _MEANING:
                seen.append(_MEANING[event])

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)
