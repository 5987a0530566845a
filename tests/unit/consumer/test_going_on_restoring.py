"""An image that did not come together: what was proven of it is kept, and the next attempt asks for the rest only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest

from common.errors import IntegrityError, NotEnoughError, TesseraError
from common.process.events import BytesDone
from common.protocol.envelope import Operation
from common.protocol.operations import FETCH, Spec
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from consumer.events import BytesReceived, Event
from consumer.output import HeldImage, HeldOutput
from consumer.restorer import Restorer
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.memory_device import HeldShare
from tests.support.sample_images import KEY, EncodedImage, chance, encode, segment_size

K, N, SEGMENTS = 3, 5, 40
CONTENT = chance("image", SEGMENTS * segment_size(K, N) - 7)
Block = tuple[int, int]  # share, segment


class Counting(MemoryCluster):
    """Notes each block that it is asked for, and that it served."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.asked: list[Block] = []
        self.last: Optional[int] = None  # of the requests for blocks, before all but two devices are gone

    async def request(self, operation: Spec[Any, Any], header: Any, **keywords: Any) -> Any:
        if operation is FETCH:
            self.asked += [(name.share, name.segment) for name in header.blocks]
            if self.last is not None:
                self.last -= 1
                for device in self.devices[2:]:
                    device.alive = self.last > 0
        return await super().request(operation, header, **keywords)


class Machine:
    """A machine that brings one image back, in several attempts."""

    def __init__(self, folder: Path, *images: EncodedImage) -> None:
        self.cluster = Counting(N)
        self.images = images or (encode(CONTENT, K, N),)
        for image in self.images:
            for share, device in enumerate(self.cluster.devices):
                blocks = {segment: image.blocks[segment][share] for segment in range(len(image.blocks))}
                device.hold(share, HeldShare(KEY.owner_id(), blocks, image.signed))
        self.vault = VaultFolder(folder / "home")
        self.held = HeldImage(1 << 20)
        self.here = 0
        self.came = 0
        self.opened: list[HeldOutput] = []

    def attempt(self) -> bytes:
        """The image, or the error; `asked` of the cluster: for which blocks."""
        self.cluster.asked.clear()
        self.here = self.came = 0

        def take(event: Event) -> None:
            self.came += isinstance(event, BytesReceived)
            if isinstance(event, BytesDone):
                self.here += event.count

        async def restore() -> None:
            repository = Repository(self.cluster.link, self.vault, KEY)
            mapping = self.images[0].trusted().mapping
            encodings = await repository.locate(mapping.image_sha256)
            await Restorer(repository, take).restore(encodings, mapping.image_sha256.hex(), self._open)

        run(restore())
        content = self.opened[-1].content()
        assert content is not None
        return content

    def attempt_in_vain(self, last: int) -> None:
        """All but two devices are gone after so many requests for blocks, and come back when it is over."""
        self.cluster.last = last
        with pytest.raises(NotEnoughError):
            self.attempt()
        self.cluster.last = None
        for device in self.cluster.devices:
            device.alive = True

    def _open(self, mapping: Any) -> HeldOutput:
        self.opened.append(self.held.open(mapping))
        return self.opened[-1]

    @property
    def good(self) -> set[Block]:
        """Blocks that were proven, of segments that are written or not."""
        begun = self.opened[-1].checkpoint
        return {(share, segment) for segment, blocks in begun.blocks.items() for share in blocks}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("last", [1, 2, 3, 7, 16])
def test_the_next_attempt_asks_for_no_block_here_and_no_segment_that_is_written(machine: Machine, last: int) -> None:
    machine.attempt_in_vain(last)
    written, good = machine.opened[-1].checkpoint.segments, machine.good
    assert good, "it says nothing"
    assert written or last < 7, "it says nothing of segments that are written"
    assert machine.attempt() == CONTENT
    assert not good & set(machine.cluster.asked), "a good block was asked for again"
    assert all(segment >= written for _, segment in machine.cluster.asked), "a segment that was written, too"
    assert len(machine.cluster.asked) == K * (SEGMENTS - written) - len(good), "no more than what was missing"
    assert machine.here == len(CONTENT), "what was here counts as here"


def test_a_device_that_comes_back_gives_the_one_block_that_was_missing(machine: Machine) -> None:
    for number in (2, 3, 4):
        machine.cluster.devices[number].die(Operation.FETCH)
    with pytest.raises(NotEnoughError):
        machine.attempt()
    assert machine.opened[-1].checkpoint.segments == 0
    assert machine.good == {(share, segment) for share in (0, 1) for segment in range(4)}
    machine.cluster.devices[2].alive = True
    machine.cluster.devices[3].alive = machine.cluster.devices[4].alive = False
    assert machine.attempt() == CONTENT
    first_four = [block for block in machine.cluster.asked if block[1] < 4]
    assert sorted(first_four) == [(2, segment) for segment in range(4)]


def test_an_image_that_is_here_asks_for_nothing_more(machine: Machine) -> None:
    assert machine.attempt() == CONTENT
    assert machine.attempt() == CONTENT
    assert machine.cluster.asked == []
    assert machine.opened[-1].size == len(CONTENT)


def test_what_is_kept_is_hashed_again_and_thrown_away_where_it_is_not_the_image(machine: Machine) -> None:
    machine.attempt_in_vain(9)
    assert machine.opened[-1].checkpoint.segments > 0
    file = machine.opened[-1].file
    file.seek(3)
    file.write(bytes([CONTENT[3] ^ 1]))
    with pytest.raises(IntegrityError):
        machine.attempt()
    assert machine.attempt() == CONTENT
    assert {segment for _, segment in machine.cluster.asked} == set(range(SEGMENTS)), "from the beginning"


def test_a_segment_that_was_written_in_part_is_written_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A disk that is full after some bytes of a segment."""

        def __init__(self, file: Any) -> None:
            self._file = file
            self.room: Optional[int] = 2 * segment_size(K, N) + 5

        def write(self, piece: memoryview) -> int:
            if self.room is not None and len(piece) > self.room:
                self._file.write(piece[: self.room])
                raise OSError(28, "No space left on device")
            if self.room is not None:
                self.room -= len(piece)
            return int(self._file.write(piece))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    output = machine.held.open(machine.images[0].trusted().mapping)
    full: Any = Full(output.file)
    output.file = full
    with pytest.raises(TesseraError, match="No space left"):
        machine.attempt()
    assert output.checkpoint.segments == 2
    good = machine.good
    full.room = None
    assert machine.attempt() == CONTENT
    assert not good & set(machine.cluster.asked)


def test_what_came_of_one_encoding_is_not_taken_for_another(tmp_path: Path) -> None:
    machine = Machine(tmp_path, encode(CONTENT, K, N), encode(CONTENT, K, N, units=3))
    machine.attempt_in_vain(9)
    assert len({id(output) for output in machine.opened}) == 2
    assert machine.attempt() == CONTENT


def test_only_the_encoding_that_is_tried_is_in_memory() -> None:
    held = HeldImage(1 << 20)
    first, second = (held.open(encode(CONTENT, K, N).trusted().mapping) for _ in range(2))
    assert first is not second
    rolled: Any = first.file
    assert rolled._rolled
    here: Any = second.file
    assert not here._rolled
    held.discard()
    assert first.file.closed
    assert second.file.closed
