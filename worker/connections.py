"""A worker's connections, one to each broker of its cluster; brokers that come or go are followed while it runs.

A worker registers with all brokers, so that each of them knows what it holds and can send clients to it. A broker that
refuses it is asked again: its list of members may be a moment behind. Only when all refuse, the worker is at an end.
Each broker is asked every ten seconds which brokers there are; what comes of that is kept in `brokers.json`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import zmq

from common.errors import RefusedError
from common.home import load_brokers, save_brokers
from common.identity import KeyPair
from common.invite import BrokerAddress, Role
from common.link.connection import ConnectionMonitor
from common.link.sockets import HIGH_WATER_MARK, make_dealer
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import Empty
from worker.brokers import agreed
from worker.registration import Registration, Statement, statement
from worker.store import ShareStore

log = logging.getLogger(__name__)

_RETRY = 1.0  # seconds until a broker that refused this worker is asked again
_ASKING_PERIOD = 10.0  # seconds; so long may a new broker be without this worker


class Connection:
    """One broker: its socket, what is known of the connection, and what waits to be sent."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        pair: KeyPair,
        broker: BrokerAddress,
        store: ShareStore,
        number: int,
    ) -> None:
        self.broker = broker
        self.number = number  # of no other connection, ever
        self.address = broker.endpoint(Role.WORKER)
        self.socket = make_dealer(context, pair, broker.public_key)
        self.monitor = ConnectionMonitor(self.socket)
        self.registration = Registration(store, self.address)
        self.named: list[BrokerAddress] = []  # the brokers that this one told of
        self.ask_at = 0.0
        self.retry_at: Optional[float] = None  # once it has refused this worker
        self._outbox: deque[list[Any]] = deque()
        try:
            self.socket.connect(self.address)
        except zmq.ZMQError as error:
            log.error("the broker at %s cannot be reached: %s", self.address, error.strerror)

    def send(self, envelope: Envelope, header: bytes, payload: Any = None) -> None:
        frames = [envelope.encode(), header]
        self._outbox.append(frames if payload is None else [*frames, payload])

    def state(self, statements: list[Statement]) -> None:
        for each in statements:
            self.send(*each)

    def flush(self) -> None:
        while self._outbox:
            try:
                self.socket.send_multipart(self._outbox[0], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._outbox.popleft()

    def lose(self) -> None:
        self._outbox.clear()
        self.named, self.ask_at = [], 0.0
        self.registration.disconnected()

    def close(self) -> None:
        self.monitor.close()
        self.socket.close()

    @property
    def interest(self) -> int:
        """What to wait for: messages, unless too many answers wait; room to send, if any do."""
        reading = zmq.POLLIN if len(self._outbox) < HIGH_WATER_MARK else 0
        return reading | (zmq.POLLOUT if self._outbox else 0)


class Connections:
    """All of them. `now` is monotonic seconds."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, store: ShareStore, brokers_file: Path
    ) -> None:
        """Connect to the brokers that the file names; UsageError where it names none."""
        self._context = context
        self._pair = pair
        self._store = store
        self._brokers_file = brokers_file
        self._brokers = load_brokers(brokers_file)
        self._refusals: dict[bytes, RefusedError] = {}
        self._counter = 0
        self._connections: dict[int, Connection] = {}
        for broker in self._brokers:
            self._connect(broker)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    def send(self, number: int, envelope: Envelope, header: bytes, payload: Any) -> None:
        """Answer the broker with this connection, if it still stands."""
        connection = self._connections.get(number)
        if connection is not None:
            connection.send(envelope, header, payload)

    def refuse(self, connection: Connection, error: RefusedError, now: float) -> None:
        """A broker will not have this worker; raises the error where none of the others will, either."""
        connection.lose()
        connection.retry_at = now + _RETRY
        self._refusals[connection.broker.public_key] = error
        if all(broker.public_key in self._refusals for broker in self._brokers):
            raise error
        log.info("%s; it is asked again", error)

    def told(self, connection: Connection, brokers: list[BrokerAddress]) -> None:
        """A broker has answered which brokers there are; the next tick follows from it."""
        connection.named = brokers
        renewed = agreed(self._brokers, {each.broker.public_key: each.named for each in self if each.named})
        if renewed == self._brokers:
            return
        self._brokers = renewed
        try:
            save_brokers(self._brokers_file, renewed)
        except OSError as error:
            log.warning("%s could not be written: %s", self._brokers_file, error.strerror)

    def tick(self, now: float) -> None:
        """To be called several times a second, while no connection is in use."""
        for connection in self:
            if connection.broker not in self._brokers:
                log.info("leaves the broker at %s", connection.address)
                self._close(connection)
            elif connection.registration.registered:
                self._refusals.pop(connection.broker.public_key, None)
                if now >= connection.ask_at:
                    connection.ask_at = now + _ASKING_PERIOD
                    connection.state([statement(Operation.BROKERS, Empty())])
            elif connection.retry_at is not None and now >= connection.retry_at:
                self._close(connection)
                self._connect(connection.broker)
        connected = [connection.broker for connection in self]
        for broker in self._brokers:
            if broker not in connected:
                log.info("connects to the broker at %s, too", broker.endpoint(Role.WORKER))
                self._connect(broker)

    def close(self) -> None:
        for connection in self:
            self._close(connection)

    def _connect(self, broker: BrokerAddress) -> None:
        self._counter += 1
        self._connections[self._counter] = Connection(self._context, self._pair, broker, self._store, self._counter)

    def _close(self, connection: Connection) -> None:
        self._connections.pop(connection.number).close()
