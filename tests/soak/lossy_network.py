"""Proof 5: messages lost, doubled, delayed and reordered, a tenth of each, between any two parties.

1,000 operations (an image stored, an image restored) through the seeded proxy, some twenty programs at a time, since
most of their time is waiting for what was lost. Promised: no wrong byte, ever; every program ends within its deadline,
with one of the documented exit codes; what was reported as stored restores, behind the proxy's back, afterwards. Not
promised is that every operation succeeds: a tenth of all messages is more than any network loses behind TCP.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.soak.ground import Keeper, SoakCluster, new_cluster, new_user
from tests.soak.proof import Figures, Part, Terms, main
from tests.soak.proxy import Faults, proxy
from tests.support.ports import own_base_port

CLIENTS = 20
DEADLINE = 240.0  # seconds
OPTIONS = (("-k", "2", "-n", "4"), ("-k", "4", "-n", "6"))


class _Client:
    """One user, whose programs all go through the proxy: stores, and restores what it stored."""

    def __init__(self, cluster: SoakCluster, name: str, drawn: random.Random, port: int) -> None:
        self.keeper = Keeper(new_user(cluster, name), drawn)
        self.keeper.user.patience = DEADLINE
        cluster.lead_through(port, [], self.keeper.user.home)
        self._random = drawn
        self.counts: Counter[str] = Counter()

    @property
    def operations(self) -> int:
        return self.counts["puts"] + self.counts["gets"]

    def put_and_get(self, small: int, large: int) -> None:
        """Store one folder, then ask for what was reported as stored."""
        keeper = self.keeper
        ended = keeper.put(keeper.make_folder(small, large), *self._random.choice(OPTIONS))
        hashes = [stored["sha256"] for stored in ended.stored]
        self.counts["puts"] += small + large
        self.counts["puts granted"] += len(hashes)
        if not hashes:
            return
        out = keeper.user.folder / "got"
        out.mkdir(exist_ok=True)  # where one image alone was stored, it would be a file
        ended = keeper.user.restore(*hashes, output=out, options=("--json", "--force"))
        keeper.judge_exit(ended)
        self.counts["gets"] += len(hashes)
        self.counts["gets granted"] += len(ended.objects)
        for restored in ended.objects:
            content = (keeper.user.folder / Path(restored["path"])).read_bytes()
            assert hashlib.sha256(content).hexdigest() == restored["sha256"], "a wrong byte"


def lossy(terms: Terms) -> Figures:
    """Store and restore through the proxy; then, without it, everything that was promised."""
    with new_cluster(terms.folder, 6) as cluster:
        port = own_base_port()
        for index in range(1, 7):
            cluster.kill_device(index)
        cluster.lead_through(port, range(1, 7))
        with proxy(port, cluster.base_port, cluster.directory, Faults(), terms.random.randrange(2**32)) as between:
            cluster.revive()
            clients = _operate(cluster, terms, port)
            counts = dict(between.counts)
        for index in range(1, 7):
            cluster.kill_device(index)
        homes = [client.keeper.user.home for client in clients]
        cluster.lead_through(cluster.base_port, range(1, 7), *homes)
        cluster.revive()
        restored = sum(client.keeper.check_restored() for client in clients)
    return {**_figures(clients), "restored afterwards": restored, **counts}


def _operate(cluster: SoakCluster, terms: Terms, port: int) -> list[_Client]:
    goal = terms.goal(1000)
    number = min(CLIENTS, max(2, goal // 15))
    seeds = [terms.random.randrange(2**32) for _ in range(number)]
    clients = [_Client(cluster, f"client-{n}", random.Random(seed), port) for n, seed in enumerate(seeds)]
    ending = threading.Event()

    def work(client: _Client) -> None:
        while not ending.is_set():
            client.put_and_get(small=8 if terms.scale >= 1 else 5, large=2 if terms.scale >= 1 else 1)
            if sum(each.operations for each in clients) >= goal or not terms.time_left:
                ending.set()

    with ThreadPoolExecutor(number) as pool:
        for done in [pool.submit(work, client) for client in clients]:
            done.result()
    return clients


def _figures(clients: list[_Client]) -> Figures:
    counts: Counter[str] = sum((client.counts for client in clients), Counter())
    codes = Counter(code for client in clients for code in client.keeper.exit_codes)
    return {
        "operations": counts["puts"] + counts["gets"],
        **counts,
        "programs": sum(codes.values()),
        "exit codes": " ".join(f"{code}:{count}" for code, count in sorted(codes.items())),
        "longest program s": round(max(client.keeper.longest for client in clients), 1),
        "wrong bytes": 0,
    }


PARTS = [Part("lossy network", lossy, 4)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Proof 5: messages lost, doubled, delayed, reordered."))
