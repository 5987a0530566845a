"""What is told of shares while they go and come, to whoever shows it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Optional

import pytest

from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from consumer.events import Attempt, BytesReceived, Missing
from consumer.events import Event as ConsumerEvent
from consumer.output import HeldOutput
from consumer.restorer import Restorer
from producer.events import Event, ShareStep, ShareSteps, Step, StoredImage
from producer.owner import OwnVault
from tests import ROOT
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance, segment_size
from viewer.process import Viewer

K, N = 2, 4
SIZES = [30_000, 3 * segment_size(K, N) + 5]


class Watched:
    """One machine whose producer and consumer are watched."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        self.cluster = MemoryCluster(devices)
        self.vault = VaultFolder(folder / "home")
        self.steps: list[ShareStep] = []
        self.news: list[ConsumerEvent] = []

    def put(self, content: bytes, avoid: Optional[list[bytes]] = None) -> bytes:
        path = self.folder / "image"
        path.write_bytes(content)

        async def store() -> bytes:
            owner = OwnVault(self.vault, KEY)

            def steps(event: Event) -> None:
                if isinstance(event, ShareStep):
                    self.steps.append(event)
                elif isinstance(event, ShareSteps):
                    self.steps += event.each()

            (outcome,) = await put(self.cluster, owner, K, N, [str(path)], avoid=avoid or [], emit=steps)
            assert isinstance(outcome, StoredImage)
            return outcome.sha256

        return run(store())

    def get(self, sha256: bytes) -> HeldOutput:
        held = HeldOutput(1 << 20)

        async def restore() -> None:
            repository = Repository(self.cluster.link, self.vault, KEY)
            encodings = await repository.locate(sha256)
            await Restorer(repository, self.news.append).restore(encodings, sha256.hex(), lambda _: held)

        run(restore())
        return held

    def counted(self, step: Step) -> Counter[str]:
        return Counter(each.device for each in self.steps if each.step is step)


@pytest.mark.parametrize("size", SIZES)
def test_each_share_is_placed_acknowledged_to_its_last_byte_and_committed(size: int, tmp_path: Path) -> None:
    watched = Watched(tmp_path, N)
    watched.put(chance("content", size))
    names = {device.name for device in watched.cluster.devices}
    assert watched.counted(Step.PLACED) == watched.counted(Step.COMMITTED) == Counter(names)
    expected = {each.device: each.count for each in watched.steps if each.step is Step.PLACED}
    there: Counter[str] = Counter()
    for each in watched.steps:
        if each.step is Step.ACKNOWLEDGED:
            there[each.device] += each.count
    assert there == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_share_that_a_device_refuses_is_lost_there_and_placed_elsewhere(size: int, tmp_path: Path) -> None:
    watched = Watched(tmp_path, N + 1)
    watched.cluster.devices[0].full = True
    watched.put(chance("content", size))
    assert watched.counted(Step.LOST) == {"device-1": 1}
    assert watched.counted(Step.COMMITTED) == Counter(f"device-{number}" for number in range(2, N + 2))


@pytest.mark.parametrize("size", SIZES)
def test_a_device_that_is_to_be_avoided_gets_no_share_even_where_another_fails(size: int, tmp_path: Path) -> None:
    watched = Watched(tmp_path, N + 1)
    avoided = watched.cluster.devices[0]
    watched.cluster.devices[1].full = True
    watched.put(chance("content", size), avoid=[avoided.device_id])
    assert not avoided.shares
    assert len(watched.counted(Step.COMMITTED)) == N - 1


@pytest.mark.parametrize("size", SIZES)
def test_of_each_device_it_is_told_what_came_and_what_was_missing(size: int, tmp_path: Path) -> None:
    watched = Watched(tmp_path, N)
    content = chance("content", size)
    sha256 = watched.put(content)
    watched.cluster.devices[0].alive = False
    watched.cluster.devices[1].decline(Operation.FETCH, Code.DAMAGED)
    held = watched.get(sha256)
    assert held.content() == content if size < 1 << 20 else held.content() is None
    (attempt,) = [each for each in watched.news if isinstance(each, Attempt)]
    assert (attempt.k, attempt.n, set(attempt.devices)) == (K, N, {f"device-{number}" for number in range(1, N + 1)})
    missing = {*attempt.away, *(each.device for each in watched.news if isinstance(each, Missing))}
    assert missing == {"device-1", "device-2"}
    came = {each.device for each in watched.news if isinstance(each, BytesReceived)}
    assert {"device-3", "device-4"} <= came
    assert sum(each.count for each in watched.news if isinstance(each, BytesReceived)) >= size


def test_a_held_image_is_saved_byte_for_byte_in_place_of_what_was_there(tmp_path: Path) -> None:
    watched = Watched(tmp_path, N)
    content = chance("content", 3 << 20)
    held = watched.get(watched.put(content))
    target = tmp_path / "saved.png"
    target.write_bytes(b"what was there")
    for _ in range(2):
        held.save(target)
        assert target.read_bytes() == content


def test_the_viewer_shows_an_image_no_larger_than_asked_and_nothing_that_is_none() -> None:
    sample = ROOT / "samples" / "rocket.jpg"  # 640 × 427
    viewer = Viewer()
    try:
        small = viewer.show(sample, 320, 100)
        assert small is not None
        assert small.width <= 320 and small.height == 100
        assert len(small.rgba) == 4 * small.width * small.height
        whole = viewer.show(sample.read_bytes(), 2000, 2000)
        assert whole is not None and (whole.width, whole.height) == (640, 427)
        assert viewer.show(b"no image at all, but long enough to be read", 100, 100) is None
        assert viewer.look_at(sample).thumbnail is not None, "it looks at images still"
    finally:
        viewer.close()
