"""Proof: who was not invited slows nobody, and who floods a device that hangs fills nobody's memory.

half-open connections   500 TCP connections that say nothing, keys that nobody invited, and NULL, during honest puts
flooded device          eight clients send to a stopped device without heeding their credit; others are served
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import sys
import threading
from collections.abc import Iterator
from typing import Any

import zmq

from broker.rights import Standing
from cluster.ports import HOST
from common.membership.identity import KeyPair, load_key_pair
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.device_messages import Append
from common.protocol.envelope import Operation
from common.vault.keys import VaultKey
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import Peer, broker_key, enter, peers, request, resident
from tests.soak.proof import Figures, Part, Terms, main

CONNECTIONS = 500
FLOODING = 8
BROKER_MOST = 384 << 20  # bytes
_OPTIONS = ("-k", "2", "-n", "3")


def _median_put(keeper: Keeper, times: int) -> float:
    seconds = []
    for _ in range(times):
        ended = keeper.put(keeper.make_folder(small=1, large=2), *_OPTIONS)
        assert ended.exit_code == 0, ended
        seconds.append(ended.seconds)
    return statistics.median(seconds)


@contextlib.contextmanager
def _half_open(cluster: SoakCluster) -> Iterator[None]:
    """So many connections that say nothing, at both ports, replaced when the broker closes them; and strangers."""
    over = threading.Event()
    keeping = threading.Thread(target=_keep_open, args=(cluster, over))
    context: zmq.Context[Any] = zmq.Context()
    key = broker_key(cluster)
    strangers = [Peer(context, KeyPair.generate(), key, cluster.base_port + n % 2).socket for n in range(10)]
    for number in range(10):
        null = context.socket(zmq.DEALER)
        null.connect(f"tcp://{HOST}:{cluster.base_port + number % 2}")
        strangers.append(null)
    keeping.start()
    try:
        yield
        assert not any(each.poll(0) for each in strangers), "a stranger was answered"
    finally:
        over.set()
        keeping.join()
        context.destroy(linger=0)


def _keep_open(cluster: SoakCluster, over: threading.Event) -> None:
    opened: list[socket.socket] = []
    while not over.wait(0.5):
        for each in [each for each in opened if _closed(each)]:
            each.close()
            opened.remove(each)
        while len(opened) < CONNECTIONS and not over.is_set():
            with contextlib.suppress(OSError):
                made = socket.create_connection((HOST, cluster.base_port + len(opened) % 2), timeout=5)
                made.setblocking(False)
                opened.append(made)
    for each in opened:
        each.close()


def _closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it; what it says is read and dropped."""
    try:
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def half_open_connections(terms: Terms) -> Figures:
    """Store with and without strangers in turn, and compare the medians."""
    rounds = terms.goal(5)
    with new_cluster(terms.folder, 3) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        _median_put(keeper, 1)
        alone, among = [], []
        for _ in range(rounds):
            alone.append(_median_put(keeper, 3))
            with _half_open(cluster):
                among.append(_median_put(keeper, 3))
        keeper.check_restored()
    quiet, busy = statistics.median(alone), statistics.median(among)
    return {
        "half-open connections": CONNECTIONS,
        "put alone s": round(quiet, 3),
        "put among them s": round(busy, 3),
        "slower by %": round(100 * (busy / quiet - 1), 1),
        "images lost": 0,
    }


def flooded_device(terms: Terms) -> Figures:
    """Stop a device and flood it by eight clients, while another stores on the other devices."""
    with new_cluster(terms.folder, 4) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        keeper.put(keeper.make_folder(small=1, large=1), *_OPTIONS)
        broker, device = cluster.broker_pid(), cluster.device_pid(1)
        assert broker is not None
        assert device is not None
        most, over = [resident(broker)], threading.Event()
        target = load_key_pair(cluster.directory / "device-1" / "device.key").device_id
        pairs = enter(cluster, Standing.CLIENT, FLOODING)
        os.kill(device, signal.SIGSTOP)
        flood = threading.Thread(target=_flood, args=(cluster, pairs, target, broker, most, over))
        flood.start()
        try:
            seconds = _median_put(keeper, terms.goal(5))
            keeper.check_restored(bearing=1)
        finally:
            over.set()
            flood.join()
            os.kill(device, signal.SIGCONT)
        cluster.wait_alive()
        keeper.check_restored()
        assert cluster.broker_pid() == broker
    assert most[0] < BROKER_MOST, f"the broker had {most[0] >> 20} MiB"
    return {
        "clients": FLOODING,
        "broker's most MiB": most[0] >> 20,
        "put of another meanwhile s": round(seconds, 2),
        "images lost": 0,
    }


def _flood(
    cluster: SoakCluster, pairs: list[KeyPair], device: bytes, broker: int, most: list[int], over: threading.Event
) -> None:
    payload = bytes(MAX_PAYLOAD)
    header = Append(b"e" * 16, 0, 0, b"d" * 32)
    with peers(pairs, broker_key(cluster), cluster.base_port) as flooding:
        for peer in flooding:
            peer.hello(VaultKey.generate())
        while not over.wait(0.01):
            for peer in flooding:
                with contextlib.suppress(zmq.Again):
                    asked = request(Operation.APPEND, header, device, MAX_PAYLOAD)
                    peer.socket.send_multipart([*asked, payload], zmq.NOBLOCK, copy=False)
            most[0] = max(most[0], resident(broker))


PARTS = [
    Part("half-open connections", half_open_connections, 1),
    Part("flooded device", flooded_device, 1),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Strangers and floods."))
