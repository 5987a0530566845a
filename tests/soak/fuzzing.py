"""Proof: mutated messages of every kind end neither a broker nor a worker, and take no memory from them.

    fuzzed broker    both ports, by keys of every standing, by keys that are not admitted, and without CURVE; every
                     other member's messages travel on a lane, sealed as they should be
    fuzzed worker    by a broker that lies, with the key that the worker has pinned, over CURVE and on a lane

Both go on serving: an image is stored and restored afterwards. A key that was found malformed may be shut out for a
while, so each sends a few messages only, and there are many.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import zmq

from broker.rights import Standing
from cluster.local import CHECKOUT
from cluster.ports import HOST
from cluster.process import ClusterProcess
from common.membership.identity import KeyPair, save_brokers, save_key_pair
from common.protocol.envelope import Kind, Operation
from common.protocol.identifiers import BROKER
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import Peer, broker_key, enter, resident
from tests.soak.lane_peer import LanePeer
from tests.soak.lying_broker import Granting, LyingBroker
from tests.soak.mutations import message, mutated
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.programs import wait_until

MESSAGES = 10_000
FLAT = 64 << 20  # bytes
_BY_ONE_KEY = 5  # messages
_AT_ONCE = 20  # connections
_OPTIONS = ("-k", "2", "-n", "3")
_MEMBERS = (Standing.CLIENT, Standing.WORKER)  # who is granted lanes
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
    wanted, refused, sent = terms.goal(MESSAGES), 0, _Sent()
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
            if sent.messages >= wanted or (sent.messages and not terms.time_left):
                break
            _send_to_broker(terms.random, cluster, pairs[start : start + _AT_ONCE], sent)
            refused += _without_admission(terms.random, cluster)
            watch.look()
        assert cluster.broker_pid() == pid, f"the broker ended\n{cluster.log_tail()}"
        assert watch.grown < FLAT, f"the broker grew by {watch.grown >> 20} MiB"
        cluster.wait_alive()
        assert keeper.put(keeper.make_folder(small=2, large=1), *_OPTIONS).exit_code == 0
        keeper.check_restored()
    return {
        "messages by members": sent.messages,
        "of": wanted,
        "of these on lanes": sent.on_lanes,
        "answered there": sent.answered,
        "connections without admission": refused,
        "broker grew by MiB": round(watch.grown / (1 << 20), 1),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
    }


@dataclass
class _Sent:
    """What was sent so far."""

    messages: int = 0
    on_lanes: int = 0
    answered: int = 0  # of those: what came back on the same lanes, and opened there


def _send_to_broker(
    drawn: random.Random, cluster: SoakCluster, pairs: list[tuple[Standing, KeyPair]], sent: _Sent
) -> None:
    """A few messages by each key, which its connection carries out before it ends; every other member's on a lane."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = broker_key(cluster)
    opened: list[tuple[Standing, Union[Peer, LanePeer]]] = []
    try:
        for number, (standing, pair) in enumerate(pairs):
            on_lane = standing in _MEMBERS and number % 2 == 0
            opened.append((standing, (LanePeer if on_lane else Peer)(context, pair, server, _port(cluster, standing))))
        for standing, peer in opened:
            for _ in range(_BY_ONE_KEY):
                peer.send(_for_broker(drawn, standing))
                sent.messages += 1
                sent.on_lanes += isinstance(peer, LanePeer)
        for _, peer in opened:
            if isinstance(peer, LanePeer):
                sent.answered += peer.answers()
            peer.close()
    finally:
        context.destroy(linger=2000)  # once all was sent


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


@contextlib.contextmanager
def lied_to(folder: Path, granting: Granting) -> Iterator[tuple[LyingBroker, ClusterProcess]]:
    """A worker whose only broker is a lying one."""
    broker = LyingBroker(granting)
    worker = ClusterProcess("device-1", folder)
    save_key_pair(worker.home / "device.key", KeyPair.generate())
    save_brokers(worker.home / "brokers.json", [broker.address])
    script = str(CHECKOUT / "worker" / "worker.py")
    worker.start([sys.executable, script, "--store", str(worker.home)], {"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        wait_until(lambda: broker.serve(0.1) > 0 or broker.asked > 0, "the worker at the lying broker")
        yield broker, worker
    finally:
        worker.kill()
        broker.close()


def fuzzed_worker(terms: Terms) -> Figures:
    """Send mutated messages to a worker by its own broker, half of them on a lane; it answers rightly afterwards."""
    wanted, sent, grown = terms.goal(MESSAGES), 0, 0
    for granting, goal in ((Granting.NONE, wanted // 2), (Granting.HONESTLY, wanted)):
        folder = terms.folder / granting.name
        folder.mkdir()
        with lied_to(folder, granting) as (broker, worker):
            sent, more = _send_to_worker(terms, broker, worker, sent, goal)
            assert (broker.heard_on_lanes > 0) == (granting is Granting.HONESTLY)
            grown = max(grown, more)
    return {"messages": sent, "of": wanted, "worker grew by MiB": round(grown / (1 << 20), 1)}


def _send_to_worker(terms: Terms, broker: LyingBroker, worker: ClusterProcess, sent: int, goal: int) -> tuple[int, int]:
    """Until there are so many, with those `sent` before; how many there are, and bytes by which the worker grew."""
    kinds = (Kind.REQUEST, Kind.REQUEST, Kind.REPLY, Kind.PROBE)
    broker.serve(2.0)
    assert worker.pid is not None
    watch = Watch(worker.pid)
    while sent < goal and terms.time_left:
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
    return sent, watch.grown


PARTS = [Part("fuzzed broker", fuzzed_broker, 2), Part("fuzzed worker", fuzzed_worker, 1)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Mutated messages of every kind, at a broker and at a worker."))
