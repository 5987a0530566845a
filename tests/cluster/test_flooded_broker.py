"""A broker that strangers leave no descriptor: it waits, goes on, and serves whoever comes when one is free."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of
from tests.support.programs import User, random_bytes

if sys.platform != "linux":
    pytest.skip("limits another process as only Linux lets one", allow_module_level=True)
import resource

SPARE = 24  # descriptors that the broker may still open
FLOOD = 300  # connections
FLOODED_FOR = 5.0  # seconds, more than twice what a handshake may take


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def few_descriptors(pid: int) -> Iterator[int]:
    """Let a process have few descriptors more than now, as long as the block lasts; the limit."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = open_files(pid) + SPARE
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield limit
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def flood(ports: Sequence[int], pid: int) -> int:
    """Connect to both ports and say nothing, anew wherever that was closed; the most files that the process had."""
    most, end = 0, time.monotonic() + FLOODED_FOR
    connections: dict[int, socket.socket] = {}
    poller = select.poll()
    while time.monotonic() < end:
        while len(connections) < FLOOD:
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", ports[len(connections) % 2]))
            connections[connection.fileno()] = connection
            poller.register(connection, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
        for descriptor, _ in poller.poll(50):
            poller.unregister(descriptor)
            connections.pop(descriptor).close()
        most = max(most, open_files(pid))
    for connection in connections.values():
        connection.close()
    return most


def lost(cluster: LocalCluster) -> dict[str, int]:
    """How often each device has lost the broker."""
    return {device: cluster.log_tail(device).count("lost the broker") for device in cluster.devices}


def test_strangers_that_take_all_descriptors_end_no_broker(fragile_cluster: LocalCluster, user: User) -> None:
    cluster = fragile_cluster
    pid = cluster.broker_pid()
    assert pid is not None
    members = home_of(cluster) / "broker" / "members.json"
    content = random_bytes(50_000)
    before = lost(cluster)
    with few_descriptors(pid) as limit:
        os.utime(members)  # to be read again meanwhile
        assert flood(cluster.ports, pid) == limit, "it had all that it may"
        stored = user.store_bytes(content)  # while it still has no more than that
    assert cluster.broker_pid() == pid, "it runs as before"
    assert lost(cluster) == before, "whoever was connected stayed so"
    assert user.restore(stored["sha256"], output=user.folder / "out").exit_code == 0
    assert (user.folder / "out").read_bytes() == content
