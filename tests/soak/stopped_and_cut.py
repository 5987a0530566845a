"""Proof 6: processes that hang, a network that is cut in two, clocks that are ten years off.

    stopped processes   each device, the broker, a producer and a consumer in turn, by SIGSTOP, for 30 s
    partition           half of the devices behind a gate that is shut for 30 s, while images are stored and restored
    wrong clocks        broker, a device and the producer in turn, ten years ahead and ten behind

Promised: nothing that was acknowledged is lost, before, during or after; nothing wrong is given out; and within ten
seconds of the end all devices are alive again, an image is stored with all its shares, and every image restores.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.soak.gate import gate
from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user, shifted
from tests.soak.proof import Figures, Part, Terms, hold_for, main
from tests.support.devices import staging_begins
from tests.support.ports import broker_ports
from tests.support.programs import files_below, finish, wait_until

STOPPED = 30.0  # seconds, at full scale
IN_STEP = 10.0  # seconds after the end of a fault
TEN_YEARS = 10 * 365.25 * 86400  # seconds
DEADLINE = 120.0  # seconds
FOUR_OF_SIX = ("-k", "4", "-n", "6")
_BEHIND = "127.0.0.2"  # where the broker is for those behind the gates, at its own ports


def _seconds(terms: Terms) -> float:
    return max(4.0, STOPPED * min(1.0, terms.scale))


class _Watch:
    """Checks, and measures, that a cluster is back in step."""

    def __init__(self, cluster: SoakCluster, keeper: Keeper) -> None:
        self._cluster, self._keeper = cluster, keeper
        self.longest = 0.0

    def in_step(self) -> None:
        """All devices alive within ten seconds from now; then an image gets all its shares, and all images restore."""
        began = time.monotonic()
        self._cluster.wait_alive(seconds=IN_STEP)
        self.longest = max(self.longest, time.monotonic() - began)
        ended = self._keeper.put(self._keeper.make_folder(small=1, large=0), *FOUR_OF_SIX)
        assert ended.exit_code == 0, ended
        assert not any(stored["degraded"] for stored in ended.objects), ended
        self._keeper.check_restored()


def _wait_under_way(process: subprocess.Popen[bytes], shows: Callable[[], bool]) -> None:
    """Return once a program shows that it is at work, or has ended already."""
    wait_until(lambda: shows() or process.poll() is not None, "a program at work", DEADLINE)


def _stop(pid: int, seconds: float) -> None:
    """Stop a process for so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        hold_for(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _ready(terms: Terms) -> Iterator[tuple[SoakCluster, Keeper, _Watch]]:
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        keeper.user.patience = DEADLINE
        assert keeper.put(keeper.make_folder(small=5, large=2), *FOUR_OF_SIX).exit_code == 0
        yield cluster, keeper, _Watch(cluster, keeper)


def stopped_processes(terms: Terms) -> Figures:
    """Stop each process in turn while images are stored and restored."""
    seconds, stopped, slowest_get = _seconds(terms), 0, 0.0
    with _ready(terms) as (cluster, keeper, watch):
        indices = range(1, 7) if terms.scale >= 1 else [terms.random.randint(1, 6)]
        for index in indices:
            if stopped and not terms.time_left:
                break
            slowest_get = max(slowest_get, _stop_device(cluster, keeper, index, seconds))
            stopped += 1
            watch.in_step()
        pid = cluster.broker_pid()
        assert pid is not None
        with _storing_meanwhile(cluster, keeper):
            _stop(pid, seconds)
        watch.in_step()
        _hold_producer(cluster, keeper, seconds)
        watch.in_step()
        _hold_consumer(keeper, seconds)
        watch.in_step()
        stopped += 2
        keeper.check_on_disks(cluster)
    return {
        "processes stopped": stopped + 1,
        "seconds each": seconds,
        "slowest get with a stopped device s": round(slowest_get, 1),
        "exit codes": _codes(keeper),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
        "in step again after s": round(watch.longest, 1),
    }


def _stop_device(cluster: SoakCluster, keeper: Keeper, index: int, seconds: float) -> float:
    """Stop a device, restore all and store something meanwhile; how long restoring took."""
    pid = cluster.device_pid(index)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        keeper.check_restored(bearing=1)
        took = time.monotonic() - began
        keeper.put(keeper.make_folder(small=1, large=1), *FOUR_OF_SIX)
        hold_for(max(0.0, seconds - (time.monotonic() - began)))
    finally:
        os.kill(pid, signal.SIGCONT)
    return took


@contextmanager
def _storing_meanwhile(cluster: SoakCluster, keeper: Keeper) -> Iterator[None]:
    """A producer that is under way while something is done to the others; it may fail, not lie."""
    folder = keeper.make_folder(small=2, large=2)
    begun = staging_begins(cluster)
    with keeper.user.started("producer", "--json", *FOUR_OF_SIX, str(folder)) as process:
        _wait_under_way(process, begun)
        yield
        keeper.note(finish(process, patience=DEADLINE))


def _hold_producer(cluster: SoakCluster, keeper: Keeper, seconds: float) -> None:
    folder = keeper.make_folder(small=2, large=4)
    begun = staging_begins(cluster)
    with keeper.user.started("producer", "--json", *FOUR_OF_SIX, str(folder)) as process:
        _wait_under_way(process, begun)
        _stop(process.pid, seconds)
        keeper.note(finish(process, patience=DEADLINE))


def _hold_consumer(keeper: Keeper, seconds: float) -> None:
    wanted = [word for sha256 in keeper.promises for word in ("--hash", sha256)]
    out = keeper.user.folder / "held"
    out.mkdir()
    with keeper.user.started("consumer", *wanted, "--output", str(out)) as process:
        _wait_under_way(process, lambda: bool(files_below(out)))
        _stop(process.pid, seconds)
        keeper.judge_exit(finish(process, patience=DEADLINE))


def partition(terms: Terms) -> Figures:
    """Cut half of the devices off, with a put under way; restore and store meanwhile, and mend the network."""
    seconds, times = _seconds(terms), 3 if terms.scale >= 1 else 1
    behind = (1, 2, 3)
    with _ready(terms) as (cluster, keeper, watch):
        for index in behind:
            cluster.kill_device(index)
        cluster.lead_through(cluster.base_port, behind, host=_BEHIND)
        _, *of_workers = broker_ports(cluster)  # theirs, and that of the lanes
        with ExitStack() as stack:
            cuts = [stack.enter_context(gate(port, port, _BEHIND)) for port in of_workers]
            cluster.revive()
            watch.in_step()
            for _ in range(times):
                with _storing_meanwhile(cluster, keeper):
                    for cut in cuts:
                        cut.shut()
                    hold_for(seconds)
                    assert _get_exit(keeper) in (0, 5, 7), "three of six devices are left of four that are needed"
                    for cut in cuts:
                        cut.open()
                watch.in_step()
            keeper.check_on_disks(cluster)
            cluster.stop()
    return {
        "partitions": times,
        "seconds each": seconds,
        "exit codes": _codes(keeper),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
        "in step again after s": round(watch.longest, 1),
    }


def _get_exit(keeper: Keeper) -> int:
    ended = keeper.user.restore(next(iter(keeper.promises)), output=keeper.user.folder / "cut", options=("--force",))
    keeper.judge_exit(ended)
    return ended.exit_code


def wrong_clocks(terms: Terms) -> Figures:
    """Each program in turn ten years ahead, then ten behind, with the others right."""
    checked = 0
    with _ready(terms) as (cluster, keeper, watch):
        cases: list[Callable[[float], None]] = [
            lambda offset: _restart_device(cluster, offset),
            lambda offset: _restart_broker(cluster, offset),
            lambda offset: _shifted_producer(keeper, offset),
        ]
        for case in cases:
            both = (TEN_YEARS, -TEN_YEARS)
            for offset in both if terms.scale >= 1 else [terms.random.choice(both)]:
                case(offset)
                watch.in_step()
                checked += 1
            _restart_device(cluster, 0)
            _restart_broker(cluster, 0)
        watch.in_step()
        keeper.check_on_disks(cluster)
    return {
        "clocks set wrong": checked,
        "exit codes": _codes(keeper),
        "images acknowledged": len(keeper.promises),
        "images lost": 0,
        "in step again after s": round(watch.longest, 1),
    }


def _restart_device(cluster: SoakCluster, offset: float) -> None:
    cluster.kill_devices(1)
    cluster.start_shifted_device(1, offset)


def _restart_broker(cluster: SoakCluster, offset: float) -> None:
    cluster.kill_broker()
    cluster.start_shifted_broker(offset)


def _shifted_producer(keeper: Keeper, offset: float) -> None:
    folder = keeper.make_folder(small=2, large=1)
    command = [*shifted("producer"), "--json", *FOUR_OF_SIX, str(folder)]
    with keeper.user.started_as(command, SOAK_CLOCK_OFFSET=str(offset)) as process:
        ended = finish(process)
    assert ended.exit_code == 0, ended
    keeper.note(ended)


def _codes(keeper: Keeper) -> str:
    return " ".join(f"{code}:{keeper.exit_codes.count(code)}" for code in sorted(set(keeper.exit_codes)))


PARTS = [
    Part("stopped processes", stopped_processes, 5),
    Part("partition", partition, 2),
    Part("wrong clocks", wrong_clocks, 2),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 6: stopped processes, a cut network, wrong clocks."))
