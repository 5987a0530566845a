"""Storing for another's vault: whoever has its contact card can store for it, and do nothing else."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from cluster.local import CHECKOUT, LocalCluster
from common.link.link import Link
from common.link.questions import list_devices, list_encodings, locate
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair
from common.protocol.device_messages import (
    BlockName,
    Describe,
    Fetch,
    ShareName,
)
from common.protocol.messages import Code
from common.protocol.operations import DELETE, DESCRIBE, FETCH, PROGRESS
from common.vault.contact_card import ContactCard, decode_card
from common.vault.keys import VaultKey
from common.vault.signer import depositor
from tests.cluster.conftest import MakeUser
from tests.cluster.test_sharing import admin, know
from tests.support.devices import held_shares, wait_staged
from tests.support.programs import Ended, User, feed, files_below, finish, random_bytes, sha256_of

PHOTO = CHECKOUT / "samples" / "hubble_deep_field.jpg"
SMALL, LARGE = 30_000, 9_000_000


def leave(machine: User, name: str, content: bytes, *options: str) -> str:
    """Store a file for a contact; its SHA-256."""
    path = machine.folder / f"{sha256_of(content)[:16]}.bin"
    path.write_bytes(content)
    (stored,) = machine.store("--for", name, *options, str(path))
    assert (stored["sha256"], stored["degraded"]) == (sha256_of(content), False)
    return sha256_of(content)


def restored(user: User, sha256: str) -> bytes:
    target = user.folder / f"copy of {sha256[:8]}"
    target.unlink(missing_ok=True)
    ended = user.restore(sha256, output=target)
    assert ended.exit_code == 0, ended
    return target.read_bytes()


def passphrase_free(machine: User) -> bool:
    return not any(name.startswith("TESSERA_PASSPHRASE") for name in machine.environment)


@pytest.fixture
def family(camera: User, make_user: MakeUser) -> User:
    """A user whose card the camera knows as "family"."""
    user = make_user("family")
    know(camera, user, "family")
    return user


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_what_a_camera_without_a_vault_stores_its_owner_restores_lists_and_deletes(
    camera: User, family: User, size: int
) -> None:
    assert passphrase_free(camera) and not (camera.home / "vault").exists()
    content = random_bytes(size)
    sha256 = leave(camera, "family", content)
    assert restored(family, sha256) == content
    assert [image["sha256"] for image in family.listed()] == [sha256]
    admin(family, "verify", "--hash", sha256)
    admin(family, "delete", "--yes", "--hash", sha256)
    assert family.listed() == []
    admin(family, "undelete", "--hash", sha256)
    assert restored(family, sha256) == content


def test_photographs_left_for_somebody_keep_their_name_and_thumbnail(camera: User, family: User) -> None:
    shutil.copy(PHOTO, camera.folder / "holiday.jpg")
    camera.store("--for", "family", "holiday.jpg")
    (image,) = family.listed()
    assert image["name"] == "holiday.jpg" and image["media_type"] == "image/jpeg"


def test_what_is_left_for_somebody_is_said_to_be_in_no_snapshot(camera: User, family: User) -> None:
    (camera.folder / "x").write_bytes(random_bytes(100))
    for without, said in (("0", True), ("1", False)):
        ended = camera.run("producer", "--for", "family", "x", TESSERA_NO_SNAPSHOT=without)
        assert ended.exit_code == 0, ended
        assert ("what is stored for another is in no snapshot" in ended.stderr) is said


def test_a_machine_with_a_vault_of_its_own_stores_for_others_and_keeps_the_two_apart(make_user: MakeUser) -> None:
    alice, bob = make_user("alice"), make_user("bob")
    know(alice, bob, "bob")
    content = random_bytes(SMALL)
    sha256 = leave(alice, "bob", content)
    assert alice.listed() == []
    assert alice.restore(sha256, output=alice.folder / "copy").exit_code == 3
    assert restored(bob, sha256) == content
    assert not alice.store_bytes(content)["already_stored"]
    assert restored(alice, sha256) == content


def test_its_owner_can_share_what_was_left_for_them(camera: User, family: User, make_user: MakeUser) -> None:
    aunt = make_user("aunt")
    know(family, aunt, "aunt")
    content = random_bytes(SMALL)
    sha256 = leave(camera, "family", content)
    admin(family, "share", "--hash", sha256, "--with", "aunt")
    assert restored(aunt, sha256) == content and restored(family, sha256) == content
    admin(family, "unshare", "--hash", sha256, "--with", "aunt")
    assert aunt.restore(sha256, output=aunt.folder / "again").exit_code == 3
    admin(family, "delete", "--yes", "--hash", sha256)
    assert family.listed() == []


def test_who_may_only_store_can_neither_find_nor_read_what_it_stored(
    camera: User, family: User, cluster: LocalCluster
) -> None:
    before = held_shares(cluster)
    content = random_bytes(SMALL)
    sha256 = bytes.fromhex(leave(camera, "family", content))
    (encoding,) = {record.encoding for record in held_shares(cluster) - before}
    card = decode_card(admin(family, "contacts", "card").lines[0])
    refusals = asyncio.run(_try_to_read(identity_of(camera), card, sha256, bytes.fromhex(encoding)))
    assert refusals == [Code.NOT_ALLOWED] * 6
    for program in (("consumer", "--list"), ("consumer", "--hash", sha256.hex()), ("admin", "verify")):
        assert camera.run(*program).exit_code in (2, 3, 6)  # it has no vault to do that with


def identity_of(machine: User) -> ClientIdentity:
    folder = machine.home / "client"
    return ClientIdentity(load_key_pair(folder / "client.key"), load_brokers(folder / "brokers.json"))


async def _try_to_read(identity: ClientIdentity, card: ContactCard, sha256: bytes, encoding: bytes) -> list[Code]:
    """Ask all that would tell of what was stored, with all that the camera knows."""
    refusals = []
    proof = depositor(identity.key_pair.secret, card.owner).key.proof(identity.key_pair.public)
    async with Link(identity, proof, deposit_for=card.owner_key) as link:
        share = ShareName(encoding, 0)
        device = (await list_devices(link))[0].device_id
        describe = link.request(DESCRIBE, Describe([share]), device=device, reply_bytes=1 << 16)
        block = Fetch([BlockName(encoding, 0, 0)])
        fetch = link.request(FETCH, block, device=device, reply_bytes=1 << 16)
        deletion = VaultKey.generate().tombstone(card.object_id(sha256), encoding, 1, 3600)
        delete = link.request(DELETE, deletion, device=device)
        progress = link.request(PROGRESS, share, device=device, reply_bytes=1 << 10)
        looks = (locate(link, [card.object_id(sha256)]), list_encodings(link))
        for question in (*looks, describe, fetch, delete, progress):
            try:
                await question
            except DeclinedError as error:
                refusals.append(error.code)
    return refusals


def test_nothing_of_what_it_stored_stays_with_the_camera_or_on_a_device(
    camera: User, family: User, cluster: LocalCluster
) -> None:
    shutil.copy(PHOTO, camera.folder / "secret-name.jpg")
    (stored,) = camera.store("--for", "family", "secret-name.jpg")
    found = b"".join(path.read_bytes() for path in files_below(camera.home))
    found += b"".join(path.read_bytes() for name in cluster.devices for path in files_below(cluster.directory / name))
    assert b"secret-name" not in found
    assert bytes.fromhex(stored["sha256"]) not in found and stored["sha256"].encode() not in found


def test_a_device_that_fails_in_the_middle_costs_its_share_only(
    camera: User, family: User, fragile_cluster: LocalCluster
) -> None:
    content = random_bytes(2 * LARGE)
    with camera.started("producer", "--for", "family", "-", "--json") as process:
        feed(process, content[:LARGE])
        wait_staged(fragile_cluster, 6)
        fragile_cluster.kill_device(6)
        ended = finish(process, content[LARGE:])
    assert ended.exit_code == 0, ended
    (stored,) = ended.objects
    assert stored["degraded"] and "5 of 6 shares" in ended.stderr
    assert restored(family, stored["sha256"]) == content


def test_storing_for_somebody_unknown_or_without_a_vault_for_oneself_says_what_to_do(camera: User) -> None:
    (camera.folder / "file").write_bytes(b"x")
    unknown = camera.run("producer", "--for", "nobody", "file")
    assert unknown.exit_code == 3 and "contacts list" in unknown.stderr, unknown
    no_vault: Ended = camera.run("producer", "file", TESSERA_PASSPHRASE="any passphrase there is")
    assert no_vault.exit_code == 3 and "vault create" in no_vault.stderr, no_vault
