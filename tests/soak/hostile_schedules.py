"""Proof: members that were admitted and lie harm nobody else's images, and hold nobody up for long.

    hostile members   two of eight devices lie, and clients attack, in ways drawn for each schedule, while others store

    lying broker      a broker deals otherwise with what passes: nothing is lost by it, and no wrong file comes out

Each schedule has a seed of its own, and they share a cluster. In each, images are stored, restored, and now and then
listed, deleted, repaired and put under another vault key, by users whose images have two shares more than are needed.
What a program takes is compared with what it took before anybody lied. `--seed S --minutes 0` runs schedule S alone.
Programs are forks (`tests/support/forked_programs.py`), so that what liars add is not lost in what a start takes.
"""

from __future__ import annotations

import enum
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path

from tests.soak import hostile_broker
from tests.soak.ground import DOCUMENTED, PASSPHRASE, Keeper, SoakCluster, new_cluster, new_user
from tests.soak.hostile_clients import Attack, HostileClients
from tests.soak.hostile_peers import resident
from tests.soak.hostile_worker import Lie
from tests.soak.proof import Figures, Part, Terms, main
from tests.support.forked_programs import quick_starts
from tests.support.programs import Ended, User, finish, sha256_of

SCHEDULES = 5000
BROKER_SCHEDULES = 1000
HONEST, HOSTILE = 6, 2  # devices
CODES = [(2, 4), (3, 5), (4, 6)]  # each bears the loss of two, and finds as many honest devices as it has shares
BROKER_MOST = 384 << 20  # bytes
TIMES = 5  # what takes so many times as long as alone was held up
# Seconds in which a program may end in any case; of delete and rotate it is promised that they end.
FLOORS = {"delete": 30.0, "rotate": 90.0}
FLOOR = 8.0
PATIENCE = 4.0  # seconds until a program that a broker keeps waiting is interrupted
STOPPED = -1
_KEPT = 6  # images
_TOGETHER = 500  # in one cluster, before a new one
_ALONE = 3  # rounds without lies
_SETTINGS = {"TESSERA_REPAIR_AFTER": "1s", "TESSERA_MEMORY": f"{BROKER_MOST >> 20}M"}
# Breaks of the protocol: with three within a minute a device is not heard for a minute, and lies no more.
_SELDOM = {Lie.NO_MESSAGES: 0.1, Lie.FORGES: 0.2, Lie.FLOOD: 0.3}


class Stage:
    """A cluster, who is honest in it, and how long that takes while all are."""

    def __init__(self, cluster: SoakCluster, terms: Terms) -> None:
        self.most = 0  # bytes of the broker
        self.slowest: dict[str, tuple[float, int]] = {}  # what → seconds, and in which schedule
        self._cluster = cluster
        self._keeper = Keeper(new_user(cluster, "keeper"), terms.random)
        self._alone: defaultdict[str, list[float]] = defaultdict(list)
        self._limits: dict[str, float] = {}
        self._seed = self._rotations = 0
        self._orders = [cluster.directory / f"orders-{number}.json" for number in range(HOSTILE)]
        self._broker = cluster.broker_pid()
        self._clients = HostileClients(cluster, cluster.directory / cluster.devices[-1])
        for index, path in enumerate(self._orders, HONEST + 1):
            give_orders(path, 0, [])
            cluster.stop_device(index)
            cluster.start_lying(index, path)
        cluster.wait_alive()
        for _ in range(_ALONE):
            self._all_programs(random.Random(0), seldom=1.0)
        for what, seconds in self._alone.items():
            self._limits[what] = max(FLOORS.get(what, FLOOR), TIMES * statistics.median(seconds))

    def run(self, seed: int) -> None:
        """One schedule; AssertionError with its seed for whatever does not hold."""
        drawn, self._seed = random.Random(seed), seed
        lies = [_draw_lies(drawn) for _ in self._orders]
        for path, each in zip(self._orders, lies):
            give_orders(path, drawn.getrandbits(32), each)
        attacks = drawn.sample(list(Attack), drawn.randint(1, 3))
        try:
            with self._clients.attacking(attacks, random.Random(seed)):
                self._all_programs(drawn, seldom=0.15)
            self._look_at_broker()
        except Exception as error:
            ways = [[lie.name for lie in each] for each in lies] + [[attack.name for attack in attacks]]
            told = " and ".join(" + ".join(each) for each in ways)
            raise AssertionError(f"schedule {seed} ({told}): {error}") from error

    # --- what the honest do

    def _all_programs(self, drawn: random.Random, seldom: float) -> None:
        """Put or get, or both; the other programs with the probability `seldom` each, and rotate with a fifth of it."""
        keeper, user = self._keeper, self._keeper.user
        puts = drawn.random() < max(seldom, 0.6)
        if puts:
            k, n = drawn.choice(CODES)
            folder = keeper.make_folder(small=1, large=int(drawn.random() < seldom), k=k)
            self._judge("put", keeper.put(folder, "-k", str(k), "-n", str(n)))
        if drawn.random() < seldom:
            self._judge("list", user.run("consumer", "--list", "--json"))
        if drawn.random() < seldom:
            self._judge("repair", user.run("admin", "repair", "--all"), also=(4, 5))
        if drawn.random() < seldom / 5:
            self._rotate(drawn)
        if not puts or drawn.random() < max(seldom, 0.3):
            self.check_restored()
        if len(keeper.promises) > _KEPT:
            gone = drawn.choice(sorted(keeper.promises))
            self._judge("delete", user.run("admin", "delete", "--yes", "--hash", gone), also=(5,))
            del keeper.promises[gone]

    def check_restored(self) -> None:
        started = time.monotonic()
        self._keeper.check_restored()
        self._took("get", time.monotonic() - started)

    def _rotate(self, drawn: random.Random) -> None:
        """For a vault of its own, whose images the two have shares of: it ends, and where it is done all restore."""
        self._rotations += 1
        keeper = Keeper(new_user(self._cluster, f"rotating-{self._rotations}"), drawn)
        self._judge("put", keeper.put(keeper.make_folder(small=2, large=0), "-k", "4", "-n", "6"))
        options = ["--yes", "--backup", str(keeper.user.folder / "backup.key")]
        ended = keeper.user.run("admin", "vault", "rotate", *options, TESSERA_NEW_PASSPHRASE=PASSPHRASE)
        self._judge("rotate", ended, also=(5,))
        if ended.exit_code == 0:
            keeper.check_restored()

    def _judge(self, what: str, ended: Ended, also: Collection[int] = ()) -> None:
        assert ended.exit_code == 0 or ended.exit_code in also, f"{what}: {ended}"
        self._took(what, ended.seconds)

    def _took(self, what: str, seconds: float) -> None:
        if not self._limits:
            self._alone[what].append(seconds)
            return
        limit = self._limits.setdefault(what, FLOORS.get(what, FLOOR))
        self.slowest[what] = max(self.slowest.get(what, (0.0, 0)), (seconds, self._seed))
        assert seconds <= limit, f"{what} took {seconds:.1f} s, and may take {limit:.1f}"

    def _look_at_broker(self) -> None:
        assert self._broker is not None
        assert self._cluster.broker_pid() == self._broker, "the broker ended"
        self.most = max(self.most, resident(self._broker))
        assert self.most < BROKER_MOST, f"the broker has {self.most >> 20} MiB"


class BrokerStage:
    """A cluster whose broker lies at times, and what was stored while it did not."""

    def __init__(self, cluster: SoakCluster, terms: Terms) -> None:
        self.ended: Counter[int] = Counter()  # exit codes while it lied; STOPPED for what had to be ended
        self._keeper = Keeper(new_user(cluster, "keeper"), terms.random)
        self._orders = cluster.directory / "orders.json"
        give_orders(self._orders, 0, [])
        cluster.kill_broker()
        cluster.start_lying_broker(self._orders)
        cluster.wait_alive()
        for k, n in CODES:
            stored = self._keeper.put(self._keeper.make_folder(small=2, large=1, k=k), "-k", str(k), "-n", str(n))
            assert stored.exit_code == 0, stored

    def run(self, seed: int) -> None:
        """One schedule; AssertionError with its seed for whatever does not hold."""
        drawn = random.Random(seed)
        lies = drawn.sample(list(hostile_broker.Lie), drawn.randint(1, 3))
        try:
            give_orders(self._orders, drawn.getrandbits(32), lies)
            self._restore_while_it_lies(drawn)
            user = self._keeper.user
            folder = self._keeper.make_folder(small=1, large=0)
            for program in drawn.sample([("consumer", "--list"), ("producer", str(folder)), ("admin", "status")], 1):
                self._end_soon(user, *program)
            give_orders(self._orders, 0, [])
            self._keeper.check_restored()
        except Exception as error:
            raise AssertionError(f"schedule {seed} ({' + '.join(lie.name for lie in lies)}): {error}") from error

    def _restore_while_it_lies(self, drawn: random.Random) -> None:
        """Whatever is there afterwards under an image's name is that image."""
        user, out = self._keeper.user, self._keeper.user.folder / "lied"
        out.mkdir()
        if drawn.random() < 0.5:  # as a machine that has never stored anything
            shutil.rmtree(user.home / "vault" / "index", ignore_errors=True)
        for sha256 in drawn.sample(sorted(self._keeper.promises), 2):
            self._end_soon(user, "consumer", "--hash", sha256, "--output", str(out / sha256))
        for path in out.iterdir():
            if not path.name.endswith(".part"):
                assert sha256_of(path.read_bytes()) == path.name, "it was restored as something else"
        shutil.rmtree(out)

    def _end_soon(self, user: User, program: str, *arguments: str) -> None:
        """Run a program; one that waits for a broker that serves it is interrupted."""
        with user.started(program, *arguments) as process:
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                finish(process)
                self.ended[STOPPED] += 1
                return
        self.ended[process.returncode] += 1
        assert process.returncode in DOCUMENTED | {6}, f"{program} ended with {process.returncode}"


def lying_broker(terms: Terms) -> Figures:
    """As many schedules as there is time for, one at least."""
    done = 0
    with new_cluster(terms.folder, max(n for _, n in CODES)) as cluster:
        stage = BrokerStage(cluster, terms)
        while done < terms.goal(BROKER_SCHEDULES) and (terms.time_left or not done):
            stage.run(terms.seed + done)
            done += 1
    codes = ", ".join(
        f"{'stopped' if code == STOPPED else code} ({count})" for code, count in sorted(stage.ended.items())
    )
    return {"schedules": done, "wrong files": 0, "images lost": 0, "ended with": codes}


def _draw_lies(drawn: random.Random) -> list[Lie]:
    usual = [lie for lie in Lie if drawn.random() < _SELDOM.get(lie, 1.0)]
    return drawn.sample(usual, drawn.randint(1, 3))


def give_orders(path: Path, seed: int, lies: Collection[enum.Enum]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"seed": seed, "lies": [lie.name for lie in lies]}))
    new.replace(path)


def hostile_members(terms: Terms) -> Figures:
    """As many schedules as there is time for, one at least."""
    done, most = 0, 0
    slowest: dict[str, tuple[float, int]] = {}
    while done < terms.goal(SCHEDULES) and (terms.time_left or not done):
        with new_cluster(terms.folder, HONEST + HOSTILE, _SETTINGS) as cluster:
            stage = Stage(cluster, terms)
            for seed in range(terms.seed + done, terms.seed + min(done + _TOGETHER, terms.goal(SCHEDULES))):
                if terms.time_left or not done:
                    stage.run(seed)
                    done += 1
            stage.check_restored()
        shutil.rmtree(cluster.directory)
        most = max(most, stage.most)
        slowest.update({what: max(took, slowest.get(what, took)) for what, took in stage.slowest.items()})
    figures = {f"slowest {what}": f"{took:.1f} s (seed {seed})" for what, (took, seed) in sorted(slowest.items())}
    return {"schedules": done, "broker's most MiB": most >> 20, **figures}


PARTS = [Part("hostile members", hostile_members, 2), Part("lying broker", lying_broker, 1)]

if __name__ == "__main__":
    with quick_starts():
        sys.exit(main([PARTS], "Hostile members."))
