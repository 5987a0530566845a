"""A device that lies keeps no image from being restored, and nothing that honest devices lose from being mended."""

from __future__ import annotations

import random
from typing import Optional

import pytest

from tests.support.sample_shares import OWNER
from tests.unit.simulation.device import Device, Stored
from tests.unit.simulation.images import Encoding, encode, make_image
from tests.unit.simulation.lying import Lie, LyingDevice
from tests.unit.simulation.world import World

PATIENCE = 100.0  # seconds
SOON = 8.0  # seconds, in which what was asked for is repaired; alone it takes one
IMAGES = 6
SEEDS = range(3)


class Scene:
    """Images on all devices but one; the liars have a share of each, and say what they say from the beginning."""

    def __init__(self, seed: int, lie: Optional[Lie], liars: int = 1) -> None:
        rng = self.rng = random.Random(seed)  # noqa: S311 - the same in every run
        self.k, self.n = rng.choice([(2, 4), (3, 5), (4, 6)] if liars == 1 else [(3, 5), (4, 6)])
        self.world = World(rng, self.n + 1 - liars, rng.choice([1, 2]))
        self.liars = [self.world.add_device(LyingDevice) for _ in range(liars)]
        for liar in self.liars:
            assert isinstance(liar, LyingDevice)
            liar.lie = lie
        self.world.run(5.0)
        self.encodings = [self._put() for _ in range(IMAGES)]
        self.world.run(5.0)
        for number in range(len(self.world.brokers)):
            self.world.restart_broker(number)
        self.world.run(15.0)

    def _put(self) -> Encoding:
        encoding = encode(make_image(self.rng, self.k, self.n), self.rng)
        honest = self.rng.sample(self.honest(), self.n - len(self.liars))
        for share, device in enumerate([*self.liars, *honest]):
            device.store((encoding.encoding_id, share), Stored(OWNER, encoding.packed, encoding.share(share)))
        return encoding

    def honest(self) -> list[Device]:
        return [device for device in self.world.devices.values() if device not in self.liars]

    def intact(self, encoding: Encoding) -> set[int]:
        """The shares that honest devices have, which are here."""
        found = set()
        for device in self.honest():
            for (encoding_id, share), stored in device.shares.items() if device.up else ():
                if encoding_id == encoding.encoding_id and stored.blocks == encoding.share(share):
                    found.add(share)
        return found

    def repair(self) -> float:
        """Ask every broker for it, as `repair` does; after how many seconds all is mended."""
        began = self.world.now
        while not self.is_mended():
            assert self.world.now < began + PATIENCE
            for broker in self.world.brokers if self.world.now == began else ():
                for encoding in self.encodings:
                    broker.steward.hurry(encoding.encoding_id)
            self.world.run(0.25)
        return self.world.now - began

    def lose_one(self) -> Device:
        device = self.rng.choice([device for device in self.honest() if device.up])
        self.world.leave(device)
        return device

    def wait_mended(self) -> None:
        end = self.world.now + PATIENCE
        while self.world.now < end:
            self.world.run(5.0)
            if self.is_mended():
                return
        raise AssertionError([sorted(self.intact(encoding)) for encoding in self.encodings])

    def is_mended(self) -> bool:
        return all(len(self.intact(encoding)) >= self.n - len(self.liars) for encoding in self.encodings)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lie", [*Lie, None], ids=lambda lie: "any" if lie is None else lie.name)
def test_one_device_that_lies_keeps_nothing_from_being_mended(lie: Optional[Lie], seed: int) -> None:
    scene = Scene(seed, lie)
    for _ in range(2):
        gone = scene.lose_one()
        scene.world.add_device()
        scene.wait_mended()
        gone.up = True
        scene.world.run(30.0)
        assert scene.is_mended()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lie", [*Lie, None], ids=lambda lie: "any" if lie is None else lie.name)
def test_as_many_as_an_image_may_lose_cost_it_no_share_of_an_honest_device(lie: Optional[Lie], seed: int) -> None:
    scene = Scene(seed, lie, liars=2)
    scene.world.run(60.0)
    assert scene.is_mended()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lie", [*Lie, None], ids=lambda lie: "any" if lie is None else lie.name)
def test_what_is_asked_for_is_repaired_soon_beside_one_that_lies(lie: Optional[Lie], seed: int) -> None:
    scene = Scene(seed, lie)
    scene.world.add_device()
    scene.world.run(3.0)
    scene.lose_one()
    scene.world.run(0.5)
    assert scene.repair() < SOON


@pytest.mark.parametrize("seed", [21, 31, 43, 49, 54])  # with which they did, for six to twenty minutes
def test_two_brokers_do_not_give_way_to_each_other_over_one_that_is_silent(seed: int) -> None:
    scene = Scene(seed, Lie.SILENT)
    assert len(scene.world.brokers) == 2
    scene.world.add_device()
    scene.world.run(3.0)
    scene.lose_one()
    scene.world.run(0.5)
    assert scene.repair() < SOON
