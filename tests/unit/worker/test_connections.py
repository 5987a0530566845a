"""A worker and the brokers of its cluster, with real sockets between them: it follows those that come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from broker.members import Member
from broker.rights import Standing
from common.discovery.addresses import BrokerAddress, is_loopback
from common.errors import RefusedError, TesseraError
from common.link.joining import join
from common.membership.identity import KeyPair, load_brokers, save_brokers
from common.process.running_time import RunningTime
from common.protocol.operations import Role
from tests.support.ports import own_base_port
from tests.support.running_broker import PATIENCE, RunningBroker
from tests.support.turning_away import TurningAway
from worker import connections
from worker.clock import Clock
from worker.server import Server
from worker.store import ShareStore


class RunningWorker:
    """A worker that joined the cluster of a broker, and knows no other yet."""

    def __init__(self, folder: Path, broker: RunningBroker) -> None:
        self.pair = KeyPair.generate()
        self.name = join(broker.invite(Role.WORKER), Role.WORKER, "nas", self.pair).name
        self.brokers_file = folder / "brokers.json"
        save_brokers(self.brokers_file, [broker.address])
        self.ended_by: Optional[TesseraError] = None
        self._folder = folder
        self.start()

    def start(self) -> None:
        running_time = RunningTime()
        self._store = ShareStore(self._folder, None, clock=Clock(monotonic=running_time))
        self._server = Server(self._store, self.pair, self.brokers_file, running_time)
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self._server.serve(self._stopping)
        except TesseraError as error:
            self.ended_by = error
        finally:
            self._server.close()
            self._store.close()

    def stop(self) -> None:
        self._stopping.set()
        self.thread.join()


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = RunningBroker(folder / "first")
        self.second = RunningBroker(folder / "second", self.first.invite(Role.BROKER))
        self.worker = RunningWorker(folder / "nas", self.first)

    def knows(self, broker: RunningBroker) -> bool:
        """Whether the worker has registered with a broker and announced what it holds."""
        return broker.alive(self.worker.pair.device_id)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(connections, "_ASKING_PERIOD", 0.2)
    monkeypatch.setattr(connections, "_RETRY", 0.2)
    running = Cluster(tmp_path)
    yield running
    for each in (running.worker, running.second, running.first):
        each.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_registers_with_every_broker_it_is_told_of_and_remembers_them(cluster: Cluster) -> None:
    wait_until(lambda: cluster.knows(cluster.first) and cluster.knows(cluster.second))
    assert load_brokers(cluster.worker.brokers_file) == [cluster.first.address, cluster.second.address]


def test_a_worker_leaves_a_broker_that_was_revoked(cluster: Cluster) -> None:
    wait_until(lambda: cluster.knows(cluster.second))
    (name,) = [m.name for m in cluster.first.members.members.all() if m.public_key == cluster.second.pair.public.hex()]
    cluster.first.revoke(name)
    wait_until(lambda: load_brokers(cluster.worker.brokers_file) == [cluster.first.address])
    assert cluster.knows(cluster.first)
    assert cluster.worker.ended_by is None


def test_a_worker_that_one_broker_refuses_goes_on_and_one_that_all_refuse_ends(cluster: Cluster) -> None:
    wait_until(lambda: cluster.knows(cluster.second))
    cluster.first.stop()
    cluster.second.revoke(cluster.worker.name)
    wait_until(lambda: not cluster.knows(cluster.second))
    assert cluster.worker.thread.is_alive(), "the other may admit it still"
    cluster.first.start()
    cluster.worker.thread.join(PATIENCE)
    assert isinstance(cluster.worker.ended_by, RefusedError)


def test_a_worker_whom_a_broker_does_not_know_yet_is_let_in_as_soon_as_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker that admitted it is away, and the other hears of it later."""
    first = RunningBroker(tmp_path / "first")
    second = RunningBroker(tmp_path / "second")
    worker = RunningWorker(tmp_path / "nas", first)
    try:
        save_brokers(worker.brokers_file, [first.address, second.address])
        wait_until(lambda: first.alive(worker.pair.device_id))
        worker.stop()
        first.stop()
        worker.start()
        member = Member(worker.pair.public.hex(), Standing.WORKER, "nas", int(time.time()))
        second.members.change(lambda members: members.merge([member], int(time.time())))
        wait_until(lambda: second.alive(worker.pair.device_id))
    finally:
        for each in (worker, first, second):
            each.stop()


# --- a broker that moved


class Found:
    """In place of a search on the LAN: finds these at once."""

    def __init__(self, *brokers: BrokerAddress) -> None:
        self.brokers = list(brokers)
        self.searches: list[list[bytes]] = []

    def __call__(self, _seconds: float, keys: list[bytes]) -> Found:
        self.searches.append(keys)
        self._left = list(self.brokers)
        return self

    @property
    def ended(self) -> bool:
        return not self._left

    def next(self) -> Optional[BrokerAddress]:
        return self._left.pop(0) if self._left else None

    def close(self) -> None:
        self._left.clear()


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunningBroker, RunningWorker, Found]]:
    """A worker that is registered, and searches soon after it is not any more; each thing is found on loopback."""
    for name, seconds in {"_LOOK_AFTER": 0.3, "_LOOK_PAUSE": 0.3, "SEARCH_TIME": 0.3, "_TRY_FOR": 1.0}.items():
        monkeypatch.setattr(connections, name, seconds)
    found = Found()
    monkeypatch.setattr(connections, "Search", found)
    monkeypatch.setattr(connections, "is_loopback", lambda _: False)
    broker = RunningBroker(tmp_path / "broker")
    worker = RunningWorker(tmp_path / "nas", broker)
    wait_until(lambda: broker.alive(worker.pair.device_id))
    yield broker, worker, found
    worker.stop()
    broker.stop()


def move(broker: RunningBroker) -> BrokerAddress:
    """Another address, as after a new lease; returns the one that it had."""
    before = broker.address
    broker.stop()
    port = own_base_port()
    broker.address = BrokerAddress(before.host, port, port + 1, before.public_key)
    broker.start()
    return before


def test_a_broker_that_moved_is_found_by_its_key_and_known_there_the_next_time(
    moved: tuple[RunningBroker, RunningWorker, Found],
) -> None:
    broker, worker, found = moved
    assert found.searches == [], "nobody looks for a broker that is there"
    before = move(broker)
    found.brokers = [broker.address]
    wait_until(lambda: broker.alive(worker.pair.device_id))
    wait_until(lambda: load_brokers(worker.brokers_file) == [broker.address])
    assert broker.address != before
    assert found.searches[0] == [broker.pair.public]


def test_who_announces_anothers_key_does_not_keep_a_worker_from_its_broker(
    moved: tuple[RunningBroker, RunningWorker, Found],
) -> None:
    broker, worker, found = moved
    liar = TurningAway()
    before = broker.address
    broker.stop()
    found.brokers = [liar.posing_as(broker.pair.public)]
    wait_until(lambda: liar.asked >= 2)
    assert worker.ended_by is None
    assert load_brokers(worker.brokers_file) == [before]
    broker.start()  # where it was
    wait_until(lambda: broker.alive(worker.pair.device_id))
    liar.close()
    assert load_brokers(worker.brokers_file) == [before]


def test_brokers_on_loopback_are_not_looked_for(
    moved: tuple[RunningBroker, RunningWorker, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, worker, found = moved
    monkeypatch.setattr(connections, "is_loopback", is_loopback)
    broker.stop()
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() - gone > 1.0)
    assert found.searches == []
    assert worker.thread.is_alive()
    broker.start()
