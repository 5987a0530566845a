"""The broker's disk is lost and no copy of it is left: a new broker, everybody joins anew, every image is back."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of, running_cluster
from tests.support.programs import User, random_bytes

pytestmark = pytest.mark.real_starts  # devices are known again by the variables that they were started with
SIZES = (0, 5, 60_000, 3 << 20)  # bytes; small ones go in a batch, the last one as a stream


@pytest.fixture
def bereft(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three devices whose broker is another one since its folder was lost."""
    with running_cluster(tmp_path / "cluster", 3) as running:
        yield running


def lose_the_broker(cluster: LocalCluster) -> None:
    """Another broker at the same ports, which knows nobody; the devices are stopped, as nobody lets them in."""
    cluster.kill_broker()
    for index in range(1, len(cluster.devices) + 1):
        cluster.stop_device(index)
    shutil.rmtree(home_of(cluster) / "broker")
    cluster.start_broker()


def join_anew(cluster: LocalCluster, index: int) -> None:
    """Start a device with an invite of the broker that is there now."""
    cluster.start_device(index, "--name", f"device-{index}", "--new-cluster", "--join", cluster.invite("worker"))


def test_after_the_brokers_disk_was_lost_all_join_anew_and_every_image_is_back(
    bereft: LocalCluster, tmp_path: Path
) -> None:
    user = User(bereft.environment, tmp_path / "user")
    (tmp_path / "images").mkdir()
    images = {}
    for size in SIZES:
        path = tmp_path / "images" / f"{size}.bin"
        path.write_bytes(random_bytes(size))
        images[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    assert user.run("producer", "--allow-empty", str(tmp_path / "images")).exit_code == 0
    keys = {name: (bereft.directory / name / "device.key").read_bytes() for name in bereft.devices}
    vault_key = (home_of(bereft) / "vault" / "vault.key").read_bytes()

    lose_the_broker(bereft)
    for index in range(1, len(bereft.devices) + 1):
        join_anew(bereft, index)
    joined = user.run("admin", "join", "--new-cluster", bereft.invite("admin"))
    assert joined.exit_code == 0, joined
    bereft.wait_registered(len(bereft.devices))

    assert keys == {name: (bereft.directory / name / "device.key").read_bytes() for name in bereft.devices}
    assert vault_key == (home_of(bereft) / "vault" / "vault.key").read_bytes()
    for sha256, path in images.items():
        out = tmp_path / f"{sha256}.out"
        assert user.run("consumer", "--hash", sha256, "--output", str(out)).exit_code == 0
        assert out.read_bytes() == path.read_bytes()
    verified = user.run("admin", "verify", "--all", "--deep")
    assert verified.exit_code == 0, verified

    # They are of this cluster from now on: started again without a word of it, and strangers to nobody.
    for index in range(1, len(bereft.devices) + 1):
        bereft.stop_device(index)
        bereft.start_device(index)
    bereft.wait_registered(len(bereft.devices))


def test_who_is_told_of_another_cluster_joins_it_only_where_that_is_said(bereft: LocalCluster, tmp_path: Path) -> None:
    user = User(bereft.environment, tmp_path / "user")
    lose_the_broker(bereft)
    store = bereft.directory / "device-1"
    kept = (store / "brokers.json").read_bytes()
    for ended in (
        user.run("worker", "--store", str(store), "--join", bereft.invite("worker")),
        user.run("admin", "join", bereft.invite("admin")),
    ):
        assert ended.exit_code == 2, ended
        assert "--new-cluster" in ended.stderr
    # An invite that is refused leaves what was known as it was.
    invite = bereft.invite("worker")
    key = bereft.run("broker", "invites", environment=bereft.broker_environment(1)).stdout.split()[-1]
    withdrawn = bereft.run("broker", "invites", "withdraw", key, environment=bereft.broker_environment(1))
    assert withdrawn.returncode == 0, withdrawn
    refused = user.run("worker", "--store", str(store), "--new-cluster", "--join", invite)
    assert refused.exit_code == 6, refused
    assert (store / "brokers.json").read_bytes() == kept
    alone = user.run("worker", "--store", str(store), "--new-cluster")
    assert alone.exit_code == 2, alone
    assert "--join" in alone.stderr
