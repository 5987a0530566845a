"""A deletion, its undoing and a change of readers are called done when so many devices have it that it holds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from admin.deleting import delete_image, undelete_encodings
from admin.printer import AdminPrinter
from admin.quorum import quorum
from admin.sharing import adding, change_image, removing
from common.errors import NotEnoughError, NotFoundError, ProtocolError
from common.protocol.envelope import Operation
from common.protocol.messages import MAX_SHARES, Code, EncodingAt, ShareAt, Trashed
from common.repository.repository import Repository
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from producer.owner import OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, OTHER_KEY, chance
from tests.support.sample_shares import held_by

K, N = 2, 4
SOON = 10.0  # seconds; a device has twenty to answer
FRIENDS = [OTHER_KEY, VaultKey(b"\x77" * 32)]


class Scene:
    """One image on four devices, of which two restore it."""

    def __init__(self, folder: Path) -> None:
        self.cluster = MemoryCluster(N)
        self.vault = VaultFolder(folder / "home")
        path = folder / "image.bin"
        path.write_bytes(chance("image", 5000))
        run(put(self.cluster, OwnVault(self.vault, KEY), K, N, [str(path)]))
        self.encoding = self.encodings()[0]

    def encodings(self) -> list[EncodingAt]:
        return self.cluster.encodings()

    def connect(self, *numbers: int) -> None:
        """Only these devices, counted from 1, are connected now."""
        for number, device in enumerate(self.cluster.devices, 1):
            device.alive = number in numbers

    def repository(self) -> Repository:
        return Repository(self.cluster.link, self.vault, KEY, AdminPrinter("changing"))

    async def _delete(self, trash_days: int) -> list[str]:
        repository = self.repository()
        (image,) = (await repository.holdings()).images
        return await delete_image(repository, image, trash_days)

    def delete(self, trash_days: int = 7) -> list[str]:
        return run(self._delete(trash_days))

    async def _undelete(self, generation: int) -> None:
        repository = self.repository()
        await repository.list_devices()
        devices = [device.device_id for device in self.cluster.devices if device.alive]
        encoding = self.encoding
        await undelete_encodings(
            repository, [Trashed(encoding.object_id, encoding.encoding_id, generation, 1000, devices)]
        )

    def undelete(self, generation: int = 1) -> None:
        run(self._undelete(generation))

    async def _change(self, friend: VaultKey, share: bool) -> list[str]:
        repository = self.repository()
        (image,) = (await repository.holdings()).images
        card = card_of(friend, "friend")
        change = adding("friend", card, KEY) if share else removing(card.owner)
        return await change_image(repository, image, change, "friend")

    def share(self, friend: VaultKey) -> list[str]:
        return run(self._change(friend, True))

    def unshare(self, friend: VaultKey) -> list[str]:
        return run(self._change(friend, False))

    def readers(self) -> list[set[bytes]]:
        """Of each device, to whom it serves its share."""
        return [
            {grant.owner for share in held_by(device.store).values() for grant in share.grants}
            for device in self.cluster.devices
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_any_two_quorums_meet_and_whoever_restores_meets_one() -> None:
    for n in range(2, MAX_SHARES + 1):
        for k in range(2, n + 1):
            assert k <= quorum(k, n) <= n
            assert 2 * quorum(k, n) > n
            assert quorum(k, n) + k > n


# --- deleting


def test_a_deletion_on_half_of_the_devices_is_not_done_and_says_who_is_away(scene: Scene) -> None:
    scene.connect(1, 2)
    with pytest.raises(NotEnoughError, match="2 of the 3 devices that are needed deleted it") as caught:
        scene.delete()
    assert caught.value.advice == "connect device-3, device-4; brokers pass it on"


def test_a_deletion_on_so_many_that_no_others_restore_it_is_done(scene: Scene) -> None:
    scene.connect(1, 2, 3)
    assert scene.delete() == ["device-4"]


def test_a_device_that_answers_nothing_does_not_hold_up_what_enough_took(scene: Scene) -> None:
    scene.cluster.devices[3].silent = {Operation.DELETE}
    started = time.monotonic()
    scene.delete()
    assert time.monotonic() - started < SOON


def test_a_device_that_claims_a_later_generation_each_time_holds_up_no_deletion(scene: Scene) -> None:
    liar = scene.cluster.devices[3]
    for number in range(1, 100):
        liar.decline(Operation.DELETE, Code.CONFLICT, number)
    scene.delete()
    assert scene.cluster.devices[3].asked[Operation.DELETE] < 10
    assert all(not held_by(device.store) for device in scene.cluster.devices[:3])


def test_what_a_silent_device_makes_up_of_an_image_holds_up_no_deletion(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar, true = scene.cluster.devices[3], scene.encodings()
    liar.silent = {Operation.DELETE}
    share = ShareAt(0, liar.device_id, True, True)
    made_up = [replace(true[0], encoding_id=bytes([n]) * 16, shares=[share]) for n in range(9)]
    monkeypatch.setattr(scene.cluster, "encodings", lambda: true + made_up)
    started = time.monotonic()
    scene.delete()
    assert time.monotonic() - started < SOON
    assert all(not held_by(device.store) for device in scene.cluster.devices[:3])


def test_a_device_that_answers_nonsense_costs_its_own_answer_only(scene: Scene) -> None:
    scene.cluster.devices[3].fail(Operation.DELETE, lambda: ProtocolError("no msgpack"))
    scene.delete()


def test_where_no_device_is_away_all_that_have_a_share_are_enough(scene: Scene) -> None:
    for device in scene.cluster.devices[2:]:
        device.lose_all()
    assert scene.delete() == []


def test_what_some_devices_know_as_taken_back_is_deleted_on_all_by_one_generation(scene: Scene) -> None:
    scene.connect(1, 2)
    with pytest.raises(NotEnoughError):
        scene.delete()
    with pytest.raises(NotEnoughError):
        scene.undelete()
    scene.connect(1, 2, 3, 4)
    scene.delete()
    generations = [[t.generation for t in device.store.tombstones()] for device in scene.cluster.devices]
    assert generations == [[3]] * N


# --- taking back


def test_what_is_taken_back_on_one_device_only_is_not_called_taken_back(scene: Scene) -> None:
    scene.delete()
    for device in scene.cluster.devices[1:]:
        device.decline(Operation.UNDELETE, Code.READ_ONLY)
    with pytest.raises(NotEnoughError, match="only 1 of its shares are back"):
        scene.undelete()


def test_what_two_of_four_devices_took_back_is_not_certain_to_stay(scene: Scene) -> None:
    scene.delete()
    for device in scene.cluster.devices[2:]:
        device.decline(Operation.UNDELETE, Code.FAULT)
    with pytest.raises(NotEnoughError, match="2 of the 3 devices that are needed took it back"):
        scene.undelete()


def test_a_trash_that_was_emptied_is_another_thing_than_devices_that_refuse(scene: Scene) -> None:
    scene.delete(trash_days=0)
    with pytest.raises(NotFoundError, match="the trash was emptied"):
        scene.undelete()


def test_where_every_device_refuses_the_trash_is_not_called_empty(scene: Scene) -> None:
    scene.delete()
    for device in scene.cluster.devices:
        device.decline(Operation.UNDELETE, Code.READ_ONLY)
    with pytest.raises(NotEnoughError, match="no device could take it back"):
        scene.undelete()


def test_a_device_that_answers_nothing_does_not_hold_up_what_enough_took_back(scene: Scene) -> None:
    scene.delete()
    scene.cluster.devices[3].silent = {Operation.UNDELETE}
    started = time.monotonic()
    scene.undelete()
    assert time.monotonic() - started < SOON
    assert all(held_by(device.store) for device in scene.cluster.devices[:3])


def test_who_is_late_and_needed_is_asked_again_for_what_is_taken_back(scene: Scene) -> None:
    scene.delete()
    late = scene.cluster.devices[2:]

    def answer() -> None:
        for device in late:
            device.silent = set()

    async def undelete() -> None:
        for device in late:
            device.silent = {Operation.UNDELETE}
        asyncio.get_running_loop().call_later(0.1, answer)
        await scene._undelete(1)

    run(undelete())
    assert all(held_by(device.store) for device in scene.cluster.devices)


# --- changing who reads


def test_a_device_that_answers_nothing_holds_up_no_change(scene: Scene) -> None:
    scene.cluster.devices[3].silent = {Operation.AMEND, Operation.DESCRIBE}
    started = time.monotonic()
    assert scene.share(FRIENDS[0]) == ["device-4"]
    assert time.monotonic() - started < SOON


def test_what_half_of_the_devices_took_back_is_given_again_by_nobody(scene: Scene) -> None:
    first, second = FRIENDS
    scene.share(first)
    scene.connect(1, 2)
    with pytest.raises(NotEnoughError, match="2 of the 3 devices that are needed took the change"):
        scene.unshare(first)
    scene.connect(3, 4)  # which have an older commitment than this machine wrote
    with pytest.raises(NotEnoughError):
        scene.share(second)
    assert all(first.owner_id() not in readers for readers in scene.readers())


def test_what_too_few_devices_took_can_be_told_again(scene: Scene) -> None:
    (friend, _) = FRIENDS
    scene.share(friend)
    scene.connect(1, 2)
    with pytest.raises(NotEnoughError):
        scene.unshare(friend)
    scene.connect(1, 2, 3, 4)
    scene.unshare(friend)
    assert scene.readers() == [set()] * N
    with pytest.raises(NotFoundError):
        scene.unshare(friend)


def test_an_older_commitment_is_not_believed_by_who_wrote_a_newer_one(scene: Scene) -> None:
    first, second = FRIENDS
    scene.connect(1, 2, 3)
    assert scene.share(first) == ["device-4"]
    scene.connect(4)
    with pytest.raises(NotEnoughError):
        scene.share(second)
    assert scene.readers()[3] == {first.owner_id(), second.owner_id()}
