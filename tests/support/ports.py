"""Ports for tests: those that run side by side (`pytest -n`) draw from ranges of their own.

A port that was found free is not yet taken, so of two that draw from one range both may begin with the same.
"""

from __future__ import annotations

import os
import re

from cluster.local import LocalCluster
from cluster.ports import SEARCHED, find_base_port

_MOST = 4  # ports that one draws beyond its base port, and that must not be the next range's either


def own_base_port(brokers: int = 1) -> int:
    """A base port from which on the ports of so many brokers are free, and nobody beside draws any of them."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:], os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    # A worker that ended is replaced by one with a number of its own.
    own = part(SEARCHED, int(worker) % int(workers), int(workers))
    return find_base_port(brokers, own[: -_MOST // 2])


def part(whole: range, number: int, count: int) -> range:
    size = len(whole) // count
    return whole[number * size : (number + 1) * size]


def broker_ports(cluster: LocalCluster) -> list[int]:
    """Those of a cluster's only broker: for clients, for workers, and for lanes where it has one."""
    lanes = re.findall(r"(\d+) \(lanes\)", (cluster.directory / "logs" / "broker.log").read_text())
    return [*cluster.ports, *map(int, lanes[-1:])]
