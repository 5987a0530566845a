"""The two-person rule with real programs: two approvers empty a trash early, one alone and before the hold nobody."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import LocalCluster
from common.vault.contact_card import card_of
from common.vault.keys import VaultKey
from tests.cluster.conftest import MakeUser, running_cluster
from tests.support.devices import numbers, wait_lost
from tests.support.programs import Ended, User, random_bytes, wait_until

REFUSED, GONE = 6, 3


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three devices that hold what is deleted for two seconds; the trash keeps it for days all the same."""
    with running_cluster(tmp_path_factory.mktemp("three") / "cluster", 3) as running:
        for index in numbers(running):
            running.kill_device(index)
        wait_lost(running, *numbers(running))
        for index in numbers(running):
            running.start_device(index, "--hold", "2s")
        running.wait_registered(3)
        yield running


def made(cluster: LocalCluster, folder: Path, *names: str) -> list[User]:
    return [
        User(cluster.add_client(f"{folder.name}-{name}", f"the passphrase of {name}"), folder / name) for name in names
    ]


def meet(one: User, other: User, name: str) -> None:
    """Give one's card to the other, who calls them by this name."""
    card = one.run("admin", "contacts", "card", "--name", name)
    assert other.run("admin", "contacts", "add", name, card.lines[0]).exit_code == 0


def admin(user: User, *arguments: str) -> Ended:
    return user.run("admin", "approvers", *arguments)


def signed(approver: User, request: Path, name: str) -> str:
    output = approver.folder / name
    ended = admin(approver, "sign", str(request), "--output", str(output), "--yes")
    assert ended.exit_code == 0, ended
    return str(output)


def test_two_approvers_empty_the_trash_and_one_alone_does_not(three: LocalCluster, tmp_path: Path) -> None:
    owner, anna, bob = made(three, tmp_path, "owner", "anna", "bob")
    for approver, name in ((anna, "anna"), (bob, "bob")):
        meet(approver, owner, name)
        meet(owner, approver, "the owner")
    hashes = [owner.store_bytes(random_bytes(size))["sha256"] for size in (3000, 2_000_000)]
    kept = owner.store_bytes(random_bytes(3000))["sha256"]

    assert admin(owner, "request", "too-soon").exit_code == REFUSED, "nobody is named"
    ended = admin(owner, "add", "anna", "bob")
    assert ended.exit_code == 0 and "2 of anna, bob; on device-1, device-2, device-3" in ended.lines[0], ended
    listed = "in effect: 2 of anna, bob; on device-1, device-2, device-3"
    wait_until(lambda: admin(owner, "list").lines == [listed], "the end of the hold")

    for sha256 in hashes:
        assert owner.run("admin", "delete", "--hash", sha256, "--yes").exit_code == 0
    request = owner.folder / "request"
    ended = admin(owner, "request", str(request))
    assert ended.exit_code == 0 and "2 deletions (2 objects" in ended.lines[0], ended
    by_anna, by_bob = signed(anna, request, "signature"), signed(bob, request, "signature")
    ended = admin(anna, "sign", str(request), "--output", str(anna.folder / "again"))
    assert ended.exit_code == 2 and not (anna.folder / "again").exists(), "nobody said yes"
    for signatures in ([by_anna], [by_anna, by_anna]):
        ended = admin(owner, "empty", str(request), *signatures, "--yes")
        assert ended.exit_code == REFUSED, ended
    assert len(owner.run("admin", "undelete", "--list").lines) == 2

    ended = admin(owner, "empty", str(request), by_anna, by_bob, "--yes")
    assert ended.exit_code == 0 and "emptied the trash of 2 deletions" in ended.lines[0], ended
    assert not owner.run("admin", "undelete", "--list").lines
    for sha256 in hashes:
        assert owner.run("admin", "undelete", "--hash", sha256).exit_code == GONE
    assert owner.restore(kept, output=owner.folder / "kept").exit_code == 0


def test_other_requests_signers_and_vaults_are_refused(three: LocalCluster, tmp_path: Path) -> None:
    owner, anna, bob, carl = made(three, tmp_path, "owner", "anna", "bob", "carl")
    for approver, name in ((anna, "anna"), (bob, "bob"), (carl, "carl")):
        meet(approver, owner, name)
    meet(owner, carl, "the owner")
    meet(anna, carl, "anna")
    assert admin(owner, "add", "anna").exit_code == 2, "one alone"
    first, second = (owner.store_bytes(random_bytes(3000))["sha256"] for _ in range(2))
    assert admin(owner, "add", "anna", "bob").exit_code == 0
    wait_until(lambda: admin(owner, "list").lines[0].startswith("in effect: 2 of"), "the end of the hold")
    requests = []
    for sha256 in (first, second):
        assert owner.run("admin", "delete", "--hash", sha256, "--yes").exit_code == 0
        requests.append(owner.folder / sha256)
        assert admin(owner, "request", str(requests[-1])).exit_code == 0

    ended = admin(carl, "sign", str(requests[0]), "--output", "none", "--yes")
    assert ended.exit_code == REFUSED and "none of the approvers" in ended.stderr, ended
    of_first = [signed(each, requests[0], "first") for each in (anna, bob)]
    of_second = signed(bob, requests[1], "second")
    for user, request, signatures in (
        (owner, requests[1], of_first),
        (owner, requests[0], [of_first[0], of_second]),
        (carl, requests[0], of_first),
    ):
        ended = admin(user, "empty", str(request), *signatures, "--yes")
        assert ended.exit_code == REFUSED, ended
    assert len(owner.run("admin", "undelete", "--list").lines) == 2

    ended = admin(owner, "remove", "anna")
    assert ended.exit_code == 2, "one alone would be left"
    assert admin(owner, "remove", "anna", "bob").exit_code == 0
    wait_until(lambda: admin(owner, "list").lines[0].startswith("in effect: nobody"), "the end of the hold")
    ended = admin(owner, "empty", str(requests[0]), *of_first, "--yes")
    assert ended.exit_code == 5 and "no approvers are in effect" in ended.stderr, ended
    assert len(owner.run("admin", "undelete", "--list").lines) == 2


def test_with_a_hold_that_is_not_over_a_list_is_shown_as_under_way(user: User, make_user: MakeUser) -> None:
    anna, bob = make_user("anna"), make_user("bob")
    for approver, name in ((anna, "anna"), (bob, "bob")):
        meet(approver, user, name)
    sha256 = user.store_bytes(random_bytes(3000))["sha256"]
    assert admin(user, "add", "anna", "bob").exit_code == 0
    lines = admin(user, "list").lines
    assert len(lines) == 2 and lines[0].startswith("in effect: nobody; on device-1, "), lines
    under_way = r"UNDER WAY: 2 of anna, bob; named \d+ s ago, in effect in [67] days; on device-1, .*, device-6"
    assert re.fullmatch(under_way, lines[1]), lines
    assert user.run("admin", "delete", "--hash", sha256, "--yes").exit_code == 0
    ended = admin(user, "request", str(user.folder / "request"))
    assert ended.exit_code == REFUSED and "no approvers are in effect" in ended.stderr, ended


def test_whom_a_thief_named_the_owner_sees_and_removes(cluster: LocalCluster, user: User, tmp_path: Path) -> None:
    """Both have the key; what the owner lacks is a card of these people."""
    thief = User({**user.environment, "TESSERA_HOME": str(tmp_path / "thief-home")}, tmp_path / "thief")
    shutil.copytree(user.home, thief.home)
    user.store_bytes(random_bytes(3000))
    planted, own = ([card_of(VaultKey(bytes([each]) * 32), "card") for each in pair] for pair in ((1, 2), (3, 4)))
    for machine, cards in ((thief, planted), (user, own)):
        for name, card in zip(("anna", "bob"), cards):
            assert machine.run("admin", "contacts", "add", name, card.encode()).exit_code == 0
    assert admin(thief, "add", "anna", "bob").exit_code == 0

    shown = sorted(card.owner_key.hex()[:16] for card in planted)
    assert f"UNDER WAY: 2 of {', '.join(shown)}; named" in admin(user, "list").lines[1]
    ended = admin(user, "add", "anna", "bob")
    assert ended.exit_code == REFUSED and f"{shown[0]} is named already" in ended.stderr, ended
    assert admin(user, "remove", "anna").exit_code == GONE, "it is none of those who are named"
    assert admin(user, "remove", *shown).exit_code == 0
    assert not [line for line in admin(user, "list").lines if shown[0] in line]
    assert admin(user, "add", "anna", "bob").exit_code == 0
    assert "UNDER WAY: 2 of anna, bob; named" in admin(user, "list").lines[1]
