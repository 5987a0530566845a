"""Wherever parity is made, the same comes out, with devices lost while it is stored and after."""

from __future__ import annotations

import pytest

from cluster.local import LocalCluster
from tests.support.devices import number_of, numbers, staged_bytes
from tests.support.programs import User, feed, finish, random_bytes, sha256_of, wait_until

LARGE = 40_000_000  # bytes


@pytest.mark.parametrize("code_at", ["client", "broker"])
@pytest.mark.parametrize(("k", "n"), [(2, 3), (4, 6), (5, 6)])
def test_what_is_coded_at_either_end_restores_without_the_devices_that_it_may_lose(
    fragile_cluster: LocalCluster, user: User, code_at: str, k: int, n: int
) -> None:
    """Of 5 of 6 a full segment is too large for one message, and only the last may be coded at the broker."""
    content = random_bytes(11_000_000)
    stored = user.store_bytes(content, "--code", code_at, "-k", str(k), "-n", str(n))
    for name in stored["devices"][: n - k]:
        fragile_cluster.kill_device(number_of(fragile_cluster, name))
    out = user.folder / "out"
    assert user.restore(sha256_of(content), output=out).exit_code == 0
    assert out.read_bytes() == content


@pytest.mark.parametrize("code_at", ["client", "broker"])
def test_a_device_that_dies_in_the_middle_costs_its_share_only(
    fragile_cluster: LocalCluster, user: User, code_at: str
) -> None:
    content = random_bytes(LARGE)
    with user.started("producer", "--code", code_at, "-k", "3", "-n", "5", "-") as process:
        feed(process, content[: LARGE // 2])
        wait_until(lambda: any(staged_bytes(fragile_cluster, index) for index in numbers(fragile_cluster)), "blocks")
        holder = next(index for index in numbers(fragile_cluster) if staged_bytes(fragile_cluster, index))
        fragile_cluster.kill_device(holder)
        ended = finish(process, content[LARGE // 2 :])
    assert ended.exit_code == 0, ended
    assert "DEGRADED" not in ended.stderr
    out = user.folder / "out"
    assert user.restore(sha256_of(content), output=out).exit_code == 0
    assert out.read_bytes() == content
