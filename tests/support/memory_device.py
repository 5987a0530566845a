"""A device: the real service on the real store, over a disk in memory, and the faults that a test gives it.

What it holds survives its being started anew, as a disk does.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.coding.recipe import decode_recipe, digest
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack_header
from common.protocol.device_messages import Append, Commit, Commitment, Open, SignedCommitment
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import Acknowledged, Message
from tests.support.memory_disk import MemoryDisk
from worker.clock import Clock
from worker.layout import Layout, ShareKey
from worker.pack_format import FRAME_SIZE
from worker.service import Request, Service
from worker.share_states import KeptShare, State
from worker.store import ShareStore

LAYOUT = Layout(Path("/store"))
SESSION = b"s" * 16
Answered = tuple[bytes, bytes]  # header, payload


@dataclass(frozen=True)
class HeldShare:
    """What a device's disk has of a share, good or not; `signed` is None until it was committed."""

    owner: bytes
    blocks: Mapping[int, bytes]
    signed: Optional[SignedCommitment] = None

    @property
    def commitment(self) -> Optional[Commitment]:
        return None if self.signed is None else self.signed.commitment


class MemoryDevice:
    def __init__(self, name: str, device_id: bytes, clock: Optional[Clock] = None) -> None:
        self.name = name
        self.device_id = device_id
        self.lies = False  # sends wrong blocks
        self.asked: Counter[Operation] = Counter()
        self.clock = clock or Clock()
        self.disk = MemoryDisk(self.clock.unix)
        self._numbers = itertools.count(1)
        self.start_anew()

    def __repr__(self) -> str:
        return self.name

    def start_anew(self) -> None:
        """Begin as a worker does after a power cut."""
        self.store = ShareStore(LAYOUT.folder, disk=self.disk, clock=self.clock)
        self.service = Service(self.store)

    # --- asked

    def handle(self, envelope: Envelope, header: bytes, payload: bytes = b"", broker: int = 1) -> Answered:
        """What is answered once all is durable; what is to be announced of it is in the store's `changes`."""
        self.asked[envelope.operation] += 1
        now = self.clock.monotonic()
        request = Request(broker, envelope, memoryview(header), memoryview(payload))
        (answered,) = [*self.service.handle(request, now), *self.service.finish_round()]
        content = bytes(answered.payload or b"")
        if self.lies and envelope.operation is Operation.FETCH:
            content = bytes(len(content))
        return answered.header, content

    def ask(self, operation: Operation, header: bytes, payload: bytes = b"", *, owner: bytes) -> Answered:
        number = next(self._numbers).to_bytes(16, "big")
        envelope = Envelope(Kind.REQUEST, operation, number, SESSION, MAX_PAYLOAD, owner)
        return self.handle(envelope, header, payload)

    def hold(self, share: int, held: HeldShare) -> None:
        """Store a share here."""
        assert held.signed is not None
        recipe = decode_recipe(held.signed.commitment.recipe)
        key = (recipe.encoding_id, share)
        opening = Open(*key, recipe.k, recipe.n, recipe.block_size, recipe.share_bytes)
        asked: list[tuple[Operation, Message, bytes]] = [(Operation.OPEN, opening, b"")]
        for segment, block in held.blocks.items():
            asked.append((Operation.APPEND, Append(*key, segment, digest(block)), block))
        for operation, header, payload in [*asked, (Operation.COMMIT, Commit(*key), pack(held.signed))]:
            answered, _ = self.ask(operation, pack_header(header), payload, owner=held.owner)
            assert unpack_header(answered, Acknowledged).answer.granted, f"{operation} on {self}"

    # --- what its disk has

    @property
    def shares(self) -> dict[ShareKey, HeldShare]:
        """What is committed, and what is being stored."""
        found = {}
        for staged in self.store._staged:
            found[staged.key] = HeldShare(staged.owner, {segment: staged.read(segment) for segment in staged.blocks})
        for kept in self._kept():
            if kept.here:
                found[kept.key] = self._read(kept)
        return found

    @property
    def trash(self) -> dict[ShareKey, HeldShare]:
        """What was deleted, and may be taken back."""
        return {kept.key: self._read(kept) for kept in self._kept() if kept.state is State.DELETED}

    def _kept(self) -> list[KeptShare]:
        index = self.store._index
        packs = [0, *index.packs]
        return [kept for number in packs for kept in index.in_pack(number, 0)]

    def _read(self, kept: KeptShare) -> HeldShare:
        opened = self.store._shares.open(kept)
        trailer, recipe, start, content = opened.information.trailer, opened.information.recipe, *self._content(kept)
        opened.close()
        blocks = {
            segment: bytes(content[start + offset : start + offset + recipe.block_length(segment)])
            for segment, offset in enumerate(trailer.offsets)
        }
        return HeldShare(trailer.owner, blocks, trailer.signed)

    def _content(self, kept: KeptShare) -> tuple[int, bytearray]:
        """Where a share begins in the file that it lies in, and all of that file."""
        if kept.place.pack:
            path = next(p for p in self.disk.paths(LAYOUT.packs) if p.name.startswith(f"{kept.place.pack:08d}."))
            return kept.place.offset, self.disk.content(path)
        return 0, self.disk.content(LAYOUT.share(kept.key, kept.serial))

    def lose(self, *keys: ShareKey) -> None:
        """Hold these no longer, as if the disk had lost them."""
        for key in keys:
            for staged in [staged for staged in self.store._staged if staged.key == key]:
                staged.drop()
            for kept in self.store._index.copies(key):
                start, content = self._content(kept)
                begin = start - FRAME_SIZE if kept.place.pack else 0
                content[begin : start + kept.place.length] = bytes(start + kept.place.length - begin)
        self.start_anew()

    def lose_all(self) -> None:
        self.lose(*self.shares)

    def damage(self, key: ShareKey, segment: int = 0) -> None:
        """Flip a bit of a block on its disk."""
        kept = self.store._index.held(key)
        assert kept is not None
        opened = self.store._shares.open(kept)
        start, content = self._content(kept)
        content[start + opened.information.trailer.offsets[segment]] ^= 1
        opened.close()
