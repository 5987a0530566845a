"""A cluster in memory: a Link without sockets, and devices that keep shares in dictionaries.

It answers as broker and workers do, refuses what they refuse, and holds each message to the protocol's sizes. A device
can be told to fail at its n-th request of an operation; `holdings` says what all devices have in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar, cast

import msgspec

from common.coding.recipe import decode_recipe, digest
from common.errors import TesseraError, UnreachableError
from common.link.link import Link
from common.link.replies import DeclinedError, Reply
from common.process.events import ignore
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack, unpack_header
from common.protocol.device_messages import (
    Amend,
    Append,
    Commit,
    Commitment,
    Delete,
    Describe,
    Described,
    Fetch,
    Fetched,
    Open,
    Part,
    Progress,
    SegmentRange,
    ShareName,
    Store,
    Stored,
    WholeShare,
)
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    Answer,
    Code,
    Complain,
    Complaint,
    Device,
    EncodingAt,
    Health,
    Holdings,
    Identifier,
    ListObjects,
    Locate,
    ObjectId,
    Placed,
    Places,
    ShareAt,
    Status,
)
from common.protocol.operations import H, R, Spec
from tests.support.sample_images import chance

T = TypeVar("T")
Answered = tuple[msgspec.Struct, bytes]
ShareKey = tuple[bytes, int]


@dataclass
class HeldShare:
    """A share on a device; `commitment` is None until it was committed."""

    opening: Open | WholeShare
    blocks: dict[int, bytes] = field(default_factory=dict)
    commitment: Optional[Commitment] = None


class MemoryDevice:
    def __init__(self, name: str) -> None:
        self.name = name
        self.device_id = chance(name, 16)
        self.alive = True
        self.full = False
        self.shares: dict[ShareKey, HeldShare] = {}
        self.asked: Counter[Operation] = Counter()
        self._faults: dict[tuple[Operation, int], Callable[[], TesseraError]] = {}
        self._operations: dict[Operation, Callable[[bytes, bytes], Answered]] = {
            Operation.OPEN: self._open,
            Operation.APPEND: self._append,
            Operation.COMMIT: self._commit,
            Operation.ABANDON: self._abandon,
            Operation.STORE: self._store,
            Operation.FETCH: self._fetch,
            Operation.DESCRIBE: self._describe,
            Operation.PROGRESS: self._progress,
            Operation.DELETE: self._delete,
            Operation.AMEND: self._amend,
        }

    def __repr__(self) -> str:
        return self.name

    # --- failing

    def fail(self, operation: Operation, error: Callable[[], TesseraError], at: int = 1) -> None:
        """Raise an error in place of the answer to the n-th request of an operation, counted from now."""
        self._faults[operation, self.asked[operation] + at] = error

    def die(self, operation: Operation, at: int = 1) -> None:
        """Be gone from the n-th request of an operation on."""

        def gone() -> TesseraError:
            self.alive = False
            return UnreachableError("no answer from a device")

        self.fail(operation, gone, at)

    def decline(self, operation: Operation, code: Code, at: int = 1) -> None:
        self.fail(operation, lambda: DeclinedError(Answer(code), self.device_id), at)

    # --- answering

    def answer(self, operation: Operation, header: bytes, payload: bytes) -> Answered:
        self.asked[operation] += 1
        fault = self._faults.get((operation, self.asked[operation]))
        if fault is not None:
            raise fault()
        if not self.alive:
            raise DeclinedError(Answer(Code.GONE), self.device_id)
        return self._operations[operation](header, payload)

    def _refuse(self, code: Code, text: str) -> DeclinedError:
        return DeclinedError(Answer(code, text), self.device_id)

    def _open(self, header: bytes, payload: bytes) -> Answered:
        opening = unpack_header(header, Open)
        if self.full:
            raise self._refuse(Code.NO_ROOM, "full")
        held = self.shares.setdefault((opening.encoding_id, opening.share), HeldShare(opening))
        if held.opening != opening or held.commitment is not None:
            raise self._refuse(Code.CONFLICT, "opened otherwise before")
        return Acknowledged(GRANTED), b""

    def _append(self, header: bytes, payload: bytes) -> Answered:
        append = unpack_header(header, Append)
        held = self.shares.get((append.encoding_id, append.share))
        if held is None or held.commitment is not None:
            raise self._refuse(Code.NOT_OPEN, "not open")
        if digest(payload) != append.digest:
            raise self._refuse(Code.MALFORMED, "the block does not have its digest")
        if held.blocks.setdefault(append.segment, payload) != payload:
            raise self._refuse(Code.CONFLICT, "another block came before")
        return Acknowledged(GRANTED), b""

    def _commit(self, header: bytes, payload: bytes) -> Answered:
        commit = unpack_header(header, Commit)
        held = self.shares.get((commit.encoding_id, commit.share))
        if held is None:
            raise self._refuse(Code.NOT_OPEN, "not open")
        commitment = unpack(payload, Commitment)
        if held.commitment is not None and held.commitment != commitment:
            raise self._refuse(Code.CONFLICT, "committed otherwise before")
        recipe = decode_recipe(commitment.recipe)
        expected = [recipe.digest_of(segment, commit.share) for segment in range(recipe.segment_count)]
        if [digest(held.blocks[segment]) for segment in sorted(held.blocks)] != expected:
            raise self._refuse(Code.MALFORMED, "the blocks are not those of the recipe")
        held.commitment = commitment
        return Acknowledged(GRANTED), b""

    def _abandon(self, header: bytes, payload: bytes) -> Answered:
        name = unpack_header(header, ShareName)
        held = self.shares.get((name.encoding_id, name.share))
        if held is not None and held.commitment is None:
            del self.shares[name.encoding_id, name.share]
        return Acknowledged(GRANTED), b""

    def _progress(self, header: bytes, payload: bytes) -> Answered:
        name = unpack_header(header, ShareName)
        held = self.shares.get((name.encoding_id, name.share))
        if held is None:
            raise self._refuse(Code.NOT_OPEN, "not open")
        if held.commitment is not None:
            return Progress(GRANTED, committed=True), b""
        ranges: list[SegmentRange] = []
        for segment in sorted(held.blocks):
            if ranges and ranges[-1].first + ranges[-1].count == segment:
                ranges[-1].count += 1
            else:
                ranges.append(SegmentRange(segment, 1))
        return Progress(GRANTED), pack(ranges)

    def _delete(self, header: bytes, payload: bytes) -> Answered:
        request = unpack_header(header, Delete)
        found = self._committed(request.encoding_id, request.capability)
        for key, _ in found:
            del self.shares[key]
        return Acknowledged(GRANTED), b""

    def _amend(self, header: bytes, payload: bytes) -> Answered:
        request = unpack_header(header, Amend)
        for _, held in self._committed(request.encoding_id, request.capability):
            held.commitment = unpack(payload, Commitment)
        return Acknowledged(GRANTED), b""

    def _committed(self, encoding_id: bytes, capability: bytes) -> list[tuple[ShareKey, HeldShare]]:
        """The shares of an encoding that this capability is the right to."""
        found = [(key, held) for key, held in self.shares.items() if key[0] == encoding_id and held.commitment]
        if not found:
            raise self._refuse(Code.NOT_FOUND, "nothing of it here")
        digests = {held.commitment.delete_hash for _, held in found if held.commitment is not None}
        if digests != {hashlib.sha256(capability).digest()}:
            raise self._refuse(Code.NOT_ALLOWED, "not the right to it")
        return found

    def _store(self, header: bytes, payload: bytes) -> Answered:
        answers = []
        for share in unpack_header(header, Store).shares:
            block, payload = payload[: share.block_bytes], payload[share.block_bytes :]
            packed, payload = payload[: share.commitment_bytes], payload[share.commitment_bytes :]
            if self.full:
                answers.append(Answer(Code.NO_ROOM))
                continue
            commitment = unpack(packed, Commitment)
            if not decode_recipe(commitment.recipe).accepts(0, share.share, block):
                raise self._refuse(Code.MALFORMED, "the block is not the one the recipe names")
            self.shares[share.encoding_id, share.share] = HeldShare(share, {0: block}, commitment)
            answers.append(GRANTED)
        return Stored(GRANTED, answers), b""

    def _fetch(self, header: bytes, payload: bytes) -> Answered:
        parts, blocks = [], []
        for name in unpack_header(header, Fetch).blocks:
            held = self.shares.get((name.encoding_id, name.share))
            block = None if held is None else held.blocks.get(name.segment)
            parts.append(Part(Answer(Code.NOT_FOUND)) if block is None else Part(GRANTED, len(block)))
            blocks.append(block or b"")
        return Fetched(GRANTED, parts), b"".join(blocks)

    def _describe(self, header: bytes, payload: bytes) -> Answered:
        request = unpack_header(header, Describe)
        parts, pieces = [], []
        for name in request.shares:
            held = self.shares.get((name.encoding_id, name.share))
            if held is None or held.commitment is None:
                parts.append((Answer(Code.NOT_FOUND), 0, 0))
                continue
            recipe = held.commitment.recipe if request.with_recipe else b""
            parts.append((GRANTED, len(held.commitment.mapping), len(recipe)))
            pieces += [held.commitment.mapping, recipe]
        return Described(GRANTED, parts), b"".join(pieces)


class MemoryCluster:
    """The devices, in the order in which the broker places shares on them, and the broker."""

    def __init__(self, count: int) -> None:
        self.devices = [MemoryDevice(f"device-{number}") for number in range(1, count + 1)]
        self.messages: list[tuple[bytes, Operation]] = []  # each that was sent: to whom, and what
        self.complaints: list[Complaint] = []
        self.knows_complaints = True  # as an older broker does not

    @property
    def link(self) -> Link:
        return cast(Link, self)

    @property
    def ids(self) -> list[bytes]:
        return [device.device_id for device in self.devices]

    def device(self, device_id: bytes) -> MemoryDevice:
        return next(device for device in self.devices if device.device_id == device_id)

    def name_of(self, device_id: bytes) -> str:
        return self.device(device_id).name

    def mend(self, objects: list[bytes]) -> None:
        """What the steward does when it is asked to: nothing, unless a test says otherwise."""

    def holdings(self) -> dict[ShareKey, list[tuple[MemoryDevice, HeldShare]]]:
        """All shares, with the devices that have them."""
        held: dict[ShareKey, list[tuple[MemoryDevice, HeldShare]]] = {}
        for device in self.devices:
            for key, share in device.shares.items():
                held.setdefault(key, []).append((device, share))
        return held

    def as_devices(self) -> list[Device]:
        return [Device(d.device_id, d.name, d.alive, 0, 1 << 30, len(d.shares)) for d in self.devices]

    # --- the production interface

    emit = staticmethod(ignore)

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def cause(self, error: TesseraError, of: str = "") -> TesseraError:
        return error

    def explaining(self, of: str = "") -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def request(
        self,
        operation: Spec[H, R],
        header: H,
        *,
        payload: Optional[Any] = None,
        device: bytes = BROKER,
        reply_bytes: Optional[int] = None,
        timeout: Optional[float] = None,
        hurried: bool = False,
    ) -> Reply[R]:
        """As `Link.request`: what is sent is copied, and turns are given to others before and after."""
        content = b"" if payload is None else bytes(memoryview(payload))
        if len(content) > MAX_PAYLOAD:
            raise AssertionError(f"a payload of {len(content)} bytes")
        packed = pack_header(header)
        self.messages.append((device, operation.number))
        await asyncio.sleep(0)
        answer = self._broker if device == BROKER else self.device(device).answer
        replied, blocks = answer(operation.number, packed, content)
        await asyncio.sleep(0)
        most = operation.reply_payload if reply_bytes is None else reply_bytes
        if len(blocks) > most:
            raise AssertionError(f"a reply of {len(blocks)} bytes where {most} were expected")
        return Reply(unpack_header(pack_header(replied), operation.reply), memoryview(blocks))

    def _broker(self, operation: Operation, header: bytes, payload: bytes) -> Answered:
        if operation is Operation.STATUS:
            return Status(GRANTED, True), pack(self.as_devices())
        if operation is Operation.PLACES:
            places = unpack_header(header, Places)
            fit = [d.device_id for d in self.devices if d.alive and d.device_id not in places.exclude]
            return Placed(GRANTED), pack([fit[: places.n] for _ in unpack(payload, list[Identifier])])
        if operation is Operation.LOCATE:
            unpack_header(header, Locate)
            wanted = unpack(payload, list[ObjectId])
            return Holdings(GRANTED, True), pack([e for e in self.encodings() if e.object_id in wanted])
        if operation is Operation.LIST:
            after = unpack_header(header, ListObjects).after
            return Holdings(GRANTED, True), pack([e for e in self.encodings() if e.object_id > after])
        if operation is Operation.MEND:
            self.mend(unpack(payload, list[ObjectId]))
            return Acknowledged(GRANTED), b""
        if operation is Operation.HEALTH:
            return Health(GRANTED, True), pack([])
        if operation is Operation.COMPLAIN:
            unpack_header(header, Complain)
            if not self.knows_complaints:
                raise DeclinedError(Answer(Code.MALFORMED), BROKER)
            self.complaints += unpack(payload, list[Complaint])
            return Acknowledged(GRANTED), b""
        raise AssertionError(f"the broker does not know {operation}")

    def encodings(self) -> list[EncodingAt]:
        """What the catalog knows: all committed shares, in the order of object ids."""
        found: dict[bytes, EncodingAt] = {}
        for (encoding_id, share), holders in sorted(self.holdings().items()):
            for device, held in holders:
                if held.commitment is None:
                    continue
                recipe = decode_recipe(held.commitment.recipe)
                encoding = found.setdefault(
                    encoding_id,
                    EncodingAt(held.commitment.object_id, encoding_id, recipe.k, recipe.n, recipe.share_bytes, []),
                )
                encoding.shares.append(ShareAt(share, device.device_id, True, device.alive))
        return sorted(found.values(), key=lambda encoding: encoding.object_id)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must end by itself: in memory nothing takes long, so 30 seconds are for ever."""
    return asyncio.run(_with_end(work))


async def _with_end(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wait_for(work, 30)


def stored_blocks(cluster: MemoryCluster, encoding_id: bytes, share: int) -> Sequence[bytes]:
    """A committed share's blocks in order, from the one device that has them."""
    ((_, held),) = [(d, h) for d, h in cluster.holdings()[encoding_id, share] if h.commitment is not None]
    return [held.blocks[segment] for segment in sorted(held.blocks)]
