"""The broker's sockets and its loop: frames in, frames out.

Two ROUTERs with CURVE, one for clients and one for workers, one for the lanes of both, and the ZAP handler, served by
one thread in one poll loop. What is above does not know which of them a peer speaks on: a lane's session is called by
the lane's id as one with CURVE is by its routing id, which is shorter. Payloads are not copied, but where they are
opened or sealed. A send never waits: the switchboard is told of a peer that is full
or gone, and no other peer has to wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import random
import threading
import time
from functools import partial
from typing import Any, Callable, Optional

import zmq

from broker.audit import AuditLog
from broker.authentication import Authentication, authenticated_key, lane_of
from broker.catalog import BUDGET
from broker.catalog_rows import Storage
from broker.lanes import Lane, Lanes
from broker.list_marks import ListMarks
from broker.listening import ALL, Listening
from broker.members import MembersFile
from broker.other_brokers import OtherBrokers
from broker.own_entry import OwnEntry
from broker.queries import Queries
from broker.retiring import Retiring
from broker.rights import CLIENT_SIDE, WORKER_SIDE, Standing
from broker.sessions import Outgoing, Side
from broker.steward.steward import Settings, Steward
from broker.strikes import Refusals
from broker.switchboard import Switchboard
from broker.vault_origins import VaultOrigins
from common.discovery.addresses import endpoint, own_addresses
from common.errors import ProtocolError, UsageError
from common.link.lane import REFUSAL, read_ask
from common.link.sockets import LANES, make_lane_router, make_router
from common.membership.identity import KeyPair
from common.process.running_time import RunningTime
from common.protocol.identifiers import shown_key
from common.text import printable

log = logging.getLogger(__name__)

_TICK = 0.25  # seconds
_BURST = 64  # messages of one side before the other gets its turn
_TURN = 0.02  # seconds, likewise: a page of announcements takes some hundred times as long as a forward
_NOT_OURS = frozenset({zmq.EADDRNOTAVAIL, errno.ENODEV, zmq.EINVAL, zmq.EAFNOSUPPORT})
_MEMBERS = frozenset({Standing.WORKER, Standing.CLIENT, Standing.ADD_ONLY, Standing.ADMIN})  # who is granted a lane
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
        """Bind the ports; UsageError where one cannot be had, which says why.

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
        self._lanes = Lanes()
        self._authentication = Authentication(  # before any port is open
            self._context, self._admits, self._refused, self._lanes.admits
        )
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
            self._lane_router: Optional[zmq.Socket[bytes]] = None
            if listening.lane_port is not None:
                self._lane_router = make_lane_router(self._context)
                self._lanes.port = bind(self._lane_router, listening, listening.lane_port)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def lane_port(self) -> Optional[int]:
        """Where lanes are opened; None where all stays with CURVE."""
        return self._lanes.port

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
            key = {"key": shown_key(public_key)} if domain != LANES else {}
            self._record("refused", **key, port=domain, address=address, why=why)

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
        if self._lane_router is not None:
            poller.register(self._lane_router, zmq.POLLIN)
        next_tick = 0.0
        while not stopping.is_set():
            self._authentication.require()
            ready = dict(poller.poll(0 if self._steward.has_to_look else int(_TICK * 1000)))
            if self._authentication.socket in ready:
                self._authentication.answer()
            for side, router in self._routers.items():
                if router in ready:
                    self._drain(router, partial(self._receive, side))
            if self._lane_router is not None and self._lane_router in ready:
                self._drain(self._lane_router, self._receive_on_lane)
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
                self._lanes.expire(now, lambda key: self._queries.standing_of(key) is not None)
        self._queries.catalog.commit()

    def close(self) -> None:
        self._audit.flush()
        self._others.close()
        self._context.destroy(linger=200)

    def _drain(self, router: zmq.Socket[bytes], receive: Callable[[list[zmq.Frame], float], list[Outgoing]]) -> None:
        outgoing: list[Outgoing] = []
        end = self._time() + _TURN
        for _ in range(_BURST):
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if len(frames) < 2:
                continue  # a routing id alone: an empty message
            now = self._time()
            outgoing += receive(frames, now)
            if not self._audit.due:
                self._send_all(outgoing)
            if now >= end:
                break
        if self._audit.due:
            self._audit.flush()  # one fsync for all that was done meanwhile, and before anybody learns of it
        self._send_all(outgoing)

    def _receive(self, side: Side, frames: list[zmq.Frame], now: float) -> list[Outgoing]:
        """A message that came with CURVE."""
        routing_id, key = frames[0].bytes, authenticated_key(frames[-1])
        body = [frame.buffer for frame in frames[1:]]
        asked = read_ask(body[0]) if len(body) == 1 else None
        if asked is not None:
            return self._grant_lane(side, routing_id, key, asked, now)
        if self._lanes.find(routing_id) is not None:
            return []  # peers choose their routing ids: who sees a lane's id on the wire would have its session
        payload = frames[3] if len(frames) > 3 else None
        return self._switchboard.receive(side, routing_id, key, body, payload, now)

    # --- lanes

    def _grant_lane(self, side: Side, routing_id: bytes, key: bytes, asked: bytes, now: float) -> list[Outgoing]:
        """Grant a member a lane, or refuse it; its lane before is over. Asking without end is a breach as any flood."""
        if self._switchboard.bans.banned(key, now):
            return []
        if self._switchboard.bans.strikes.asked_for_lane(key, now):
            return self._switchboard.strike(key, "a flood of asks for lanes", now)
        answer, former = REFUSAL, None
        if self._queries.standing_of(key) in _MEMBERS and self._admits(key, side.value) is None:
            answer, former = self._lanes.grant(side, routing_id, key, asked, now)
        with contextlib.suppress(zmq.ZMQError):  # then it asks again, or goes on without
            self._routers[side].send_multipart([routing_id, answer], zmq.NOBLOCK)
        return [] if former is None else self._switchboard.disconnected(side, former.lane_id)

    def _receive_on_lane(self, frames: list[zmq.Frame], now: float) -> list[Outgoing]:
        lane = self._lanes.find(lane_of(frames[-1]))
        if lane is None:
            self._end_connection(frames[0].bytes)
            return []
        try:
            body = self._lanes.open(lane, frames[0].bytes, [frame.buffer for frame in frames[1:]])
        except ProtocolError as error:
            log.warning("ended a lane of %s: %s", printable(self._queries.name_of(lane.public_key)), error)
            self._end_connection(frames[0].bytes)
            return self._switchboard.disconnected(lane.side, lane.lane_id)
        payload = body[2] if len(body) > 2 else None
        return self._switchboard.receive(lane.side, lane.lane_id, lane.public_key, body, payload, now)

    def _end_connection(self, routing_id: bytes) -> None:
        """Have the peer's end see that its lane is over: nothing sealed is so short."""
        if self._lane_router is not None:
            with contextlib.suppress(zmq.ZMQError):  # full, or gone: it hears nothing any more, and notices that
                self._lane_router.send_multipart([routing_id, b""], zmq.NOBLOCK)

    def _send_on_lane(self, lane: Lane, frames: list[Any]) -> None:
        """zmq.Again where its peer has no room now; ZMQError where it is gone."""
        if self._lane_router is None or lane.sealer is None:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        try:
            sealed = lane.sealer.seal(frames)
        except ProtocolError:  # its keys may seal no more: its peer asks for another lane
            self._end_connection(lane.routing_id)
            raise zmq.ZMQError(zmq.EHOSTUNREACH) from None
        self._lane_router.send_multipart([lane.routing_id, *sealed], zmq.NOBLOCK, copy=False)
        lane.sealer.sent()

    # --- messages out

    def _send_all(self, messages: list[Outgoing]) -> None:
        """Send these, and take them off the list."""
        while messages:
            message = messages.pop(0)
            messages += self._send(message)

    def _send(self, message: Outgoing) -> list[Outgoing]:
        """Send without waiting; what follows from not being able to is to be sent too."""
        session, frames = message.session, [message.envelope.encode(), message.header]
        if message.payload is not None:
            frames.append(message.payload)
        lane = self._lanes.find(session.routing_id)
        try:
            if lane is not None:
                self._send_on_lane(lane, [each.buffer if isinstance(each, zmq.Frame) else each for each in frames])
            else:
                self._routers[session.side].send_multipart([session.routing_id, *frames], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return self._switchboard.undelivered(message, gone=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if lane is not None:
                self._lanes.end(lane)
            return self._switchboard.undelivered(message, gone=True)
        return []


def _today() -> int:
    return int(time.time())


def bind(router: zmq.Socket[bytes], listening: Listening, port: int) -> int:
    """Listen at all that `listening` says, at this port, or for 0 at one that the system chooses; the port.

    UsageError where that cannot be.

    A name or an interface may have addresses that cannot be had, as of IPv6 where it is off: one that can is enough.
    """
    unavailable = 0
    addresses = listening.bound()
    for address in addresses:
        try:
            router.bind(endpoint(address, port))
            port = port or int(router.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
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
    return port


def _cannot_listen(address: str, port: int, error: zmq.ZMQError) -> UsageError:
    what = f"cannot listen at port {port} of {'this machine' if address == ALL else address}"
    if error.errno == zmq.EADDRINUSE:
        return UsageError(
            f"{what}: another broker or another program listens there",
            advice="stop that one, or choose --client-port, --worker-port and --lane-port",
        )
    if error.errno == errno.EACCES:  # on Windows also where another program has it for itself alone
        return UsageError(
            f"{what}: this account may not",
            advice="choose --client-port, --worker-port and --lane-port, above 1023 for most accounts",
        )
    return UsageError(f"{what}: {error.strerror}")
