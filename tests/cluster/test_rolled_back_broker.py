"""An old copy of a broker's folder, put back or run beside the original, serves nobody until it is accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from cluster.local import LocalCluster, program_command
from cluster.ports import port_answers
from cluster.process import ClusterProcess
from common.membership.identity import ListMarks, load_key_pair, marks_beside
from tests.cluster.conftest import home_of, running_cluster
from tests.support.ports import own_base_port
from tests.support.programs import User, random_bytes, sha256_of, wait_until


@pytest.fixture
def rolled(tmp_path: Path) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path / "cluster", 3) as running:
        yield running


def operator(cluster: LocalCluster, *arguments: str) -> str:
    ended = cluster.run("broker", *arguments, environment=cluster.broker_environment(1), timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def mark_on(cluster: LocalCluster, device: str) -> Optional[bytes]:
    """What a device was told last of the broker's list of members."""
    key = load_key_pair(home_of(cluster) / "broker" / "broker.key").public
    return ListMarks(marks_beside(cluster.directory / device / "brokers.json")).of(key)


def refused(cluster: LocalCluster) -> str:
    """Run the broker until it ends by itself; what it says."""
    ended = cluster.run("broker", environment=cluster.broker_environment(1), timeout=60)
    assert ended.returncode == 6, ended.stderr
    return ended.stderr


def test_an_old_copy_of_the_brokers_folder_serves_nobody_until_it_is_accepted(
    rolled: LocalCluster, tmp_path: Path
) -> None:
    user = User(rolled.environment, tmp_path / "user")
    image = tmp_path / "image.bin"
    image.write_bytes(random_bytes(100_000))
    assert user.run("producer", str(image)).exit_code == 0
    camera = User(rolled.add_client("camera", None), tmp_path / "camera")
    name = next(line.split("\t")[0] for line in operator(rolled, "members").splitlines() if "\tclient\t" in line)
    folder, copy = home_of(rolled) / "broker", tmp_path / "copy"
    shutil.copytree(folder, copy)
    before = mark_on(rolled, "device-1")
    operator(rolled, "revoke", name)
    wait_until(lambda: mark_on(rolled, "device-1") not in (None, before), "a device that was told of the change")

    rolled.kill_broker()
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    for _ in range(2):  # by what a device knows, and then by what was noted of that
        said = refused(rolled)
        assert "newer list of members" in said
        assert "accept-members" in said
    assert name in operator(rolled, "members"), "the copy does not know that it was revoked"

    operator(rolled, "revoke", name)
    operator(rolled, "accept-members")
    rolled.start_broker()
    rolled.wait_registered(3)
    assert camera.run("admin", "status").exit_code == 6
    restored = tmp_path / "restored"
    assert user.run("consumer", "--hash", sha256_of(image.read_bytes()), "--output", str(restored)).exit_code == 0
    assert restored.read_bytes() == image.read_bytes()


def test_a_copy_of_a_broker_beside_the_original_is_found_out(rolled: LocalCluster, tmp_path: Path) -> None:
    client_port = own_base_port()
    beside = ClusterProcess("broker-beside", tmp_path)
    shutil.copytree(home_of(rolled) / "broker", beside.home / "broker")
    ports = [
        "--host",
        "127.0.0.1",
        "--client-port",
        str(client_port),
        "--worker-port",
        str(client_port + 1),
        "--lane-port",
        "0",
    ]
    beside.start(program_command("broker", *ports), {**rolled.environment, "TESSERA_HOME": str(beside.home)})
    try:
        wait_until(lambda: port_answers(client_port), "the copy")
        user = User(rolled.environment, tmp_path / "user")
        known = home_of(rolled) / "client" / "brokers.json"
        original = known.read_text()
        (entry,) = json.loads(original)
        known.write_text(json.dumps([{**entry, "client_port": client_port}]))
        assert user.run("admin", "status").exit_code == 0, "the copy lets in whom the original did"
        known.write_text(original)
        user.run("admin", "status")  # whom the copy told of its list: the original is not its copy's
        wait_until(lambda: rolled.broker_pid() is None, "the end of the original")
        assert "newer list of members" in rolled.log_tail()
    finally:
        beside.kill()
