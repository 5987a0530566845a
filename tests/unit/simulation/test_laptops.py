"""Laptops that go every evening and come every morning: nothing is rebuilt, unless one stays away for too long."""

from __future__ import annotations

import random

import pytest

from common.protocol.messages import DeviceKind
from tests.support.sample_shares import OWNER
from tests.unit.simulation.device import Device, Key, Stored
from tests.unit.simulation.images import encode, make_image
from tests.unit.simulation.world import REPAIR_AFTER, REPAIR_LAPTOPS_AFTER, World

K, N = 3, 5
NIGHT = 8 * REPAIR_AFTER  # far longer than a server is waited for, shorter than a laptop is
DAY = 10.0
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.one_python) for seed in range(3, 30))]


class Home:
    """Seven devices, two of them laptops, and images on five of them each, at least one a laptop."""

    def __init__(self, seed: int, brokers: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - the same in every run
        self.world = World(self.rng, 7, brokers)
        self.devices = list(self.world.devices.values())
        self.laptops = self.devices[:2]
        for laptop in self.laptops:
            laptop.kind = DeviceKind.LAPTOP
        self.rebuilt: list[str] = []
        self.world.on_commit = self._committed
        self.world.connect_all()
        self.world.run(5.0)
        for _ in range(8):
            self._put()
        self.world.run(5.0)

    def _put(self) -> None:
        encoding = encode(make_image(self.rng, K, N), self.rng)
        holders = [self.laptops[0], *self.rng.sample(self.devices[1:], N - 1)]
        for share, device in enumerate(holders):
            device.store((encoding.encoding_id, share), Stored(OWNER, encoding.packed, encoding.share(share)))

    def _committed(self, device: Device, key: Key) -> None:
        self.rebuilt.append(f"share {key[1]} on {device.name} at {self.world.now:.1f}")

    def night(self, *sleeping: Device, seconds: float = NIGHT, restart: bool = False) -> None:
        for device in sleeping:
            self.world.leave(device)
        self.world.run(2.0)
        if restart:
            for number in range(len(self.world.brokers)):
                self.world.restart_broker(number)
            self.world.connect_all()  # a server that is late by chance would rightly be made up for
        self.world.run(seconds)
        for device in sleeping:
            device.up = True
        self.world.run(DAY)


@pytest.mark.parametrize("brokers", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_laptops_off_at_night_cause_no_rebuilding_not_even_by_brokers_started_anew(seed: int, brokers: int) -> None:
    home = Home(seed, brokers)
    for evening in range(3):
        home.night(home.laptops[0], restart=evening == 1)
    home.night(*home.laptops)
    assert home.rebuilt == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_laptop_that_stays_away_for_longer_is_made_up_for(seed: int) -> None:
    home = Home(seed, 1)
    home.night(home.laptops[0], seconds=REPAIR_LAPTOPS_AFTER + 2 * NIGHT)
    assert len(home.rebuilt) >= 8


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_that_stays_away_is_made_up_for_meanwhile(seed: int) -> None:
    home = Home(seed, 1)
    server = home.devices[-1]
    held = len(server.shares)
    home.world.leave(home.laptops[0])
    home.night(server)
    assert len(home.rebuilt) == held


def test_both_brokers_remember_which_device_is_a_laptop() -> None:
    home = Home(1, 2)
    kinds = {member.name: member.kind for member in home.world.members.members.workers()}
    assert [name for name, kind in kinds.items() if kind is DeviceKind.LAPTOP] == [each.name for each in home.laptops]
