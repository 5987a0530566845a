"""The one place where sockets are made, so that none is without CURVE or without a limit; and what watches one.

The sockets of lanes have PLAIN instead: with a token that CURVE carried they begin, and whatever travels on them is
sealed under keys that it carried (`lane`).

The options are those of docs/protocol.md, "Transport"; each has a reason:
- `router_mandatory`: a send to a peer that is gone or full fails at once instead of vanishing;
- high-water marks of 16 messages for what is sent, and `maxmsgsize`. What a broker sends has twice that: libzmq reports
  what left a pipe only by half pipes (lwm = hwm / 2), so that 16 answers to 16 requests could find a pipe of 16 full,
  and be lost;
- `immediate`: nothing is queued for a connection that does not stand, since its requester will send it again;
- heartbeats: a peer that hangs or a cable that is pulled is noticed within three seconds by the broker and by clients,
  which have another broker to go on with; unless so much waits to be sent that no heartbeat is. Workers only answer;
- `Silence` notices all that, too, for clients and workers, whatever came last. For the broker, and for whoever has too
  much to send to be listening, there is the kernel: `tcp_maxrt` ends a connection whose bytes nobody acknowledges,
  keepalives one where nothing is sent, each after the same time;
- `connect_timeout`: the kernel tries to connect for minutes, ever more rarely; a cable that is in again is seen soon;
- libzmq 4.3 aborts a process ("Assertion failed: !_io_error", libzmq issues 3937, 4767) where a heartbeat is to be sent
  or answered on a connection that broke while its pipe was full, as it is in a program that was stopped or busy for
  some seconds. So what is received has a mark that no honest peer reaches: a client has 16 requests under way, a
  device some for each client and a page for each 2000 of its shares, and a DEALER gets no more than it asked for.

The routing ids that a ROUTER gives out must not be guessed. libzmq 4.3 numbers a ROUTER's anonymous peers from a value
that it draws with the C library's `rand` when the socket is made, and never seeds it: the first peer of every process
is 006b8b4567. A peer that sets its own routing id to the one that comes next makes libzmq abort the whole process when
the next peer comes ("Assertion failed: ok (src/socket_base.cpp)"). So `rand` is seeded from the system's random source
before each ROUTER is made.

The seed has 32 bits, and so has the counter: this keeps an attacker from knowing the number, not from guessing. A guess
costs a connection. Whoever guesses right has a broker restarted (`broker/supervisor.py`), and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from common.link.connection import LIMIT, Change
from common.membership.identity import KeyPair
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.messages import HIGH_WATER_MARK

LANES = "lanes"  # ZAP's domain of them
_NEVER_FULL = 1000  # messages that wait to be received; see above
_OVERHEAD = 64  # bytes; CURVE needs 33 over the payload, a lane 16
_LINGER = 1000  # ms
_SEED_SIZE = 4  # bytes: an `unsigned int`
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)
_MEANING = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): Change.UP,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Change.NOT_ADMITTED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Change.NO_HANDSHAKE,
    int(zmq.EVENT_DISCONNECTED): Change.DOWN,
}
_TIMED_OUT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ETIMEDOUT})


def make_router(context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, domain: str) -> zmq.Socket[bytes]:
    """A broker's socket: CURVE server whose peers the ZAP handler of this process admits under `domain`."""
    socket = _router(context)
    socket.curve_server = 1
    socket.curve_secretkey = z85.encode(pair.secret)
    socket.curve_publickey = z85.encode(pair.public)
    socket.zap_domain = domain.encode("ascii")
    return socket


def make_dealer(
    context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, server_key: bytes, *, heartbeats: bool = False
) -> zmq.Socket[bytes]:
    """A client's or worker's socket, which speaks only to the broker with the CURVE key `server_key` (32 bytes).

    `heartbeats`: notice a broker that hangs within three seconds, whatever it said last.
    """
    socket = _dealer(context, heartbeats=heartbeats)
    socket.reconnect_ivl = 100
    socket.reconnect_ivl_max = 1000
    socket.curve_secretkey = z85.encode(pair.secret)
    socket.curve_publickey = z85.encode(pair.public)
    socket.curve_serverkey = z85.encode(server_key)
    return socket


def make_lane_router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """A broker's socket for lanes, whose peers the ZAP handler of this process admits under LANES by their tokens."""
    socket = _router(context)
    socket.plain_server = True
    socket.zap_domain = LANES.encode("ascii")
    return socket


def make_lane_dealer(
    context: zmq.Context[zmq.Socket[bytes]], lane_id: bytes, token: bytes, *, heartbeats: bool = False
) -> zmq.Socket[bytes]:
    """A client's or worker's socket for one lane; its token serves once, so that it never connects anew."""
    socket = _dealer(context, heartbeats=heartbeats)
    socket.reconnect_ivl = -1
    socket.plain_username = lane_id.hex().encode("ascii")
    socket.plain_password = token.hex().encode("ascii")
    return socket


def _router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    seed_routing_ids()
    socket = context.socket(zmq.ROUTER)
    _limit(socket)
    socket.sndhwm = 2 * HIGH_WATER_MARK
    _send_heartbeats(socket)
    socket.router_mandatory = 1
    return socket


def _dealer(context: zmq.Context[zmq.Socket[bytes]], *, heartbeats: bool) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    _limit(socket)
    if heartbeats:
        _send_heartbeats(socket)
    socket.immediate = 1
    socket.connect_timeout = 2000
    return socket


def _limit(socket: zmq.Socket[bytes]) -> None:
    socket.linger = _LINGER
    socket.sndhwm = HIGH_WATER_MARK
    socket.rcvhwm = _NEVER_FULL
    socket.maxmsgsize = MAX_PAYLOAD + _OVERHEAD
    socket.handshake_ivl = 2000
    socket.ipv6 = True
    socket.tcp_maxrt = int(1000 * LIMIT)
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle, socket.tcp_keepalive_intvl, socket.tcp_keepalive_cnt = 3, 1, 3


def _send_heartbeats(socket: zmq.Socket[bytes]) -> None:
    socket.heartbeat_ivl = 1000
    socket.heartbeat_timeout = 3000
    socket.heartbeat_ttl = 5000


def seed_routing_ids() -> None:
    """Seed the C library's `rand`; to be called in the thread that makes the ROUTER, since Windows keeps one for each.

    OSError or AttributeError where there is no C library to be found: a broker must not run without.
    """
    library = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    library.srand(ctypes.c_uint(int.from_bytes(os.urandom(_SEED_SIZE), "little")))


class ConnectionMonitor:
    """The changes of one socket's connection, in order.

    libzmq reconnects by itself, but whoever waits must know when, and when not to.

    A peer that the broker does not admit is told so by ZMTP (an ERROR command after ZAP's answer 400), which reaches
    the program only through the socket's monitor. So does how else a handshake ends; with libzmq 4.3.5, at

        a broker with another key           FAILED_NO_DETAIL (EPIPE, ECONNRESET): it closes what it cannot decrypt
        ZeroMQ without CURVE                FAILED_PROTOCOL
        another service (HTTP, SSH)         DISCONNECTED, no more; or FAILED_PROTOCOL
        what takes connections and is mute  FAILED_NO_DETAIL (EAGAIN) after handshake_ivl: a broker that hangs, too

    Why there is no connection at all it does not tell (`diagnosis`).
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._watched = socket
        self._shaking_hands = True
        self.socket = socket.get_monitor_socket(_EVENTS)

    def changes(self) -> list[Change]:
        """What happened since the last call; never waits."""
        seen: list[Change] = []
        while int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            told = parse_monitor_message(self.socket.recv_multipart(zmq.NOBLOCK))
            change = _MEANING.get(int(told["event"]))
            if change is Change.NO_HANDSHAKE and int(told["value"]) in _TIMED_OUT:
                change = Change.MUTE
            if change is Change.DOWN and self._shaking_hands:
                seen.append(Change.NO_HANDSHAKE)
            if change is not None:
                self._shaking_hands = change is Change.DOWN
                seen.append(change)
        return seen

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)
