"""A put whose segments the broker codes, over all that may go wrong: 200 schedules of chance, each drawn from its seed.

To run one again: TESSERA_SIMULATE=17 python -m pytest tests/unit/simulation/test_putting.py
"""

from __future__ import annotations

import random

import pytest

from broker.coding import Coding, DeviceRequest
from common.protocol.envelope import Operation
from common.protocol.messages import AppendSegment
from tests.support.seeds import seeds_in_chunks
from tests.unit.simulation.client import SimulatedClient
from tests.unit.simulation.device import Device, Key
from tests.unit.simulation.images import Encoding, encode, make_image
from tests.unit.simulation.world import World

PATIENCE = 300.0  # seconds in which a put ends, and then all is whole
CODES = [(2, 3), (2, 4), (3, 5), (4, 6)]


class Scene:
    """As many devices as shares, a client, and what was committed; only true blocks may be."""

    def __init__(self, seed: int, brokers: int = 1) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - the same in every run
        self.k, self.n = self.rng.choice(CODES)
        self.world = World(self.rng, self.n, brokers)
        self.world.on_commit = self._committed
        self.encodings: dict[bytes, Encoding] = {}
        self.world.run(3.0)
        self.client = SimulatedClient(self.world)

    def put(self) -> Encoding:
        """Begin to store a new image."""
        encoding = encode(make_image(self.rng, self.k, self.n), self.rng)
        self.encodings[encoding.encoding_id] = encoding
        devices = list(self.world.devices.values())
        self.rng.shuffle(devices)
        self.client.put(encoding, devices)
        return encoding

    def end(self) -> int:
        """How many shares the put committed."""
        end = self.world.now + PATIENCE
        while self.client.committed is None:
            assert self.world.now < end, f"seed {self.seed}: the put does not end"
            self.world.run(1.0)
        return self.client.committed

    def trouble(self) -> None:
        """Something happens while it is stored."""
        world, rng = self.world, self.rng
        away = [device for device in world.devices.values() if not device.up]
        what = rng.randrange(4)
        if what == 0 and len(away) < self.n - self.k:
            world.leave(rng.choice([device for device in world.devices.values() if device.up]))
        elif what == 1 and away:
            rng.choice(away).up = True
        elif what == 2:
            world.restart_broker(rng.randrange(len(world.brokers)))
        else:
            world.loss = rng.choice([0.0, 0.1, 0.3])

    def calm(self) -> None:
        self.world.loss = 0.0
        for device in self.world.devices.values():
            device.up = True

    def wait_whole(self, encoding: Encoding) -> None:
        end = self.world.now + PATIENCE
        while self.held(encoding) != set(range(self.n)):
            assert self.world.now < end, f"seed {self.seed}: there are the shares {self.held(encoding)}"
            self.world.run(2.0)

    def held(self, encoding: Encoding) -> set[int]:
        return {
            share
            for device in self.world.devices.values()
            for (encoding_id, share), stored in device.shares.items()
            if encoding_id == encoding.encoding_id and stored.blocks == encoding.share(share)
        }

    def _committed(self, device: Device, key: Key) -> None:
        wrong = device.shares[key].blocks != self.encodings[key[0]].share(key[1])
        assert not wrong, f"seed {self.seed}: a wrong share {key[1]} was committed on {device.name}"


def test_where_nothing_goes_wrong_every_segment_is_sent_once_and_no_block_alone() -> None:
    scene = Scene(1)
    encoding = scene.put()
    assert scene.end() == scene.n
    assert scene.held(encoding) == set(range(scene.n))
    assert scene.client.sent.count(Operation.APPEND_SEGMENT) == encoding.recipe.segment_count
    assert Operation.APPEND not in scene.client.sent


@seeds_in_chunks(200, 4)
def test_whatever_goes_wrong_only_true_shares_are_stored_and_k_become_all(seeds: range) -> None:
    for seed in seeds:
        scene = Scene(seed, brokers=1 + seed % 2)
        for _ in range(3):
            encoding = scene.put()
            for _ in range(scene.rng.randint(0, 5)):
                scene.trouble()
                scene.world.run(scene.rng.choice([0.02, 0.05, 0.3, 2.0]))
            committed = scene.end()
            scene.calm()
            scene.world.run(10.0)
            if committed >= scene.k:
                scene.wait_whole(encoding)


class Miscoding(Coding):
    def appends(self, asked: AppendSegment, payload: memoryview) -> list[DeviceRequest]:
        return [
            part._replace(payload=bytes(len(part.payload)) if block.share >= asked.k else part.payload)
            for part, block in zip(super().appends(asked, payload), asked.blocks)
        ]


@pytest.mark.parametrize("seed", range(5))
def test_of_wrong_parity_nothing_is_stored_and_the_steward_makes_it_of_the_data(seed: int) -> None:
    scene = Scene(seed)
    scene.world.brokers[0].switchboard._coding = Miscoding()
    encoding = scene.put()
    assert scene.end() == scene.k, "the client of the simulation sends nothing again that was refused"
    assert scene.held(encoding) >= set(range(scene.k))
    scene.wait_whole(encoding)
