"""Devices that hang (SIGSTOP): still connected, and silent. They cost a get seconds, a put no more than their share.

The time of a get is held against that of the same get without, taken in the same test.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Callable

import pytest

from cluster.local import LocalCluster
from tests.support.devices import MIB, number_of, numbers, staged_bytes
from tests.support.programs import (
    Ended,
    User,
    files_below,
    finish,
    held_in_mid_get,
    random_bytes,
    sha256_of,
    wait_until,
)

LARGE = 128 * MIB
MOST = 3.0  # seconds that hung devices may cost a get
ATTEMPTS = 3  # at measuring that
GONE_AFTER = 5.25  # seconds after which the broker counts a device as gone that hangs
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@contextmanager
def hung(cluster: LocalCluster, *indices: int) -> Iterator[None]:
    """Within, these devices hang."""
    pids = [cluster.device_pid(index) or 0 for index in indices]
    assert all(pids)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        cluster.wait_registered(len(cluster.devices))  # it may have been taken for gone meanwhile


@pytest.fixture(scope="module")
def image(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[int]]:
    """The SHA-256 of an image of 128 MiB, and the numbers of the devices that have its shares, in their order."""
    path = tmp_path_factory.mktemp("large") / "large.raw"
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    (stored,) = User(cluster.environment, path.parent).store(str(path))
    path.unlink()
    return stored["sha256"], [number_of(cluster, name) for name in stored["devices"]]


class Get:
    """The same get, again and again."""

    def __init__(self, owner: User, sha256: str) -> None:
        self._owner, self._sha256 = owner, sha256
        self._out = owner.folder / "out" / "image"
        self._out.parent.mkdir()

    def check(self, ended: Ended) -> float:
        """Seconds that it took, once what came is proven."""
        assert ended.exit_code == 0, ended
        assert sha256_of(self._out.read_bytes()) == self._sha256
        self._out.unlink()
        return ended.seconds

    def seconds(self) -> float:
        return self.check(self._owner.restore(self._sha256, output=self._out))

    def seconds_with(self, hung_meanwhile: Callable[[], AbstractContextManager[None]]) -> float:
        """Seconds that the rest takes where devices begin to hang in the middle."""
        with held_in_mid_get(self._owner, self._sha256, self._out, LARGE) as process, hung_meanwhile():
            process.send_signal(signal.SIGCONT)
            return self.check(finish(process))


def check_cost(usual: Callable[[], float], with_hung: Callable[[], float]) -> None:
    """Hold one time against the other; once more where it is too long, since what else the machine does only adds."""
    for _ in range(ATTEMPTS):
        before, seconds = usual(), with_hung()
        if seconds < before + MOST:
            return
    raise AssertionError(f"{seconds:.1f} s with devices that hang, {before:.1f} s without")


@pytest.mark.parametrize("shares", [(0,), (2,), (0, 3), (1, 5)])
def test_devices_that_hang_before_a_get_cost_it_at_most_three_seconds(
    fragile_cluster: LocalCluster, owner: User, image: tuple[str, list[int]], shares: tuple[int, ...]
) -> None:
    sha256, devices = image
    get = Get(owner, sha256)

    def with_hung() -> float:
        with hung(fragile_cluster, *(devices[share] for share in shares)):
            return get.seconds()

    check_cost(get.seconds, with_hung)


@pytest.mark.parametrize("shares", [(1,), (0, 3)])
def test_devices_that_hang_in_the_middle_of_a_get_cost_it_at_most_three_seconds(
    fragile_cluster: LocalCluster, owner: User, image: tuple[str, list[int]], shares: tuple[int, ...]
) -> None:
    sha256, devices = image
    get = Get(owner, sha256)
    victims = [devices[share] for share in shares]
    check_cost(get.seconds, lambda: get.seconds_with(lambda: hung(fragile_cluster, *victims)))


def test_a_device_that_hangs_costs_many_small_images_at_most_three_seconds_together(
    fragile_cluster: LocalCluster, user: User
) -> None:
    for number in range(100):
        (user.folder / "in").mkdir(exist_ok=True)
        (user.folder / "in" / str(number)).write_bytes(random_bytes(20_000))
    user.store("in")

    def seconds() -> float:
        ended = user.run("consumer", "--all", "--output", "out")
        assert ended.exit_code == 0, ended
        assert len(files_below(user.folder / "out")) == 100
        shutil.rmtree(user.folder / "out")
        return ended.seconds

    def with_hung() -> float:
        with hung(fragile_cluster, 4):
            return seconds()

    check_cost(seconds, with_hung)


# --- storing


@pytest.mark.parametrize("count", [1, 2])
def test_with_eight_devices_the_shares_of_those_that_hang_in_mid_put_move_to_others(
    eight_devices: LocalCluster, tmp_path: Path, count: int
) -> None:
    owner = User(eight_devices.environment, tmp_path)
    path = tmp_path / "large.raw"
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    usual = timed_store(owner, path).seconds
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    with owner.started("producer", str(path), "--json") as process:
        wait_until(lambda: len(holding(eight_devices)) >= 6, "blocks on six devices")
        victims = holding(eight_devices)[:count]
        with hung(eight_devices, *victims):
            ended = finish(process)
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] is False
    assert not {number_of(eight_devices, name) for name in stored["devices"]} & set(victims)
    assert ended.seconds < 3 * usual + GONE_AFTER + MOST
    out = tmp_path / "out"
    assert owner.restore(stored["sha256"], output=out).exit_code == 0
    assert sha256_of(out.read_bytes()) == stored["sha256"] == sha256_of(path.read_bytes())


def test_a_device_that_hangs_before_a_put_costs_it_no_share(eight_devices: LocalCluster, tmp_path: Path) -> None:
    owner = User(eight_devices.environment, tmp_path)
    with hung(eight_devices, 3):
        stored = owner.store_bytes(random_bytes(9 * MIB))
    assert stored["degraded"] is False
    assert "device-3" not in stored["devices"]


def holding(cluster: LocalCluster) -> list[int]:
    """The devices that hold blocks of a share that is being stored."""
    return [index for index in numbers(cluster) if staged_bytes(cluster, index) >= 2 * MIB]


def timed_store(owner: User, path: Path) -> Ended:
    with owner.started("producer", str(path), "--json") as process:
        ended = finish(process)
    assert ended.exit_code == 0, ended
    return ended
