"""The broker's sockets and its loop: frames in, frames out.

Two ROUTERs, one for clients and one for workers, and the ZAP handler, served by one thread in one poll loop. Payload
frames pass through as they came (`copy=False`). A send never waits: the switchboard is told of a peer that is full
or gone, and no other peer has to wait for it.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from typing import Optional

import zmq

from broker.audit import AuditLog
from broker.authentication import Authentication, authenticated_key
from broker.catalog import BUDGET
from broker.catalog_rows import Storage
from broker.list_marks import ListMarks
from broker.listening import ALL, Listening
from broker.members import MembersFile
from broker.other_brokers import OtherBrokers
from broker.own_entry import OwnEntry
from broker.queries import Queries
from broker.retiring import Retiring
from broker.rights import CLIENT_SIDE, WORKER_SIDE
from broker.sessions import Outgoing, Side
from broker.steward.steward import Settings, Steward
from broker.strikes import Refusals
from broker.switchboard import Switchboard
from broker.vault_origins import VaultOrigins
from common.discovery.addresses import endpoint, own_addresses
from common.errors import UsageError
from common.link.sockets import make_router
from common.membership.identity import KeyPair
from common.process.running_time import RunningTime
from common.protocol.identifiers import shown_key

log = logging.getLogger(__name__)

_TICK = 0.25  # seconds
_BURST = 64  # messages of one side before the other gets its turn
_TURN = 0.02  # seconds, likewise: a page of announcements takes some hundred times as long as a forward
_NOT_OURS = frozenset({zmq.EADDRNOTAVAIL, errno.ENODEV, zmq.EINVAL, zmq.EAFNOSUPPORT})
_ADMITTED = {Side.CLIENTS.value: CLIENT_SIDE, Side.WORKERS.value: WORKER_SIDE}


class Server:
    def __init__(
        self,
        listening: Listening,
        pair: KeyPair,
        members: MembersFile,
        settings: Settings,
        audit: AuditLog,
        owner_quota: Optional[int] = None,
        origins: Optional[VaultOrigins] = None,
        *,
        storage: Optional[Storage] = None,
        budget: int = BUDGET,
        record_accesses: bool = False,
    ) -> None:
        """Bind both ports; UsageError where one cannot be had, which says why.

        `storage`: where the catalog's rows lie; None for memory. `budget`: bytes of memory for what devices tell.
        `record_accesses`: whether puts and gets are in the audit log. CatalogDamaged as from `serve`.
        """
        self._time = RunningTime()
        self._members = members
        self._audit = audit
        self._record = record = audit.record
        self._refusals = Refusals()
        marks = ListMarks(members, pair.secret)
        self._queries = Queries(members, self._time(), _today, record, owner_quota, marks, budget, origins, storage)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=2)
        self._authentication = Authentication(self._context, self._admits, self._refused)  # before any port is open
        catalog, devices = self._queries.catalog, self._queries.devices
        self._steward = steward = Steward(catalog, devices, settings, random.SystemRandom())
        retiring = Retiring(members, devices, steward, _today, record)
        self._switchboard = Switchboard(self._queries, steward, retiring, record, record_accesses=record_accesses)
        self._others = OtherBrokers(self._context, pair, members)
        self._routers: dict[Side, zmq.Socket[bytes]] = {}
        self._own_entry = OwnEntry(members, pair, listening)
        try:
            for side in Side:
                router = self._routers[side] = make_router(self._context, pair, side.value)
                bind(router, listening, listening.client_port if side is Side.CLIENTS else listening.worker_port)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def _admits(self, public_key: bytes, domain: str) -> Optional[str]:
        self._members.refresh()  # an invite may have been made a moment ago
        standing = self._queries.standing_of(public_key)
        if standing is None:
            return "its key is not a member's"
        if self._switchboard.bans.banned(public_key, self._time()):
            return "it broke the protocol, and is not heard for a while"
        if standing not in _ADMITTED.get(domain, frozenset()):
            return f"its key is a {standing.value}'s, and this is the port for {domain}"
        return None

    def _refused(self, public_key: bytes, domain: str, address: str, why: str) -> None:
        """Say that somebody was not let in; of very many a few, and their number."""
        if self._refusals.note(self._time()):
            log.warning("refused a peer from %s: %s", address, why)
            self._record("refused", key=shown_key(public_key), port=domain, address=address, why=why)

    def _say_rest_of_refusals(self, now: float) -> None:
        unsaid = self._refusals.unsaid(now)
        if unsaid:
            log.warning("refused %d more peers", unsaid)
            self._record("refused more", count=unsaid)

    def serve(self, stopping: threading.Event) -> None:
        """Route messages until the event is set; RefusedError where this broker is revoked or has an old list.

        CatalogDamaged where the catalog cannot be gone on with: another server then begins with an empty one.
        """
        poller = zmq.Poller()
        poller.register(self._authentication.socket, zmq.POLLIN)
        for router in self._routers.values():
            poller.register(router, zmq.POLLIN)
        next_tick = 0.0
        while not stopping.is_set():
            self._authentication.require()
            ready = dict(poller.poll(0 if self._steward.has_to_look else int(_TICK * 1000)))
            if self._authentication.socket in ready:
                self._authentication.answer()
            for side, router in self._routers.items():
                if router in ready:
                    self._drain(side, router)
            now = self._time()
            if not ready and self._steward.has_to_look:
                self._steward.look(now)
            if now >= next_tick:
                next_tick = now + _TICK
                self._members.refresh()
                self._own_entry.tick(now)
                self._others.tick(now, self._time.woke)
                self._say_rest_of_refusals(now)
                outgoing = self._switchboard.tick(now)
                self._audit.tick()
                self._send_all(outgoing)
        self._queries.catalog.commit()

    def close(self) -> None:
        self._audit.flush()
        self._others.close()
        self._context.destroy(linger=200)

    def _drain(self, side: Side, router: zmq.Socket[bytes]) -> None:
        outgoing: list[Outgoing] = []
        end = self._time() + _TURN
        for _ in range(_BURST):
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if len(frames) < 2:
                continue  # a routing id alone: an empty message
            key = authenticated_key(frames[-1])
            body = [frame.buffer for frame in frames[1:]]
            payload = frames[3] if len(frames) > 3 else None
            routing_id = frames[0].bytes
            now = self._time()
            outgoing += self._switchboard.receive(side, routing_id, key, body, payload, now)
            if not self._audit.due:
                self._send_all(outgoing)
            if now >= end:
                break
        if self._audit.due:
            self._audit.flush()  # one fsync for all that was done meanwhile, and before anybody learns of it
        self._send_all(outgoing)

    def _send_all(self, messages: list[Outgoing]) -> None:
        """Send these, and take them off the list."""
        while messages:
            message = messages.pop(0)
            messages += self._send(message)

    def _send(self, message: Outgoing) -> list[Outgoing]:
        """Send without waiting; what follows from not being able to is to be sent too."""
        frames = [message.session.routing_id, message.envelope.encode(), message.header]
        if message.payload is not None:
            frames.append(message.payload)
        try:
            self._routers[message.session.side].send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return self._switchboard.undelivered(message, gone=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return self._switchboard.undelivered(message, gone=True)
        return []


def _today() -> int:
    return int(time.time())


def bind(router: zmq.Socket[bytes], listening: Listening, port: int) -> None:
    """Listen at all that `listening` says, at this port; UsageError where that cannot be.

    A name or an interface may have addresses that cannot be had, as of IPv6 where it is off: one that can is enough.
    """
    unavailable = 0
    addresses = listening.bound()
    for address in addresses:
        try:
            router.bind(endpoint(address, port))
        except zmq.ZMQError as error:
            if error.errno not in _NOT_OURS:
                raise _cannot_listen(address, port, error) from None
            unavailable += 1
    if unavailable == len(addresses):
        ours = ", ".join(own_addresses()) or "none but its own loopback"
        raise UsageError(
            f"cannot listen at {listening.host}: that is no address of this machine, or of none of its networks now",
            advice=f"it has {ours}; leave --host out to listen at all addresses, also at those that come later",
        )


def _cannot_listen(address: str, port: int, error: zmq.ZMQError) -> UsageError:
    what = f"cannot listen at port {port} of {'this machine' if address == ALL else address}"
    if error.errno == zmq.EADDRINUSE:
        return UsageError(
            f"{what}: another broker or another program listens there",
            advice="stop that one, or choose --client-port and --worker-port",
        )
    if error.errno == errno.EACCES:  # on Windows also where another program has it for itself alone
        return UsageError(
            f"{what}: this account may not",
            advice="choose --client-port and --worker-port, above 1023 for most accounts",
        )
    return UsageError(f"{what}: {error.strerror}")
