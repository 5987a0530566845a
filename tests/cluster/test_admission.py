"""Who is in, and for how long: invites taken back, members revoked in the middle of their work, keys used twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from common.membership.identity import load_key_pair
from tests.cluster.conftest import home_of, running_cluster
from tests.support.devices import staged, staged_bytes, wait_staged
from tests.support.programs import User, feed, finish, random_bytes, wait_until

REVOKED_WITHIN = 5.0  # seconds; one, on a machine that does nothing else
MIB = 1 << 20


@pytest.fixture(scope="module")
def admitting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three devices, some of which are put out."""
    with running_cluster(tmp_path_factory.mktemp("three") / "cluster", 3) as running:
        yield running


def operator(cluster: LocalCluster, *arguments: str) -> list[str]:
    """Run a command of the broker's operator; its lines."""
    ended = cluster.run("broker", *arguments, environment=cluster.broker_environment(1), timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def audited(cluster: LocalCluster, event: str) -> list[dict[str, str]]:
    path = home_of(cluster) / "broker" / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_open_invites_are_listed_and_one_that_is_withdrawn_lets_nobody_in(
    admitting: LocalCluster, tmp_path: Path
) -> None:
    assert operator(admitting, "invites") == []
    invite = admitting.invite("admin")
    ((role, made, over, key),) = [line.split("\t") for line in operator(admitting, "invites")]
    assert role == "admin"
    assert made < over
    assert operator(admitting, "invites", "withdraw", key) == [f"withdrew the invite {key} (admin)"]
    assert operator(admitting, "invites") == []
    newcomer = User({**admitting.environment, "TESSERA_HOME": str(tmp_path / "home")}, tmp_path)
    refused = newcomer.run("admin", "join", invite)
    assert refused.exit_code == 6, refused
    assert "over or was withdrawn" in refused.stderr
    again = newcomer.run("broker", "invites", "withdraw", key, TESSERA_HOME=str(home_of(admitting)))
    assert again.exit_code == 3, again
    assert [line["key"] for line in audited(admitting, "withdrawn")] == [key]
    assert key in [line["key"] for line in audited(admitting, "invited")]
    # Nothing that goes out waits for this line, so it is durable a moment later.
    wait_until(lambda: key in [line["key"] for line in audited(admitting, "refused")], "the refusal in the audit log")


def test_a_client_that_is_no_admin_retires_nothing(admitting: LocalCluster, tmp_path: Path) -> None:
    client = User(admitting.add_client("plain", "a passphrase of its own"), tmp_path)
    for command in (("retire", "device-1"), ("rebalance",)):
        refused = client.run("admin", *command)
        assert refused.exit_code == 6, refused
        assert "not for a client" in refused.stderr


def test_a_client_that_is_revoked_in_the_middle_of_a_put_is_soon_heard_no_more(
    admitting: LocalCluster, tmp_path: Path
) -> None:
    camera = User({**admitting.environment, "TESSERA_HOME": str(tmp_path / "home")}, tmp_path)
    assert camera.run("admin", "join", admitting.invite("client"), "--name", "camera").exit_code == 0
    assert camera.run("admin", "vault", "create").exit_code == 0
    with camera.started("producer", "-") as process:
        feed(process, random_bytes(16 * MIB))
        # All that was fed but the last segment, which is kept back: nothing else is on its way.
        wait_staged(admitting, 1, 2, 3, size=7 * MIB)
        operator(admitting, "revoke", "camera")
        revoked = time.monotonic()
        wait_until(lambda: time.monotonic() - revoked >= REVOKED_WITHIN, "the time in which it may still be heard")
        heard = [staged_bytes(admitting, index) for index in (1, 2, 3)]
        ended = finish(process, random_bytes(64 * MIB))
    assert ended.exit_code == 6, ended
    assert [staged_bytes(admitting, index) for index in (1, 2, 3)] == heard
    assert [line["name"] for line in audited(admitting, "revoked")] == ["camera"]
    for path in staged(admitting):
        path.unlink()


def test_a_second_worker_with_the_same_key_is_refused_and_the_first_goes_on(
    admitting: LocalCluster, tmp_path: Path
) -> None:
    first, copy = admitting.directory / "device-1", tmp_path / "copy"
    copy.mkdir()
    for name in ("device.key", "brokers.json"):
        shutil.copy(first / name, copy / name)
    pid, user = admitting.device_pid(1), User(admitting.environment, tmp_path / "user")
    second = user.run("worker", "--store", str(copy))
    assert second.exit_code == 6, second
    assert "another worker with this store's key is registered" in second.stderr
    assert second.stdout == b""
    assert admitting.device_pid(1) == pid
    assert "lost the broker" not in admitting.log_tail("device-1")
    admitting.wait_registered(3)


def test_two_workers_do_not_share_a_store_and_two_brokers_no_folder(admitting: LocalCluster, tmp_path: Path) -> None:
    user = User(admitting.environment, tmp_path / "user")
    worker = user.run("worker", "--store", str(admitting.directory / "device-2"))
    broker = user.run("broker", TESSERA_CLIENT_PORT="1", TESSERA_WORKER_PORT="2", TESSERA_LANE_PORT="0")
    for ended in (worker, broker):
        assert ended.exit_code == 2, ended
        assert "is in use by another Tessera process" in ended.stderr
    admitting.wait_registered(3)


def test_a_worker_that_is_revoked_soon_ends_and_says_so(admitting: LocalCluster) -> None:
    operator(admitting, "revoke", "device-3")
    wait_until(lambda: admitting.device_pid(3) is None, "the end of device-3", REVOKED_WITHIN)
    assert "does not admit this device" in admitting.log_tail("device-3")


def test_a_device_that_is_renamed_bears_the_new_name_and_keeps_what_it_holds(admitting: LocalCluster) -> None:
    before = admitting.status()["devices"][0]
    operator(admitting, "rename", before["name"], "the attic")

    def renamed() -> bool:
        here = [device for device in admitting.status()["devices"] if device["id"] == before["id"]]
        return [(d["name"], d["shares"]) for d in here] == [("the attic", before["shares"])]

    wait_until(renamed, "the device under its new name")
    assert [line["name"] for line in audited(admitting, "renamed")] == ["the attic"]
    operator(admitting, "rename", "the attic", before["name"])


def test_a_client_that_is_no_admin_is_told_how_it_becomes_one_before_anything_begins(admitting: LocalCluster) -> None:
    key = load_key_pair(home_of(admitting) / "client" / "client.key").public.hex()[:16]
    operator(admitting, "demote", key)
    (device, *_) = [device["name"] for device in admitting.status()["devices"]]

    def retire() -> tuple[int, str]:
        ended = admitting.run("admin", "retire", device, "--cancel", timeout=60)
        return ended.returncode, ended.stderr

    wait_until(lambda: retire()[0] == 6, "the demotion to hold")
    code, told = retire()
    assert code == 6
    assert f"broker.py promote {key}" in told
    ended = admitting.run("admin", "retire", device, timeout=60)
    assert "moving" not in ended.stderr
    operator(admitting, "promote", key)
    wait_until(lambda: retire()[0] == 0, "the promotion to hold")
    assert [len(audited(admitting, event)) for event in ("demoted", "promoted")] == [1, 1]
