"""Nothing but what the owner stored holds a rotation up: not what others granted, left or made up."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from admin.printer import AdminPrinter
from admin.rotating import UNREADABLE, _hand_over_all
from common.errors import NotEnoughError
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.messages import EncodingAt, ShareAt
from common.repository.repository import Repository
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from producer.owner import OtherVault, Owner, OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, OTHER_KEY, chance

K, N = 2, 4


class JunkCluster(MemoryCluster):
    """`junk`: what is listed for the vault besides."""

    junk: Sequence[EncodingAt] = ()

    def encodings(self) -> list[EncodingAt]:
        return sorted([*super().encodings(), *self.junk], key=lambda encoding: encoding.object_id)


class Scene:
    """A vault with two images, whose key is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = JunkCluster(N)
        self.vault = VaultFolder(folder / "home")
        self.put(OwnVault(self.vault, KEY), "first")
        self.put(OwnVault(self.vault, KEY), "second")

    def put(self, owner: Owner, name: str) -> None:
        path = self.folder / name
        path.write_bytes(chance(name, 3000))
        run(put(self.cluster, owner, K, N, [str(path)]))

    def rotate(self, *leave: str) -> int:
        async def hand_over() -> int:
            old = Repository(self.cluster.link, self.vault, KEY, AdminPrinter("rotating"))
            await old.list_devices()
            return await _hand_over_all(old, Repository(self.new().link, self.vault, OTHER_KEY, old.emit), leave)

        return run(hand_over())

    def new(self) -> MemoryCluster:
        """The same devices, in a session for the new key."""
        cluster = copy.copy(self.cluster)
        cluster.owner, cluster.junk = OTHER_KEY.owner_id(), ()
        return cluster

    def made_up(self, *, granted: bool = False, devices: int = 1) -> EncodingAt:
        holders = [ShareAt(i, device, True, True) for device in self.cluster.ids[:devices] for i in range(N)]
        return EncodingAt(b"\x77" * 32, b"\x77" * 16, K, N, 1000, holders, granted)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_what_is_granted_or_claimed_and_does_not_open_holds_nothing_up(scene: Scene) -> None:
    true = scene.cluster.encodings()[0]
    liar = ShareAt(0, scene.cluster.ids[0], True, True)
    scene.cluster.junk = [
        scene.made_up(),
        scene.made_up(granted=True, devices=N),
        scene.made_up(devices=N),
        msgspec.structs.replace(true, encoding_id=b"\x78" * 16, shares=[liar]),
        msgspec.structs.replace(true, k=64, n=64, shares=[liar]),
    ]
    assert scene.rotate() == 0
    assert len(scene.new().encodings()) == 2


def test_what_cannot_be_read_holds_it_up_only_while_a_device_is_away(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.cluster.junk = [scene.made_up()]
    scene.cluster.devices[3].alive = False
    assert scene.rotate() == NotEnoughError.exit_code
    assert f"--leave {UNREADABLE}" in capsys.readouterr().err
    assert scene.rotate(UNREADABLE) == 0
    assert len(scene.new().encodings()) == 2


def test_what_another_left_of_an_own_image_does_not_hold_that_up(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.put(OtherVault(card_of(KEY, "me"), ClientIdentity(KeyPair.generate(), [])), "first")
    (left,) = [e for e in scene.cluster.encodings() if e.object_id not in own_ids()]
    for device in scene.cluster.devices[1:]:
        device.lose(*[key for key in device.shares if key[0] == left.encoding_id])
    assert scene.rotate() == 0
    assert "what of it is not needed stays under the old key" in capsys.readouterr().err


def test_the_rest_of_a_put_that_was_broken_off_does_not_hold_it_up(scene: Scene) -> None:
    """Beside an encoding that restores, and where it is all there is of an image."""
    second = next(e for e in scene.cluster.encodings() if e.object_id == KEY.object_id(sha256_of("second")))
    before = {encoding.encoding_id for encoding in scene.cluster.encodings()}
    scene.put(OwnVault(VaultFolder(scene.folder / "another home"), KEY), "third")
    scene.cluster.owner = KEY.owner_id()
    (third,) = {encoding.encoding_id for encoding in scene.cluster.encodings()} - before
    for device in scene.cluster.devices[1:]:
        device.lose(*[key for key in device.shares if key[0] in (third, second.encoding_id)])
    assert scene.rotate() == 0
    assert [e.object_id for e in scene.new().encodings()] == [OTHER_KEY.object_id(sha256_of("first"))]


def sha256_of(name: str) -> bytes:
    return hashlib.sha256(chance(name, 3000)).digest()


def own_ids() -> set[bytes]:
    return {KEY.object_id(hashlib.sha256(chance(name, 3000)).digest()) for name in ("first", "second")}
