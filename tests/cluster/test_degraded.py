"""A family's three laptops, one of them asleep: what can be stored then, what that means, and how it becomes whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of, running_cluster
from tests.support.devices import MIB, held_shares, number_of, revive, wait_lost
from tests.support.programs import User, random_bytes, sha256_of, wait_until


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("laptops") / "cluster", 3) as running:
        (home_of(running) / "config.toml").write_text('[broker]\nrepair_after = "2s"\n')
        running.kill_broker()
        running.start_broker()
        running.wait_registered(3)
        yield running


@pytest.fixture
def laptops(_three: LocalCluster) -> Iterator[LocalCluster]:
    yield _three
    revive(_three)


@pytest.fixture
def ann(laptops: LocalCluster, tmp_path: Path) -> User:
    return User(laptops.add_client(f"{tmp_path.name}-ann", "the passphrase of ann"), tmp_path / "ann")


@contextmanager
def asleep(cluster: LocalCluster, index: int) -> Iterator[None]:
    """A device that answers nothing any more, its connection still there: nobody knows yet."""
    pid = cluster.device_pid(index)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def lacking(cluster: LocalCluster) -> int:
    images = cluster.status()["objects"]
    return int(images["lacking"] + images["unrecoverable"])


def state(user: User, sha256: str) -> str:
    (verdict,) = user.run("admin", "verify", "--hash", sha256, "--json").objects
    return str(verdict["state"])


def test_with_one_of_three_asleep_a_put_is_refused_and_says_what_would_do(laptops: LocalCluster, ann: User) -> None:
    before = held_shares(laptops)
    laptops.kill_device(3)
    wait_lost(laptops, 3)
    (ann.folder / "photo").write_bytes(random_bytes(5000))
    ended = ann.run("producer", "photo")
    assert ended.exit_code == 5, ended
    assert "2 of at least 3 devices are alive" in ended.stderr
    assert "--accept-degraded" in ended.stderr and "-k 2 -n 2" not in ended.stderr
    assert held_shares(laptops) == before


@pytest.mark.parametrize("size", [5000, 9 * MIB])
def test_accepted_degraded_it_is_stored_and_whole_when_the_third_device_is_back(
    laptops: LocalCluster, ann: User, size: int
) -> None:
    content = random_bytes(size)
    (ann.folder / "photo").write_bytes(content)
    laptops.kill_device(3)
    wait_lost(laptops, 3)
    for already in (False, True):
        ended = ann.run("producer", "--accept-degraded", "--json", "photo")
        assert ended.exit_code == 0, ended
        (stored,) = ended.objects
        assert (stored["k"], stored["n"], stored["degraded"], stored["may_lose"]) == (2, 3, True, 0)
        assert stored["missing_devices"] == ["device-3"]
        assert stored["already_stored"] is already
        assert "DEGRADED: 2 of 3 shares are stored; 0 devices may be lost, not 1; missing: device-3" in ended.stderr
    assert state(ann, stored["sha256"]) == "in danger"
    revive(laptops)
    wait_until(lambda: state(ann, stored["sha256"]) == "whole", "the steward to make the third share")
    laptops.kill_device(number_of(laptops, "device-1"))
    wait_lost(laptops, 1)
    assert ann.restore(stored["sha256"], output=ann.folder / "copy").exit_code == 0
    assert (ann.folder / "copy").read_bytes() == content


def test_a_put_that_is_refused_in_its_middle_leaves_nothing_that_lacks_a_share(
    laptops: LocalCluster, ann: User
) -> None:
    assert lacking(laptops) == 0
    before = held_shares(laptops)
    (ann.folder / "photo").write_bytes(random_bytes(5000))
    with asleep(laptops, 3):
        ended = ann.run("producer", "photo")
        assert ended.exit_code == 5, ended
        assert "only 2 of the at least 3 shares needed" in ended.stderr and "--accept-degraded" in ended.stderr
        assert not {record for record in held_shares(laptops) - before if record.device != "device-3"}
        assert ann.run("admin", "verify", "--all", "--json").objects == []
    wait_until(lambda: held_shares(laptops) == before, "nothing to be left of it, once it is awake")
    wait_until(lambda: len(laptops.status()["devices"]) == 3 and lacking(laptops) == 0, "a clean status")


def test_who_falls_asleep_in_the_middle_of_an_accepted_put_is_named(laptops: LocalCluster, ann: User) -> None:
    (ann.folder / "photo").write_bytes(random_bytes(5000))
    with asleep(laptops, 2):
        ended = ann.run("producer", "--accept-degraded", "--json", "photo")
        assert ended.exit_code == 0, ended
        (stored,) = ended.objects
        assert (stored["degraded"], stored["missing_devices"]) == (True, ["device-2"])


def test_an_image_without_redundancy_says_so_when_stored_again_and_can_get_it(laptops: LocalCluster, ann: User) -> None:
    content = random_bytes(5000)
    (ann.folder / "photo").write_bytes(content)
    assert ann.run("producer", "-k", "2", "-n", "2", "photo").exit_code == 0
    again = ann.run("producer", "--json", "photo")
    assert again.exit_code == 0 and again.objects[0]["could_be_stronger"], again
    assert "stored already, as 2 of 2 shares, so that 0 devices may be lost, not 1" in again.stderr
    assert f"strengthen --hash {sha256_of(content)[:16]}" in again.stderr
    strengthened = ann.run("admin", "strengthen", "--hash", sha256_of(content)[:16])
    assert strengthened.exit_code == 0, strengthened
    assert not ann.run("producer", "--json", "photo").objects[0]["could_be_stronger"]


def test_a_laptop_is_waited_for_for_days_also_after_the_brokers_restart(laptops: LocalCluster) -> None:
    def of_laptop(key: str) -> object:
        return next(device[key] for device in laptops.status()["devices"] if device["name"] == "device-3")

    laptops.kill_device(3)
    wait_lost(laptops, 3)
    laptops.start_device(3, "--kind", "laptop")
    laptops.wait_registered(3)
    assert (of_laptop("kind"), of_laptop("waited_for_seconds")) == ("laptop", 0)
    laptops.kill_device(3)
    wait_lost(laptops, 3)
    for _ in range(2):
        left = of_laptop("waited_for_seconds")
        assert isinstance(left, int) and 2 * 86400 < left <= 3 * 86400, "not two seconds, as the others"
        laptops.kill_broker()
        laptops.start_broker()
    shown = laptops.run("admin", "status", environment={**laptops.environment, "COLUMNS": "200"}).stdout
    assert "laptop, away for" in shown and "waited for until 20" in shown


def encodings_on_disk(cluster: LocalCluster, folder: Path) -> int:
    """How many a copy of the broker's catalog has, as it lies on the disk now; 0 where that was copied in a change."""
    for path in (home_of(cluster) / "broker").glob("catalog.sqlite*"):
        shutil.copy(path, folder / path.name)
    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite")) as copied:
        try:
            return int(copied.execute("SELECT count(*) FROM encodings").fetchone()[0])
        except sqlite3.DatabaseError:
            return 0


def test_a_broker_that_was_killed_knows_again_what_devices_have_before_they_come(
    laptops: LocalCluster, ann: User, tmp_path: Path
) -> None:
    ann.store_bytes(random_bytes(10_000))

    def counted(which: str) -> int:
        return int(laptops.status()["objects"][which])

    wait_until(lambda: counted("whole") > 0, "an image")
    known = counted("whole")
    for index in (1, 2, 3):
        laptops.kill_device(index)
    wait_until(
        lambda: encodings_on_disk(laptops, tmp_path) >= known, "the catalog to be written, a quarter of a second"
    )
    laptops.kill_broker()
    laptops.start_broker()
    wait_until(lambda: counted("unrecoverable") >= known, "what no device has announced yet")


@pytest.mark.parametrize("rotten", [b"", b"rotten" * 10_000])
def test_a_broker_whose_catalog_is_spoilt_makes_it_anew(laptops: LocalCluster, ann: User, rotten: bytes) -> None:
    stored = str(ann.store_bytes(random_bytes(10_000))["sha256"])
    laptops.kill_broker()
    (home_of(laptops) / "broker" / "catalog.sqlite").write_bytes(rotten)
    laptops.start_broker()
    laptops.wait_registered(3)
    wait_until(lambda: state(ann, stored) == "whole", "the image")
