"""A man in the middle who loses, doubles, delays and reorders messages, by a seed.

CURVE makes frames opaque, so the proxy ends it: to the programs it is the broker, with the broker's own key, and to the
broker it is each of the programs, with theirs. (A test may read the key files of its cluster.) For each connection of
a program it has one connection to the broker. So every message between any two parties passes here, whole, and each
meets each fault with its own probability; which one does is drawn from the seed, the peer's key and the number of its
connection.

When a program goes, the next message that cannot be delivered to it closes its connection to the broker.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

import zmq

from broker.authentication import Authentication, authenticated_key
from cluster.ports import HOST
from common.link.lane import REFUSAL
from common.link.sockets import make_dealer, make_router
from common.membership.identity import KeyPair, load_key_pair

_HELD = 0.2  # seconds after which a message that waits to be overtaken goes on all the same
_TICK = 0.1  # seconds
_BURST = 64


@dataclass(frozen=True)
class Faults:
    """With which probability a message meets each fault; `longest_delay` in seconds."""

    drop: float = 0.1
    double: float = 0.1
    delay: float = 0.1
    reorder: float = 0.1
    longest_delay: float = 0.5


class _Way(enum.Enum):
    TO_BROKER = "to the broker"
    TO_PEER = "to the peer"


@dataclass
class _Peer:
    """One connection of a program, and the one to the broker that stands for it."""

    side: int
    routing_id: bytes
    dealer: zmq.Socket[bytes]
    random: random.Random
    held: dict[_Way, list[list[bytes]]] = field(default_factory=lambda: {way: [] for way in _Way})
    gone: bool = False


class _Due(NamedTuple):
    when: float
    order: int
    peer: _Peer
    way: _Way
    frames: list[bytes]


class Proxy:
    def __init__(self, base_port: int, broker_base_port: int, cluster_folder: Path, faults: Faults, seed: int) -> None:
        """Listens at `base_port` (clients) and the one after it (workers), in place of the broker's two."""
        self.counts: Counter[str] = Counter()
        self._folder = cluster_folder
        self._faults = faults
        self._seed = seed
        self._keys: dict[bytes, KeyPair] = {}
        self._connections: Counter[bytes] = Counter()
        self._due: list[_Due] = []
        self._order = itertools.count()
        self._peers: dict[tuple[int, bytes], _Peer] = {}
        self._broker_port = broker_base_port
        self._pair = load_key_pair(cluster_folder / "home" / "broker" / "broker.key")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authentication = Authentication(self._context, self._refusal)
        self._routers = [make_router(self._context, self._pair, domain) for domain in ("clients", "workers")]
        for side, router in enumerate(self._routers):
            router.sndhwm = 0  # whatever is lost here is lost by the seed
            router.bind(f"tcp://{HOST}:{base_port + side}")
        self._poller = zmq.Poller()
        for socket in (self._authentication.socket, *self._routers):
            self._poller.register(socket, zmq.POLLIN)
        self._stopping = threading.Event()
        self._fault: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End; raises what the proxy itself met, since then it proved nothing."""
        self._stopping.set()
        self._thread.join(10)
        self._context.destroy(linger=0)
        if self._fault is not None:
            raise self._fault

    # --- who is who

    def _refusal(self, public_key: bytes, _domain: str) -> Optional[str]:
        return None if self._key_of(public_key) else "none of this cluster's key files has this key"

    def _key_of(self, public_key: bytes) -> Optional[KeyPair]:
        if public_key not in self._keys:
            files = [*self._folder.glob("*/device.key"), *self._folder.glob("*/client/client.key")]
            self._keys.update((pair.public, pair) for pair in map(load_key_pair, files))
        return self._keys.get(public_key)

    def _peer(self, side: int, routing_id: bytes, public_key: bytes) -> _Peer:
        peer = self._peers.get((side, routing_id))
        if peer is None:
            self._connections[public_key] += 1
            salt = f"{self._seed}:{public_key.hex()}:{self._connections[public_key]}"
            drawn = random.Random(hashlib.sha256(salt.encode()).digest())
            dealer = make_dealer(self._context, self._keys[public_key], self._pair.public)
            dealer.immediate = 0
            dealer.sndhwm = 0
            dealer.connect(f"tcp://{HOST}:{self._broker_port + side}")
            self._poller.register(dealer, zmq.POLLIN)
            peer = self._peers[(side, routing_id)] = _Peer(side, routing_id, dealer, drawn)
        return peer

    def _forget(self, peer: _Peer) -> None:
        peer.gone = True
        self._peers.pop((peer.side, peer.routing_id), None)
        self._poller.unregister(peer.dealer)
        peer.dealer.close(linger=0)

    # --- the loop

    def _serve(self) -> None:
        try:
            self._run()
        except BaseException as fault:  # told by `close`
            self._fault = fault

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait = _TICK if not self._due else max(0.0, min(_TICK, self._due[0].when - time.monotonic()))
            ready = dict(self._poller.poll(int(wait * 1000) + 1))
            if self._authentication.socket in ready:
                self._authentication.answer()
            for side, router in enumerate(self._routers):
                if router in ready:
                    self._drain_router(side, router)
            for peer in list(self._peers.values()):
                if not peer.gone and peer.dealer in ready:
                    for frames in _drain(peer.dealer):
                        self._meet(peer, _Way.TO_PEER, [frame.bytes for frame in frames])
            self._send_due(time.monotonic())

    def _drain_router(self, side: int, router: zmq.Socket[bytes]) -> None:
        for frames in _drain(router):
            if len(frames) == 2:  # it asks for a lane, which would pass by here
                with contextlib.suppress(zmq.ZMQError):
                    router.send_multipart([frames[0].bytes, REFUSAL], zmq.NOBLOCK)
            elif len(frames) > 2:
                peer = self._peer(side, frames[0].bytes, authenticated_key(frames[-1]))
                self._meet(peer, _Way.TO_BROKER, [frame.bytes for frame in frames[1:]])

    def _meet(self, peer: _Peer, way: _Way, frames: list[bytes]) -> None:
        """A message meets its faults."""
        if peer.gone:
            return
        faults, draw = self._faults, peer.random
        self.counts["messages"] += 1
        if draw.random() < faults.drop:
            self.counts["dropped"] += 1
            return
        copies = 1
        if draw.random() < faults.double:
            self.counts["doubled"] += 1
            copies = 2
        for _ in range(copies):
            if draw.random() < faults.delay:
                self.counts["delayed"] += 1
                self._later(draw.uniform(0, faults.longest_delay), peer, way, frames)
            elif draw.random() < faults.reorder:
                self.counts["reordered"] += 1
                peer.held[way].append(frames)
                self._later(_HELD, peer, way, [])
            else:
                self._send(peer, way, frames)

    def _later(self, seconds: float, peer: _Peer, way: _Way, frames: list[bytes]) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + seconds, next(self._order), peer, way, frames))

    def _send_due(self, now: float) -> None:
        while self._due and self._due[0].when <= now:
            due = heapq.heappop(self._due)
            self._send(due.peer, due.way, due.frames)

    def _send(self, peer: _Peer, way: _Way, frames: list[bytes]) -> None:
        """Send a message (an empty one is nobody's), and behind it those that it was to overtake."""
        held, peer.held[way] = peer.held[way], []
        for each in [frames, *held] if frames else held:
            if peer.gone:
                return
            if way is _Way.TO_BROKER:
                peer.dealer.send_multipart(each, zmq.NOBLOCK)
                continue
            try:
                self._routers[peer.side].send_multipart([peer.routing_id, *each], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._forget(peer)


def _drain(socket: zmq.Socket[bytes]) -> list[list[zmq.Frame]]:
    """What has come; all of it at once, since a peer may be found to be gone while it is passed on."""
    messages: list[list[zmq.Frame]] = []
    while len(messages) < _BURST:
        try:
            messages.append(socket.recv_multipart(zmq.NOBLOCK, copy=False))
        except zmq.Again:
            break
    return messages


@contextlib.contextmanager
def proxy(base_port: int, broker_base_port: int, cluster_folder: Path, faults: Faults, seed: int) -> Iterator[Proxy]:
    """A proxy that serves, and is closed at the end."""
    made = Proxy(base_port, broker_base_port, cluster_folder, faults, seed)
    made.start()
    try:
        yield made
    finally:
        made.close()
