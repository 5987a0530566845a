"""The clusters that these tests share: real processes, real CURVE, real disks.

Starting a cluster takes seconds, so all tests of one run share one, of six devices. Those that kill its devices or
damage its shares take it as `fragile_cluster`, which is made whole behind them. What is stored there stays, so every
test stores bytes of its own, and one that looks at all of a vault takes a `user` of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

import pytest

from cluster.local import LocalCluster
from common.vault.folder import VaultFolder
from tests.support.devices import revive
from tests.support.ports import own_base_port
from tests.support.programs import User

MakeUser = Callable[[str], User]
WIRE = os.environ.get("TESSERA_TESTED_WIRE", "lane")  # or curve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """A failed test shows what the broker and the devices said."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        clusters = {id(v): v for v in getattr(item, "funcargs", {}).values() if isinstance(v, LocalCluster)}
        for cluster in clusters.values():
            others = [f"broker-{number}" for number in range(2, cluster.broker_count + 1)]
            for name in ("broker", *others, *cluster.devices):
                report.sections.append((name, cluster.log_tail(name)))


def home_of(cluster: LocalCluster) -> Path:
    """TESSERA_HOME of the broker, and of the client that came with the cluster."""
    return Path(cluster.environment["TESSERA_HOME"])


@contextmanager
def running_cluster(
    directory: Path, workers: int, brokers: int = 1, *, wire: Optional[str] = None
) -> Iterator[LocalCluster]:
    """`wire`: what its messages travel on; left out, what WIRE says, so that all these tests run on either."""
    base_port = own_base_port(brokers)
    with LocalCluster(directory, workers=workers, base_port=base_port, brokers=brokers, wire=wire or WIRE) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Six devices, all of them well; for tests that do them no harm."""
    with running_cluster(tmp_path_factory.mktemp("six") / "cluster", 6) as running:
        _hold_the_steward(running)
        yield running


def _hold_the_steward(cluster: LocalCluster) -> None:
    """Have nothing mended: what a test damages or takes away is to be met as it is. Mending has tests of its own."""
    (home_of(cluster) / "config.toml").write_text('[broker]\nrepair_rate = "1"\n')
    cluster.kill_broker()
    cluster.start_broker()
    cluster.wait_registered(len(cluster.devices))


@pytest.fixture
def fragile_cluster(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The same six devices, for tests that kill some, or the broker: all run again afterwards."""
    yield cluster
    revive(cluster)


# The next two last for a module: six devices and a broker that only wait take a twenty-fifth of a processor.
@pytest.fixture(scope="module")
def _mending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("mending") / "cluster", 6) as running:
        (home_of(running) / "config.toml").write_text('[broker]\nrepair_after = "2s"\n')
        running.kill_broker()
        running.start_broker()
        running.wait_registered(len(running.devices))
        yield running


@pytest.fixture
def mending_cluster(_mending: LocalCluster) -> Iterator[LocalCluster]:
    """Six devices, and a steward that mends at once; all run again afterwards."""
    yield _mending
    revive(_mending)


@pytest.fixture(scope="module")
def _eight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("eight") / "cluster", 8) as running:
        yield running


@pytest.fixture
def eight_devices(_eight: LocalCluster) -> Iterator[LocalCluster]:
    """Eight devices, two more than an image has shares; all run again afterwards."""
    yield _eight
    revive(_eight)


@pytest.fixture
def owner(cluster: LocalCluster, tmp_path: Path) -> User:
    """The user whose vault came with the cluster; it holds what other tests stored, too."""
    return User(cluster.environment, tmp_path / "owner")


@pytest.fixture
def make_user(cluster: LocalCluster, tmp_path: Path) -> MakeUser:
    """Makes users with an admission and a vault of their own."""

    def make(name: str) -> User:
        home = f"{tmp_path.name}-{name}"
        return User(cluster.add_client(home, f"the passphrase of {name}"), tmp_path / name)

    return make


@pytest.fixture
def camera(cluster: LocalCluster, tmp_path: Path) -> User:
    """An admitted machine without a vault."""
    return User(cluster.add_client(f"{tmp_path.name}-camera", None), tmp_path / "camera")


@pytest.fixture
def user(cluster: LocalCluster, tmp_path: Path) -> User:
    """A user whose vault is empty, at the owner's machine: with its admission, which saves asking for another."""
    home = tmp_path / "home"
    shutil.copytree(home_of(cluster) / "client", home / "client")
    VaultFolder(home).create("the passphrase of user")
    environment = {
        **cluster.environment,
        "TESSERA_HOME": str(home),
        "TESSERA_PASSPHRASE": "the passphrase of user",
    }
    return User(environment, tmp_path / "user")
