"""The devices of a test's cluster: ended, brought back, and the shares on their disks found, awaited and damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from cluster.local import LocalCluster
from common.errors import TesseraError
from tests.support.programs import wait_until
from tests.support.store_folder import ShareRecord, held_in

MIB = 1 << 20


def held_shares(cluster: LocalCluster) -> set[ShareRecord]:
    """All that the devices hold, and have not found to be damaged."""
    return {record for name in cluster.devices for record in held_in(cluster.directory / name)}


def staged(cluster: LocalCluster) -> list[Path]:
    """The files of large shares that are being stored; small ones are in their workers' memory."""
    return [path for name in cluster.devices for path in (cluster.directory / name / "staging").iterdir()]


def staging_begins(cluster: LocalCluster) -> Callable[[], bool]:
    """What tells, from now on, whether a share is being stored that was not yet being stored now."""
    before = set(staged(cluster))
    return lambda: not before.issuperset(staged(cluster))


def staged_bytes(cluster: LocalCluster, index: int) -> int:
    """What a device has of shares that are being stored."""
    sizes = []
    for path in (cluster.directory / f"device-{index}" / "staging").iterdir():
        with contextlib.suppress(FileNotFoundError):  # committed or given up meanwhile
            sizes.append(path.stat().st_size)
    return sum(sizes)


def wait_staged(cluster: LocalCluster, *indices: int, size: int = MIB) -> None:
    """Return once each of these devices has so many bytes of a share that is being stored."""
    wait_until(
        lambda: all(staged_bytes(cluster, index) >= size for index in indices),
        f"blocks on the devices {indices}",
    )


def wait_nothing_staged(cluster: LocalCluster) -> None:
    wait_until(lambda: not staged(cluster), "empty staging folders")


def numbers(cluster: LocalCluster) -> range:
    """The devices' numbers, from 1."""
    return range(1, len(cluster.devices) + 1)


def number_of(cluster: LocalCluster, name: str) -> int:
    return cluster.devices.index(name) + 1


def wait_lost(cluster: LocalCluster, *indices: int) -> None:
    """Return once the broker has noticed that these devices are gone."""
    names = {cluster.devices[index - 1] for index in indices}

    def lost() -> bool:
        try:
            return not names & cluster.alive()
        except TesseraError:  # the broker did not answer in time; it is asked again
            return False

    wait_until(lost, f"the loss of {names}")


def restart(cluster: LocalCluster, *indices: int) -> None:
    """Kill devices and start them again; returns once they are registered."""
    for index in indices:
        cluster.kill_device(index)
    revive(cluster)


def revive(cluster: LocalCluster) -> None:
    """Start whatever of the cluster does not run, and return once all devices are registered.

    What a producer that was killed has left half-stored would be kept for a day: the next test begins without it.
    """
    for index in numbers(cluster):
        if staged_bytes(cluster, index):
            cluster.kill_device(index)
            for path in (cluster.directory / f"device-{index}" / "staging").iterdir():
                path.unlink(missing_ok=True)
    for broker in range(1, cluster.broker_count + 1):
        if cluster.broker_pid(broker) is None:
            cluster.start_broker(broker)
    dead = [index for index in numbers(cluster) if cluster.device_pid(index) is None]
    if dead:
        wait_lost(cluster, *dead)  # before, a device that is alive may be the one that was
    for index in dead:
        cluster.start_device(index)
    cluster.wait_registered(len(cluster.devices))
