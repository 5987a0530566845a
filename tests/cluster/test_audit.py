"""The audit log on real processes: who asked for what, in a chain that `audit verify` follows and a syslog has, too."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import home_of, running_cluster
from tests.cluster.test_admission import operator
from tests.cluster.test_sharing import admin, know
from tests.support.programs import User, random_bytes, wait_until

NEW = "another passphrase for the new key"


@pytest.fixture(scope="module")
def syslog() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(30)
        yield listening


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, syslog: socket.socket) -> Iterator[LocalCluster]:
    """Four devices, and a broker that records all that it can, and has a syslog."""
    with running_cluster(tmp_path_factory.mktemp("audited") / "cluster", 4) as running:
        place = f"127.0.0.1:{syslog.getsockname()[1]}"
        settings = f'[broker]\naudit_access = true\naudit_syslog = "{place}"\n'
        (home_of(running) / "config.toml").write_text(settings)
        running.kill_broker()
        running.start_broker()
        running.wait_registered(4)
        yield running


def entries(cluster: LocalCluster) -> list[dict[str, Any]]:
    path = home_of(cluster) / "broker" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(cluster: LocalCluster, name: str) -> set[str]:
    return {entry["event"] for entry in entries(cluster) if entry.get("by") == name}


def user_called(cluster: LocalCluster, name: str, folder: Path, role: str = "client") -> User:
    """With a machine of this name, and a vault."""
    folder = folder / name
    folder.mkdir()
    user = User({**cluster.environment, "TESSERA_HOME": str(folder / "home")}, folder)
    admin(user, "join", cluster.invite(role), "--name", name)
    admin(user, "vault", "create")
    return user


def test_what_machines_ask_is_in_the_log_with_their_names_and_the_chain_is_whole(
    audited: LocalCluster, syslog: socket.socket, tmp_path: Path
) -> None:
    alice, bob = user_called(audited, "alice", tmp_path), user_called(audited, "bob", tmp_path)
    carol = user_called(audited, "carol", tmp_path, "admin")
    admin(carol, "rebalance")
    admin(carol, "retire", "device-4")  # while it has nothing: of all that comes each device gets a share
    assert asked(audited, "carol") == {"retiring", "rebalancing"}
    assert [entry["device"] for entry in entries(audited) if entry["event"] == "retired"] == ["device-4"]
    sha256 = alice.store_bytes(random_bytes(3_000_000))["sha256"]
    small = alice.store_bytes(random_bytes(3000))["sha256"]
    know(alice, bob, "bob")
    admin(alice, "share", "--hash", sha256, "--with", "bob")
    assert "amend asked" in asked(audited, "alice")  # at once: before any device did it
    assert bob.restore(sha256, output=bob.folder / "copy").exit_code == 0
    admin(alice, "delete", "--yes", "--hash", small)
    admin(alice, "undelete", "--hash", small)
    backup = alice.folder / "backup.key"
    rotated = alice.run("admin", "vault", "rotate", "--yes", "--backup", str(backup), TESSERA_NEW_PASSPHRASE=NEW)
    assert rotated.exit_code == 0, rotated

    changes = {"amend asked", "delete asked", "undelete asked", "vault key replaced"}
    wait_until(lambda: asked(audited, "alice") >= {*changes, "put"}, "puts and changes recorded")
    wait_until(lambda: "get" in asked(audited, "bob"), "a get recorded")
    shared = next(entry for entry in entries(audited) if entry["event"] == "amend asked")
    assert len(shared["readers"]) == 32
    operator(audited, "revoke", "bob")

    before = len(entries(audited))
    count, digest = operator(audited, "audit", "verify")
    assert before <= int(count.split()[0]) <= len(entries(audited))  # what devices tell of comes meanwhile
    noted = digest.rpartition(" ")[2]
    operator(audited, "audit", "verify", "--includes", noted)
    received: list[str] = []
    while not received or json.loads(received[-1])["event"] != "revoked":
        received.append(syslog.recv(1 << 16).decode().partition(" audit - ")[2])
    text = (home_of(audited) / "broker" / "audit.jsonl").read_text()
    assert "\n".join(received) + "\n" in text


def test_a_line_that_was_changed_is_found(audited: LocalCluster) -> None:
    operator(audited, "audit", "verify")
    path = home_of(audited) / "broker" / "audit.jsonl"
    content = path.read_bytes()
    try:
        path.write_bytes(content.replace(b"device-", b"defice-", 1))
        ended = audited.run("broker", "audit", "verify", environment=audited.broker_environment(1), timeout=60)
        assert ended.returncode == 4, ended
        assert "one of the two was changed" in ended.stderr
    finally:
        path.write_bytes(content)
