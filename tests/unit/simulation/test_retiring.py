"""A device is not retired while what only it has may be needed with what another device is about to take back."""

from __future__ import annotations

import contextlib
import random

from common.protocol.messages import Retire
from tests.support.sample_shares import OWNER
from tests.unit.simulation.device import Decline, Device, Stored
from tests.unit.simulation.images import Encoding, encode, make_image
from tests.unit.simulation.world import World


def stored_on_three() -> tuple[World, list[Device], Encoding]:
    """Four devices, of which the first three have an image, 2 of 3."""
    rng = random.Random(1)  # noqa: S311 - the same in every run
    world = World(rng, 4, 1)
    world.run(5.0)
    devices = list(world.devices.values())
    encoding = encode(make_image(rng, 2, 3), rng)
    for share, device in enumerate(devices[:3]):
        device.store((encoding.encoding_id, share), Stored(OWNER, encoding.packed, encoding.share(share)))
    world.run(5.0)
    return world, devices, encoding


def test_a_share_whose_fellows_are_in_the_trash_of_read_only_ones_keeps_its_device() -> None:
    world, devices, encoding = stored_on_three()
    for device in devices[:3]:
        device.delete(encoding.tombstone(1), OWNER)
    world.run(1.0)
    retiring, *others = devices[:3]
    for device in others:
        device.read_only = True
    for device in devices[:3]:
        with contextlib.suppress(Decline):
            device.undelete(encoding.tombstone(2), OWNER)
    assert [len(device.shares) for device in devices] == [1, 0, 0, 0]
    world.brokers[0].retiring.retire(Retire(retiring.device_id))
    world.run(60.0)
    assert world.listed(retiring)
    for device in others:
        device.read_only = False
    world.run(120.0)
    assert not world.listed(retiring)
    assert [len(device.shares) for device in devices[1:]] == [1, 1, 1]


def test_who_alone_knows_of_a_deletion_stays_until_another_has_heard_of_it() -> None:
    world, devices, encoding = stored_on_three()
    retiring, *others = devices[:3]
    for device in others:
        world.leave(device)
    world.run(20.0)
    retiring.delete(encoding.tombstone(1), OWNER)
    world.brokers[0].retiring.retire(Retire(retiring.device_id))
    world.run(60.0)
    assert world.listed(retiring)
    for device in others:
        device.up = True
    world.run(60.0)
    assert not world.listed(retiring)
    assert not any(device.shares for device in devices)


def test_who_asks_again_has_what_failed_tried_at_once() -> None:
    world, devices, _ = stored_on_three()
    retiring, other = devices[0], devices[3]
    other.full = True
    world.brokers[0].retiring.retire(Retire(retiring.device_id))
    world.run(70.0)  # it says that it has room, and takes nothing
    other.full = False
    world.brokers[0].retiring.retire(Retire(retiring.device_id))
    world.run(5.0)
    assert len(other.shares) == 1
    assert not world.listed(retiring)
