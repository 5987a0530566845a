"""Sharing with another vault: they restore with their own key, and what is taken back they cannot fetch any more."""

from __future__ import annotations

import contextlib

import pytest

from cluster.local import LocalCluster
from tests.cluster.conftest import MakeUser
from tests.support.devices import wait_lost
from tests.support.programs import Ended, User, files_below, finish, random_bytes, wait_until


@pytest.fixture
def cluster(mending_cluster: LocalCluster) -> LocalCluster:
    """For all tests here."""
    return mending_cluster


def admin(user: User, *arguments: str) -> Ended:
    ended = user.run("admin", *arguments)
    assert ended.exit_code == 0, ended
    return ended


def know(user: User, other: User, name: str) -> str:
    """Have `user` know the other's contact card by this name; the card."""
    (card,) = admin(other, "contacts", "card").lines
    admin(user, "contacts", "add", name, card)
    return card


def test_what_is_shared_is_restored_by_the_other_vault_until_it_is_taken_back(make_user: MakeUser) -> None:
    alice, bob, carol = make_user("alice"), make_user("bob"), make_user("carol")
    content = random_bytes(5_000_000)
    sha256 = alice.store_bytes(content)["sha256"]
    know(alice, bob, "bob")
    know(alice, carol, "carol")
    assert bob.restore(sha256, output=bob.folder / "before").exit_code == 3

    for name in ("bob", "carol"):
        admin(alice, "share", "--hash", sha256, "--with", name)
    for user in (alice, bob, carol):
        assert [image["sha256"] for image in user.listed()] == [sha256]
        ended = user.restore(sha256, output=user.folder / "copy")
        assert ended.exit_code == 0, ended
        assert (user.folder / "copy").read_bytes() == content

    taken = admin(alice, "unshare", "--hash", sha256, "--with", "bob")
    assert "stays copied" in taken.stderr
    assert bob.listed() == []
    assert bob.restore(sha256, output=bob.folder / "after").exit_code == 3
    for user in (alice, carol):
        assert user.restore(sha256[:12], output=user.folder / "still").exit_code == 0
        assert (user.folder / "still").read_bytes() == content
    again = alice.run("admin", "unshare", "--hash", sha256, "--with", "BOB")
    assert again.exit_code == 3
    assert again.stderr.splitlines() == [f"admin: {sha256}: it is not shared with bob; nothing was changed"]


def test_a_recipient_can_neither_delete_nor_pass_on_what_is_shared_with_them(make_user: MakeUser) -> None:
    alice, bob, carol = make_user("alice"), make_user("bob"), make_user("carol")
    sha256 = alice.store_bytes(random_bytes(3000))["sha256"]
    know(alice, bob, "bob")
    know(bob, carol, "carol")
    admin(alice, "share", "--hash", sha256, "--with", "bob")
    deleted = bob.run("admin", "delete", "--yes", "--hash", sha256)
    assert deleted.exit_code == 6 and "only its owner can delete it" in deleted.stderr, deleted
    passed_on = bob.run("admin", "share", "--hash", sha256, "--with", "carol")
    assert passed_on.exit_code == 6, passed_on
    assert alice.restore(sha256, output=alice.folder / "mine").exit_code == 0


def test_no_device_sees_the_hash_of_what_is_shared(cluster: LocalCluster, make_user: MakeUser) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    sha256 = alice.store_bytes(random_bytes(3000))["sha256"]
    card = know(alice, bob, "bob")
    admin(alice, "share", "--hash", sha256, "--with", "bob")
    assert bob.restore(sha256, output=bob.folder / "copy").exit_code == 0
    stores = [path for name in cluster.devices for path in files_below(cluster.directory / name)]
    assert stores
    for path in stores:
        content = path.read_bytes()
        assert bytes.fromhex(sha256) not in content and sha256.encode() not in content and card.encode() not in content


def test_a_device_that_was_away_during_sharing_is_told_when_it_comes_back(
    make_user: MakeUser, mending_cluster: LocalCluster
) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    content = random_bytes(30_000)
    sha256 = alice.store_bytes(content)["sha256"]
    know(alice, bob, "bob")
    mending_cluster.kill_device(6)
    wait_lost(mending_cluster, 6)
    shared = admin(alice, "share", "--hash", sha256, "--with", "bob")
    assert "device-6: not reached" in shared.stderr
    mending_cluster.start_device(6)

    def whole(user: User) -> bool:
        (image,) = user.run("admin", "verify", "--all", "--json").objects
        return bool(image["state"] == "whole")

    wait_until(lambda: whole(alice) and whole(bob), "the share that was away, shared too")
    for index in (1, 2):
        mending_cluster.kill_device(index)
    assert bob.restore(sha256, output=bob.folder / "copy").exit_code == 0
    assert (bob.folder / "copy").read_bytes() == content


def test_of_two_machines_that_share_at_once_one_is_refused_or_both_hold(make_user: MakeUser) -> None:
    alice, bob, carol = make_user("alice"), make_user("bob"), make_user("carol")
    content = random_bytes(30_000)
    sha256 = alice.store_bytes(content)["sha256"]
    for user, name in ((bob, "bob"), (carol, "carol")):
        know(alice, user, name)
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            both = [
                stack.enter_context(alice.started("admin", "share", "--hash", sha256, "--with", name))
                for name in ("bob", "carol")
            ]
            ended = [finish(process) for process in both]
        # Whoever was refused runs it again; nothing but that is lost.
        assert all(each.exit_code in (0, 4, 5) for each in ended), ended
        for each, name in zip(ended, ("bob", "carol")):
            if each.exit_code != 0:
                admin(alice, "share", "--hash", sha256, "--with", name)
        for user in (alice, bob, carol):
            (user.folder / "copy").unlink(missing_ok=True)
            assert user.restore(sha256, output=user.folder / "copy").exit_code == 0, user.folder
            assert (user.folder / "copy").read_bytes() == content
        for name in ("bob", "carol"):
            admin(alice, "unshare", "--hash", sha256, "--with", name)
