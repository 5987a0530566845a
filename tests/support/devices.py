"""The devices of a test's cluster: ended, brought back, and the shares on their disks found, awaited and damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.local import LocalCluster
from common.errors import TesseraError
from tests.support.programs import wait_until

MIB = 1 << 20


@dataclass(frozen=True)
class ShareFile:
    """A committed share's file on a device."""

    device: str
    path: Path

    @property
    def encoding(self) -> str:
        """The encoding id in hex."""
        return self.path.name.split(".")[0]

    @property
    def share(self) -> int:
        return int(self.path.name.split(".")[1], 16)


def share_files(cluster: LocalCluster) -> set[ShareFile]:
    """All committed shares of all devices."""
    return {
        ShareFile(name, path)
        for name in cluster.devices
        for path in (cluster.directory / name / "shares").glob("*/*/*")
    }


def staged(cluster: LocalCluster) -> list[Path]:
    """The files of shares that are being stored."""
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
