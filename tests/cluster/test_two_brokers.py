"""Two brokers: either can be lost in the middle of a put or a get, and what one is told of members the other knows.

Whoever is killed here stays dead until the test is over, so that nothing can be owed to its return.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable

import pytest

from cluster.local import LocalCluster, require_success
from common.membership.identity import load_brokers, save_brokers
from common.membership.invite import decode_invite
from tests.cluster.conftest import home_of, running_cluster
from tests.support.devices import MIB, numbers, revive, wait_staged
from tests.support.programs import (
    Ended,
    User,
    feed,
    files_below,
    finish,
    held_in_mid_get,
    random_bytes,
    sha256_of,
    wait_until,
)

HALF = 12 * MIB
LARGE = 96 * MIB
SOON = 60.0  # seconds, most of them for the start of the program that asks
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(tmp_path_factory.mktemp("pair") / "cluster", 4, brokers=2) as running:
        yield running


@pytest.fixture
def two_brokers(pair: LocalCluster) -> Iterator[LocalCluster]:
    yield pair
    revive(pair)


@pytest.fixture
def owner(two_brokers: LocalCluster, tmp_path: Path) -> User:
    """The vault's owner, at a machine that prefers the first broker whatever was used before."""
    home = tmp_path / "home"
    for folder in ("client", "vault"):
        shutil.copytree(home_of(two_brokers) / folder, home / folder)
    known = load_brokers(home / "client" / "brokers.json")
    save_brokers(home / "client" / "brokers.json", sorted(known, key=lambda broker: broker.client_port))
    return User({**two_brokers.environment, "TESSERA_HOME": str(home)}, tmp_path / "owner")


@pytest.fixture(scope="module")
def large_image(pair: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of an image that takes a while to restore."""
    path = tmp_path_factory.mktemp("large") / "large.raw"
    path.write_bytes(random_bytes(MIB) * (LARGE // MIB))
    (stored,) = User(pair.environment, path.parent).store(str(path))
    path.unlink()
    return str(stored["sha256"])


@contextmanager
def lost(cluster: LocalCluster, ending: str) -> Iterator[Callable[[], None]]:
    """What loses the first broker: it is killed, or stopped, so that it says nothing and its connections stay."""
    process = cluster.broker_pid(1)
    assert process is not None
    try:
        yield (lambda: cluster.kill_broker(1)) if ending == "killed" else (lambda: os.kill(process, signal.SIGSTOP))
    finally:
        if ending == "hung":
            os.kill(process, signal.SIGCONT)


def at(cluster: LocalCluster, broker: int, user: User) -> User:
    """The same client, at a machine that knows this broker only."""
    home = user.folder / f"at-{broker}"
    known = load_brokers(user.home / "client" / "brokers.json")
    (home / "client").mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy2(user.home / "client" / "client.key", home / "client" / "client.key")
    port = cluster.base_port + 2 * (broker - 1)
    save_brokers(home / "client" / "brokers.json", [each for each in known if each.client_port == port])
    if (user.home / "vault").exists():
        shutil.copytree(user.home / "vault", home / "vault")
    return User({**user.environment, "TESSERA_HOME": str(home)}, user.folder)


def restored(user: User, sha256: str) -> bytes:
    out = user.folder / "restored"
    ended = user.restore(sha256, output=out)
    assert ended.exit_code == 0, ended
    content = out.read_bytes()
    out.unlink()
    return content


def operate(cluster: LocalCluster, broker: int, *command: str) -> str:
    """What a command of a broker's operator prints."""
    result = cluster.run("broker", *command, environment=cluster.broker_environment(broker))
    require_success("broker", result)
    return result.stdout


def join(cluster: LocalCluster, invite: str, folder: Path) -> Ended:
    """A new machine that wants to be a client."""
    machine = User({**cluster.environment, "TESSERA_HOME": str(folder / "home")}, folder)
    return machine.run("admin", "join", "--name", folder.name, TESSERA_JOIN=invite)


# --- lost in the middle


@pytest.mark.parametrize("ending", ["killed", pytest.param("hung", marks=POSIX_ONLY)])
def test_a_put_goes_on_when_the_broker_in_use_is_lost(two_brokers: LocalCluster, owner: User, ending: str) -> None:
    content = random_bytes(2 * HALF)
    with owner.started("producer", "-", "--json") as process, lost(two_brokers, ending) as lose:
        feed(process, content[:HALF])
        wait_staged(two_brokers, *numbers(two_brokers))
        lose()
        ended = finish(process, content[HALF:])
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] is False
    assert restored(owner, stored["sha256"]) == content


@POSIX_ONLY
@pytest.mark.parametrize("ending", ["killed", "hung"])
def test_a_get_goes_on_when_the_broker_in_use_is_lost(
    two_brokers: LocalCluster, owner: User, large_image: str, ending: str
) -> None:
    out = owner.folder / "out" / "image"
    with held_in_mid_get(owner, large_image, out, LARGE) as process, lost(two_brokers, ending) as lose:
        lose()
        process.send_signal(signal.SIGCONT)
        ended = finish(process)
    assert ended.exit_code == 0, ended
    assert sha256_of(out.read_bytes()) == large_image
    assert files_below(out.parent) == [out]


def test_what_was_stored_through_one_is_restored_through_the_other(two_brokers: LocalCluster, owner: User) -> None:
    content = random_bytes(5000)
    stored = at(two_brokers, 1, owner).store_bytes(content)
    assert restored(at(two_brokers, 2, owner), stored["sha256"]) == content


def test_a_client_that_was_told_of_the_second_broker_survives_the_loss_of_the_first(
    two_brokers: LocalCluster, owner: User
) -> None:
    once = at(two_brokers, 1, owner)
    stored = once.store_bytes(random_bytes(5000))
    known = load_brokers(once.home / "client" / "brokers.json")
    assert [broker.client_port - two_brokers.base_port for broker in known] == [0, 2]
    two_brokers.kill_broker(1)
    restored(once, stored["sha256"])
    known = load_brokers(once.home / "client" / "brokers.json")
    assert [broker.client_port - two_brokers.base_port for broker in known] == [2, 0], "the next program begins there"


def test_when_no_broker_is_left_both_addresses_are_said(two_brokers: LocalCluster, owner: User) -> None:
    two_brokers.kill_broker(1)
    two_brokers.kill_broker(2)
    ended = owner.run("admin", "status")
    assert ended.exit_code == 7, ended
    for port in (two_brokers.base_port, two_brokers.base_port + 2):
        assert f"127.0.0.1:{port}" in ended.stderr


# --- members


@pytest.mark.parametrize(("maker", "other"), [(1, 2), (2, 1)])
def test_an_invite_of_one_is_honoured_by_the_other(
    two_brokers: LocalCluster, tmp_path: Path, maker: int, other: int
) -> None:
    invite = two_brokers.invite("client", maker)
    key = decode_invite(invite).one_time.public.hex()
    wait_until(lambda: key in members_file(two_brokers, other), "the invite at the other", SOON)
    two_brokers.kill_broker(maker)
    assert join(two_brokers, invite, tmp_path / f"tablet-{maker}").exit_code == 0
    assert f"tablet-{maker}" in operate(two_brokers, other, "members")


def members_file(cluster: LocalCluster, broker: int) -> str:
    return (Path(cluster.broker_environment(broker)["TESSERA_HOME"]) / "broker" / "members.json").read_text()


def test_a_revocation_at_one_bites_at_both(two_brokers: LocalCluster, tmp_path: Path) -> None:
    folder = tmp_path / "laptop"
    assert join(two_brokers, two_brokers.invite("client"), folder).exit_code == 0
    laptop = User({**two_brokers.environment, "TESSERA_HOME": str(folder / "home")}, folder)
    there = [at(two_brokers, broker, laptop) for broker in (1, 2)]
    for user in there:
        wait_until(partial(ends_with, user, 0), "admission", SOON)
    operate(two_brokers, 2, "revoke", "laptop")
    for user in there:
        wait_until(partial(ends_with, user, 6), "refusal", SOON)
    assert laptop.run("admin", "status").exit_code == 6


def ends_with(user: User, exit_code: int, command: str = "status") -> bool:
    return user.run("admin", command).exit_code == exit_code


def test_a_promotion_at_one_holds_at_both_and_so_does_its_end_at_the_other(
    two_brokers: LocalCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "tablet"
    assert join(two_brokers, two_brokers.invite("client"), folder).exit_code == 0
    tablet = User({**two_brokers.environment, "TESSERA_HOME": str(folder / "home")}, folder)
    there = [at(two_brokers, broker, tablet) for broker in (1, 2)]
    for user in there:
        wait_until(partial(ends_with, user, 0), "admission", SOON)
        assert ends_with(user, 6, "rebalance"), "that takes an admin"
    operate(two_brokers, 1, "promote", "tablet")
    for user in there:
        wait_until(partial(ends_with, user, 0, "rebalance"), "the promotion", SOON)
    operate(two_brokers, 2, "demote", "tablet")
    for user in there:
        wait_until(partial(ends_with, user, 6, "rebalance"), "its end", SOON)
        assert ends_with(user, 0), "it is a client still"


def test_a_broker_that_was_down_learns_of_changes_when_it_returns(two_brokers: LocalCluster, tmp_path: Path) -> None:
    assert join(two_brokers, two_brokers.invite("client"), tmp_path / "old").exit_code == 0

    def names() -> set[str]:
        return {line.split("\t")[0] for line in operate(two_brokers, 2, "members").splitlines()}

    wait_until(lambda: "old" in names(), "the old one at the second", SOON)
    two_brokers.kill_broker(2)
    operate(two_brokers, 1, "revoke", "old")
    assert join(two_brokers, two_brokers.invite("client"), tmp_path / "new").exit_code == 0
    two_brokers.start_broker(2)
    wait_until(lambda: "new" in names() and "old" not in names(), "the changes at the second", SOON)
