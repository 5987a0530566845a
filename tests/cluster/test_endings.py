"""Broker and worker that are asked to end (SIGTERM): they end soon, free what they hold, and leave no damage."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Optional

import pytest

from cluster.local import LocalCluster
from common.files import lock
from tests.support.devices import MIB, number_of, numbers, wait_lost, wait_staged
from tests.support.programs import User, feed, finish, random_bytes, sha256_of, wait_until

HALF = 12 * MIB
SOON = 4.5  # seconds: before the cluster's own end, or a service manager's, is out of patience and kills it
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
    pytest.mark.real_starts,
]


def seconds_to_end(cluster: LocalCluster, index: int) -> float:
    """Ask a device (or the broker, 0) to end, and wait until it has."""

    def pid() -> Optional[int]:
        return cluster.device_pid(index) if index else cluster.broker_pid()

    process = pid()
    assert process is not None
    started = time.monotonic()
    os.kill(process, signal.SIGTERM)
    wait_until(lambda: pid() is None, "the end")
    return time.monotonic() - started


def test_a_worker_in_mid_put_ends_soon_and_leaves_a_store_that_is_whole(
    fragile_cluster: LocalCluster, owner: User
) -> None:
    before = owner.store_bytes(random_bytes(50_000))
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, *numbers(fragile_cluster))
        assert seconds_to_end(fragile_cluster, 3) < SOON
        store = fragile_cluster.directory / "device-3"
        lock(store / "store.lock").close()
        assert "Traceback" not in fragile_cluster.log_tail("device-3")
        fragile_cluster.start_device(3)
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    fragile_cluster.wait_registered(6)
    assert owner.restore(sha256_of(content), output=owner.folder / "out").exit_code == 0
    for index in (1, 2):  # so that the third device's share is needed
        fragile_cluster.kill_device(index)
    restored = owner.restore(before["sha256"], output=owner.folder / "before")
    assert restored.exit_code == 0, restored
    assert "damaged" not in restored.stderr


def test_the_broker_in_mid_put_ends_soon_and_costs_nothing(fragile_cluster: LocalCluster, owner: User) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process:
        feed(process, content[:HALF])
        wait_staged(fragile_cluster, *numbers(fragile_cluster))
        assert seconds_to_end(fragile_cluster, 0) < SOON
        lock(owner.home / "broker" / "broker.lock").close()
        assert "Traceback" not in fragile_cluster.log_tail("broker")
        fragile_cluster.start_broker()
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    assert ended.objects[0]["degraded"] is False
    restored = owner.restore(sha256_of(content), output=owner.folder / "out")
    assert restored.exit_code == 0, restored


@pytest.mark.parametrize("count", [1, 6])
def test_workers_at_rest_end_soon_and_start_again_with_all_they_held(
    fragile_cluster: LocalCluster, owner: User, count: int
) -> None:
    stored = owner.store_bytes(random_bytes(50_000))
    victims = [number_of(fragile_cluster, name) for name in stored["devices"]][:count]
    for index in victims:
        assert seconds_to_end(fragile_cluster, index) < SOON
    wait_lost(fragile_cluster, *victims)
    for index in victims:
        fragile_cluster.start_device(index)
    fragile_cluster.wait_registered(6)
    restored = owner.restore(stored["sha256"], output=owner.folder / "out")
    assert restored.exit_code == 0, restored
    assert restored.stderr == ""
