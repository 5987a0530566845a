"""On lanes and on CURVE alone, a cluster does the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import running_cluster
from tests.support.programs import User, files_below, random_bytes, sha256_of

PASSPHRASE = "as it happens"
SIZES = (0, 10_000, 500_000, 9_000_000)  # bytes


@pytest.fixture(scope="module", params=["lane", "curve"])
def wired(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("wires") / request.param, 6, wire=request.param) as cluster:
        log = (cluster.directory / "logs" / "broker.log").read_text()
        assert ("(lanes)" in log) == (request.param == "lane")
        yield cluster


def test_files_of_all_sizes_come_back_also_without_two_devices(wired: LocalCluster, tmp_path: Path) -> None:
    user = User(wired.add_client("somebody", PASSPHRASE), tmp_path)
    contents = [random_bytes(size) for size in SIZES]
    for content in contents:
        assert sorted(user.store_bytes(content)["devices"]) == wired.devices
    for index in (2, 5):
        wired.kill_device(index)
    ended = user.restore(*map(sha256_of, contents), output=tmp_path / "out")
    assert ended.exit_code == 0, ended
    restored = [path.read_bytes() for path in files_below(tmp_path / "out")]
    assert sorted(map(sha256_of, restored)) == sorted(map(sha256_of, contents))
