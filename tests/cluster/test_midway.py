"""Devices, brokers and programs that end in the middle: a put or a get goes on, or leaves nothing behind.

An image from stdin comes at the pace at which the test gives it, so "in the middle" is certain: some of its blocks
are on a device's disk, and the rest is not yet read. A get is held by stopping the consumer while its file grows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalCluster
from tests import ROOT
from tests.support.devices import (
    MIB,
    held_shares,
    number_of,
    numbers,
    revive,
    staged,
    staged_bytes,
    wait_lost,
    wait_nothing_staged,
    wait_staged,
)
from tests.support.programs import (
    User,
    feed,
    files_below,
    finish,
    held_in_mid_get,
    random_bytes,
    sha256_of,
    wait_until,
)

HALF = 12 * MIB
LARGE = 128 * MIB
AWAKE = 5.0  # seconds, as promised
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def large_image(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """The SHA-256 and the size of an image that takes a while to restore."""
    path = tmp_path_factory.mktemp("large") / "large.raw"
    content = random_bytes(MIB) * (LARGE // MIB)
    path.write_bytes(content)
    (stored,) = User(cluster.environment, path.parent).store(str(path))
    path.unlink()
    return stored["sha256"], LARGE


def holding(cluster: LocalCluster) -> list[int]:
    """The devices that hold blocks of a share that is being stored."""
    return [index for index in numbers(cluster) if staged_bytes(cluster, index) >= MIB]


def wait_holding(cluster: LocalCluster, count: int) -> list[int]:
    wait_until(lambda: len(holding(cluster)) == count, f"blocks on {count} devices")
    return holding(cluster)


def check_restored(user: User, stored: dict[str, Any], content: bytes) -> None:
    assert stored["sha256"] == sha256_of(content)
    ended = user.restore(stored["sha256"], output=user.folder / "restored")
    assert ended.exit_code == 0, ended
    assert (user.folder / "restored").read_bytes() == content


def test_a_worker_killed_in_mid_put_of_six_leaves_it_stored_degraded_and_said_so(
    fragile_cluster: LocalCluster, owner: User
) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, 4)
        fragile_cluster.kill_device(4)
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] is True
    assert sorted(filter(None, stored["devices"])) == [n for n in fragile_cluster.devices if n != "device-4"]
    assert stored["devices"].count(None) == 1
    assert "DEGRADED" in ended.stderr
    assert "5 of 6 shares" in ended.stderr
    check_restored(owner, stored, content)


def test_a_degraded_image_bears_the_loss_of_one_more_device(fragile_cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, 2)
        fragile_cluster.kill_device(2)
        ended = finish(process, content[HALF:])
    fragile_cluster.kill_device(1)
    check_restored(owner, ended.objects[0], content)


def test_two_workers_killed_in_mid_put_of_six_are_too_many(fragile_cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, 2, 5)
        fragile_cluster.kill_device(2)
        fragile_cluster.kill_device(5)
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 5, ended
    assert "only 4 of the at least 5 shares" in ended.stderr
    assert [each["state"] for each in ended.objects] == ["failed"]
    # Before the two come back: then what is staged is removed. What they had themselves stays with them for a day.
    wait_until(lambda: not any(staged_bytes(fragile_cluster, index) for index in (1, 3, 4, 6)), "nothing left staged")
    revive(fragile_cluster)
    assert owner.restore(sha256_of(content), output=owner.folder / "out").exit_code == 3


def test_a_file_in_mid_put_survives_a_killed_worker(fragile_cluster: LocalCluster, owner: User) -> None:
    path = owner.folder / "large.raw"
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    with owner.started("producer", str(path), "--json") as process:
        wait_staged(fragile_cluster, 3)
        fragile_cluster.kill_device(3)
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert ended.objects[0]["degraded"] is True
    check_restored(owner, ended.objects[0], path.read_bytes())
    path.unlink()


@pytest.mark.parametrize("lost", [1, 2])
def test_with_eight_devices_the_shares_of_killed_workers_move_to_others(
    eight_devices: LocalCluster, tmp_path: Path, lost: int
) -> None:
    owner = User(eight_devices.environment, tmp_path)
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        victims = wait_holding(eight_devices, 6)[:lost]
        for index in victims:
            eight_devices.kill_device(index)
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert (stored["k"], stored["n"], stored["degraded"]) == (4, 6, False)
    assert len(set(stored["devices"])) == 6
    assert not {number_of(eight_devices, name) for name in stored["devices"]} & set(victims)
    # The shares that moved are as good as the others: those that were never in danger are not needed.
    for name in [name for name in stored["devices"] if name not in victims][:2]:
        eight_devices.kill_device(number_of(eight_devices, name))
    check_restored(owner, stored, content)


def test_a_small_image_avoids_a_device_that_just_died(eight_devices: LocalCluster, tmp_path: Path) -> None:
    owner = User(eight_devices.environment, tmp_path)
    eight_devices.kill_device(7)
    eight_devices.kill_device(8)
    content = random_bytes(5000)
    stored = owner.store_bytes(content)
    assert sorted(stored["devices"]) == eight_devices.devices[:6]
    check_restored(owner, stored, content)


def test_a_broker_killed_and_restarted_in_mid_put_costs_nothing(fragile_cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, *numbers(fragile_cluster))
        fragile_cluster.kill_broker()
        fragile_cluster.start_broker()
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    assert ended.objects[0]["degraded"] is False
    check_restored(owner, ended.objects[0], content)


def test_a_broker_killed_while_a_file_is_on_its_way_costs_nothing(fragile_cluster: LocalCluster, owner: User) -> None:
    path = owner.folder / "large.raw"
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    with owner.started("producer", str(path), "--json") as process:
        wait_staged(fragile_cluster, 1)
        fragile_cluster.kill_broker()
        fragile_cluster.start_broker()
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert ended.objects[0]["degraded"] is False
    check_restored(owner, ended.objects[0], path.read_bytes())
    path.unlink()


@POSIX_ONLY
def test_a_broker_killed_and_restarted_in_mid_get_costs_nothing(
    fragile_cluster: LocalCluster, owner: User, large_image: tuple[str, int]
) -> None:
    sha256, size = large_image
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, sha256, out, size) as process:
        fragile_cluster.kill_broker()
        process.send_signal(signal.SIGCONT)
        fragile_cluster.start_broker()
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert sha256_of(out.read_bytes()) == sha256
    assert files_below(out.parent) == [out]
    out.unlink()


@POSIX_ONLY
def test_devices_killed_in_mid_get_cost_nothing(
    fragile_cluster: LocalCluster, owner: User, large_image: tuple[str, int]
) -> None:
    sha256, size = large_image
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, sha256, out, size) as process:
        fragile_cluster.kill_device(1)
        fragile_cluster.kill_device(6)
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert sha256_of(out.read_bytes()) == sha256
    out.unlink()


@POSIX_ONLY
def test_three_devices_killed_in_mid_get_leave_no_file(
    fragile_cluster: LocalCluster, owner: User, large_image: tuple[str, int]
) -> None:
    sha256, size = large_image
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, sha256, out, size) as process:
        for index in (2, 3, 4):
            fragile_cluster.kill_device(index)
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 5, ended
    assert files_below(out.parent) == []


@POSIX_ONLY
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_consumer_leaves_no_file(
    cluster: LocalCluster, owner: User, large_image: tuple[str, int], name: str
) -> None:
    sha256, size = large_image
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, sha256, out, size) as process:
        process.send_signal(signal.Signals[name])
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 130, ended
    assert ended.stderr.splitlines() == ["consumer: interrupted"]
    assert files_below(out.parent) == []


@POSIX_ONLY
def test_what_a_killed_consumer_left_is_removed_by_the_next(
    cluster: LocalCluster, owner: User, large_image: tuple[str, int]
) -> None:
    sha256, size = large_image
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, sha256, out, size) as process:
        process.kill()
        process.wait()
    assert [path.suffix for path in files_below(out.parent)] == [".part"]
    ended = owner.run("consumer", "--hash", sha256, "--output", os.fspath(out))
    assert ended.exit_code == 0, ended
    assert "removed what earlier restores left unfinished: 1" in ended.stderr
    assert files_below(out.parent) == [out]
    out.unlink()


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_producer_leaves_nothing_of_what_cannot_go_on(
    fragile_cluster: LocalCluster, owner: User, number: signal.Signals
) -> None:
    path = owner.folder / "medium.raw"
    path.write_bytes(random_bytes(MIB) * 64)
    before = held_shares(fragile_cluster)
    with owner.started("producer", str(path)) as process:
        wait_staged(fragile_cluster, 1)
        process.send_signal(number)
        ended = finish(process)
    assert ended.exit_code == 130, ended
    assert ended.stdout == b""
    assert ended.stderr.splitlines()[-1] == "producer: interrupted"
    assert "Traceback" not in ended.stderr
    wait_nothing_staged(fragile_cluster)
    assert held_shares(fragile_cluster) == before
    path.unlink()


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_producer_that_waits_for_stdin_can_be_interrupted(
    fragile_cluster: LocalCluster, owner: User, number: signal.Signals
) -> None:
    with owner.started("producer", "-") as process:
        feed(process, random_bytes(HALF))
        wait_staged(
            fragile_cluster, *numbers(fragile_cluster), size=2 * MIB
        )  # all but the last segment: the next is waited for
        process.send_signal(number)
        wait_until(lambda: process.poll() is not None, "the producer's end", 20)
        ended = finish(process)
    assert ended.exit_code == 130, ended
    wait_nothing_staged(fragile_cluster)


@POSIX_ONLY
def test_what_a_killed_producer_began_outlives_its_devices_and_is_no_image(
    fragile_cluster: LocalCluster, owner: User
) -> None:
    before = held_shares(fragile_cluster)
    content = random_bytes(HALF)
    with owner.started("producer", "-") as process:
        feed(process, content)
        wait_staged(fragile_cluster, *numbers(fragile_cluster))
        process.kill()
        process.wait()
    begun = {path.name for path in staged(fragile_cluster)}
    for index in numbers(fragile_cluster):
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, *numbers(fragile_cluster))
    for index in numbers(fragile_cluster):
        fragile_cluster.start_device(index)
    fragile_cluster.wait_registered(len(fragile_cluster.devices))
    assert {path.name for path in staged(fragile_cluster)} == begun
    assert all(path.stat().st_size >= MIB for path in staged(fragile_cluster))
    assert held_shares(fragile_cluster) == before
    assert owner.restore(sha256_of(content), output=owner.folder / "out").exit_code == 3


def test_two_producers_of_one_image_at_once_both_succeed(fragile_cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    before = held_shares(fragile_cluster)
    with (
        owner.started("producer", "-", "--json") as first,
        owner.started("producer", "-", "--json") as second,
    ):
        for process in (first, second):
            feed(process, content[:HALF])
        wait_until(lambda: len(list((fragile_cluster.directory / "device-1" / "staging").iterdir())) == 2, "two puts")
        for process in (first, second):
            feed(process, content[HALF:])
        ended = [finish(process) for process in (first, second)]
    for each in ended:
        assert each.exit_code == 0, each
        assert each.objects[0]["sha256"] == sha256_of(content)
        assert each.objects[0]["degraded"] is False
    wait_nothing_staged(fragile_cluster)
    encodings = {record.encoding for record in held_shares(fragile_cluster) - before}
    assert all(len([f for f in held_shares(fragile_cluster) if f.encoding == e]) == 6 for e in encodings)
    check_restored(owner, ended[0].objects[0], content)


def test_two_producers_of_one_folder_at_once_both_succeed(cluster: LocalCluster, user: User) -> None:
    contents = {}
    for index in range(40):
        path = user.folder / "in" / f"{index}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random_bytes(20_000))
        contents[path.name] = path.read_bytes()
    with (
        user.started("producer", "in", "--json") as first,
        user.started("producer", "in", "--json") as second,
    ):
        ended = [finish(process) for process in (first, second)]
    for each in ended:
        assert each.exit_code == 0, each
        assert len(each.objects) == 40
    assert len(user.listed()) == 40
    assert user.run("consumer", "--all", "--output", "out").exit_code == 0
    assert {path.name: path.read_bytes() for path in files_below(user.folder / "out")} == contents


# --- no broker for a while, and clients that stand still

_WATCHING = """
import asyncio
from common.membership.identity import client_identity
from common.link.link import Link, run_with_link
from common.link.questions import list_devices

async def watch():
    async with Link(client_identity(), None) as link:
        while True:
            await list_devices(link)
            print("answered", flush=True)
            await asyncio.sleep(0.2)

run_with_link(watch)
"""


def still_runs_after(seconds: float, process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def all_staged(cluster: LocalCluster) -> int:
    return sum(staged_bytes(cluster, index) for index in numbers(cluster))


def test_a_put_and_a_get_go_on_when_a_broker_is_back_after_a_long_time(
    fragile_cluster: LocalCluster, owner: User, large_image: tuple[str, int]
) -> None:
    sha256, size = large_image
    content = random_bytes(2 * HALF)
    output = owner.folder / "got" / "out.bin"
    with owner.started("producer", "-", "--json") as put, held_in_mid_get(owner, sha256, output, size) as get:
        feed(put, content[:HALF])
        wait_staged(fragile_cluster, *numbers(fragile_cluster))
        fragile_cluster.kill_broker()
        get.send_signal(signal.SIGCONT)
        assert still_runs_after(22.0, put) and still_runs_after(0.0, get)
        fragile_cluster.start_broker()
        ended = [finish(put, content[HALF:]), finish(get)]
    assert [each.exit_code for each in ended] == [0, 0], ended
    for each in ended:
        assert "no broker is reached; waiting for up to 120 s" in each.stderr
        assert "a broker is reached again" in each.stderr
    assert ended[0].objects[0]["degraded"] is False
    assert sha256_of(output.read_bytes()) == sha256
    check_restored(owner, ended[0].objects[0], content)


@POSIX_ONLY
def test_clients_that_stood_still_for_long_have_their_next_answer_soon(cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    watching = [sys.executable, "-c", _WATCHING]
    checkout = str(ROOT)
    with ExitStack() as stack:
        put = stack.enter_context(owner.started("producer", "-", "--json"))
        watch = stack.enter_context(owner.started_as(watching, PYTHONPATH=checkout))
        answers = watch.stdout
        assert answers is not None
        os.set_blocking(answers.fileno(), False)
        feed(put, content[:HALF])
        wait_staged(cluster, *numbers(cluster))
        wait_until(lambda: bool(answers.read()), "an answer")
        for process in (put, watch):
            process.send_signal(signal.SIGSTOP)
        assert still_runs_after(31.0, put)
        before, _ = all_staged(cluster), answers.read()
        for process in (put, watch):
            process.send_signal(signal.SIGCONT)
        feed(put, content[HALF:])
        answered = b""

        def both_answered() -> bool:
            nonlocal answered
            answered += answers.read() or b""
            # The first answer may have been on its way when it was stopped, and the second asked for then.
            return answered.count(b"answered") > 2 and all_staged(cluster) > before

        wait_until(both_answered, "new answers", AWAKE)
        ended = finish(put)
    assert ended.exit_code == 0, ended
    assert ended.objects[0]["degraded"] is False
    check_restored(owner, ended.objects[0], content)
