"""Devices without room: the share goes elsewhere, or the put is refused, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import running_cluster
from tests.support.devices import MIB, held_shares, numbers, revive, wait_lost, wait_nothing_staged
from tests.support.programs import Ended, User, random_bytes, wait_until
from tests.support.store_folder import shares_in

SMALL = "200K"  # room for a small share or two
TINY = "10K"  # room for none
SIZES = {"one segment": 2_000_000, "three segments": 5_000_000}  # k = 2


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("five") / "cluster", 5) as running:
        yield running


@pytest.fixture
def five_devices(five: LocalCluster) -> Iterator[LocalCluster]:
    """Five devices with room; whoever was given a capacity has none any more afterwards."""
    yield five
    for index in numbers(five):
        five.kill_device(index)
    revive(five)


@pytest.fixture
def keeper(five_devices: LocalCluster, tmp_path: Path) -> User:
    return User(five_devices.environment, tmp_path / "keeper")


def limit(cluster: LocalCluster, capacity: str, *indices: int, owner_quota: str = "100%") -> None:
    """Start devices anew with a capacity beyond what they hold by now; returns once the broker knows of it."""
    for index in indices:
        cluster.kill_device(index)
    wait_lost(cluster, *indices)
    for index in indices:
        cluster.start_device(index, "--capacity", capacity, "--owner-quota", owner_quota)
    cluster.wait_registered(len(cluster.devices))


def check_restored(user: User, sha256: str, content: bytes) -> None:
    assert user.restore(sha256, output=user.folder / sha256).exit_code == 0
    assert (user.folder / sha256).read_bytes() == content


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_shares_go_to_devices_that_have_room(five_devices: LocalCluster, keeper: User, size: int) -> None:
    limit(five_devices, SMALL, 1, 3)
    content = random_bytes(size)
    stored = keeper.store_bytes(content, "-k", "2", "-n", "3")
    assert stored["degraded"] is False
    assert sorted(stored["devices"]) == ["device-2", "device-4", "device-5"]
    check_restored(keeper, stored["sha256"], content)


def test_a_device_that_fills_up_in_mid_put_passes_its_share_on(five_devices: LocalCluster, keeper: User) -> None:
    """How long an image from stdin is shows only at its end, so nobody can tell beforehand that it will not fit."""
    free = max(device["used_bytes"] for device in five_devices.status()["devices"]) + 3 * MIB
    limit(five_devices, str(free), 2, 5)
    content = random_bytes(20 * MIB)
    ended = keeper.run("producer", "-", "-k", "2", "-n", "3", "--json", stdin=content)
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] is False
    assert sorted(stored["devices"]) == ["device-1", "device-3", "device-4"]
    wait_nothing_staged(five_devices)
    check_restored(keeper, stored["sha256"], content)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_with_too_few_devices_that_have_room_it_is_degraded(
    five_devices: LocalCluster, keeper: User, size: int
) -> None:
    limit(five_devices, TINY, 4)
    content = random_bytes(size)
    path = keeper.folder / "image.bin"
    path.write_bytes(content)
    ended = keeper.run("producer", "--json", "-k", "2", "-n", "5", str(path))
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] is True
    assert sorted(filter(None, stored["devices"])) == ["device-1", "device-2", "device-3", "device-5"]
    assert "DEGRADED" in ended.stderr
    check_restored(keeper, stored["sha256"], content)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("full", [(1, 2, 3, 4, 5), (1, 3, 5)], ids=["all full", "too few with room"])
def test_without_room_it_is_refused_and_nothing_is_left(
    five_devices: LocalCluster, keeper: User, size: int, full: tuple[int, ...]
) -> None:
    limit(five_devices, TINY, *full)
    before = held_shares(five_devices)
    path = keeper.folder / "image.bin"
    path.write_bytes(random_bytes(size))
    ended = keeper.run("producer", "-k", "2", "-n", "4", str(path))
    assert ended.exit_code == 8, ended
    assert "no room" in ended.stderr
    assert "--capacity" in ended.stderr
    assert ended.stdout == b""
    wait_nothing_staged(five_devices)
    if len(full) == 5:
        assert held_shares(five_devices) == before


def test_all_devices_that_fill_up_in_mid_put_are_no_room(five_devices: LocalCluster, keeper: User) -> None:
    free = max(device["used_bytes"] for device in five_devices.status()["devices"]) + 3 * MIB
    limit(five_devices, str(free), *numbers(five_devices))
    before = held_shares(five_devices)
    ended = keeper.run("producer", "-", "-k", "2", "-n", "4", stdin=random_bytes(40 * MIB))
    assert ended.exit_code == 8, ended
    assert ended.stdout == b""
    wait_nothing_staged(five_devices)
    assert held_shares(five_devices) == before


def test_a_device_never_takes_more_than_its_capacity(five_devices: LocalCluster, keeper: User) -> None:
    capacity = max(device["used_bytes"] for device in five_devices.status()["devices"]) + 2 * MIB
    limit(five_devices, str(capacity), *numbers(five_devices))
    for index in range(12):
        (keeper.folder / f"{index}.bin").write_bytes(random_bytes(1_500_000))
    ended = keeper.run("producer", str(keeper.folder))
    assert ended.exit_code == 8, ended
    assert 1 <= len(ended.lines) < 12

    def used() -> list[int]:
        return [int(device["used_bytes"]) for device in five_devices.status()["devices"]]

    wait_until(lambda: max(used()) <= capacity, "a true report")
    for name in five_devices.devices:
        assert sum(record.length for record in shares_in(five_devices.directory / name)) <= capacity


def test_a_flood_meets_its_vaults_quota_and_leaves_room_to_others(five_devices: LocalCluster, tmp_path: Path) -> None:
    victim, other = (User(five_devices.add_client(name, f"of {name}"), tmp_path / name) for name in ("victim", "other"))
    kept, deleted = random_bytes(3000), random_bytes(3000)
    hashes = [victim.store_bytes(content)["sha256"] for content in (kept, deleted)]
    capacity = max(device["used_bytes"] for device in five_devices.status()["devices"]) + 8 * MIB
    assert victim.run("admin", "delete", "--hash", hashes[1], "--yes", "--trash-days", "0").exit_code == 0
    limit(five_devices, str(capacity), *numbers(five_devices), owner_quota="90%")

    def put() -> Ended:
        (tmp_path / "garbage.bin").write_bytes(random_bytes(1_500_000))
        return victim.run("producer", "-k", "2", "-n", "5", str(tmp_path / "garbage.bin"))

    assert put().exit_code == 0
    while (ended := put()).exit_code == 0:
        pass
    assert ended.exit_code == 8, ended
    assert "what this client stored takes" in ended.stderr
    assert "--owner-quota" in ended.stderr.splitlines()[-1], "what to do"

    other.store_bytes(random_bytes(3000), "-k", "2", "-n", "5")
    assert victim.run("admin", "undelete", "--all", "--since", "1h").exit_code == 0
    for sha256, content in zip(hashes, (kept, deleted)):
        check_restored(victim, sha256, content)
