"""A device that was away while its encoding was amended is mended, whatever messages are lost."""

from __future__ import annotations

import random

import msgspec
import pytest

from common.protocol.codec import pack, unpack
from common.protocol.device_messages import Grant, SignedCommitment
from common.vault.keys import VaultKey
from tests.support.sample_shares import KEY, OWNER, sign
from tests.unit.simulation.device import Device, Stored
from tests.unit.simulation.images import Encoding, encode, make_image
from tests.unit.simulation.world import World

NEW_KEY, FRIEND = VaultKey(b"\x0d" * 32), b"\x0e" * 16


def amended(encoding: Encoding, *, rotated: bool) -> tuple[bytes, bytes]:
    """The owner and the packed commitment from now on."""
    before = unpack(encoding.packed, SignedCommitment).commitment
    said = msgspec.structs.replace(before, revision=2, grants=[Grant(FRIEND, b"f" * 32, b"for the friend")])
    if not rotated:
        return OWNER, pack(sign(said))
    said.object_id, said.mapping, said.owner = b"n" * 32, b"another mapping", NEW_KEY.owner_id()
    said.transfers = [KEY.signing_key().transfer(encoding.encoding_id, said.owner)]
    return said.owner, pack(sign(said, NEW_KEY))


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_away_is_mended_with_the_newer_commitment(seed: int, rotated: bool) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same in every run
    k, n = [(2, 3), (2, 4), (4, 6)][seed % 3]
    world = World(rng, n + seed % 2, 1 + seed % 2)
    world.run(3.0)
    devices = list(world.devices.values())
    encoding = encode(make_image(rng, k, n), rng)
    for share, device in enumerate(devices[:n]):
        device.store((encoding.encoding_id, share), Stored(OWNER, encoding.packed, encoding.share(share)))
    world.run(3.0)
    away = devices[seed % n]
    world.leave(away)
    owner, packed = amended(encoding, rotated=rotated)
    for share, device in enumerate(devices[:n]):
        if device is not away:
            device.store((encoding.encoding_id, share), Stored(owner, packed, encoding.share(share)))
    world.run(1.0)
    world.loss = 0.1
    away.up = True
    wanted = [(share, owner, packed) for share in range(n)]
    until = world.now + 300.0
    while world.now < until and held(devices, encoding) != wanted:
        world.run(5.0)
    assert held(devices, encoding) == wanted


def held(devices: list[Device], encoding: Encoding) -> list[tuple[int, bytes, bytes]]:
    """Share, owner and commitment of all that devices hold, every block of it good."""
    found = []
    for device in devices:
        for (_, share), stored in device.shares.items():
            assert stored.blocks == encoding.share(share)
            found.append((share, stored.owner, stored.packed))
    return sorted(found)
