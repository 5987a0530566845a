"""Missing shares are made on the devices that were named, and on no other, with what the others were signed with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from admin.amending import amend, find_current, holders_of
from admin.events import Event, Repaired
from admin.repairing import complete_images
from common.errors import NotFoundError
from common.protocol.codec import pack, unpack
from common.protocol.device_messages import SignedCommitment
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.repository.repository import Repository
from common.vault.contact_card import ContactCard, card_of
from common.vault.folder import VaultFolder
from producer.events import ShareStep, Step, StoredImage
from producer.owner import OwnVault
from tests.support.memory_cluster import MemoryCluster, run, stored_blocks
from tests.support.putting import put
from tests.support.sample_images import KEY, OTHER_KEY, chance

K, N = 3, 5
DEVICES = [f"device-{number}" for number in range(1, N + 3)]
BATCHED, STREAMED = 40_000, 9 << 20
SIZES = [BATCHED, STREAMED]


class Scene:
    """Of seven devices one refuses a share of an image in mid-put, and two others are not chosen for it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.cluster = MemoryCluster(N + 2)
        self.vault = VaultFolder(folder / "home")
        self.steps: list[ShareStep] = []
        self.path = folder / "image"
        self.path.write_bytes(chance("image", size))
        refusing = self.cluster.devices[1]
        refusing.decline(Operation.STORE if size == BATCHED else Operation.APPEND, Code.NO_ROOM)
        self.stored = run(self._put(avoid=self.cluster.ids[N:]))
        self.messages = len(self.cluster.messages)

    async def _put(self, avoid: Sequence[bytes]) -> StoredImage:
        (outcome,) = await put(self.cluster, OwnVault(self.vault, KEY), K, N, [str(self.path)], avoid=avoid)
        assert isinstance(outcome, StoredImage)
        return outcome

    def complete(self, *to: str) -> list[Repaired]:
        async def completed() -> list[Repaired]:
            repository = Repository(self.cluster.link, self.vault, KEY, self._take)
            images = (await repository.holdings([self.stored.sha256.hex()])).images
            return await complete_images(repository, images, to)

        return run(completed())

    def share_with(self, card: ContactCard) -> None:
        async def shared() -> None:
            repository = Repository(self.cluster.link, self.vault, KEY, self._take)
            (encoding,) = (await repository.holdings([self.stored.sha256.hex()])).images[0].encodings
            current = await find_current(repository, encoding)
            await amend(repository, encoding.encoding_id, current, [card], holders_of(encoding))

        run(shared())

    def _take(self, event: Event) -> None:
        if isinstance(event, ShareStep):
            self.steps.append(event)

    def holders(self) -> set[str]:
        return {device.name for device in self.cluster.devices if device.shares}

    def uncommitted(self) -> list[str]:
        return [d.name for d in self.cluster.devices for held in d.shares.values() if held.commitment is None]


@pytest.fixture(params=SIZES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, request.param)
    assert scene.stored.devices.count(None) == 1, "it is degraded"
    assert scene.holders() == {"device-1", "device-3", "device-4", "device-5"}
    return scene


def test_the_missing_share_goes_to_a_device_that_was_named_and_to_no_other(scene: Scene) -> None:
    (outcome,) = scene.complete("device-1", "device-3", "device-4", "device-5", "device-7")
    assert outcome.repaired, outcome.text
    assert scene.holders() == {"device-1", "device-3", "device-4", "device-5", "device-7"}
    ((encoding_id, share),) = [key for d in scene.cluster.devices if d.name == "device-7" for key in d.shares]
    assert share == scene.stored.devices.index(None)
    commitments = {
        held.commitment.mapping + held.commitment.recipe
        for holders in scene.cluster.holdings().values()
        for _, held in holders
        if held.commitment is not None
    }
    assert len(commitments) == 1, "the steward requires k that are alike"
    assert stored_blocks(scene.cluster, encoding_id, share), "which the device checked against the recipe"
    assert {(s.device, s.step) for s in scene.steps} == {
        ("device-7", step) for step in (Step.PLACED, Step.ACKNOWLEDGED, Step.COMMITTED)
    }
    assert {step.shown for step in scene.steps} == {scene.stored.sha256.hex()}


def test_the_device_that_refused_takes_it_when_it_has_room_again(scene: Scene) -> None:
    (outcome,) = scene.complete(*DEVICES[:N])
    assert outcome.repaired
    assert scene.holders() == set(DEVICES[:N])


def test_where_none_of_the_named_devices_can_take_it_nothing_is_done_and_it_is_said(scene: Scene) -> None:
    scene.cluster.devices[1].full = True
    before = scene.holders()
    (outcome,) = scene.complete(*DEVICES[:N])
    assert not outcome.repaired
    assert "4 of 5 shares are there" in outcome.text
    assert "choose more" in outcome.text
    assert outcome.exit_code == 5
    assert scene.holders() == before
    assert scene.uncommitted() == []


def test_what_is_whole_is_left_alone(scene: Scene) -> None:
    assert scene.complete(*DEVICES)
    fetches = sum(device.asked[Operation.FETCH] for device in scene.cluster.devices)
    assert scene.complete(*DEVICES) == []
    assert sum(device.asked[Operation.FETCH] for device in scene.cluster.devices) == fetches


def test_a_device_that_fails_at_the_commit_is_replaced_by_another_that_was_named(scene: Scene) -> None:
    scene.cluster.devices[5].die(Operation.COMMIT)
    (outcome,) = scene.complete(*DEVICES)
    assert outcome.repaired
    assert "device-7" in scene.holders() or "device-2" in scene.holders()


def test_a_block_that_is_not_what_was_stored_is_passed_over(scene: Scene) -> None:
    scene.cluster.devices[0].lies = True
    (outcome,) = scene.complete(*DEVICES)
    assert outcome.repaired


def test_with_too_few_shares_at_hand_it_says_whom_to_connect(scene: Scene) -> None:
    for number in (0, 2):
        scene.cluster.devices[number].alive = False
    (outcome,) = scene.complete(*DEVICES)
    assert not outcome.repaired
    assert "connect one of these again: device-1, device-3" in outcome.text


def test_a_device_that_does_not_exist_is_said_before_anything_is_done(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match="attic"):
        scene.complete("attic")


def test_a_share_of_an_image_that_is_shared_has_the_grants_of_the_others(scene: Scene) -> None:
    scene.share_with(card_of(OTHER_KEY, "Bea"))
    (outcome,) = scene.complete(*DEVICES)
    assert outcome.repaired, outcome.text
    signed = {
        pack(held.signed)
        for holders in scene.cluster.holdings().values()
        for _, held in holders
        if held.signed is not None
    }
    assert len(signed) == 1
    assert unpack(signed.pop(), SignedCommitment).commitment.grants
