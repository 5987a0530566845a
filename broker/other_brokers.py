"""Passes the list of members on to the other brokers of the cluster, and takes up theirs.

Every broker connects to each other one on its list, with its own permanent key, at the port for clients. Whenever its
list has changed it sends all of it (SYNC), and every ten seconds anyway, so that nothing has to be remembered of what
another has got. The other one merges it into its own list, record by record, and if that changes it, passes it on in
its turn. So an invite, an admission or a revocation is known to all brokers that are connected within a second.

A broker that is revoked is sent the list once more, to learn of it; then it is no longer connected to. What it does
not do: it never waits, it forwards no requests, and it keeps nothing of shares, which every broker hears of from the
workers themselves.
"""

from __future__ import annotations

import logging
import secrets
from typing import Optional

import zmq

from broker.members import MAX_SYNCED, Address, MemberList, MembersFile, broker_revoked
from common.discovery.addresses import BrokerAddress
from common.errors import ProtocolError
from common.link.connection import Change, Silence
from common.link.sockets import ConnectionMonitor, make_dealer
from common.membership.identity import KeyPair
from common.protocol.codec import pack, pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import MAX_RETIRED, Acknowledged, Sync
from common.protocol.operations import Role

log = logging.getLogger(__name__)

_PERIOD = 10.0  # seconds after which an unchanged list is sent again
_RETRY = 1.0  # seconds until a broker that refused this one is asked again: libzmq gives such a connection up


class OtherBrokers:
    """The connections of one broker to the others. `now` is monotonic seconds."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, members: MembersFile) -> None:
        self._context = context
        self._pair = pair
        self._members = members
        self._connections: dict[bytes, _Connection] = {}  # by the other's public key

    def tick(self, now: float, woke: float) -> None:
        """To be called several times a second; `woke` as in `Silence`. RefusedError where this broker was revoked."""
        members = self._members.members
        if members.revoked(self._pair.public):
            raise broker_revoked()
        others = {key: address for key, address in members.brokers().items() if key != self._pair.public}
        for key, connection in list(self._connections.items()):
            connection.follow(now)
            if others.get(key) != connection.address or connection.is_spent(now, woke):
                if members.revoked(key):
                    connection.push(members, now)
                self._connections.pop(key).close()
        for key, address in others.items():
            if key not in self._connections:
                self._connections[key] = _Connection(self._context, self._pair, key, address)
            self._connections[key].keep_informed(members, now)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


class _Connection:
    """To one other broker."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, public_key: bytes, address: Address
    ) -> None:
        self.address = address
        where = BrokerAddress(address.host, address.client_port, address.worker_port, public_key)
        self._endpoint = where.endpoint(Role.BROKER)
        self._up = False
        self._refused: Optional[float] = None
        self._silence = Silence()
        self._pushed: Optional[MemberList] = None
        self._next = 0.0
        self._socket = make_dealer(context, pair, public_key)
        self._monitor = ConnectionMonitor(self._socket)
        try:
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            log.error("the broker at %s cannot be reached: %s", self._endpoint, error.strerror)

    def follow(self, now: float) -> None:
        """Take note of what happened to the connection, and of what the other broker answered."""
        for change in self._monitor.changes():
            if change is Change.UP:
                log.info("passes its members on to the broker at %s", self._endpoint)
                self._up, self._pushed = True, None
                self._silence.begin(now)
            elif change is Change.DOWN:
                self._up = False
                self._silence.end()
            elif change is Change.NOT_ADMITTED:
                self._refuse("it does not admit this broker", now)
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._silence.heard(now)
            self._heed(frames, now)

    def _heed(self, frames: list[bytes], now: float) -> None:
        try:
            envelope = decode_envelope(frames[0])
            if envelope.kind is not Kind.REPLY or len(frames) != 2:
                return  # it probes whether this connection still stands
            answer = unpack_header(frames[1], Acknowledged).answer
        except ProtocolError as error:
            log.warning("dropped a message from the broker at %s: %s", self._endpoint, error)
            return
        if not answer.granted:
            self._refuse(answer.text or answer.code.value, now)

    def _refuse(self, why: str, now: float) -> None:
        log.warning("the broker at %s refuses the list of members: %s", self._endpoint, why)
        self._up, self._refused = False, now

    def is_spent(self, now: float, woke: float) -> bool:
        """Whether it is time for another connection in place of this one."""
        if self._silence.is_over(now, woke):
            log.warning("nothing comes from the broker at %s any more; connects anew", self._endpoint)
            return True
        return self._refused is not None and now - self._refused >= _RETRY

    def keep_informed(self, members: MemberList, now: float) -> None:
        """Send the list if it is another than before, or was sent long ago."""
        if self._up and (self._pushed is not members or now >= self._next):
            self.push(members, now)

    def push(self, members: MemberList, now: float) -> None:
        everybody, retired = members.all(), members.retired_owners
        pages = max(-(-len(everybody) // MAX_SYNCED), -(-len(retired) // MAX_RETIRED))
        for number in range(pages):
            envelope = Envelope(Kind.REQUEST, Operation.SYNC, secrets.token_bytes(IDENTIFIER_SIZE))
            header = pack_header(Sync(retired[number * MAX_RETIRED : (number + 1) * MAX_RETIRED]))
            page = pack(everybody[number * MAX_SYNCED : (number + 1) * MAX_SYNCED])
            try:
                self._socket.send_multipart([envelope.encode(), header, page], zmq.NOBLOCK)
            except zmq.Again:
                return  # no room, or just lost: all of it at the next tick
        self._pushed, self._next = members, now + _PERIOD

    def close(self) -> None:
        self._monitor.close()
        self._socket.close()  # what was pushed last goes out yet
