"""Nothing stays lost: what is gone or damaged is rebuilt, devices are retired, and deleted is deleted.

A cluster of its own, of eight devices, whose broker waits two seconds for a device before it rebuilds what that held.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of, running_cluster
from tests.support.devices import MIB, held_shares, number_of, numbers, revive, wait_lost
from tests.support.programs import Ended, User, random_bytes, sha256_of, wait_until
from tests.support.store_folder import ShareRecord

LARGE = 9 * MIB + 12345  # three segments of 4 of 6
IN_THE_BLOCK = 600  # of a share of either size
IN_A_PACK_AND_IN_A_FILE = pytest.mark.parametrize("size", [5000, LARGE], ids=["in a pack", "in a file"])


@pytest.fixture(scope="module")
def mending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("mending") / "cluster", 8) as running:
        (home_of(running) / "config.toml").write_text('[broker]\nrepair_after = "2s"\nrepair_rate = "500M"\n')
        running.kill_broker()
        running.start_broker()
        running.wait_registered(8)
        yield running


@pytest.fixture
def mending_cluster(mending: LocalCluster) -> Iterator[LocalCluster]:
    yield mending
    revive(mending)


@pytest.fixture
def keeper(mending_cluster: LocalCluster, tmp_path: Path) -> User:
    return User(mending_cluster.environment, tmp_path / "keeper")


def shares_of(cluster: LocalCluster, before: set[ShareRecord]) -> set[ShareRecord]:
    """The shares of the encodings that came since; those of others are mended meanwhile, too."""
    known = {record.encoding for record in before}
    return {record for record in held_shares(cluster) if record.encoding not in known}


def holders(cluster: LocalCluster, before: set[ShareRecord], but: set[str]) -> dict[int, list[str]]:
    """share → the devices that hold it, but those."""
    found: dict[int, list[str]] = {}
    for record in shares_of(cluster, before):
        if record.device not in but:
            found.setdefault(record.share, []).append(record.device)
    return found


def is_whole(cluster: LocalCluster, before: set[ShareRecord], but: set[str]) -> bool:
    held = holders(cluster, before, but)
    devices = [device for names in held.values() for device in names]
    return len(held) == 6 and len(devices) == len(set(devices)) == 6


def verified(user: User, sha256: str, *options: str) -> tuple[int, dict[str, Any]]:
    ended = user.run("admin", "verify", "--hash", sha256, "--json", *options)
    assert len(ended.objects) == 1, ended
    return ended.exit_code, ended.objects[0]


def check_restored(user: User, content: bytes) -> None:
    target = user.folder / "restored"
    ended = user.restore(sha256_of(content), output=target, options=("--force",))
    assert ended.exit_code == 0, ended
    assert target.read_bytes() == content


def admin(user: User, *arguments: str) -> Ended:
    return user.run("admin", *arguments)


@IN_A_PACK_AND_IN_A_FILE
def test_shares_of_devices_that_stay_away_are_rebuilt_on_others(
    mending_cluster: LocalCluster, keeper: User, size: int
) -> None:
    before = held_shares(mending_cluster)
    content = random_bytes(size)
    stored = keeper.store_bytes(content)
    lost = stored["devices"][:2]
    for name in lost:
        mending_cluster.kill_device(number_of(mending_cluster, name))
    wait_until(lambda: is_whole(mending_cluster, before, set(lost)), "six shares on the six other devices")
    wait_until(lambda: verified(keeper, stored["sha256"])[1]["state"] == "whole", "the broker to say so")
    # The rebuilt shares are needed now: two more devices go, and both of those have shares from the first day.
    for name in [name for name in stored["devices"] if name not in lost][:2]:
        mending_cluster.kill_device(number_of(mending_cluster, name))
    check_restored(keeper, content)


@IN_A_PACK_AND_IN_A_FILE
def test_a_device_that_comes_back_gives_up_what_was_rebuilt_meanwhile(
    mending_cluster: LocalCluster, keeper: User, size: int
) -> None:
    before = held_shares(mending_cluster)
    content = random_bytes(size)
    stored = keeper.store_bytes(content)
    gone = stored["devices"][0]
    mending_cluster.kill_device(number_of(mending_cluster, gone))
    wait_until(lambda: is_whole(mending_cluster, before, {gone}), "the lost share on another device")
    revive(mending_cluster)
    wait_until(lambda: is_whole(mending_cluster, before, set()), "no share to be there twice")
    check_restored(keeper, content)


@IN_A_PACK_AND_IN_A_FILE
def test_a_damaged_share_that_a_consumer_meets_is_mended(
    mending_cluster: LocalCluster, keeper: User, size: int
) -> None:
    before = held_shares(mending_cluster)
    content = random_bytes(size)
    keeper.store_bytes(content)
    (victim,) = [record for record in shares_of(mending_cluster, before) if record.share == 0]
    victim.flip(IN_THE_BLOCK)
    check_restored(keeper, content)

    def mended() -> bool:
        found = [record for record in shares_of(mending_cluster, before) if record.share == 0]
        return len(found) == 1 and found[0] != victim and found[0].is_whole()

    wait_until(mended, "a good share in place of the bad one")
    exit_code, verdict = verified(keeper, sha256_of(content), "--deep")
    assert (exit_code, verdict["state"], verdict["shares_at_hand"]) == (0, "whole", 6), verdict


@IN_A_PACK_AND_IN_A_FILE
def test_verify_says_what_is_there_and_deep_finds_what_is_damaged(
    mending_cluster: LocalCluster, keeper: User, size: int
) -> None:
    before = held_shares(mending_cluster)
    content = random_bytes(size)
    stored = keeper.store_bytes(content)
    exit_code, verdict = verified(keeper, stored["sha256"], "--deep")
    assert exit_code == 0
    assert (verdict["state"], verdict["proven"], verdict["may_lose"]) == ("whole", True, 2)
    (parity,) = [record for record in shares_of(mending_cluster, before) if record.share == 5]
    parity.flip(IN_THE_BLOCK)
    exit_code, verdict = verified(keeper, stored["sha256"], "--deep")
    assert exit_code == 0
    assert (verdict["proven"], verdict["shares_at_hand"], verdict["damaged"]) == (True, 5, 1)
    assert verdict["state"] == "shares missing"
    assert any(parity.device in line for line in verdict["troubles"])


def test_verify_deep_or_not_ends_with_5_where_devices_are_missing_for_an_image(
    mending_cluster: LocalCluster, keeper: User
) -> None:
    stored = keeper.store_bytes(random_bytes(5000))
    lost = [number_of(mending_cluster, name) for name in stored["devices"][:3]]
    for number in lost:
        mending_cluster.kill_device(number)
    wait_lost(mending_cluster, *lost)
    for how in ((), ("--deep",)):
        exit_code, verdict = verified(keeper, stored["sha256"], *how)
        assert (exit_code, verdict["state"], verdict["restorable"]) == (5, "cannot be restored", False)


def test_repair_waits_for_no_device(mending_cluster: LocalCluster, keeper: User) -> None:
    before = held_shares(mending_cluster)
    stored = keeper.store_bytes(random_bytes(LARGE))
    gone = stored["devices"][1]
    mending_cluster.kill_device(number_of(mending_cluster, gone))
    wait_lost(mending_cluster, number_of(mending_cluster, gone))
    ended = admin(keeper, "repair", "--hash", stored["sha256"][:12])
    assert ended.exit_code == 0, ended
    assert is_whole(mending_cluster, before, {gone})


def test_a_retired_device_is_emptied_first_and_let_back_only_by_a_new_invite(
    mending_cluster: LocalCluster, keeper: User
) -> None:
    before = held_shares(mending_cluster)
    contents = [random_bytes(5000), random_bytes(LARGE)]
    stored = [keeper.store_bytes(content) for content in contents]
    name = stored[0]["devices"][0]
    index = number_of(mending_cluster, name)
    ended = admin(keeper, "retire", name)
    assert ended.exit_code == 0, ended
    assert "safe to unplug" in ended.stdout.decode()
    wait_until(lambda: mending_cluster.device_pid(index) is None, "the retired worker's end")
    mending_cluster.stop_device(index)
    encodings = {record.encoding for record in shares_of(mending_cluster, before)}
    for encoding in encodings:
        elsewhere = {f.share for f in shares_of(mending_cluster, before) if f.encoding == encoding and f.device != name}
        assert elsewhere == set(range(6)), "every share is somewhere else before it is called safe"
    for content in contents:
        check_restored(keeper, content)
    mending_cluster.start_device(index)
    wait_until(lambda: mending_cluster.device_pid(index) is None, "its refusal")
    assert "does not admit" in mending_cluster.log_tail(name)
    mending_cluster.stop_device(index)
    mending_cluster.start_device(index, "--join", mending_cluster.invite("worker"), "--name", name)
    mending_cluster.wait_registered(8)


@IN_A_PACK_AND_IN_A_FILE
def test_deleted_is_deleted_and_can_be_taken_back(mending_cluster: LocalCluster, keeper: User, size: int) -> None:
    before = held_shares(mending_cluster)
    content = random_bytes(size)
    sha256 = keeper.store_bytes(content)["sha256"]
    ended = admin(keeper, "delete", "--hash", sha256, "--yes")
    assert ended.exit_code == 0, ended
    assert not shares_of(mending_cluster, before)
    assert keeper.restore(sha256, output=keeper.folder / "gone").exit_code == 3
    assert sha256 not in [image["sha256"] for image in keeper.listed()]
    assert sha256 in admin(keeper, "undelete", "--list").stdout.decode()
    ended = admin(keeper, "undelete", "--hash", sha256[:16])
    assert ended.exit_code == 0, ended
    check_restored(keeper, content)
    wait_until(lambda: is_whole(mending_cluster, before, set()), "all six shares back")
    ended = admin(keeper, "delete", "--hash", sha256, "--yes")  # once more, under the next generation
    assert ended.exit_code == 0, ended
    assert not shares_of(mending_cluster, before)


def test_deleting_without_a_terminal_needs_yes(mending_cluster: LocalCluster, keeper: User) -> None:
    content = random_bytes(5000)
    sha256 = keeper.store_bytes(content)["sha256"]
    ended = admin(keeper, "delete", "--hash", sha256)
    assert ended.exit_code == 2, ended
    check_restored(keeper, content)


@IN_A_PACK_AND_IN_A_FILE
def test_a_device_that_was_away_learns_of_a_deletion_and_nothing_comes_back(
    mending_cluster: LocalCluster, keeper: User, size: int
) -> None:
    before = held_shares(mending_cluster)
    stored = keeper.store_bytes(random_bytes(size))
    away = stored["devices"][2]
    mending_cluster.kill_device(number_of(mending_cluster, away))
    wait_lost(mending_cluster, number_of(mending_cluster, away))
    ended = admin(keeper, "delete", "--hash", stored["sha256"], "--yes", "--trash-days", "0")
    assert ended.exit_code == 0, ended
    assert away in ended.stderr
    revive(mending_cluster)
    wait_until(lambda: not shares_of(mending_cluster, before), "the returned device to delete its share")
    assert keeper.restore(stored["sha256"], output=keeper.folder / "gone").exit_code == 3


def test_status_tells_what_is_missing_and_json_tells_the_same(mending_cluster: LocalCluster, keeper: User) -> None:
    stored = keeper.store_bytes(random_bytes(5000))
    lost = stored["devices"][:3]
    for name in lost:
        mending_cluster.kill_device(number_of(mending_cluster, name))
    wait_lost(mending_cluster, *(number_of(mending_cluster, name) for name in lost))

    def status() -> dict[str, Any]:
        return dict(json.loads(admin(keeper, "status", "--json").stdout))

    wait_until(lambda: status()["objects"]["unrecoverable"] >= 1, "the steward to have looked")
    told = status()
    shown = admin(keeper, "status")
    assert (shown.exit_code, "CANNOT BE RESTORED" in shown.stdout.decode()) == (5, True)
    checked = admin(keeper, "status", "--check")
    assert (checked.exit_code, len(checked.stdout.decode().splitlines())) == (5, 1)
    assert checked.stdout.decode().startswith("CRITICAL: ")
    assert {d["name"] for d in told["devices"] if not d["alive"]} == set(lost)


def test_new_devices_get_their_part_by_rebalance_and_retire_counts_their_shares(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster", 4) as cluster:
        user = User(cluster.environment, tmp_path / "user")
        # One device is full up to now: away while the images are stored.
        cluster.kill_device(4)
        wait_lost(cluster, 4)
        for _ in range(12):
            user.store_bytes(random_bytes(200_000), "-k", "2", "-n", "3")
        cluster.start_device(4)
        cluster.wait_registered(4)
        ended = admin(user, "rebalance")
        assert ended.exit_code == 0, ended
        assert "moved" in ended.stdout.decode()
        counts = [len([f for f in held_shares(cluster) if f.device == name]) for name in cluster.devices]
        assert min(counts) >= 7, counts
        assert sum(counts) == 36, counts
        wait_until(lambda: all(i["restorable"] for i in user.listed()), "all to be restorable")
        ended = admin(user, "retire", cluster.devices[3])
        assert ended.exit_code == 0, ended
        assert f"nothing of the {counts[3]} shares it had is missed elsewhere" in ended.stdout.decode()
        assert len([f for f in held_shares(cluster) if f.device != cluster.devices[3]]) == 36
        assert numbers(cluster) == range(1, 5)
