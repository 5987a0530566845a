"""A vault that gets another key: every image comes back with the new one, and the old one is refused."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.local import CHECKOUT, LocalCluster
from common.link.link import Link
from common.protocol.messages import Empty
from common.protocol.operations import RETIRE_OWNER
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from tests.cluster.conftest import MakeUser
from tests.cluster.test_admission import operator
from tests.cluster.test_depositing import identity_of, leave, restored
from tests.cluster.test_sharing import admin, know
from tests.support.devices import revive, wait_lost
from tests.support.programs import Ended, User, finish, random_bytes, sha256_of, wait_until

NEW = "another passphrase for the new key"
PIPE = 4096  # bytes: a page, the least that the system gives
IMAGES = 100  # twice as many as are told of in so much
SET_PIPE_SIZE = 1031  # fcntl.F_SETPIPE_SZ from Python 3.10 on; Linux only


@dataclass(frozen=True)
class Rotation:
    """One that is under way."""

    user: User
    former: VaultKey
    contents: dict[str, bytes]  # by SHA-256
    process: subprocess.Popen[bytes]


@pytest.fixture
def cluster(mending_cluster: LocalCluster) -> LocalCluster:
    """For all tests here."""
    return mending_cluster


def rotate(user: User, *options: str) -> Ended:
    """Rotate; from then on the user has the new passphrase."""
    backup = user.folder / f"backup {len(list(user.folder.iterdir()))}.key"
    ended = user.run("admin", "vault", "rotate", "--yes", "--backup", str(backup), *options, TESSERA_NEW_PASSPHRASE=NEW)
    user.environment["TESSERA_PASSPHRASE"] = NEW
    return ended


def wait_begun(process: subprocess.Popen[bytes]) -> None:
    """Return when the first image has the new key. The last has not: nobody reads what is said of more than half."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    fcntl.fcntl(descriptor, SET_PIPE_SIZE, PIPE)
    assert os.read(descriptor, 1)


def restored_all(user: User) -> dict[str, bytes]:
    """All images of the vault, by SHA-256."""
    folder = user.folder / "all"
    folder.mkdir()
    ended = user.run("consumer", "--all", "--output", str(folder))
    assert ended.exit_code == 0, ended
    contents = [path.read_bytes() for path in folder.iterdir()]
    return {sha256_of(content): content for content in contents}


def with_old_key(user: User) -> User:
    """Whoever has stolen the user's key file and passphrase, and machine."""
    home = user.home.with_name(user.home.name + "-thief")
    shutil.copytree(user.home, home)
    return User({**user.environment, "TESSERA_HOME": os.fspath(home)}, user.folder / "thief")


def test_all_images_come_back_with_the_new_key_and_the_old_one_is_refused(make_user: MakeUser) -> None:
    user = make_user("leaky")
    contents = [random_bytes(size) for size in (0, 30_000, 9_000_000)]
    hashes = [user.store_bytes(content)["sha256"] for content in contents]
    thief = with_old_key(user)
    ended = rotate(user)
    assert ended.exit_code == 0, ended
    assert sorted(line.split()[0] for line in ended.lines[:-1]) == sorted(hashes)
    assert "the old one is refused" in ended.lines[-1]
    assert "contacts card" in ended.stderr and "recovery" in ended.stderr

    assert [restored(user, sha256) for sha256 in hashes] == contents
    assert sorted(image["sha256"] for image in user.listed()) == sorted(hashes)
    admin(user, "verify", "--all", "--deep")
    assert not (user.home / "vault" / "former.key").exists()
    (thief.folder / "file").write_bytes(b"x")
    for command in (
        ("consumer", "--list"),
        ("consumer", "--hash", hashes[1]),
        ("producer", "file"),
        ("admin", "delete", "--yes", "--hash", hashes[1]),
    ):
        refused = thief.run(*command)
        assert refused.exit_code == 6 and "this vault key was replaced" in refused.stderr, refused
    # As before: store, find what is stored, delete.
    (again,) = user.store(str(next(user.folder.glob("*.bin"))))
    assert again["already_stored"]
    admin(user, "delete", "--yes", "--hash", hashes[0])


def test_the_backup_opens_the_vault_on_another_machine(make_user: MakeUser) -> None:
    user = make_user("leaky")
    content = random_bytes(30_000)
    sha256 = user.store_bytes(content)["sha256"]
    assert rotate(user).exit_code == 0
    (backup,) = user.folder.glob("backup *.key")
    shutil.rmtree(user.home / "vault")
    admin(user, "vault", "import", str(backup))
    assert restored(user, sha256) == content


def test_a_device_that_was_away_is_brought_up_to_date_when_it_comes_back(
    make_user: MakeUser, cluster: LocalCluster
) -> None:
    user = make_user("leaky")
    content = random_bytes(30_000)
    sha256 = user.store_bytes(content)["sha256"]
    cluster.kill_device(6)
    wait_lost(cluster, 6)
    ended = rotate(user)
    assert ended.exit_code == 0 and "device-6" in ended.stderr, ended
    assert restored(user, sha256) == content
    cluster.start_device(6)

    def whole() -> bool:
        (image,) = user.run("admin", "verify", "--all", "--json").objects
        return bool(image["sha256"] == sha256 and image["state"] == "whole")

    wait_until(whole, "the share that was away, under the new key")
    for index in (1, 2):
        cluster.kill_device(index)
    assert restored(user, sha256) == content


def test_a_rotation_that_is_killed_loses_nothing_and_goes_on_when_it_is_run_again(make_user: MakeUser) -> None:
    user = make_user("leaky")
    contents = [random_bytes(20_000 + number) for number in range(IMAGES)]
    hashes = [user.store_bytes(content)["sha256"] for content in contents[:3]]
    for content in contents[3:]:
        (user.folder / f"{len(content)}.more").write_bytes(content)
    hashes += [image["sha256"] for image in user.store(*(str(path) for path in sorted(user.folder.glob("*.more"))))]
    options = ("--yes", "--backup", str(user.folder / "backup.key"))
    with user.started("admin", "vault", "rotate", *options, TESSERA_NEW_PASSPHRASE=NEW) as process:
        wait_begun(process)
        process.kill()
        finish(process)
    user.environment["TESSERA_PASSPHRASE"] = NEW
    listed = user.run("consumer", "--list", "--json")
    assert 1 <= len(listed.objects) < IMAGES, "it was killed in the middle"
    assert "vault rotate" in listed.stderr
    assert rotate(user).exit_code == 0
    assert sorted(image["sha256"] for image in user.listed()) == sorted(hashes)
    assert restored_all(user) == {sha256_of(content): content for content in contents}


def admit(user: User, cluster: LocalCluster, name: str) -> None:
    """Admit the user's machine anew, under a name by which it can be revoked."""
    shutil.rmtree(user.home / "client")
    admin(user, "join", cluster.invite("client"), "--name", name)


@pytest.fixture
def rotating(make_user: MakeUser, cluster: LocalCluster) -> Iterator[Rotation]:
    """A user, admitted as "leaky", whose machine was stopped in the middle of a rotation."""
    user = make_user("leaky")
    admit(user, cluster, "leaky")
    contents = [random_bytes(20_000 + number) for number in range(IMAGES)]
    for content in contents:
        (user.folder / f"{len(content)}.more").write_bytes(content)
    user.store(*(str(path) for path in user.folder.glob("*.more")))
    former = VaultFolder(user.home).unlock(user.environment["TESSERA_PASSPHRASE"])
    options = ("--yes", "--backup", str(user.folder / "backup.key"))
    with user.started("admin", "vault", "rotate", *options, TESSERA_NEW_PASSPHRASE=NEW) as process:
        wait_begun(process)
        process.send_signal(signal.SIGSTOP)
        user.environment["TESSERA_PASSPHRASE"] = NEW
        yield Rotation(user, former, {sha256_of(content): content for content in contents}, process)


def test_who_is_revoked_in_the_middle_keeps_the_old_key_and_goes_on_once_admitted(
    rotating: Rotation, cluster: LocalCluster
) -> None:
    user = rotating.user
    operator(cluster, "revoke", "leaky")
    wait_until(lambda: user.run("admin", "status").exit_code == 6, "the revocation at the broker")
    rotating.process.send_signal(signal.SIGCONT)
    assert finish(rotating.process).exit_code != 0
    assert (user.home / "vault" / "former.key").exists()
    admit(user, cluster, "leaky again")
    assert 1 <= len(user.run("consumer", "--list", "--json").objects) < IMAGES
    assert rotate(user).exit_code == 0
    assert restored_all(user) == rotating.contents


def test_where_another_machine_ends_the_old_key_it_is_kept_and_that_is_said(rotating: Rotation) -> None:
    user, former = rotating.user, rotating.former
    identity = identity_of(user)

    async def retire() -> None:
        async with Link(identity, former.owner_proof(identity.key_pair.public)) as link:
            await link.request(RETIRE_OWNER, Empty())

    asyncio.run(retire())
    rotating.process.send_signal(signal.SIGCONT)
    assert finish(rotating.process).exit_code != 0
    again = rotate(user)
    assert again.exit_code == 6 and "replaced by another machine" in again.stderr, again
    vault = VaultFolder(user.home)
    assert vault.former_key(vault.unlock(NEW)) == former
    assert 1 <= len(user.run("consumer", "--list", "--json").objects) < IMAGES


def test_what_was_shared_or_left_for_the_vault_and_its_contacts_stay(make_user: MakeUser) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    know(alice, bob, "bob")
    know(bob, alice, "alice")
    shared, left, foreign = (random_bytes(30_000 + number) for number in range(3))
    sha256 = alice.store_bytes(shared)["sha256"]
    admin(alice, "share", "--hash", sha256, "--with", "bob")
    leave(bob, "alice", left)
    not_hers = bob.store_bytes(foreign)["sha256"]
    admin(bob, "share", "--hash", not_hers, "--with", "alice")
    gone = alice.store_bytes(random_bytes(1000))["sha256"]
    admin(alice, "delete", "--yes", "--hash", gone)

    ended = rotate(alice)
    assert ended.exit_code == 0, ended
    assert "2 images get the new key" in ended.stderr
    assert "1 images are others'" in ended.stderr
    assert "1 deleted images cannot be taken back" in ended.stderr
    assert restored(alice, sha256) == shared
    assert restored(bob, sha256) == shared
    assert [image["sha256"] for image in alice.listed() if image["sha256"] != sha256] != []
    assert alice.restore(not_hers, output=alice.folder / "not hers").exit_code == 3
    admin(alice, "unshare", "--hash", sha256, "--with", "bob")  # she still knows him
    assert bob.restore(sha256, output=bob.folder / "after").exit_code == 3
    admin(bob, "contacts", "remove", "alice")
    know(bob, alice, "alice")
    admin(bob, "share", "--hash", not_hers, "--with", "alice")
    assert restored(alice, not_hers) == foreign


def test_with_too_few_devices_nothing_is_begun(make_user: MakeUser, cluster: LocalCluster) -> None:
    user = make_user("leaky")
    content = random_bytes(30_000)
    sha256 = user.store_bytes(content)["sha256"]
    for index in (1, 2, 3):
        cluster.kill_device(index)
    wait_lost(cluster, 1, 2, 3)
    old = user.environment["TESSERA_PASSPHRASE"]
    ended = rotate(user)
    assert ended.exit_code == 5 and "device-1, device-2, device-3" in ended.stderr, ended
    assert not list(user.folder.glob("backup*"))
    user.environment["TESSERA_PASSPHRASE"] = old
    revive(cluster)
    assert restored(user, sha256) == content


def test_it_asks_for_a_backup_and_overwrites_none(make_user: MakeUser, tmp_path: Path) -> None:
    user = make_user("leaky")
    missing = user.run("admin", "vault", "rotate", "--yes", TESSERA_NEW_PASSPHRASE=NEW)
    assert missing.exit_code == 2 and "--backup" in missing.stderr, missing
    (tmp_path / "there").write_bytes(b"precious")
    taken = user.run(
        "admin", "vault", "rotate", "--yes", "--backup", str(tmp_path / "there"), TESSERA_NEW_PASSPHRASE=NEW
    )
    assert taken.exit_code == 2 and (tmp_path / "there").read_bytes() == b"precious", taken
    assert user.listed() == []


def test_what_a_stranger_left_otherwise_than_it_says_stays_behind_if_told_so(
    make_user: MakeUser,
) -> None:
    alice, mallory = make_user("alice"), make_user("mallory")
    know(mallory, alice, "alice")
    content, trap = random_bytes(30_000), random_bytes(30_001)
    sha256 = alice.store_bytes(content)["sha256"]
    path = mallory.folder / "trap"
    path.write_bytes(trap)
    (stored,) = leave_with_a_wrong_recipe(mallory, "alice", path)
    ended = rotate(alice)
    assert ended.exit_code == 5, ended
    assert stored["sha256"] in ended.stderr and "--leave" in ended.stderr
    assert restored(alice, sha256) == content
    assert rotate(alice, "--leave", stored["sha256"][:12]).exit_code == 0
    assert [image["sha256"] for image in alice.listed()] == [sha256]


def leave_with_a_wrong_recipe(machine: User, name: str, path: Path) -> list[dict[str, Any]]:
    """Store for a contact by a producer that was changed: the mapping names another recipe than the devices have."""
    change = (
        "import producer.owner as owner\n"
        "seal = owner.OtherVault.seal\n"
        "import msgspec\n"
        "owner.OtherVault.seal = lambda o, m, e: seal(o, msgspec.structs.replace(m, recipe_digest=bytes(32)), e)\n"
        f"import sys; sys.argv = ['producer.py', '--json', '--for', {name!r}, {str(path)!r}]\n"
        "from producer.command import main\n"
        "main()\n"
    )
    with machine.started_as([sys.executable, "-c", change], PYTHONPATH=os.fspath(CHECKOUT)) as process:
        ended = finish(process)
    assert ended.exit_code == 0, ended
    return ended.objects
