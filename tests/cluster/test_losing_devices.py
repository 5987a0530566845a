"""Any n-k of the devices may be lost, and nothing is; with one share too few, that is said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.support.devices import number_of, numbers, wait_lost
from tests.support.programs import User, files_below, random_bytes, sha256_of

PAIRS = list(combinations(range(1, 7), 2))
TRIPLES = [(1, 2, 3), (2, 4, 6)]
LIMIT = 19.0  # seconds in which too few shares are to be said: less than a question to a single device may wait


@pytest.fixture(scope="module")
def images(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two images of the owner by SHA-256, of one segment and of three, each with a share on all six devices."""
    owner = User(cluster.environment, tmp_path_factory.mktemp("images"))
    contents = [random_bytes(50_000), random_bytes(9 << 20)]
    for content in contents:
        assert sorted(owner.store_bytes(content)["devices"]) == cluster.devices
    return {sha256_of(content): content for content in contents}


@pytest.fixture
def without(fragile_cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[tuple[int, ...]]:
    """Some devices killed, just now."""
    for index in request.param:
        fragile_cluster.kill_device(index)
    yield request.param


@pytest.mark.parametrize("without", PAIRS, indirect=True)
def test_any_two_of_six_devices_may_be_lost(images: dict[str, bytes], owner: User, without: tuple[int, ...]) -> None:
    ended = owner.restore(*images, output=owner.folder / "out")
    assert ended.exit_code == 0, ended
    restored = [path.read_bytes() for path in files_below(owner.folder / "out")]
    assert sorted(map(sha256_of, restored)) == sorted(images)


@pytest.mark.parametrize("without", TRIPLES, indirect=True)
def test_one_share_too_few_is_said_in_time_with_both_numbers(
    images: dict[str, bytes], owner: User, without: tuple[int, ...]
) -> None:
    for sha256 in images:
        output = owner.folder / "out" / "image"
        output.parent.mkdir(exist_ok=True)
        ended = owner.restore(sha256, output=output)
        assert ended.exit_code == 5, ended
        assert ended.seconds < LIMIT
        # The second, where the broker had not noticed yet that they are gone, and they did not answer.
        said = (
            "3 of its shares are at hand and 4 are needed",
            "3 good blocks of segment 0 are to be had; 4 are needed",
        )
        assert any(each in ended.stderr for each in said), ended
        assert files_below(output.parent) == []


def test_who_is_missing_is_named(images: dict[str, bytes], owner: User, fragile_cluster: LocalCluster) -> None:
    for index in (2, 3, 5):
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, 2, 3, 5)
    ended = owner.restore(next(iter(images)), output=owner.folder / "out")
    assert "device-2, device-3, device-5" in ended.stderr
    listed = {image["sha256"]: image["restorable"] for image in owner.listed()}
    assert [listed[sha256] for sha256 in images] == [False, False]


def test_a_device_that_comes_back_brings_its_shares(
    images: dict[str, bytes], owner: User, fragile_cluster: LocalCluster
) -> None:
    for index in (1, 2, 3):
        fragile_cluster.kill_device(index)
    sha256 = next(iter(images))
    assert owner.restore(sha256, output=owner.folder / "out").exit_code == 5
    wait_lost(fragile_cluster, 1, 2, 3)
    fragile_cluster.start_device(2)
    fragile_cluster.wait_registered(4)
    assert owner.restore(sha256, output=owner.folder / "out").exit_code == 0
    assert (owner.folder / "out").read_bytes() == images[sha256]


def test_devices_stopped_and_cluster_started_again_still_hold_everything(
    images: dict[str, bytes], owner: User, fragile_cluster: LocalCluster
) -> None:
    fragile_cluster.stop()
    fragile_cluster.start()
    assert owner.restore(*images, output=owner.folder / "out").exit_code == 0
    assert sorted(sha256_of(path.read_bytes()) for path in files_below(owner.folder / "out")) == sorted(images)


def test_the_devices_named_are_those_that_hold_the_shares(owner: User, fragile_cluster: LocalCluster) -> None:
    content = random_bytes(5000)
    stored = owner.store_bytes(content, "-k", "2", "-n", "3")
    holders = {number_of(fragile_cluster, name) for name in stored["devices"]}
    for index in set(numbers(fragile_cluster)) - holders:
        fragile_cluster.kill_device(index)
    fragile_cluster.kill_device(min(holders))
    out = owner.folder / "out"
    assert owner.restore(stored["sha256"], output=out).exit_code == 0
    assert out.read_bytes() == content


def test_two_devices_are_too_few_unless_asked_for(owner: User, fragile_cluster: LocalCluster) -> None:
    for index in (1, 2, 3, 4):
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, 1, 2, 3, 4)
    path = owner.folder / "image.bin"
    path.write_bytes(random_bytes(1000))
    refused = owner.run("producer", str(path))
    assert refused.exit_code == 5, refused
    assert "2 of at least 3 devices" in refused.stderr
    assert "-k 2 -n 2" in refused.stderr
    asked = owner.run("producer", "-k", "2", "-n", "2", "--json", str(path))
    assert asked.exit_code == 0, asked
    assert "warning" in asked.stderr
    assert "the loss of a single device loses" in asked.stderr
    out = owner.folder / "out"
    assert owner.restore(asked.objects[0]["sha256"], output=out).exit_code == 0
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("alive", "expected"), [(3, (2, 3)), (4, (2, 4)), (5, (3, 5))])
def test_k_and_n_follow_from_how_many_devices_are_alive(
    owner: User, fragile_cluster: LocalCluster, alive: int, expected: tuple[int, int]
) -> None:
    lost = range(alive + 1, 7)
    for index in lost:
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, *lost)
    stored = owner.store_bytes(random_bytes(1000))
    assert (stored["k"], stored["n"]) == expected
    assert stored["degraded"] is False


def test_an_image_lost_below_k_can_be_stored_again(owner: User, fragile_cluster: LocalCluster, tmp_path: Path) -> None:
    content = random_bytes(3000)
    first = owner.store_bytes(content)
    lost = [number_of(fragile_cluster, name) for name in first["devices"][:3]]
    for index in lost:
        fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, *lost)  # before, the image counts as stored
    (again,) = owner.store(first["path"])
    assert again["already_stored"] is False
    assert owner.restore(first["sha256"], output=tmp_path / "out").exit_code == 0
    assert (tmp_path / "out").read_bytes() == content
