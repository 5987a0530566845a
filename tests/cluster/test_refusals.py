"""What is refused, with which exit code, how soon, and with what to do about it."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from common.discovery.addresses import BrokerAddress
from common.errors import NotEnoughError
from common.membership.identity import KeyPair, save_key_pair
from common.membership.invite import Invite
from common.protocol.operations import Role
from tests.cluster.conftest import home_of
from tests.support.ports import own_base_port
from tests.support.programs import User, finish, wait_until

LIMIT = 20.0  # seconds in which a broker that does not answer is given up; ten, on a machine that does nothing else
COMMANDS = [
    ("producer", "image.bin"),
    ("consumer", "--hash", "ab" * 32),
    ("consumer", "--list"),
    ("admin", "status"),
]
FRIENDLY_NAMES = ["producer", "consumer --hash", "consumer --list", "admin status"]


@pytest.fixture
def machine(owner: User, tmp_path: Path) -> User:
    """The owner's vault in a home of its own, where tests may change the client's identity."""
    home = tmp_path / "home"
    shutil.copytree(owner.home / "client", home / "client")
    shutil.copytree(owner.home / "vault", home / "vault")
    user = User({**owner.environment, "TESSERA_HOME": str(home)}, tmp_path / "machine")
    (user.folder / "image.bin").write_bytes(b"image")
    return user


def stranger(cluster: LocalCluster, folder: Path) -> User:
    """A machine that knows nothing of the cluster."""
    return User({**cluster.environment, "TESSERA_HOME": str(folder / "home")}, folder)


def test_no_broker_is_said_in_time_with_the_address_tried(fragile_cluster: LocalCluster, machine: User) -> None:
    fragile_cluster.kill_broker()
    with ExitStack() as programs:  # all at once, since each waits for a while
        started = [programs.enter_context(machine.started(*command)) for command in COMMANDS]
        for process in started:
            ended = finish(process)
            assert ended.exit_code == 7, ended
            assert ended.seconds < LIMIT
            assert f"127.0.0.1:{fragile_cluster.base_port}" in ended.stderr
            assert ended.stdout == b""


def test_something_else_at_the_brokers_address_is_no_broker(cluster: LocalCluster, machine: User) -> None:
    """The client expects another broker key: it must not talk to this one."""
    brokers = machine.home / "client" / "brokers.json"
    known = json.loads(brokers.read_text())
    known[0]["public_key"] = KeyPair.generate().public.hex()
    brokers.write_text(json.dumps(known))
    ended = machine.run("consumer", "--list")
    assert ended.exit_code == 7, ended
    assert ended.seconds < LIMIT
    assert f"127.0.0.1:{cluster.base_port}" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=FRIENDLY_NAMES)
def test_a_key_that_was_not_admitted_is_refused_with_the_way_in(machine: User, command: tuple[str, ...]) -> None:
    key_file = machine.home / "client" / "client.key"
    key_file.unlink()
    save_key_pair(key_file, KeyPair.generate())
    ended = machine.run(*command)
    assert ended.exit_code == 6, ended
    assert ended.seconds < LIMIT
    assert "does not admit" in ended.stderr
    assert "broker.py invite client" in ended.stderr
    assert "admin.py join" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=FRIENDLY_NAMES)
def test_a_machine_that_never_joined_is_refused_with_the_way_in(
    cluster: LocalCluster, tmp_path: Path, command: tuple[str, ...]
) -> None:
    newcomer = stranger(cluster, tmp_path)
    (newcomer.folder / "image.bin").write_bytes(b"image")
    ended = newcomer.run(*command)
    assert ended.exit_code == 6, ended
    assert "broker.py invite client" in ended.stderr


def test_a_machine_without_a_vault_is_told_how_to_get_one(cluster: LocalCluster, machine: User) -> None:
    shutil.rmtree(machine.home / "vault")
    ended = machine.run("consumer", "--list")
    assert ended.exit_code == 3, ended
    assert "vault create" in ended.stderr
    assert "vault import" in ended.stderr


def is_let_in(user: User) -> bool:
    """Whether the broker answers; it may tell of images of other tests, on the same devices, that are in danger."""
    return user.run("admin", "status").exit_code in (0, NotEnoughError.exit_code)


def test_a_clients_invite_works_once(cluster: LocalCluster, tmp_path: Path) -> None:
    invite = cluster.invite("client")
    first, second = stranger(cluster, tmp_path / "first"), stranger(cluster, tmp_path / "second")
    assert first.run("admin", "join", invite).exit_code == 0
    assert is_let_in(first)
    refused = second.run("admin", "join", invite)
    assert refused.exit_code == 6, refused
    assert "broker.py invite" in refused.stderr
    assert second.run("admin", "status").exit_code == 6


def test_a_workers_invite_works_once(cluster: LocalCluster, tmp_path: Path) -> None:
    invite = cluster.invite("worker")
    keeper, thief = stranger(cluster, tmp_path / "keeper"), stranger(cluster, tmp_path / "thief")
    with keeper.started("worker", "--name", "seventh", "--store", "store", TESSERA_JOIN=invite) as process:
        assert process.stderr is not None
        assert any(b"joined the cluster as seventh" in line for line in process.stderr)
        refused = thief.run("worker", "--name", "eighth", "--store", "store", TESSERA_JOIN=invite)
        assert refused.exit_code == 6, refused
    devices = {device["name"]: device["alive"] for device in cluster.status()["devices"]}
    assert "seventh" in devices
    assert "eighth" not in devices
    wait_until(lambda: "seventh" not in cluster.alive(), "the loss of the seventh, for the tests that follow")


@pytest.mark.parametrize(("role", "program"), [("client", "worker"), ("worker", "admin")])
def test_an_invite_is_for_its_role_only(cluster: LocalCluster, tmp_path: Path, role: str, program: str) -> None:
    invite = cluster.invite(role)
    newcomer = stranger(cluster, tmp_path)
    arguments = ("--join", invite, "--store", "store") if program == "worker" else ("join", invite)
    ended = newcomer.run(program, *arguments)
    assert ended.exit_code == 2, ended
    assert f"for a {role}" in ended.stderr
    assert invite not in ended.stderr


@pytest.mark.parametrize("damage", ["garbage", "cut", "changed", "empty"])
@pytest.mark.parametrize("program", ["worker", "admin"])
def test_what_is_no_invite_is_a_usage_error(cluster: LocalCluster, tmp_path: Path, damage: str, program: str) -> None:
    address = BrokerAddress("127.0.0.1", cluster.base_port, cluster.base_port + 1, KeyPair.generate().public)
    invite = Invite(Role.WORKER if program == "worker" else Role.CLIENT, [address], KeyPair.generate()).encode()
    other = "b" if invite[40] == "a" else "a"
    texts = {
        "garbage": "hello",
        "cut": invite[:-9],
        "changed": invite[:40] + other + invite[41:],
        "empty": "",
    }
    text = texts[damage]
    arguments = ("--join", text, "--store", "store") if program == "worker" else ("join", text)
    ended = stranger(cluster, tmp_path).run(program, *arguments)
    assert ended.exit_code == 2, ended


def test_an_invite_to_a_broker_that_is_gone_says_which(cluster: LocalCluster, tmp_path: Path) -> None:
    base_port = own_base_port()
    broker = {"TESSERA_HOME": str(home_of(cluster)), "TESSERA_CLIENT_PORT": str(base_port)}
    invite = User({**cluster.environment, **broker}, tmp_path).run("broker", "invite", "client").lines[0]
    ended = stranger(cluster, tmp_path).run("admin", "join", invite)
    assert ended.exit_code == 7, ended
    assert f"127.0.0.1:{base_port}" in ended.stderr


def test_a_revoked_client_is_refused_and_its_invite_too(cluster: LocalCluster, tmp_path: Path) -> None:
    invite = cluster.invite("client")
    client = stranger(cluster, tmp_path / "client")
    assert client.run("admin", "join", invite, TESSERA_CLIENT_NAME="soon gone").exit_code == 0
    assert is_let_in(client)
    broker = User(cluster.environment, tmp_path / "broker")
    assert broker.run("broker", "revoke", "soon gone").exit_code == 0
    ended = client.run("admin", "status")
    assert ended.exit_code == 6, ended
    assert stranger(cluster, tmp_path / "again").run("admin", "join", invite).exit_code == 6


def test_a_second_worker_on_one_store_is_refused_and_the_first_goes_on(cluster: LocalCluster, owner: User) -> None:
    pid = cluster.device_pid(1)
    ended = stranger(cluster, owner.folder).run("worker", "--store", str(cluster.directory / "device-1"))
    assert ended.exit_code == 2, ended
    assert "in use by another" in ended.stderr
    assert cluster.device_pid(1) == pid
    assert len(owner.store_bytes(b"kept by all six")["devices"]) == 6


def test_a_second_broker_in_one_home_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    base_port = own_base_port()
    settings = {
        "TESSERA_HOME": str(home_of(cluster)),
        "TESSERA_CLIENT_PORT": str(base_port),
        "TESSERA_WORKER_PORT": str(base_port + 1),
        "TESSERA_LANE_PORT": "0",
    }
    ended = User({**cluster.environment, **settings}, tmp_path).run("broker")
    assert ended.exit_code == 2, ended
    assert "in use by another" in ended.stderr


def test_a_store_that_never_joined_says_how_to(cluster: LocalCluster, tmp_path: Path) -> None:
    ended = stranger(cluster, tmp_path).run("worker", "--store", "store")
    assert ended.exit_code == 3, ended
    assert "or its disk is not mounted" in ended.stderr
    assert "broker.py invite worker" in ended.stderr
    assert "--join" in ended.stderr


@pytest.mark.parametrize("program", ["producer", "consumer", "admin", "worker", "broker"])
def test_every_program_explains_itself(cluster: LocalCluster, tmp_path: Path, program: str) -> None:
    ended = stranger(cluster, tmp_path).run(program, "--help")
    assert ended.exit_code == 0, ended
    assert b"--help" in ended.stdout


@pytest.mark.parametrize("program", ["producer", "consumer", "admin", "worker", "broker"])
def test_an_unknown_option_is_a_usage_error_without_traceback(
    cluster: LocalCluster, tmp_path: Path, program: str
) -> None:
    ended = stranger(cluster, tmp_path).run(program, "--no-such-option")
    assert ended.exit_code == 2, ended
    assert "--no-such-option" in ended.stderr
    assert "Traceback" not in ended.stderr
