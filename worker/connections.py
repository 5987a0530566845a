"""A worker's connections, one to each broker of its cluster; the list is kept up to date while it runs.

A worker registers with all brokers, so that each of them knows what it holds and can send clients to it. A broker that
refuses it is asked again: its list of members may be a moment behind. Only when all refuse, the worker ends.
Each broker is asked every ten seconds which brokers there are; what comes of that is kept in `brokers.json`.

While none has this worker registered, as when the broker's machine got another address, the brokers are looked for on
the LAN, by their public keys, in a thread of its own. An address that is found so is tried in turn with the known one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import zmq

from common.discovery.addresses import BrokerAddress, is_loopback
from common.discovery.search import Search
from common.errors import RefusedError
from common.link.broker_list import SEARCH_TIME, BrokerAddresses, agreed
from common.link.channel import Channel
from common.link.connection import Silence
from common.membership.identity import KeyPair, ListMarks, load_brokers, marks_beside, save_brokers
from common.protocol.envelope import Envelope, Operation
from common.protocol.messages import HIGH_WATER_MARK, DeviceKind, Empty
from common.protocol.operations import Role
from worker.registration import Registration, Statement, statement
from worker.store import ShareStore

log = logging.getLogger(__name__)

_RETRY = 1.0  # seconds until a broker that refused this worker is asked again
_ASKING_PERIOD = 10.0  # seconds; a new broker has to wait for this worker so long
_LOOK_AFTER = 1.5  # seconds without any broker; one that is started again is back by then
_LOOK_PAUSE = 5.0  # seconds between two; without a network one ends at once
_TRY_FOR = 3.0  # seconds for one address, where there are several of one broker


class Connection:
    """One broker: the channel to it, what is known of the connection, and what waits to be sent."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        pair: KeyPair,
        broker: BrokerAddress,
        store: ShareStore,
        kind: DeviceKind,
        number: int,
        marks: ListMarks,
    ) -> None:
        self.broker = broker
        self.number = number  # of no other connection, ever
        self.address = broker.endpoint(Role.WORKER)
        self.silence = Silence()
        self.registration = Registration(store, self.address, kind, lambda: marks.of(broker.public_key))
        self.named: list[BrokerAddress] = []  # the brokers that this one told of
        self.ask_at = 0.0
        self.retry_at: Optional[float] = None  # where it has refused this worker
        self._outbox: deque[list[Any]] = deque()
        self.channel = Channel(context, pair, broker, Role.WORKER)
        try:
            self.channel.connect()
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
                self.channel.send(self._outbox[0])
            except zmq.Again:
                return
            self._outbox.popleft()

    def lose(self) -> None:
        self.silence.end()
        self._outbox.clear()
        self.named, self.ask_at = [], 0.0
        self.registration.disconnected()

    def close(self) -> None:
        self.channel.close()

    @property
    def interest(self) -> int:
        """What to wait for on the socket in use: messages, unless too many answers wait; room to send, if any do."""
        reading = zmq.POLLIN if len(self._outbox) < HIGH_WATER_MARK else 0
        return reading | (zmq.POLLOUT if self._outbox else 0)


class _BrokerSearch:
    """Searches the LAN for the brokers while none of them has this worker; never blocks."""

    def __init__(self, brokers: list[BrokerAddress]) -> None:
        self.addresses = BrokerAddresses(brokers)
        self._search: Optional[Search] = None
        self._search_at: Optional[float] = None
        self._looking = False
        self._turn_at = 0.0

    def end(self, now: float) -> None:
        """End the search: a broker is reached, or the worker ends."""
        if self._search is not None:
            self._search.close()
            self._search = None
        self._search_at, self._looking, self._turn_at = None, False, now

    def where_to_try(self, tried: list[BrokerAddress], now: float) -> list[BrokerAddress]:
        """The brokers at the addresses to try now, besides these."""
        if self._search_at is None:
            self._search_at = now + _LOOK_AFTER
        known = self.addresses.known
        if self._search is None and now >= self._search_at and not all(is_loopback(broker.host) for broker in known):
            if not self._looking:
                log.info("no broker is reached; looking for them on the LAN")
                self._looking = True
            self._search = Search(SEARCH_TIME, [broker.public_key for broker in known])
        heard = self._take_found(now)
        if not heard and now < self._turn_at:
            return tried
        self._turn_at = now + _TRY_FOR
        return self.addresses.following(tried)

    def _take_found(self, now: float) -> bool:
        """Take up what the search has found; whether to try it at once."""
        if self._search is None:
            return False
        new = False
        while (broker := self._search.next()) is not None:
            if self.addresses.heard(broker):
                log.info("a broker of this cluster is announced at %s", broker.endpoint(Role.WORKER))
                new = True
        if self._search.ended:
            self._search, self._search_at = None, now + _LOOK_PAUSE
        return new


class Connections:
    """All of them. `now` is monotonic seconds."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        pair: KeyPair,
        store: ShareStore,
        brokers_file: Path,
        kind: DeviceKind = DeviceKind.SERVER,
    ) -> None:
        """Connect to the brokers that the file names; UsageError where it names none."""
        self._context = context
        self._pair = pair
        self._store = store
        self._kind = kind
        self._brokers_file = brokers_file
        self._brokers = load_brokers(brokers_file)
        self._marks = ListMarks(marks_beside(brokers_file))
        self._search = _BrokerSearch(self._brokers)
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

    def handshake_refused(self, connection: Connection, error: RefusedError, now: float) -> None:
        """The peer ended the handshake.

        It need not have the broker's key, so at an address that was only announced this is no refusal; otherwise as
        `refuse`.
        """
        if self._search.addresses.is_known(connection.broker):
            self.refuse(connection, error, now)
        else:
            log.info("%s is not where this worker is admitted", connection.address)
            connection.lose()

    def refuse(self, connection: Connection, error: RefusedError, now: float) -> None:
        """A broker refuses this worker; raises the error where all the others do too."""
        connection.lose()
        connection.retry_at = now + _RETRY
        self._refusals[connection.broker.public_key] = error
        if all(broker.public_key in self._refusals for broker in self._brokers):
            raise error
        log.info("%s; it is asked again", error)

    def renew(self, connection: Connection) -> None:
        """Replace a connection whose peer is gone."""
        log.warning("nothing comes from the broker at %s any more; connects anew", connection.address)
        connection.lose()
        self._close(connection)
        self._connect(connection.broker)

    def brokers_listed(self, connection: Connection, brokers: list[BrokerAddress], mark: Optional[bytes]) -> None:
        """A broker has answered which brokers there are; the next tick connects accordingly. `mark`: of its members."""
        self._marks.keep(connection.broker.public_key, mark)
        connection.named = brokers
        renewed = agreed(self._brokers, {each.broker.public_key: each.named for each in self if each.named})
        if renewed == self._brokers:
            return
        self._brokers = renewed
        self._search.addresses.renew(renewed)
        self._save()

    def _save(self) -> None:
        try:
            save_brokers(self._brokers_file, self._search.addresses.known)
        except OSError as error:
            log.warning("%s could not be written: %s", self._brokers_file, error.strerror)

    def tick(self, now: float) -> None:
        """To be called several times a second, while no connection is in use."""
        self._look_for_brokers(now)
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

    def _look_for_brokers(self, now: float) -> None:
        """Note where brokers are reached; where none is, search and try what is found."""
        registered = [connection.broker for connection in self if connection.registration.registered]
        if registered:
            self._search.end(now)
            if any([self._search.addresses.reached(broker) for broker in registered]):
                self._save()
        else:
            self._brokers = self._search.where_to_try(self._brokers, now)

    def close(self) -> None:
        self._search.end(0.0)
        for connection in self:
            self._close(connection)

    def _connect(self, broker: BrokerAddress) -> None:
        self._counter += 1
        number, store = self._counter, self._store
        connection = Connection(self._context, self._pair, broker, store, self._kind, number, self._marks)
        self._connections[number] = connection

    def _close(self, connection: Connection) -> None:
        self._connections.pop(connection.number).close()
