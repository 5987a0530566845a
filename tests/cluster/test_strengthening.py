"""A cluster that grew: what was stored on few devices gets the strength of today's, whatever happens meanwhile.

A cluster of its own, of six devices: of these three are there while images are stored, and all when they are made
stronger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests import ROOT
from tests.cluster.conftest import running_cluster
from tests.support.devices import MIB, held_shares, revive, wait_lost
from tests.support.programs import Ended, User, files_below, finish, random_bytes, sha256_of, wait_until

PHOTOGRAPH = ROOT / "samples" / "rocket.jpg"


@pytest.fixture(scope="module")
def _growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("growing") / "cluster", 6) as running:
        for index, name in enumerate(running.devices, start=1):  # with a hold the old shares stay for that long
            (running.directory / name / "config.toml").write_text('[worker]\nhold = "0"\n')
            running.kill_device(index)
        revive(running)
        yield running


@pytest.fixture
def grown(_growing: LocalCluster) -> Iterator[LocalCluster]:
    yield _growing
    revive(_growing)


class Family:
    """Two people with vaults of their own; what the first stores is there before the cluster grows."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.ann = self._person("ann", folder)
        self.ben = self._person("ben", folder)

    def _person(self, name: str, folder: Path) -> User:
        return User(self.cluster.add_client(f"{folder.name}-{name}", f"the passphrase of {name}"), folder / name)

    def store_on_three(self, *contents: bytes) -> list[str]:
        """Store files, and the photograph, as 2 of 3; their SHA-256."""
        for index in (4, 5, 6):
            self.cluster.kill_device(index)
        wait_lost(self.cluster, 4, 5, 6)
        for content in contents:
            (self.ann.folder / sha256_of(content)[:16]).write_bytes(content)
        stored = self.ann.store(str(PHOTOGRAPH), str(self.ann.folder))
        assert {(image["k"], image["n"]) for image in stored} == {(2, 3)}
        revive(self.cluster)
        return [image["sha256"] for image in stored]

    def share_with_ben(self, sha256: str) -> None:
        (card,) = self.ben.run("admin", "contacts", "card").lines
        assert self.ann.run("admin", "contacts", "add", "ben", card).exit_code == 0
        assert self.ann.run("admin", "share", "--hash", sha256, "--with", "ben").exit_code == 0

    def strengthen(self) -> Ended:
        return self.ann.run("admin", "strengthen", "--all")

    def verified(self) -> list[tuple[int, int, str, bool]]:
        ended = self.ann.run("admin", "verify", "--all", "--json")
        return [(v["k"], v["n"], v["state"], v["could_be_stronger"]) for v in ended.objects]


@pytest.fixture
def family(grown: LocalCluster, tmp_path: Path) -> Family:
    return Family(grown, tmp_path)


def restored_by(user: User, name: str) -> set[str]:
    folder = user.folder / name
    ended = user.run("consumer", "--all", "--output", str(folder))
    assert ended.exit_code == 0, ended
    return {sha256_of(path.read_bytes()) for path in files_below(folder)}


def stored_bytes(cluster: LocalCluster) -> int:
    """All that lies on the devices' disks of shares, given up or not."""
    folders = [cluster.directory / name / kind for name in cluster.devices for kind in ("packs", "shares")]
    return sum(_size(path) for folder in folders for path in files_below(folder))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was moved meanwhile
        return 0


def weak(family: Family) -> int:
    ended = family.ann.run("admin", "status", "--json")
    return int(json.loads(ended.stdout)["objects"]["could_be_stronger"])


def test_what_was_stored_on_three_devices_bears_the_loss_of_two_of_six(
    family: Family,
) -> None:
    contents = [b"", random_bytes(50_000), random_bytes(9 * MIB)]
    stored = family.store_on_three(*contents)
    family.share_with_ben(stored[0])
    before = family.ann.listed()
    assert {v[3] for v in family.verified()} == {True}
    assert weak(family) == len(stored)
    assert f"{len(stored)} could be stronger" in family.ann.run("admin", "status").stdout.decode()
    assert f"{len(stored)} could be stronger" in family.ann.run("admin", "verify", "--all").stdout.decode()

    ended = family.strengthen()
    assert ended.exit_code == 0, ended
    assert sorted(line[:64] for line in ended.lines) == sorted(stored)
    assert all("now 4 of 6, was 2 of 3" in line for line in ended.lines)
    assert family.verified() == [(4, 6, "whole", False)] * len(stored)
    assert weak(family) == 0
    assert family.ann.listed() == before, "name, size, pixels and date are as they were"
    assert family.strengthen().lines[0].startswith(f"{len(stored)} images: none could be stronger")

    for index in (1, 2):  # which had a share each of every image before
        family.cluster.kill_device(index)
    wait_lost(family.cluster, 1, 2)
    assert restored_by(family.ann, "out") == set(stored)
    assert restored_by(family.ben, "out") == {stored[0]}, "what was shared still is"


def test_a_run_that_is_killed_loses_nothing_and_another_goes_on(family: Family) -> None:
    contents = [random_bytes(3 * MIB + number) for number in range(6)] + [random_bytes(40 * MIB)]
    stored = family.store_on_three(*contents)
    for signals in range(3):
        with family.ann.started("admin", "strengthen", "--all") as process:
            assert process.stdout is not None
            for _ in range(signals):  # the first is killed at its start, the others amid the images
                process.stdout.readline()
            process.kill()
            finish(process)
        assert restored_by(family.ann, f"after {signals}") == set(stored)
    ended = family.strengthen()
    assert ended.exit_code == 0, ended
    assert family.verified() == [(4, 6, "whole", False)] * len(stored)
    assert restored_by(family.ann, "in the end") == set(stored)


def test_the_old_shares_take_no_room_afterwards_and_go_from_devices_that_were_away(family: Family) -> None:
    before = stored_bytes(family.cluster), held_shares(family.cluster)
    (photograph, big) = family.store_on_three(random_bytes(20 * MIB))
    taken = stored_bytes(family.cluster) - before[0]
    family.cluster.kill_device(1)
    wait_lost(family.cluster, 1)
    ended = family.strengthen()
    assert ended.exit_code == 0, ended
    assert "device-1: not connected; the old shares there go" in ended.stderr
    assert family.verified() == [(3, 5, "whole", False)] * 2
    revive(family.cluster)

    def gone() -> bool:
        return stored_bytes(family.cluster) - before[0] < taken * 1.2  # 1.67 in place of 1.5 times the bytes

    wait_until(gone, "the old shares to leave the disk of the device that was away")
    assert len(held_shares(family.cluster) - before[1]) == 2 * 5
    assert restored_by(family.ann, "out") == {photograph, big}
