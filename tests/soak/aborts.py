"""A broker that a peer brings down, under its supervisor: it is back, and nothing that was acknowledged is lost.

aborted broker    SIGABRT and SIGKILL in turn, as libzmq's assertions and the system do it, while images are stored
endless message   one client sends a message of 2 GiB in frames of 4 MiB, again and again
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import zmq

from broker.rights import Standing
from cluster.ports import port_answers
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_peers import Peer, broker_key, enter, peers, resident, send_endlessly, serving_pid
from tests.soak.proof import Figures, Part, Terms, hold_for, main
from tests.support.devices import staging_begins
from tests.support.programs import finish, wait_until

DEADLINE = 120.0  # seconds
_NOTICED_WITHIN = 5.0  # seconds
BROKER_MOST = 384 << 20  # bytes
ENDLESS = 2 << 30  # bytes
OPTIONS = ("-k", "2", "-n", "4")


@contextmanager
def _ready(terms: Terms) -> Iterator[tuple[SoakCluster, Keeper]]:
    with new_cluster(terms.folder, 4, {"TESSERA_SUPERVISED": "1"}) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        keeper.user.patience = DEADLINE
        assert keeper.put(keeper.make_folder(small=3, large=1), *OPTIONS).exit_code == 0
        yield cluster, keeper


def _until_back(cluster: SoakCluster, harm: Callable[[int], None]) -> float:
    """Do harm to the process that serves, and return how long after its end another one answered."""
    former = serving_pid(cluster)
    assert former is not None
    harm(former)
    # Until its supervisor has seen it: a process that has no memory any more may still have its sockets.
    wait_until(lambda: not Path(f"/proc/{former}").exists(), "the broker's end", DEADLINE)
    ended = time.monotonic()
    wait_until(lambda: port_answers(cluster.base_port) and port_answers(cluster.base_port + 1), "the broker", DEADLINE)
    back = time.monotonic() - ended
    assert serving_pid(cluster) != former
    return back


def aborted_broker(terms: Terms) -> Figures:
    """End the broker in the middle of puts, each time by another signal."""
    times = terms.goal(40)
    pauses: list[float] = []
    with _ready(terms) as (cluster, keeper):
        for number in range(times):
            if pauses and not terms.time_left:
                break
            ending = (signal.SIGABRT, signal.SIGKILL)[number % 2]
            folder = keeper.make_folder(small=3, large=2)
            begun = staging_begins(cluster)
            with keeper.user.started("producer", "--json", *OPTIONS, str(folder)) as process:
                wait_until(begun, "a put under way", DEADLINE)
                hold_for(terms.random.uniform(0, 0.2))
                pauses.append(_until_back(cluster, partial(_kill, ending)))
                keeper.note(finish(process, patience=DEADLINE))
        cluster.wait_alive()
        keeper.check_restored()
        keeper.check_on_disks(cluster)
    return {
        "ends": len(pauses),
        "back after s, median": round(statistics.median(pauses), 2),
        "back after s, longest": round(max(pauses), 2),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
    }


def _kill(ending: signal.Signals, pid: int) -> None:
    os.kill(pid, ending)


def _overfill(peer: Peer, most: list[int], pid: int) -> None:
    """Send without end until the process is gone; note the most that it had in memory.

    Where the system refuses it memory between two looks of its own, it may drop this connection and live on; then it
    is sent the same again.
    """
    deadline, again = time.monotonic() + DEADLINE, 0.0
    while (now := resident(pid)) > 0:
        assert time.monotonic() < deadline, "the broker neither ends nor is it brought down"
        most[0] = max(most[0], now)
        if time.monotonic() >= again:
            with suppress(zmq.Again):
                send_endlessly(peer, ENDLESS)
            again = time.monotonic() + _NOTICED_WITHIN
        hold_for(0.005)
    peer.socket.close(linger=0)  # or libzmq would go on with the next broker


def endless_message(terms: Terms) -> Figures:
    """Have a client send a message without end, with images stored before, and served afterwards."""
    times, most = terms.goal(10), [0]
    pauses: list[float] = []
    with _ready(terms) as (cluster, keeper):
        for pair in enter(cluster, Standing.CLIENT, times):
            if pauses and not terms.time_left:
                break

            with peers([pair], broker_key(cluster), cluster.base_port) as (peer,):
                pauses.append(_until_back(cluster, partial(_overfill, peer, most)))
            cluster.wait_alive()
            assert keeper.put(keeper.make_folder(small=2, large=1), *OPTIONS).exit_code == 0
            keeper.check_restored()
        keeper.check_on_disks(cluster)
    assert most[0] < BROKER_MOST, f"the broker had {most[0] >> 20} MiB"
    return {
        "endless messages": len(pauses),
        "broker's most MiB": most[0] >> 20,
        "back after s, median": round(statistics.median(pauses), 2),
        "back after s, longest": round(max(pauses), 2),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
    }


PARTS = [Part("aborted broker", aborted_broker, 1), Part("endless message", endless_message, 1)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "A broker that is brought down is back, and nothing is lost."))
