"""The worker's loop: one connection to each broker, one store, one thread.

All messages at hand are read and carried out, then the commits among them are made durable together, then the answers
are sent, then the scrub has a turn. What a connection cannot take yet waits in its outbox, and while that is long the
connection is not read: so a slow broker holds up itself only. The outbox of a lost connection is dropped; clients ask
again.
"""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path

import zmq

from common.discovery.addresses import as_address
from common.errors import ProtocolError, RefusedError
from common.link.connection import Change
from common.membership.identity import KeyPair
from common.process.running_time import RunningTime
from common.protocol.codec import unpack, unpack_header
from common.protocol.envelope import Kind, Operation, decode_envelope
from common.protocol.messages import Acknowledged, Brokers, DeviceKind, KnownBrokers, Registered
from worker.connections import Connection, Connections
from worker.registration import not_admitted
from worker.service import Answered, Request, Service
from worker.store import ShareStore

log = logging.getLogger(__name__)

_TICK = 0.25  # seconds
_BURST = 32  # messages of one broker before the answers go out


class Server:
    def __init__(
        self,
        store: ShareStore,
        pair: KeyPair,
        brokers_file: Path,
        running_time: RunningTime,
        kind: DeviceKind = DeviceKind.SERVER,
    ) -> None:
        """Serve the brokers that the file names, and update it. `running_time`: the store's monotonic clock."""
        self._store = store
        self._time = running_time
        self._service = Service(store)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._connections = Connections(self._context, pair, store, brokers_file, kind)

    def serve(self, stopping: threading.Event) -> None:
        """Serve until the event is set; RefusedError where every broker refuses this worker."""
        while not stopping.is_set():
            poller = zmq.Poller()
            for connection in self._connections:
                in_use = connection.channel.socket_in_use
                for socket in connection.channel.sockets:
                    poller.register(socket, connection.interest if socket is in_use else zmq.POLLIN)
            wait = min(_TICK, self._store.scrub.due_in(self._time()), self._store.compaction.due_in(self._time()))
            ready = dict(poller.poll(math.ceil(wait * 1000)))
            now = self._time()
            for connection in self._connections:
                self._follow(connection, now)
                if connection.interest & zmq.POLLIN:
                    self._read(connection, now)
                self._check_silence(connection, now)
            self._answer(self._service.finish_round())
            self._service.expire(now)
            self._store.expire(now)
            self._store.scrub.turn(now, idle=not ready)
            if not ready:
                self._store.compaction.turn(now)
            self._answer([])
            self._connections.tick(now)
            for connection in self._connections:
                connection.state(connection.registration.tick(now))
                connection.flush()

    def close(self) -> None:
        self._connections.close()
        self._context.destroy(linger=500)

    def _follow(self, connection: Connection, now: float) -> None:
        for change in connection.channel.changes(now):
            if change is Change.UP:
                connection.silence.begin(now)
                connection.state(connection.registration.connected(now))
            elif change is Change.DOWN:
                connection.lose()
                self._service.disconnected(connection.number)
            elif change is Change.NOT_ADMITTED:
                self._connections.handshake_refused(connection, not_admitted(connection.address), now)

    def _check_silence(self, connection: Connection, now: float) -> None:
        if not connection.interest & zmq.POLLIN:
            connection.silence.heard(now)  # not being read; the kernel gives up what cannot be sent
        if connection.silence.is_over(now, self._time.woke):
            self._service.disconnected(connection.number)
            self._connections.renew(connection)

    def _read(self, connection: Connection, now: float) -> None:
        for _ in range(_BURST):
            try:
                frames = connection.channel.receive()
            except zmq.Again:
                return
            connection.silence.heard(now)
            try:
                self._accept(connection, frames, now)
            except ProtocolError as error:
                log.warning("dropped a message from the broker at %s: %s", connection.address, error)

    def _accept(self, connection: Connection, frames: list[memoryview], now: float) -> None:
        if len(frames) not in (2, 3):
            raise ProtocolError(f"a message of {len(frames)} frames")
        envelope = decode_envelope(frames[0])
        if envelope.kind is Kind.REPLY:
            connection.registration.heard(envelope.request_id)
            self._handle_answer(connection, envelope.operation, frames, now)
        elif envelope.kind is Kind.REQUEST:
            payload = frames[2] if len(frames) == 3 else memoryview(b"")
            self._answer(self._service.handle(Request(connection.number, envelope, frames[1], payload), now))

    def _handle_answer(
        self, connection: Connection, operation: Operation, frames: list[memoryview], now: float
    ) -> None:
        """Handle a broker's answer to a statement or request of this worker."""
        if operation is Operation.BROKERS and len(frames) == 3:
            listed = unpack_header(frames[1], Brokers)
            if listed.answer.granted:
                brokers = [as_address(b) for b in unpack(frames[2], KnownBrokers)]
                self._connections.brokers_listed(connection, brokers, listed.list_mark)
            return
        registered = operation is Operation.REGISTER
        said = unpack_header(frames[1], Registered if registered else Acknowledged)
        known = said.known if isinstance(said, Registered) else None
        try:
            connection.state(connection.registration.answered(operation, said.answer, now, known))
        except RefusedError as error:
            self._connections.refuse(connection, error, now)

    def _answer(self, answers: list[Answered]) -> None:
        """Announce what changed to every broker, and only then send the answers."""
        changes = self._store.changes()
        if changes:
            for connection in self._connections:
                connection.state(connection.registration.announce(changes))
        for answer in answers:
            self._connections.send(answer.broker, answer.envelope, answer.header, answer.payload)
