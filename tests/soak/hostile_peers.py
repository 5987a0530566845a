"""Peers that keep to no rule, for the proofs of docs/threat-model.md: bare sockets with keys that the broker admits.

They are entered straight into the broker's list, as many as a proof needs, since a key that sends nonsense may be shut
out for a while. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import zmq

from broker.members import Member, MembersFile
from broker.rights import Standing
from cluster.local import LocalCluster
from cluster.ports import HOST
from common.link.sockets import make_dealer
from common.membership.identity import KeyPair
from common.protocol.codec import pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import BROKER
from common.protocol.messages import PROTOCOL_VERSION, Hello, Message, Welcome
from common.vault.keys import VaultKey
from tests.cluster.conftest import home_of

PATIENCE = 30.0  # seconds: whatever takes so long does not come
_MIB = 1 << 20


def enter(cluster: LocalCluster, standing: Standing, count: int) -> list[KeyPair]:
    """So many new members; the running broker knows them within a quarter of a second, and at every handshake."""
    pairs = [KeyPair.generate() for _ in range(count)]
    now = int(time.time())
    entered = [Member(pair.public.hex(), standing, f"{standing.value} {pair.public.hex()[:12]}", now) for pair in pairs]
    MembersFile(home_of(cluster) / "broker").change(lambda members: members.merge(entered, now))
    return pairs


def broker_key(cluster: LocalCluster) -> bytes:
    """The broker's public key."""
    members = MembersFile(home_of(cluster) / "broker").members
    (key,) = members.brokers()
    return key


class Peer:
    """One socket with one key."""

    def __init__(
        self, context: zmq.Context[Any], pair: KeyPair, server: bytes, port: int, routing_id: Optional[bytes] = None
    ) -> None:
        self._public = pair.public
        self.socket = make_dealer(context, pair, server)
        if routing_id is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.sndtimeo = int(1000 * PATIENCE)
        self.socket.connect(f"tcp://{HOST}:{port}")

    def send(self, frames: Sequence[Any]) -> None:
        """Send a message; TimeoutError where no connection comes to stand, or it is not read."""
        try:
            self.socket.send_multipart(frames, copy=False)
        except zmq.Again:
            raise TimeoutError("nobody takes the message") from None

    def ask(self, operation: Operation, header: Message, request_id: Optional[bytes] = None) -> bytes:
        """Ask the broker itself; returns the id of the request."""
        chosen = request_id or secrets.token_bytes(16)
        self.send([Envelope(Kind.REQUEST, operation, chosen).encode(), pack_header(header)])
        return chosen

    def hello(self, key: VaultKey) -> None:
        """Begin a session for the vault with this key."""
        asked = self.ask(Operation.HELLO, Hello(PROTOCOL_VERSION, key.owner_proof(self._public)))
        envelope, header = self.reply()
        assert envelope.request_id == asked
        assert unpack_header(header, Welcome).answer.granted

    def reply(self, seconds: float = PATIENCE) -> tuple[Envelope, bytes]:
        """The next reply; TimeoutError where none comes."""
        end = time.monotonic() + seconds
        while self.socket.poll(max(0, int(1000 * (end - time.monotonic())))):
            frames = self.socket.recv_multipart()
            envelope = decode_envelope(frames[0])
            if envelope.kind is Kind.REPLY:
                return envelope, frames[1]
        raise TimeoutError("no reply")

    def close(self) -> None:
        self.socket.close(linger=2000)


@contextmanager
def peers(pairs: Sequence[KeyPair], server: bytes, port: int) -> Iterator[list[Peer]]:
    """Peers with these keys, in a context of their own."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield [Peer(context, pair, server, port) for pair in pairs]
    finally:
        context.destroy(linger=0)


def send_endlessly(peer: Peer, size: int) -> None:
    """Send one message of so many bytes in frames of 4 MiB; all of them are one buffer here."""
    frame = bytes(4 * _MIB)
    for _ in range(size // len(frame)):
        peer.socket.send(frame, zmq.SNDMORE, copy=False)
    peer.socket.send(b"", copy=False)


def request(operation: Operation, header: Message, device: bytes = BROKER, credit: int = 0) -> list[bytes]:
    """A request that is right."""
    envelope = Envelope(Kind.REQUEST, operation, secrets.token_bytes(16), device, credit)
    return [envelope.encode(), pack_header(header)]


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


def processor_seconds(pid: int) -> float:
    """Seconds of processor, user's and system's, that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child_of(pid: int) -> Optional[int]:
    """The process that a supervisor has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


def serving_pid(cluster: LocalCluster) -> Optional[int]:
    """The process that serves as the broker: under a supervisor its child."""
    pid = cluster.broker_pid()
    return None if pid is None else child_of(pid) or pid
