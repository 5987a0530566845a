"""Proof: mutated messages of every kind end neither a broker nor a worker, and take no memory from them.

    fuzzed broker    both ports, by keys of every standing, by keys that are not admitted, and without CURVE
    fuzzed worker    by a broker that lies, with the key that the worker has pinned

Both go on serving: an image is stored and restored afterwards. A key that was found malformed may be shut out for a
while, so each sends a few messages only, and there are many.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import zmq

from broker.authentication import Authentication
from broker.rights import Standing
from cluster.local import CHECKOUT
from cluster.ports import HOST
from cluster.process import ClusterProcess
from common.discovery.addresses import BrokerAddress
from common.link.lane import REFUSAL
from common.link.sockets import make_router
from common.membership.identity import KeyPair, save_brokers, save_key_pair
from common.protocol.codec import pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import GRANTED, Acknowledged
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import Peer, broker_key, enter, resident
from tests.soak.mutations import message, mutated
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.ports import own_base_port
from tests.support.programs import wait_until

MESSAGES = 10_000
FLAT = 64 << 20  # bytes
_BY_ONE_KEY = 5  # messages
_AT_ONCE = 20  # connections
_OPTIONS = ("-k", "2", "-n", "3")
_STANDINGS = (Standing.CLIENT, Standing.WORKER, Standing.INVITED_CLIENT, Standing.INVITED_WORKER)
_TELLS_OF_BROKERS = {Operation.BROKERS, Operation.SYNC}  # a mutated host might be a machine that is not ours


class Watch:
    """What a process has in memory, against what it had."""

    def __init__(self, pid: int) -> None:
        self.pid, self.before = pid, resident(pid)
        self.most = self.before

    def look(self) -> None:
        self.most = max(self.most, resident(self.pid))

    @property
    def grown(self) -> int:
        return self.most - self.before


def fuzzed_broker(terms: Terms) -> Figures:
    """Send mutated messages to both ports, then store and restore."""
    wanted, sent, refused = terms.goal(MESSAGES), 0, 0
    with new_cluster(terms.folder, 3) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        assert keeper.put(keeper.make_folder(small=2, large=1), *_OPTIONS).exit_code == 0
        pid = cluster.broker_pid()
        assert pid is not None
        each = wanted // (_BY_ONE_KEY * len(_STANDINGS)) + 1
        pairs = [(standing, pair) for standing in _STANDINGS for pair in enter(cluster, standing, each)]
        terms.random.shuffle(pairs)
        watch = Watch(pid)
        for start in range(0, len(pairs), _AT_ONCE):
            if sent >= wanted or (sent and not terms.time_left):
                break
            sent += _send_to_broker(terms.random, cluster, pairs[start : start + _AT_ONCE])
            refused += _without_admission(terms.random, cluster)
            watch.look()
        assert cluster.broker_pid() == pid, f"the broker ended\n{cluster.log_tail()}"
        assert watch.grown < FLAT, f"the broker grew by {watch.grown >> 20} MiB"
        cluster.wait_alive()
        assert keeper.put(keeper.make_folder(small=2, large=1), *_OPTIONS).exit_code == 0
        keeper.check_restored()
    return {
        "messages by members": sent,
        "of": wanted,
        "connections without admission": refused,
        "broker grew by MiB": round(watch.grown / (1 << 20), 1),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
    }


def _send_to_broker(drawn: random.Random, cluster: SoakCluster, pairs: list[tuple[Standing, KeyPair]]) -> int:
    """A few messages by each key, which its connection carries out before it ends; how many."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sent, server = 0, broker_key(cluster)
    try:
        opened = [(standing, Peer(context, pair, server, _port(cluster, standing))) for standing, pair in pairs]
        for standing, peer in opened:
            for _ in range(_BY_ONE_KEY):
                frames = _for_broker(drawn, standing)
                peer.send(frames)
                sent += 1
        for _, peer in opened:
            peer.close()
    finally:
        context.destroy(linger=2000)  # once all was sent
    return sent


def _port(cluster: SoakCluster, standing: Standing) -> int:
    return cluster.base_port + (standing in (Standing.WORKER, Standing.INVITED_WORKER))


def _for_broker(drawn: random.Random, standing: Standing) -> list[bytes]:
    own = {Standing.CLIENT: Operation.HELLO, Standing.WORKER: Operation.REGISTER}.get(standing, Operation.JOIN)
    operation = own if drawn.random() < 0.2 else drawn.choice(list(Operation))
    peer = drawn.choice([BROKER, drawn.randbytes(16)])
    frames = mutated(drawn, message(drawn, operation, drawn.choice(list(Kind)), peer))
    return frames if len(frames) > 0 else [b""]


def _without_admission(drawn: random.Random, cluster: SoakCluster) -> int:
    """The same by a key that nobody invited, by NULL, and by bytes that are no ZMTP; none of it must arrive."""
    context: zmq.Context[Any] = zmq.Context()
    try:
        for port in (cluster.base_port, cluster.base_port + 1):
            stranger = Peer(context, KeyPair.generate(), broker_key(cluster), port)
            null = context.socket(zmq.DEALER)
            null.connect(f"tcp://{HOST}:{port}")
            for uninvited in (stranger.socket, null):
                uninvited.linger = 0  # what nobody takes would keep the context from ending
                with contextlib.suppress(zmq.Again):
                    uninvited.send_multipart(message(drawn, Operation.HELLO, Kind.REQUEST, BROKER), zmq.NOBLOCK)
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5) as raw:
                greeting = bytearray(b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE".ljust(53, b"\0") + b"\x00" * 2)
                greeting[drawn.randrange(len(greeting))] ^= 1 << drawn.randrange(8)
                raw.sendall(bytes(greeting) + drawn.randbytes(drawn.choice([0, 10, 500])))
    finally:
        context.destroy(linger=0)
    return 6


class LyingBroker:
    """A broker with the key that a worker has pinned: admits it, and says whatever a test wants it to say."""

    def __init__(self) -> None:
        self.pair, self.port = KeyPair.generate(), own_base_port()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authentication = Authentication(self._context, lambda _key, _domain: None)
        self._router = make_router(self._context, self.pair, "workers")
        self._router.bind(f"tcp://{HOST}:{self.port + 1}")
        self.worker: bytes = b""
        self.heard = 0

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress(HOST, self.port, self.port + 1, self.pair.public)

    def serve(self, seconds: float) -> int:
        """Answer what the worker says of itself, for so long, and what is at hand; how much it has said so far."""
        end = time.monotonic() + seconds
        poller = zmq.Poller()
        poller.register(self._authentication.socket, zmq.POLLIN)
        poller.register(self._router, zmq.POLLIN)
        ready = dict(poller.poll(0))
        while ready or time.monotonic() < end:
            if self._authentication.socket in ready:
                self._authentication.answer()
            if self._router in ready:
                self._hear()
            ready = dict(poller.poll(max(0, int(1000 * (end - time.monotonic())))))
        return self.heard

    def _hear(self) -> None:
        frames = self._router.recv_multipart()
        self.worker = frames[0]
        if len(frames) == 2:
            self.say([REFUSAL])  # it has no lanes
            return
        self.heard += 1
        if frames[1][4] == Kind.REQUEST:
            reply = Envelope(Kind.REPLY, Operation(frames[1][5]), frames[1][28:44])
            self.say([reply.encode(), pack_header(Acknowledged(GRANTED))])

    def say(self, frames: list[bytes]) -> bool:
        """Whether the worker's connection took it."""
        try:
            self._router.send_multipart([self.worker, *frames], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def close(self) -> None:
        self._context.destroy(linger=0)


@contextlib.contextmanager
def _lied_to(terms: Terms) -> Iterator[tuple[LyingBroker, ClusterProcess]]:
    """A worker whose only broker is the lying one."""
    broker = LyingBroker()
    worker = ClusterProcess("device-1", terms.folder)
    save_key_pair(worker.home / "device.key", KeyPair.generate())
    save_brokers(worker.home / "brokers.json", [broker.address])
    script = str(CHECKOUT / "worker" / "worker.py")
    worker.start([sys.executable, script, "--store", str(worker.home)], {"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        wait_until(lambda: broker.serve(0.1) > 0, "the worker at the lying broker")
        yield broker, worker
    finally:
        worker.kill()
        broker.close()


def fuzzed_worker(terms: Terms) -> Figures:
    """Send mutated messages to a worker by its own broker; it answers rightly afterwards."""
    wanted, sent = terms.goal(MESSAGES), 0
    kinds = (Kind.REQUEST, Kind.REQUEST, Kind.REPLY, Kind.PROBE)
    with _lied_to(terms) as (broker, worker):
        broker.serve(2.0)
        assert worker.pid is not None
        watch = Watch(worker.pid)
        while sent < wanted and terms.time_left:
            operation, kind = terms.random.choice(list(Operation)), terms.random.choice(kinds)
            if kind is Kind.REPLY and operation in _TELLS_OF_BROKERS:
                continue
            frames = mutated(terms.random, message(terms.random, operation, kind, terms.random.randbytes(16)))
            sent += broker.say(frames)
            broker.serve(0.0)
            if sent % 100 == 0:
                watch.look()
                assert worker.pid is not None, f"the worker ended\n{worker.log_tail()}"
        heard = broker.heard
        wait_until(lambda: broker.serve(0.1) > heard + 2, "reports of the worker afterwards")
        assert worker.pid == watch.pid, f"the worker ended\n{worker.log_tail()}"
        assert watch.grown < FLAT, f"the worker grew by {watch.grown >> 20} MiB"
    return {"messages": sent, "of": wanted, "worker grew by MiB": round(watch.grown / (1 << 20), 1)}


PARTS = [Part("fuzzed broker", fuzzed_broker, 2), Part("fuzzed worker", fuzzed_worker, 1)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Mutated messages of every kind, at a broker and at a worker."))
