"""Proof: who meddles with lanes ends his own, and nothing else; who lies about them is gone on without.

garbled lanes        random frames on lanes, by their members and by thieves of tokens: each ends, no other does
asks without end     one member asks for lanes as fast as it can, over more connections than it may have lanes
lies to a worker     a broker that grants what there is not, or garbles: its worker goes on, without hurry
lies to a client     the same before an honest broker: its client stores by way of the honest one
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq

from broker.rights import Standing
from cluster.ports import HOST
from cluster.process import ClusterProcess
from common.link.lane import ask, new_secret
from common.link.sockets import make_lane_dealer
from common.membership.identity import load_brokers, save_brokers
from tests.soak.fuzzing import FLAT, Watch, lied_to
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import broker_key, enter, processor_seconds
from tests.soak.lane_peer import AskingPeer, LanePeer, garbage
from tests.soak.lying_broker import Granting, LyingBroker
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.programs import finish, wait_until

GARBLED = 400  # lanes
THIEVES = 100
ASKS = 40_000
_CONNECTIONS = 80  # of one member, more than the 64 lanes that it may have
_AFTERWARDS = 20  # messages by a thief whose lane is over
_OPTIONS = ("-k", "2", "-n", "3")
_WATCHED = 5.0  # seconds
_ASKED_EVERY = 0.25  # seconds, at the most often
_IDLE = 0.5  # of one core, at most, for who waits; a busy loop takes all of it
_LIES = [each for each in Granting if each not in (Granting.NONE, Granting.HONESTLY)]


@contextmanager
def _attacked(terms: Terms) -> Iterator[tuple[SoakCluster, Keeper, Watch]]:
    """A cluster whose broker neither ends nor grows, and serves afterwards."""
    with new_cluster(terms.folder, 3) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        assert keeper.put(keeper.make_folder(small=2, large=1), *_OPTIONS).exit_code == 0
        pid = cluster.broker_pid()
        assert pid is not None
        watch = Watch(pid)
        yield cluster, keeper, watch
        watch.look()
        assert cluster.broker_pid() == pid, f"the broker ended\n{cluster.log_tail()}"
        assert watch.grown < FLAT, f"the broker grew by {watch.grown >> 20} MiB"
        cluster.wait_alive()
        assert keeper.put(keeper.make_folder(small=2, large=1), *_OPTIONS).exit_code == 0
        keeper.check_restored()


def garbled_lanes(terms: Terms) -> Figures:
    """Have members and thieves send what opens nowhere, beside lanes of the same member and of another."""
    lanes = thieves = 0
    context: zmq.Context[Any] = zmq.Context()
    with _attacked(terms) as (cluster, _, watch), contextlib.closing(_Destroyed(context)):
        server, port = broker_key(cluster), cluster.base_port
        member, other = enter(cluster, Standing.CLIENT, 2)
        beside = [LanePeer(context, pair, server, port) for pair in (member, other)]
        asking = AskingPeer(context, member, server, port)
        for number in range(terms.goal(GARBLED) + terms.goal(THIEVES)):
            if lanes < terms.goal(GARBLED):
                _garble(terms, LanePeer(context, member, server, port))
                lanes += 1
            else:
                _steal(terms, context, asking)
                thieves += 1
            if number % 10 == 0:
                watch.look()
                assert all(each.greeted() for each in beside), "another lane is over, too"
    return {"lanes garbled": lanes, "tokens stolen": thieves, "broker grew by MiB": round(watch.grown / (1 << 20), 1)}


class _Destroyed:
    def __init__(self, context: zmq.Context[Any]) -> None:
        self._context = context

    def close(self) -> None:
        self._context.destroy(linger=0)


def _garble(terms: Terms, lane: LanePeer) -> None:
    """Send on a lane, which is open or was not yet, what ends it."""
    if terms.random.random() < 0.5:
        assert lane.greeted()
    payload = [terms.random.randbytes(500)] * terms.random.randrange(2)
    lane.send_unsealed(garbage(terms.random, lane.seal([bytes(60), b"header", *payload])))
    lane.wait_over()
    lane.close()


def _steal(terms: Terms, context: zmq.Context[Any], owner: AskingPeer) -> None:
    """Use a token before its owner, who is granted another lane."""
    grant = owner.granted()
    thief = make_lane_dealer(context, grant.lane_id, grant.token)
    thief.sndtimeo = thief.rcvtimeo = 30_000
    thief.connect(f"tcp://{HOST}:{grant.port}")
    for _ in range(1 + _AFTERWARDS):
        thief.send_multipart(garbage(terms.random, [terms.random.randbytes(100)]))
        assert thief.recv_multipart() == [b""], "a thief was answered"
    thief.close(linger=0)


def asks_without_end(terms: Terms) -> Figures:
    """Flood the broker with asks for lanes, while another member stores."""
    over, asked = threading.Event(), [0]
    with _attacked(terms) as (cluster, keeper, watch):
        (pair,) = enter(cluster, Standing.CLIENT, 1)
        server = broker_key(cluster)

        def flood() -> None:
            context: zmq.Context[Any] = zmq.Context()
            try:
                peers = [AskingPeer(context, pair, server, cluster.base_port) for _ in range(_CONNECTIONS)]
                while not over.is_set():
                    asked[0] += sum(_ask_and_drop(peer) for peer in peers)
            finally:
                context.destroy(linger=0)

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            slowest = 0.0
            while asked[0] < terms.goal(ASKS) and terms.time_left:
                ended = keeper.put(keeper.make_folder(small=1, large=1), *_OPTIONS)
                assert ended.exit_code == 0, ended
                slowest = max(slowest, ended.seconds)
                watch.look()
        finally:
            over.set()
            flooding.join()
    return {
        "asks": asked[0],
        "connections": _CONNECTIONS,
        "slowest put of another meanwhile s": round(slowest, 2),
        "broker grew by MiB": round(watch.grown / (1 << 20), 1),
        "images lost": 0,
    }


def _ask_and_drop(peer: AskingPeer) -> int:
    """Ask once, if there is room; what was granted before is never used."""
    with contextlib.suppress(zmq.Again):
        while True:
            peer.socket.recv(zmq.NOBLOCK)
    try:
        peer.socket.send(ask(new_secret()), zmq.NOBLOCK)
    except zmq.Again:
        return 0
    return 1


def lies_to_a_worker(terms: Terms) -> Figures:
    """Lie to workers about lanes, each in one way for some seconds, side by side; each is there afterwards."""
    with ExitStack() as stack, ThreadPoolExecutor(len(_LIES)) as threads:
        lied = {each: stack.enter_context(lied_to(_folder(terms, each), each)) for each in _LIES}
        seen = list(threads.map(lambda lie: _follow(lie, *lied[lie]), lied))
    return {
        "lies": len(seen),
        "worker's most of a core %": round(100 * max(busy for busy, _ in seen), 1),
        "worker grew by MiB": round(max(grown for _, grown in seen) / (1 << 20), 1),
    }


def _folder(terms: Terms, lie: Granting) -> Path:
    made = terms.folder / lie.name
    made.mkdir()
    return made


def _follow(lie: Granting, broker: LyingBroker, worker: ClusterProcess) -> tuple[float, int]:
    """Which part of a core a worker took while it was lied to, and bytes by which it grew; then it is told no lies."""
    pid = worker.pid
    assert pid is not None
    watch = Watch(pid)
    broker.serve(2.0)  # it is there, and on the wire that is left to it
    before, asked = processor_seconds(pid), broker.asked
    broker.serve(_WATCHED)
    busy = (processor_seconds(pid) - before) / _WATCHED
    watch.look()
    assert busy < _IDLE, f"{lie.name}: the worker took {busy:.0%} of a core"
    assert watch.grown < FLAT, f"{lie.name}: the worker grew by {watch.grown >> 20} MiB"
    assert broker.asked - asked <= _WATCHED / _ASKED_EVERY + 2, f"{lie.name}: it asks without a pause"
    broker.granting = Granting.HONESTLY
    heard = broker.heard
    wait_until(lambda: broker.serve(0.1) > heard + 2, f"reports of the worker after {lie.name}")
    assert worker.pid == pid, f"the worker ended\n{worker.log_tail()}"
    return busy, watch.grown


def lies_to_a_client(terms: Terms) -> Figures:
    """Have a client meet each lie before it meets its own broker: it goes on there, and waits without being busy."""
    longest = busiest = 0.0
    with new_cluster(terms.folder, 3) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        assert keeper.put(keeper.make_folder(small=1, large=1), *_OPTIONS).exit_code == 0
        usual = keeper.user.run("admin", "status")
        known = keeper.user.home / "client" / "brokers.json"
        honest = load_brokers(known)
        for granting in _LIES:
            broker = LyingBroker(granting, answers=False)
            save_brokers(known, [broker.address, *honest])
            began, before = time.monotonic(), _of_children()
            try:
                with keeper.user.started("admin", "status") as process:
                    while process.poll() is None and terms.time_left:
                        broker.serve(0.2)
                    ended = finish(process)
            finally:
                broker.close()
            took, busy = time.monotonic() - began, _of_children() - before
            assert ended.exit_code == 0, f"{granting.name}: {ended}"
            assert broker.asked > 0, f"{granting.name}: the client never asked"
            assert busy < usual.processor_seconds + took * _IDLE, f"{granting.name}: {busy:.1f} s of processor"
            longest, busiest = max(longest, took), max(busiest, busy)
        save_brokers(known, honest)
        keeper.check_restored()
    return {
        "lies": len(_LIES),
        "usual processor s": round(usual.processor_seconds, 2),
        "longest s": round(longest, 1),
        "most of processor s": round(busiest, 2),
        "images lost": 0,
    }


def _of_children() -> float:
    """Seconds of processor that programs which have ended took."""
    times = os.times()
    return times.children_user + times.children_system


PARTS = [
    Part("garbled lanes", garbled_lanes, 2),
    Part("asks without end", asks_without_end, 1),
    Part("lies to a worker", lies_to_a_worker, 2),
    Part("lies to a client", lies_to_a_client, 2),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Attacks on lanes, at a broker, a worker and a client."))
