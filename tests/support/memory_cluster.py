"""A cluster in memory: a Link without sockets, and the real service on devices without disks.

It answers as a broker does, and holds each message to the protocol's sizes. A device can be told to fail at its n-th
request of an operation; `holdings` says what all devices have in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Optional, TypeVar, cast

from broker.coding import Coding
from common.errors import TesseraError, UnreachableError
from common.link.client_protocol import DeviceRequest
from common.link.link import Link
from common.link.replies import DeclinedError, Reply
from common.process.events import ignore
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header, unpack, unpack_header
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    GRANTED,
    Acknowledged,
    Answer,
    BadShare,
    ChangedObject,
    Changes,
    Code,
    Device,
    EncodingAt,
    Health,
    Holdings,
    Identifier,
    ListChanges,
    ListObjects,
    ListTrash,
    Locate,
    Message,
    ObjectId,
    Placed,
    Places,
    ReportBad,
    ShareAt,
    Status,
    Trashed,
    TrashList,
)
from common.protocol.operations import H, R, Spec
from tests.support.memory_device import Answered, HeldShare, MemoryDevice
from tests.support.memory_disk import ROOM
from tests.support.sample_images import KEY, chance
from tests.support.sample_shares import held_by
from worker.layout import ShareKey

T = TypeVar("T")
Interception = Callable[[bytes, bytes], Optional[Answered]]


class ClusterDevice(MemoryDevice):
    """A device of a cluster in memory, which can be told to fail."""

    def __init__(self, name: str) -> None:
        super().__init__(name, chance(name, 16))
        self.alive = True
        self.silent: set[Operation] = set()  # what it never answers, though it is here
        self._interceptions: dict[Operation, Interception] = {}
        self._faults: dict[tuple[Operation, int], Callable[[], TesseraError]] = {}

    @property
    def full(self) -> bool:
        return self.disk.free == 0

    @full.setter
    def full(self, full: bool) -> None:
        self.disk.free = 0 if full else ROOM

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

    def intercept(self, operation: Operation, interception: Interception) -> None:
        """Hand requests of an operation to the test first; what it gives back is answered in place of the service."""
        self._interceptions[operation] = interception

    def answer(self, operation: Operation, header: bytes, payload: bytes, owner: bytes) -> Answered:
        fault = self._faults.get((operation, self.asked[operation] + 1))
        if fault is not None or not self.alive:
            self.asked[operation] += 1
            raise fault() if fault is not None else DeclinedError(Answer(Code.GONE), self.device_id)
        intercepted = self._interceptions[operation](header, payload) if operation in self._interceptions else None
        return intercepted or self.ask(operation, header, payload, owner=owner)


class MemoryCluster:
    """The devices, in the order in which the broker places shares on them, and the broker."""

    def __init__(self, count: int) -> None:
        self.devices = [ClusterDevice(f"device-{number}") for number in range(1, count + 1)]
        self.messages: list[tuple[bytes, Operation]] = []  # each that was sent, by the broker too: to whom, and what
        self.owner = KEY.owner_id()  # for whom the link's session speaks
        self.cut = False  # whether nothing arrives any more
        self.bad_shares: list[BadShare] = []
        self._asked: list[tuple[bytes, dict[bytes, list[EncodingAt]]]] = []  # whose, and what there was
        self._epoch = secrets.token_bytes(16)
        self.takes_reports = True  # as an older broker does not
        self.coding = Coding()

    @property
    def link(self) -> Link:
        return cast(Link, self)

    @property
    def ids(self) -> list[bytes]:
        return [device.device_id for device in self.devices]

    def device(self, device_id: bytes) -> ClusterDevice:
        return next(device for device in self.devices if device.device_id == device_id)

    def name_of(self, device_id: bytes) -> str:
        return self.device(device_id).name

    def repair(self, objects: list[bytes]) -> None:
        """What the steward does when it is asked to: nothing, unless a test says otherwise."""

    def due(self) -> Optional[int]:
        """How much the steward says that it has to do: it does not tell, unless a test says otherwise."""
        return None

    def holdings(self) -> dict[ShareKey, list[tuple[ClusterDevice, HeldShare]]]:
        """All shares, with the devices that have them."""
        held: dict[ShareKey, list[tuple[ClusterDevice, HeldShare]]] = {}
        for device in self.devices:
            for key, share in device.shares.items():
                held.setdefault(key, []).append((device, share))
        return held

    def as_devices(self) -> list[Device]:
        return [Device(d.device_id, d.name, d.alive, 0, 1 << 30, len(held_by(d.store))) for d in self.devices]

    # --- the production interface

    address = "broker.lan:5570"
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
        """As `Link.request`: what is sent is copied, and other tasks run before and after."""
        content = b"" if payload is None else bytes(memoryview(payload))
        if len(content) > MAX_PAYLOAD:
            raise AssertionError(f"a payload of {len(content)} bytes")
        packed = pack_header(header)
        self.messages.append((device, operation.number))
        await asyncio.sleep(0)
        if self.cut:
            raise UnreachableError("no answer")
        if device == BROKER:
            answered, blocks = self._broker(operation.number, packed, content)
        elif operation.number in self.device(device).silent:
            await asyncio.sleep(operation.timeout)
            raise UnreachableError("no answer from a device")
        else:
            answered, blocks = self.device(device).answer(operation.number, packed, content, self.owner)
        await asyncio.sleep(0)
        most = operation.reply_payload if reply_bytes is None else reply_bytes
        if len(blocks) > most:
            raise AssertionError(f"a reply of {len(blocks)} bytes where {most} were expected")
        replied = unpack_header(answered, operation.reply)
        if not replied.answer.granted:
            raise DeclinedError(replied.answer, device)
        return Reply(replied, memoryview(blocks))

    def request_combined(
        self,
        operation: Spec[Any, Any],
        header: Callable[[Mapping[int, bytes]], Message],
        payload: Any,
        asked: Sequence[DeviceRequest],
    ) -> list[asyncio.Future[Reply[Any]]]:
        """As `Link.request_combined`, where every device may have one more under way; each is asked by `request`."""
        made = header({place: place.to_bytes(16, "big") for place in range(len(asked))})
        self.messages.append((BROKER, operation.number))
        content = bytes(memoryview(payload))
        if len(content) > MAX_PAYLOAD:
            raise AssertionError(f"a payload of {len(content)} bytes")
        take_apart: Callable[..., Any] = self.coding.appends
        if operation.number is Operation.STORE_SEGMENTS:
            take_apart = self.coding.stores
        parts = take_apart(unpack_header(pack_header(made), operation.header), memoryview(content))
        answers: list[asyncio.Future[Reply[Any]]] = []
        for each, part in zip(asked, parts):
            asking = unpack_header(part.header, each.spec.header)
            sent = self.request(each.spec, asking, payload=part.payload, device=part.envelope.peer)
            answers.append(asyncio.ensure_future(sent))
        return answers

    def _broker(self, operation: Operation, header: bytes, payload: bytes) -> Answered:
        replied, items = self._answer(operation, header, payload)
        return pack_header(replied), b"" if items is None else pack(items)

    def _answer(self, operation: Operation, header: bytes, payload: bytes) -> tuple[Message, Optional[list[Any]]]:
        if operation is Operation.STATUS:
            return Status(GRANTED, True), self.as_devices()
        if operation is Operation.PLACES:
            places = unpack_header(header, Places)
            fit = [d.device_id for d in self.devices if d.alive and d.device_id not in places.exclude]
            return Placed(GRANTED), [fit[: places.n] for _ in unpack(payload, list[Identifier])]
        if operation is Operation.LOCATE:
            unpack_header(header, Locate)
            wanted = unpack(payload, list[ObjectId])
            return Holdings(GRANTED, True), [e for e in self.encodings() if e.object_id in wanted]
        if operation is Operation.LIST:
            after = unpack_header(header, ListObjects).after
            return Holdings(GRANTED, True), [e for e in self.encodings() if e.object_id > after]
        if operation is Operation.CHANGES:
            return self._changes(unpack_header(header, ListChanges))
        if operation is Operation.REPAIR:
            self.repair(unpack(payload, list[ObjectId]))
            return Acknowledged(GRANTED), None
        if operation is Operation.HEALTH:
            return Health(GRANTED, True, due=self.due()), []
        if operation is Operation.TRASH:
            return TrashList(GRANTED, True), self._trash(unpack_header(header, ListTrash).after)
        if operation is Operation.REPORT_BAD:
            unpack_header(header, ReportBad)
            if not self.takes_reports:
                raise DeclinedError(Answer(Code.MALFORMED), BROKER)
            self.bad_shares += unpack(payload, list[BadShare])
            return Acknowledged(GRANTED), None
        raise AssertionError(f"the broker does not know {operation}")

    def _changes(self, asked: ListChanges) -> tuple[Message, Optional[list[Any]]]:
        """What differs from what there was when somebody asked before; the number is that of what there is."""
        now: dict[bytes, list[EncodingAt]] = {}
        for encoding in self.encodings():
            now.setdefault(encoding.object_id, []).append(encoding)
        if self._asked[-1:] != [(self.owner, now)]:
            self._asked.append((self.owner, now))
        number = len(self._asked) - 1
        if asked.epoch != self._epoch or self._asked[asked.number][0] != self.owner:
            return Changes(GRANTED, self._epoch, number), None
        before = self._asked[asked.number][1]
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return Changes(GRANTED, self._epoch, number, True), [ChangedObject(name, now.get(name, [])) for name in names]

    def _trash(self, after: bytes) -> list[Trashed]:
        """What is deleted and can be taken back, as devices that are alive tell."""
        told: dict[bytes, Trashed] = {}
        for device in self.devices:
            for stone in device.store.tombstones() if device.alive else ():
                known = device.store.told(stone)
                if stone.deleted and known is not None and known.trash_left and stone.encoding_id > after:
                    first = Trashed(stone.object_id, stone.encoding_id, stone.generation, known.trash_left, [])
                    told.setdefault(stone.encoding_id, first).devices.append(device.device_id)
        return sorted(told.values(), key=lambda trashed: trashed.encoding_id)

    def encodings(self) -> list[EncodingAt]:
        """What the catalog shows this owner: all committed shares, in the order of object ids."""
        found: dict[bytes, EncodingAt] = {}
        for device in self.devices:
            for held in held_by(device.store).values():
                names = {held.owner: held.object_id, **{grant.owner: grant.object_id for grant in held.grants}}
                object_id = names.get(self.owner)
                if object_id is None:
                    continue
                encoding = found.setdefault(
                    held.encoding_id, EncodingAt(object_id, held.encoding_id, held.k, held.n, held.share_bytes, [])
                )
                encoding.shares.append(ShareAt(held.share, device.device_id, held.sound, device.alive))
        for encoding in found.values():
            encoding.shares.sort(key=lambda share: share.share)
        return sorted(found.values(), key=lambda encoding: encoding.object_id)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must end by itself: in memory nothing takes long, so 30 seconds are for ever."""
    return asyncio.run(_with_end(work))


async def _with_end(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wait_for(work, 30)


def stored_blocks(cluster: MemoryCluster, encoding_id: bytes, share: int) -> Sequence[bytes]:
    """A committed share's blocks in order, from the one device that has them."""
    ((_, held),) = [(d, h) for d, h in cluster.holdings()[encoding_id, share] if h.signed is not None]
    return [held.blocks[segment] for segment in sorted(held.blocks)]
