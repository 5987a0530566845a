"""Puts that were interrupted, killed, or lost their devices for a while, and are run again: they go on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.credit import CREDIT
from cluster.local import LocalCluster
from tests.support.devices import (
    MIB,
    held_shares,
    numbers,
    staged,
    staged_bytes,
    wait_lost,
    wait_nothing_staged,
)
from tests.support.programs import Ended, User, files_below, finish, random_bytes, sha256_of, wait_until
from tests.support.store_folder import ShareRecord

LARGE = 128 * MIB
SHARE = LARGE // 4
BLOCKS = 6 * -(-LARGE // (4 * MIB - 16))  # of all shares, of 1 MiB but for the last of each; percents are of these
ROUNDING = 1  # percent: what is said is a whole number, and files have headers
UNDER_WAY = 100 * CREDIT / MIB / BLOCKS  # percent: the most that one client may have sent unacknowledged
TORN = 100 * 6 / BLOCKS  # percent: a block on each device that was being written when that was killed
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class LargePut:
    """The same large file, stored again and again until it is stored."""

    def __init__(self, cluster: LocalCluster, owner: User) -> None:
        self.cluster, self.owner = cluster, owner
        self.path = owner.folder / "large.raw"
        self.path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
        self.sha256 = sha256_of(self.path.read_bytes())
        self._before = held_shares(cluster)

    def wait_middle(self, size: int = 6 * MIB) -> None:
        """Return once each device has so many bytes, and the put is not done."""
        devices = numbers(self.cluster)
        wait_until(lambda: all(staged_bytes(self.cluster, index) >= size for index in devices), "the middle of a put")

    def break_off(self, number: signal.Signals, size: int = 6 * MIB) -> Ended:
        with self.owner.started("producer", str(self.path), "--json") as process:
            self.wait_middle(size)
            process.send_signal(number)
            ended = finish(process)
        assert ended.exit_code in (130, -signal.SIGKILL), ended
        return ended

    def finish(self) -> Ended:
        ended = self.owner.run("producer", str(self.path), "--json")
        assert ended.exit_code == 0, ended
        (stored,) = ended.objects
        assert stored["sha256"] == self.sha256
        return ended

    def encodings(self) -> set[str]:
        return {record.encoding for record in held_shares(self.cluster) - self._before}

    @property
    def journals(self) -> list[Path]:
        return files_below(self.owner.home / "vault" / "journal")

    def check_stored(self, ended: Ended, *, degraded: bool = False) -> None:
        """It is stored once, nothing is left behind, and it comes back."""
        assert ended.objects[0]["degraded"] is degraded
        assert len(self.encodings()) == 1
        assert self.journals == []
        out = self.owner.folder / "out"
        assert self.owner.restore(self.sha256, output=out).exit_code == 0
        assert sha256_of(out.read_bytes()) == self.sha256
        out.unlink()


@pytest.fixture
def put(fragile_cluster: LocalCluster, owner: User) -> Iterator[LargePut]:
    large = LargePut(fragile_cluster, owner)
    yield large
    large.path.unlink()


def staged_percent(cluster: LocalCluster) -> float:
    """How much of a large put the devices have."""
    return 100 * sum(staged_bytes(cluster, index) for index in numbers(cluster)) / MIB / BLOCKS


def percent(ended: Ended) -> int:
    """Where a put said that it goes on."""
    (line,) = (line for line in ended.stderr.splitlines() if "goes on at" in line)
    return int(line.split("goes on at ")[1].split()[0])


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_put_that_was_broken_off_goes_on_where_it_stopped(put: LargePut, number: signal.Signals) -> None:
    broken_off = put.break_off(number, size=SHARE // 3)
    if number != signal.SIGKILL:
        assert f"{put.path}: interrupted; run the same command again to go on where it stopped" in broken_off.stderr
        assert broken_off.stderr.splitlines()[-1] == "producer: interrupted"
    assert "Traceback" not in broken_off.stderr
    had = staged_percent(put.cluster)
    (begun,) = {path.name.split(".")[0] for path in staged(put.cluster)}
    ended = put.finish()
    assert had >= 30
    # What the producer had under way when it ended may still arrive, after it was looked what is there.
    assert had - ROUNDING <= percent(ended) <= had + UNDER_WAY + ROUNDING
    assert put.encodings() == {begun}
    put.check_stored(ended)


@POSIX_ONLY
def test_it_goes_on_when_the_devices_and_the_broker_were_killed_too(put: LargePut) -> None:
    put.break_off(signal.SIGKILL, size=SHARE // 3)
    put.cluster.kill_broker()
    for index in numbers(put.cluster):
        put.cluster.kill_device(index)
    had = staged_percent(put.cluster)  # nobody is left who could add to it
    put.cluster.start_broker()
    for index in numbers(put.cluster):
        put.cluster.start_device(index)
    put.cluster.wait_registered(len(put.cluster.devices))
    ended = put.finish()
    assert had >= 30
    assert had - TORN - ROUNDING <= percent(ended) <= had + ROUNDING
    put.check_stored(ended)


@POSIX_ONLY
def test_killed_again_and_again_at_any_moment_it_ends_stored_once(put: LargePut) -> None:
    rng = random.Random(4)  # noqa: S311 - when to kill it
    for _ in range(6):
        with put.owner.started("producer", str(put.path)) as process:
            wait_begun(process, put.cluster)
            time.sleep(rng.uniform(0, 0.4))  # not for anything to happen: the moment is what varies
            process.kill()
            process.wait()
    ended = put.finish()
    if not ended.objects[0]["already_stored"]:
        put.check_stored(ended)
    assert len(put.encodings()) == 1


def wait_begun(process: subprocess.Popen[bytes], cluster: LocalCluster) -> None:
    wait_until(lambda: process.poll() is not None or bool(staged(cluster)), "the beginning of a put")


@POSIX_ONLY
def test_a_device_that_is_gone_meanwhile_costs_its_share_only(put: LargePut) -> None:
    put.break_off(signal.SIGKILL)
    put.cluster.kill_device(2)
    ended = put.finish()
    assert percent(ended) > 0
    put.check_stored(ended, degraded=True)


@POSIX_ONLY
def test_where_too_much_is_gone_it_begins_anew(put: LargePut) -> None:
    put.break_off(signal.SIGKILL)
    for index in (2, 5):
        put.cluster.kill_device(index)
    wait_lost(put.cluster, 2, 5)
    ended = put.finish()
    assert "too few of its devices are here with what was sent before; it is stored from its beginning" in ended.stderr
    assert (ended.objects[0]["k"], ended.objects[0]["n"]) == (2, 4)
    put.check_stored(ended)


@POSIX_ONLY
def test_a_file_that_changed_begins_anew_and_leaves_nothing_of_the_old(put: LargePut) -> None:
    put.break_off(signal.SIGKILL)
    with put.path.open("r+b") as file:
        file.write(b"changed")
    put.sha256 = sha256_of(put.path.read_bytes())
    ended = put.finish()
    assert "the file changed since it was interrupted; it is stored from its beginning" in ended.stderr
    put.check_stored(ended)
    wait_nothing_staged(put.cluster)


@POSIX_ONLY
def test_a_folder_goes_on_at_the_image(fragile_cluster: LocalCluster, user: User) -> None:
    """Killed in the middle, and run again: each image is stored once."""
    before, size = held_shares(fragile_cluster), bytes_of_packs(fragile_cluster)
    folder = user.folder / "in"
    folder.mkdir()
    contents = {str(number): random_bytes(400_000 + number) for number in range(150)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with user.started("producer", "in", "--json") as process:
        # Looked at quickly: what reads the packs takes as long as all the images do.
        wait_until(lambda: bytes_of_packs(fragile_cluster) > size + 20 * 400_000, "some images")
        process.kill()
        process.wait()
    first = complete_encodings(fragile_cluster, before)
    assert 0 < len(first) < 150, "it was not killed in the middle"
    again = user.store("in")
    assert len(again) == 150
    stored = complete_encodings(fragile_cluster, before)
    assert first <= stored
    assert len(stored) == 150
    assert sum(each["already_stored"] for each in again) >= len(first)
    assert user.run("consumer", "--all", "--output", "out").exit_code == 0
    assert {path.name: path.read_bytes() for path in files_below(user.folder / "out")} == contents


def bytes_of_packs(cluster: LocalCluster) -> int:
    packs = [path for name in cluster.devices for path in (cluster.directory / name / "packs").iterdir()]
    return sum(path.stat().st_size for path in packs)


def complete_encodings(cluster: LocalCluster, before: set[ShareRecord]) -> set[str]:
    """Encodings that count as stored: with at least five of their six shares."""
    shares = Counter(record.encoding for record in held_shares(cluster) - before)
    return {encoding for encoding, count in shares.items() if count >= 5}
