"""Proof 1 and 2: whatever is killed with -9, and whenever, what was acknowledged is there.

    workers at random     200 kills of workers at random moments while images are being stored
    every call            a worker killed before, and in the middle of, every create, append, fsync, rename … of a put
    producers             killed at random moments: what they had reported is stored
    brokers               killed at random moments while images are being stored
    stewards              the broker killed at random moments while it rebuilds shares: no encoding ever has fewer
                          intact shares than before

Judged three ways: each share that a device acknowledged is on that device's disk, each block good (so also on the one
that was killed); each image restores while as many devices are killed as it bears, in turn, so that every device's
share is needed; and every program's exit code is one of those documented for a fault elsewhere.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.soak.ground import (
    Keeper,
    SoakCluster,
    check_with_losses,
    devices_with_two,
    intact_shares,
    new_cluster,
    new_user,
    wait_whole,
)
from tests.soak.proof import Figures, Part, Terms, hold_for, main
from tests.support.devices import held_shares, staged
from tests.support.programs import User, finish, wait_until

PAIRS = ((1, 2), (3, 4), (5, 6))  # losses in turn, so that each device's share is needed
PUTTERS = 2
LONGEST_PUT = 3.0  # seconds; about what a put takes
QUICK = {"TESSERA_REPAIR_AFTER": "2s"}
OPTIONS = (("-k", "2", "-n", "4"), ("-k", "4", "-n", "6"))


class _Putters:
    """Threads that store image after image, each with its keeper, until they are told to end."""

    def __init__(self, users: list[User], drawn: random.Random) -> None:
        self.keepers = [Keeper(user, random.Random(drawn.randrange(2**32))) for user in users]
        self._ending = threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(keeper,), daemon=True) for keeper in self.keepers]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when the puts that were under way have ended; raises what went wrong in a thread."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        for fault in self._faults:
            raise fault

    def _work(self, keeper: Keeper) -> None:
        try:
            turn = 0
            while not self._ending.is_set():
                keeper.put(keeper.make_folder(small=3, large=2), *OPTIONS[turn % len(OPTIONS)])
                turn += 1
        except BaseException as fault:  # told to whoever ends the threads
            self._faults.append(fault)

    def figures(self) -> Figures:
        codes = [code for keeper in self.keepers for code in keeper.exit_codes]
        return {
            "puts": len(codes),
            "puts with exit 0": codes.count(0),
            "images acknowledged": sum(len(keeper.promises) for keeper in self.keepers),
            "longest put s": round(max(keeper.longest for keeper in self.keepers), 1),
        }


@contextmanager
def _storing(cluster: SoakCluster, drawn: random.Random) -> Iterator[_Putters]:
    putters = _Putters([new_user(cluster, f"putter-{number}") for number in range(PUTTERS)], drawn)
    putters.start()
    try:
        yield putters
    finally:
        putters.end()


def _check(cluster: SoakCluster, keepers: list[Keeper], scale: float) -> Figures:
    """The three judgements; `images lost` is 0, or this does not return."""
    cluster.revive()
    shares = sum(keeper.check_on_disks(cluster) for keeper in keepers)
    for keeper in keepers:
        keeper.check_restored()
    restored = check_with_losses(cluster, keepers, PAIRS if scale >= 1 else PAIRS[:1])
    return {"shares checked on disk": shares, "restored with devices lost": restored, "images lost": 0}


def workers_at_random(terms: Terms) -> Figures:
    """Kill workers, one after the other, each at a random moment while images are being stored."""
    kills = 0
    with new_cluster(terms.folder, 6) as cluster:
        with _storing(cluster, terms.random) as putters:
            while kills < terms.goal(200) and terms.time_left:
                hold_for(terms.random.uniform(0, LONGEST_PUT / PUTTERS / 4))  # the moment is what is drawn
                index = terms.random.randint(1, len(cluster.devices))
                cluster.kill_device(index)
                kills += 1
                cluster.start_device(index)
                cluster.wait_alive()
        return {"kills": kills, **putters.figures(), **_check(cluster, putters.keepers, terms.scale)}


# --- at every call of a put

POINTS = ("create", "append", "sync", "make_folder", "rename_new", "sync_folder")


def every_call(terms: Terms) -> Figures:
    """Kill a worker before and in the middle of each call that a put makes to its disk."""
    fired: list[str] = []
    with new_cluster(terms.folder, 7) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        points = [(method, number) for method, count in _learn(cluster, keeper).items() for number in range(count)]
        faults = [(action, method, number + 1) for method, number in points for action in ("kill", "tear")]
        terms.random.shuffle(faults)
        chosen = faults if terms.scale >= 1 else _one_of_each(faults)[:5]
        for action, method, number in chosen:
            if not terms.time_left:
                break
            fault = {"method": method, "at": number, "action": action}
            if put_until_fired(cluster, keeper, terms.random.randint(1, 7), fault):
                fired.append(f"{action} {method} {number}")
        cluster.revive()
        figures = _check(cluster, [keeper], terms.scale)
    return {
        "calls of a put": len(points),
        "kills": len(fired),
        "of": len(chosen),
        "puts with exit 0": keeper.exit_codes.count(0),
        "images acknowledged": len(keeper.promises),
        **figures,
    }


def _one_of_each(faults: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """One fault for each method and action."""
    return list({(action, method): (action, method, number) for action, method, number in faults}.values())


def _learn(cluster: SoakCluster, keeper: Keeper) -> dict[str, int]:
    """How often a put of two images, one of three segments, makes each call, on a device that is new to its folders."""
    for _ in range(8):
        cluster.kill_devices(1)
        journal = cluster.start_faulty(1, [])
        cluster.wait_alive()
        assert keeper.put(keeper.make_folder(small=1, large=1)).exit_code == 0
        calls = [line.split() for line in journal.read_text().splitlines() if line.startswith("call ")]
        counts = {method: sum(call[1] == method for call in calls) for method in POINTS}
        if counts["rename_new"]:
            cluster.kill_devices(1)
            cluster.revive()
            return counts
    raise AssertionError("eight images, and the device got no share of any")


def put_until_fired(cluster: SoakCluster, keeper: Keeper, index: int, fault: dict[str, Any]) -> bool:
    """Store images until a device has met its fault and died of it (not every image has a share there)."""
    cluster.kill_devices(index)
    journal = cluster.start_faulty(index, [fault])
    cluster.wait_alive()
    for _ in range(6):
        ended = keeper.put(keeper.make_folder(small=1, large=1))
        assert ended.exit_code == 0, f"six devices are well, one dies: {fault}, {ended}"
        if "fired" in journal.read_text():
            wait_until(lambda: cluster.device_died(index), "the device's end", 10)
            cluster.forget_device_process(index)
            cluster.revive()
            return True
    return False


# --- producers and brokers


def producers(terms: Terms) -> Figures:
    """Kill producers at random moments; what they had reported by then is stored."""
    kills = reported = 0
    with new_cluster(terms.folder, 6) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        whole = keeper.put(keeper.make_folder(small=20, large=4))  # how long one takes now, on this machine
        # Most are killed before they report anything; at least one must not be, or nothing was proven.
        while (kills < terms.goal(60) or not reported) and terms.time_left:
            options = OPTIONS[kills % len(OPTIONS)]
            folder = keeper.make_folder(small=20, large=4)
            with keeper.user.started("producer", "--json", *options, str(folder)) as process:
                hold_for(terms.random.uniform(whole.seconds / 4, whole.seconds))
                process.kill()
                ended = finish(process)
            if ended.exit_code not in (0, 5):
                kills += 1
                reported += len(ended.stored)
            keeper.note_killed(ended)
        assert reported, "every producer was killed before it had reported anything"
        figures = _check(cluster, [keeper], terms.scale)
    return {"kills": kills, "images acknowledged": reported, **figures}


def brokers(terms: Terms) -> Figures:
    """Kill the broker at random moments while images are being stored."""
    kills = 0
    with new_cluster(terms.folder, 6) as cluster:
        with _storing(cluster, terms.random) as putters:
            while kills < terms.goal(40) and terms.time_left:
                hold_for(terms.random.uniform(0, LONGEST_PUT))
                cluster.kill_broker()
                kills += 1
                cluster.start_broker()
                cluster.wait_alive()
        return {"kills": kills, **putters.figures(), **_check(cluster, putters.keepers, terms.scale)}


def stewards(terms: Terms) -> Figures:
    """Kill the broker at random moments while its steward rebuilds what a device that is gone had."""
    kills = rounds = 0
    with new_cluster(terms.folder, 7, QUICK) as cluster:
        keeper = Keeper(new_user(cluster, "user"), terms.random)
        while not rounds or (kills < terms.goal(40) and terms.time_left):
            assert keeper.put(keeper.make_folder(small=20, large=8), *OPTIONS[0]).exit_code == 0
            away = terms.random.randint(1, 7)
            cluster.kill_devices(away)
            kills += _kill_while_rebuilding(cluster, terms, away)
            wait_whole(cluster, keeper, away)
            rounds += 1
            cluster.revive()
        keeper.check_restored()
        assert not devices_with_two(cluster)
    return {
        "kills": kills,
        "rounds": rounds,
        "images": len(keeper.promises),
        "encodings that lost an intact share": 0,
        "images lost": 0,
    }


def _kill_while_rebuilding(cluster: SoakCluster, terms: Terms, away: int) -> int:
    """Up to five kills, each when the steward has begun to rebuild; the intact shares never get fewer."""
    present = [name for name in cluster.devices if name != cluster.devices[away - 1]]
    for kill in range(min(5, terms.goal(40))):
        records = len(held_shares(cluster))  # first: what is rebuilt while all of them are read counts, too
        before = intact_shares(cluster, present)
        try:
            wait_until(lambda: _rebuilding(cluster, records), "rebuilding", 15)  # noqa: B023
        except AssertionError:
            return kill  # all is rebuilt
        hold_for(terms.random.uniform(0, 0.3))
        cluster.kill_broker()
        after = intact_shares(cluster, present)
        for encoding, shares in before.items():
            assert shares <= after.get(encoding, set()), f"{encoding} had {shares}, and has {after.get(encoding)}"
        cluster.start_broker()
    return kill + 1


def _rebuilding(cluster: SoakCluster, records: int) -> bool:
    return bool(staged(cluster)) or len(held_shares(cluster)) > records


PARTS = [
    Part("workers at random", workers_at_random, 4),
    Part("every call", every_call, 4),
    Part("producers", producers, 2),
    Part("brokers", brokers, 2),
    Part("stewards", stewards, 2),
]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proofs 1 and 2: kills."))
