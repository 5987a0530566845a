"""The worker's loop: one connection to each broker, one store, one thread.

All messages at hand are read and carried out, then the commits among them become durable together, then the answers
go out. Behind that the scrub has its turn. What a connection cannot take yet waits in its outbox, and while that is
long the connection is not read: so a slow broker holds up itself only. What was meant for a connection that is lost is
dropped; its requester asks again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import Any

import zmq

from common.errors import ProtocolError
from common.identity import KeyPair
from common.invite import BrokerAddress, Role
from common.link.connection import Change, ConnectionMonitor
from common.link.sockets import HIGH_WATER_MARK, make_dealer
from common.protocol.codec import unpack_header
from common.protocol.envelope import Envelope, Kind, decode_envelope
from common.protocol.messages import Acknowledged
from worker.registration import Registration, Statement, not_admitted
from worker.requests import Answered, Request
from worker.service import Service
from worker.store import ShareStore

log = logging.getLogger(__name__)

_TICK = 0.25  # seconds
_BURST = 32  # messages of one broker before the answers go out


class _Connection:
    """One broker: its socket, what is known of the connection, and what waits to be sent."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, broker: BrokerAddress, store: ShareStore
    ) -> None:
        self.address = broker.endpoint(Role.WORKER)
        self.socket = make_dealer(context, pair, broker.public_key)
        self.monitor = ConnectionMonitor(self.socket)
        self.registration = Registration(store, self.address)
        self._outbox: deque[list[Any]] = deque()
        self.socket.connect(self.address)

    def send(self, envelope: Envelope, header: bytes, payload: Any = None) -> None:
        frames = [envelope.encode(), header]
        self._outbox.append(frames if payload is None else [*frames, payload])

    def state(self, statements: list[Statement]) -> None:
        for statement in statements:
            self.send(*statement)

    def flush(self) -> None:
        while self._outbox:
            try:
                self.socket.send_multipart(self._outbox[0], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._outbox.popleft()

    def lose(self) -> None:
        self._outbox.clear()
        self.registration.disconnected()

    @property
    def interest(self) -> int:
        """What to wait for: messages, unless too many answers wait; room to send, if any do."""
        reading = zmq.POLLIN if len(self._outbox) < HIGH_WATER_MARK else 0
        return reading | (zmq.POLLOUT if self._outbox else 0)


class Server:
    def __init__(self, store: ShareStore, pair: KeyPair, brokers: list[BrokerAddress]) -> None:
        self._store = store
        self._service = Service(store)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._connections = [_Connection(self._context, pair, broker, store) for broker in brokers]

    def serve(self, stopping: threading.Event) -> None:
        """Serve until the event is set; RefusedError where a broker will not have this worker."""
        while not stopping.is_set():
            poller = zmq.Poller()
            for connection in self._connections:
                poller.register(connection.socket, connection.interest)
                poller.register(connection.monitor.socket, zmq.POLLIN)
            wait = min(_TICK, self._store.scrub.due_in(time.monotonic()))
            ready = dict(poller.poll(math.ceil(wait * 1000)))
            now = time.monotonic()
            for number, connection in enumerate(self._connections):
                self._follow(number, connection, now)
                if ready.get(connection.socket, 0) & zmq.POLLIN:
                    self._read(number, connection, now)
            self._answer(self._service.finish_round())
            self._service.expire(now)
            self._store.expire(now)
            self._store.scrub.turn(now, idle=not ready)
            self._answer([])
            for connection in self._connections:
                connection.state(connection.registration.tick(now))
                connection.flush()

    def close(self) -> None:
        for connection in self._connections:
            connection.monitor.close()
        self._context.destroy(linger=500)

    def _follow(self, number: int, connection: _Connection, now: float) -> None:
        for change in connection.monitor.changes():
            if change is Change.UP:
                connection.state(connection.registration.connected(now))
            elif change is Change.DOWN:
                connection.lose()
                self._service.disconnected(number)
            elif change is Change.NOT_ADMITTED:
                raise not_admitted(connection.address)

    def _read(self, number: int, connection: _Connection, now: float) -> None:
        for _ in range(_BURST):
            try:
                frames = connection.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._accept(number, connection, [frame.buffer for frame in frames], now)
            except ProtocolError as error:
                log.warning("dropped a message from the broker at %s: %s", connection.address, error)

    def _accept(self, number: int, connection: _Connection, frames: list[memoryview], now: float) -> None:
        if len(frames) not in (2, 3):
            raise ProtocolError(f"a message of {len(frames)} frames")
        envelope = decode_envelope(frames[0])
        if envelope.kind is Kind.REPLY:
            answer = unpack_header(frames[1], Acknowledged).answer
            connection.state(connection.registration.answered(envelope.operation, answer, now))
        elif envelope.kind is Kind.REQUEST:
            payload = frames[2] if len(frames) == 3 else memoryview(b"")
            self._answer(self._service.handle(Request(number, envelope, frames[1], payload), now))

    def _answer(self, answers: list[Answered]) -> None:
        """Tell every broker what changed, and only then send the answers."""
        news = self._store.news()
        if news:
            for connection in self._connections:
                connection.state(connection.registration.tell(news))
        for answer in answers:
            self._connections[answer.broker].send(answer.envelope, answer.header, answer.payload)
