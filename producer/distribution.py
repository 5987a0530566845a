"""The shares of one streamed image on their devices: placed, open, committed or lost, as `MOVES` has it.

A share whose device fails moves to another one. Its blocks that are not in memory any more are rebuilt from those of
the other shares, which are fetched and checked; the file is not read again and nothing is encrypted twice.

A segment whose blocks most shares need goes to the broker once, as its data blocks, and the broker codes it
(`broker_coding`); what single shares need goes to their devices alone.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import defaultdict
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import NDArray

from common.coding.recipe import Recipe
from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.errors import NotEnoughError, ProtocolError, TesseraError, UnreachableError
from common.link.client_protocol import DeviceRequest
from common.link.link import Link
from common.link.questions import find_places
from common.link.replies import DeclinedError, Reply
from common.link.stragglers import Stragglers
from common.process.events import ignore
from common.protocol.codec import MAX_PAYLOAD, unpack
from common.protocol.device_messages import (
    Append,
    BlockName,
    Commit,
    Open,
    SegmentRange,
    ShareName,
)
from common.protocol.messages import MAX_CODED_SHARES, Acknowledged, AppendSegment, Code, CodedBlock, Tombstone
from common.protocol.operations import ABANDON, APPEND, APPEND_SEGMENT, COMMIT, DELETE, OPEN, PROGRESS, H, Spec
from common.repository.devices import Devices
from common.repository.hedging import Choice, HedgedRequest, Holder
from producer.broker_coding import BrokerCoding
from producer.encoding import EncodedSegment
from producer.events import ShareStep, Step

log = logging.getLogger(__name__)

_PROGRESS_BYTES = 16  # of a reply, for each segment at most
_REFILLED_TOGETHER = 3  # segments of a moved share under way at a time
_MAX_MOVES = 3  # times that lost shares are moved before the image is stored degraded, or not


class ShareState(enum.Enum):
    PLACED = "placed"
    OPEN = "open"
    COMMITTED = "committed"
    LOST = "lost"


# All transitions of a share's state, and what causes them; drawn in docs/architecture.md.
MOVES: dict[tuple[ShareState, ShareState], str] = {
    (ShareState.PLACED, ShareState.OPEN): "OPEN is granted, or it is open there already",
    (ShareState.PLACED, ShareState.COMMITTED): "it is committed there already",
    (ShareState.PLACED, ShareState.LOST): "its device fails, or says no",
    (ShareState.OPEN, ShareState.COMMITTED): "COMMIT is granted",
    (ShareState.OPEN, ShareState.LOST): "its device fails, or says no",
    (ShareState.LOST, ShareState.PLACED): "another device has room",
}


class SentShare:
    """One share: its device and its state."""

    def __init__(self, index: int, device: Optional[bytes], lacking: Code) -> None:
        self.index = index
        self.device = device
        self.state = ShareState.PLACED if device is not None else ShareState.LOST
        self.reason = lacking if device is None else Code.GRANTED
        self.staged: set[int] = set()  # segments that its device had when an interrupted put went on

    def move(self, state: ShareState) -> None:
        if (self.state, state) not in MOVES:
            raise TesseraError(f"a share cannot go from {self.state.value} to {state.value}")
        self.state = state


class Distribution:
    def __init__(
        self,
        link: Link,
        code: ErasureCode,
        slicing: Slicing,
        encoding_id: bytes,
        places: Sequence[Optional[bytes]],
        lacking: Code,
        name_of: Callable[[bytes], str],
        on_move: Callable[[int, bytes], None] = lambda share, device: None,
        *,
        may_read: bool = True,
        avoid: Iterable[bytes] = (),
        shown: str = "",
        emit: Callable[[ShareStep], None] = ignore,
        on_late: Callable[[bytes], None] = lambda device: None,
        broker_coding: Optional[BrokerCoding] = None,
    ) -> None:
        """`places`: a device for each share, in order; a share without one starts as lost, with the reason `lacking`.

        `on_move` is called with a lost share and its new device, before anything is sent there. `may_read`: what was
        sent may be read back; otherwise a lost share does not move, and the steward rebuilds it later. `avoid`: devices
        that get no share that moves. `emit` gets each share's steps, of the image as `shown`.
        `on_late` gets devices that do not answer where the others have. `broker_coding`: of the whole run; None where
        this machine codes.
        """
        self._link = link
        self._code = code
        self._slicing = slicing
        self._encoding_id = encoding_id
        self._name_of = name_of
        self._on_move = on_move
        self._may_read = may_read
        self._shown = shown
        self._emit = emit
        self._on_late = on_late
        self._broker_coding = broker_coding
        self._devices = Devices(link)
        self._stragglers: defaultdict[int, Stragglers] = defaultdict(Stragglers)  # by operation
        self._share_bytes = 0
        self._tried: set[bytes] = {*avoid, *(device for device in places if device is not None)}
        devices = [*places, *[None] * (code.n - len(places))]
        self.shares = [SentShare(index, device, lacking) for index, device in enumerate(devices)]

    def count(self, *states: ShareState) -> int:
        return sum(share.state in states for share in self.shares)

    @property
    def lost(self) -> list[SentShare]:
        return [share for share in self.shares if share.state is ShareState.LOST]

    def lost_reasons(self) -> dict[int, Code]:
        return {share.index: share.reason for share in self.lost}

    def has_segment(self, segment: int) -> bool:
        """Whether every share that is not lost had this segment when an interrupted put went on."""
        return all(segment in share.staged for share in self.shares if share.state is ShareState.OPEN)

    def staged_part(self, segment_count: int) -> float:
        """How much of all blocks the devices had when an interrupted put went on, from 0 to 1."""
        had = sum(len(share.staged) for share in self.shares if share.state is not ShareState.LOST)
        return had / (segment_count * self._code.n)

    # --- the steps

    async def open(self, share_bytes: int) -> None:
        """Open every placed share; `share_bytes` as expected for each, 0 where it is not known."""
        self._share_bytes = share_bytes
        placed = [share for share in self.shares if share.state is ShareState.PLACED]
        await self._of_all(OPEN, {share: self._open(share, share_bytes) for share in placed})

    async def take_up(self, share_bytes: int, segment_count: int) -> int:
        """Ask how far each placed share came before an interruption; how many of them are still there.

        On a device that has lost its share, that is opened anew and its segments are sent again.
        """
        placed = [share for share in self.shares if share.state is ShareState.PLACED]
        return sum(await asyncio.gather(*(self._take_up(share, share_bytes, segment_count) for share in placed)))

    def are_committed(self) -> None:
        """Take the placed shares as committed already: what is lost is to be rebuilt from them."""
        for share in self.shares:
            if share.state is ShareState.PLACED:
                share.move(ShareState.COMMITTED)

    async def append(self, encoded: EncodedSegment) -> bool:
        """Send a segment's blocks to all open shares; whether every block of it was acknowledged or never sent."""
        open_shares = [
            share for share in self.shares if share.state is ShareState.OPEN and encoded.segment not in share.staged
        ]
        answers = self._have_coded(encoded, open_shares)
        asked = {
            share: self._append_coded(share, encoded, answers[share])
            if share in answers
            else self._append(share, encoded.segment, encoded.blocks[share.index], encoded.digests[share.index])
            for share in open_shares
        }
        return await self._of_all(APPEND, asked)

    def _have_coded(
        self, encoded: EncodedSegment, shares: Sequence[SentShare]
    ) -> dict[SentShare, Awaitable[Reply[Acknowledged]]]:
        """Have the broker code a segment for these shares; each device's answer. Empty where blocks are sent alone."""
        k, n = self._code.k, self._code.n
        if self._broker_coding is None or not self._broker_coding.in_use:
            return {}
        if len(shares) <= k or n > MAX_CODED_SHARES or encoded.data.nbytes > MAX_PAYLOAD:
            return {}

        def header(request_ids: Mapping[int, bytes]) -> AppendSegment:
            blocks = []
            for place, request_id in request_ids.items():
                share = shares[place]
                digest = encoded.digests[share.index]
                blocks.append(CodedBlock(share.index, share.device or b"", request_id, digest))
            return AppendSegment(self._encoding_id, encoded.segment, k, n, blocks)

        asked = []
        for share in shares:
            append = Append(self._encoding_id, share.index, encoded.segment, encoded.digests[share.index])
            block = encoded.blocks[share.index].data
            asked.append(DeviceRequest(APPEND, append, block.nbytes, block, share.device or b""))
        answers = self._link.request_combined(APPEND_SEGMENT, header, encoded.data.data, asked)
        return dict(zip(shares, answers))

    async def commit(self, commitment: bytes) -> None:
        """Commit every open share."""
        open_shares = [share for share in self.shares if share.state is ShareState.OPEN]
        few = self.count(ShareState.COMMITTED) > 0
        await self._of_all(COMMIT, {share: self._commit(share, commitment) for share in open_shares}, few=few)

    async def move_lost(self, recipe: Recipe) -> None:
        """Move lost shares to other devices, as far as there are any, and rebuild their blocks there."""
        for _ in range(_MAX_MOVES):
            lost = self.lost
            if not lost or not self._may_read or self.count(ShareState.OPEN, ShareState.COMMITTED) < self._code.k:
                return
            places = await find_places(self._link, [self._encoding_id], len(lost), recipe.share_bytes, self._tried)
            devices = places.devices[0]
            if not devices:
                return
            moved = lost[: len(devices)]
            for share, device in zip(moved, devices):
                log.warning("share %d moves to %s", share.index, self._name_of(device))
                self._tried.add(device)
                self._on_move(share.index, device)
                share.device = device
                share.staged = set()
                share.move(ShareState.PLACED)
            await self._of_all(OPEN, {share: self._open(share, recipe.share_bytes) for share in moved}, few=True)
            for start in range(0, recipe.segment_count, _REFILLED_TOGETHER):
                segments = range(start, min(start + _REFILLED_TOGETHER, recipe.segment_count))
                await asyncio.gather(*(self._refill(moved, segment, recipe) for segment in segments))

    async def withdraw(self, tombstone: Optional[Tombstone]) -> None:
        """Delete all shares on the devices that can be reached; committed ones only where the owner signed that."""
        committed = [share.device for share in self.shares if share.state is ShareState.COMMITTED]
        if tombstone is not None:
            await withdraw_shares(self._link, committed, tombstone)
        await self.abandon()

    async def abandon(self) -> None:
        """Have the devices that can be reached drop what is not committed."""
        left = [None if share.state is ShareState.COMMITTED else share.device for share in self.shares]
        await abandon_shares(self._link, self._encoding_id, left)

    async def _of_all(
        self, operation: Spec[Any, Any], asked: Mapping[SentShare, Coroutine[Any, Any, bool]], *, few: bool = False
    ) -> bool:
        """Ask the devices of these shares; whether all granted it.

        A share whose device is late, by what the others take, is lost where another device can have it. `few`: as of
        `Stragglers.late`.
        """
        tasks = {share: asyncio.ensure_future(asking) for share, asking in asked.items()}
        try:
            late = await self._stragglers[operation.number].late(tasks.values(), few=few)
            places = await self._other_places(len(late))
            # It may have answered meanwhile, or been lost by another request that it left unanswered.
            waited_for = [s for s, task in tasks.items() if not task.done() and s.state is not ShareState.LOST]
            for share in waited_for:
                self._on_late(share.device or b"")
            for share in waited_for[:places]:
                self._lose(share, Code.GONE, UnreachableError("it does not answer, and the others have"))
            for share, task in tasks.items():
                if not task.done() and share.state is ShareState.LOST:
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())
            return all([not task.cancelled() and task.result() for task in tasks.values()])
        finally:
            for task in tasks.values():
                task.cancel()

    async def _other_places(self, wanted: int) -> int:
        """How many of so many lost shares there are devices for that were not tried yet."""
        if not wanted:
            return 0
        places = await find_places(self._link, [self._encoding_id], wanted, self._share_bytes, self._tried)
        return len(places.devices[0])

    # --- one share

    async def _open(self, share: SentShare, share_bytes: int) -> bool:
        code, slicing = self._code, self._slicing
        self._tell(share, Step.PLACED, share_bytes)
        header = Open(self._encoding_id, share.index, code.k, code.n, slicing.block_size, share_bytes)
        granted = await self._ask(share, OPEN, header)
        if granted:
            share.move(ShareState.OPEN)
        return granted

    async def _take_up(self, share: SentShare, share_bytes: int, segment_count: int) -> bool:
        """Whether the share's device still has it."""
        self._tell(share, Step.PLACED, share_bytes)
        try:
            committed, staged = await self._progress(share, segment_count)
        except (DeclinedError, UnreachableError, ProtocolError) as error:
            if isinstance(error, DeclinedError) and error.code is Code.NOT_OPEN:
                await self._open(share, share_bytes)
            else:
                self._lose(share, _reason(error), error)
            return False
        share.staged = staged
        share.move(ShareState.COMMITTED if committed else ShareState.OPEN)
        there = share_bytes * len(staged) // segment_count
        self._tell(share, Step.ACKNOWLEDGED, there)
        if committed:
            self._tell(share, Step.COMMITTED)
        return True

    async def _progress(self, share: SentShare, segment_count: int) -> tuple[bool, set[int]]:
        """Whether the share is committed, and the segments that its device has."""
        reply = await self._link.request(
            PROGRESS,
            ShareName(self._encoding_id, share.index),
            device=share.device or b"",
            reply_bytes=min(MAX_PAYLOAD, _PROGRESS_BYTES * (segment_count + 1)),
        )
        if reply.header.committed:
            return True, set(range(segment_count))
        staged: set[int] = set()
        end = 0
        for each in unpack(reply.payload, list[SegmentRange]):
            if each.first < end or each.first + each.count > segment_count:
                raise ProtocolError("a device has segments that were never made")
            end = each.first + each.count
            staged.update(range(each.first, end))
        return False, staged

    async def _append(self, share: SentShare, segment: int, block: NDArray[np.uint8], block_digest: bytes) -> bool:
        if share.state is not ShareState.OPEN:
            return True
        header = Append(self._encoding_id, share.index, segment, block_digest)
        granted = await self._ask(share, APPEND, header, block.data)
        if granted:
            self._tell(share, Step.ACKNOWLEDGED, block.nbytes)
        return granted

    async def _append_coded(
        self, share: SentShare, encoded: EncodedSegment, answer: Awaitable[Reply[Acknowledged]]
    ) -> bool:
        """Wait for the answer to a block that the broker coded; what its device refuses as wrong is sent from here."""
        block = encoded.blocks[share.index]
        try:
            await answer
        except (DeclinedError, UnreachableError, ProtocolError) as error:
            if not isinstance(error, DeclinedError) or error.code is not Code.MALFORMED:
                await self._failed(share, error)
                return False
        else:
            self._tell(share, Step.ACKNOWLEDGED, block.nbytes)
            return True
        granted = await self._append(share, encoded.segment, block, encoded.digests[share.index])
        if granted and self._broker_coding is not None:
            self._broker_coding.was_wrong(self._link.address, self._name_of(share.device or b""))
        return granted

    async def _commit(self, share: SentShare, commitment: bytes) -> bool:
        header = Commit(self._encoding_id, share.index)
        granted = await self._ask(share, COMMIT, header, memoryview(commitment))
        if granted:
            share.move(ShareState.COMMITTED)
            self._tell(share, Step.COMMITTED)
        return granted

    async def _abandon(self, share: SentShare) -> None:
        await self._ask(share, ABANDON, ShareName(self._encoding_id, share.index))

    async def _ask(
        self,
        share: SentShare,
        operation: Spec[H, Acknowledged],
        header: H,
        payload: Optional[memoryview] = None,
    ) -> bool:
        """Send a request to the share's device; whether it was granted. If not, the share is lost."""
        try:
            await self._link.request(operation, header, device=share.device or b"", payload=payload)
        except (DeclinedError, UnreachableError, ProtocolError) as error:
            await self._failed(share, error)
            return False
        return True

    async def _failed(self, share: SentShare, error: TesseraError) -> None:
        if share.state is not ShareState.LOST:
            self._lose(share, _reason(error), error)
            if share.reason is not Code.GONE:
                await self._abandon(share)  # the device is there: have it free the room

    def _lose(self, share: SentShare, reason: Code, error: TesseraError) -> None:
        log.warning("%s: share %d: %s", self._name_of(share.device or b""), share.index, error)
        self._tell(share, Step.LOST, why=str(error))
        share.reason = reason
        share.move(ShareState.LOST)

    def _tell(self, share: SentShare, step: Step, count: int = 0, why: str = "") -> None:
        device = self._name_of(share.device or b"")
        self._emit(ShareStep(self._shown, share.index, device, step, count, why))

    # --- moving

    async def _refill(self, moved: list[SentShare], segment: int, recipe: Recipe) -> None:
        """Send one segment's blocks, rebuilt from those of the other shares, to shares that were opened anew."""
        wanted = [share for share in moved if share.state is ShareState.OPEN]
        if not wanted:
            return
        present = await self._read_back(segment, recipe, moved)
        rebuilt = {share.index: np.empty(recipe.block_length(segment), np.uint8) for share in wanted}
        try:
            self._code.rebuild(present, rebuilt)
        except NotEnoughError as error:
            for share in wanted:
                if share.state is ShareState.OPEN:  # another segment may have lost it meanwhile
                    self._lose(share, Code.DAMAGED, error)
            return
        for share in wanted:
            if not recipe.accepts(segment, share.index, rebuilt[share.index].data):
                raise TesseraError("a rebuilt block is not what it was")
        digests = {share: recipe.digest_of(segment, share.index) for share in wanted}
        appended = {share: self._append(share, segment, rebuilt[share.index], digests[share]) for share in wanted}
        await self._of_all(APPEND, appended, few=True)

    async def _read_back(self, segment: int, recipe: Recipe, moved: list[SentShare]) -> dict[int, NDArray[np.uint8]]:
        """Good blocks of a segment, from other shares that are open or committed: up to k of them."""
        whole = (ShareState.OPEN, ShareState.COMMITTED)
        length = recipe.block_length(segment)

        def ask(holder: Holder) -> asyncio.Future[memoryview]:
            return self._devices.block(holder.device, BlockName(self._encoding_id, holder.share, segment), length)

        def check(holder: Holder, answer: asyncio.Future[memoryview]) -> Optional[NDArray[np.uint8]]:
            try:
                block = answer.result()
            except (DeclinedError, UnreachableError, ProtocolError):
                return None
            return np.frombuffer(block, np.uint8) if recipe.accepts(segment, holder.share, block) else None

        sources = [Holder(s.index, s.device) for s in self.shares if s.state in whole and s not in moved and s.device]
        choice = Choice(self._code.k, sources)
        return await HedgedRequest(self._code.k, choice, self._devices, ask, check).run()


def _reason(error: TesseraError) -> Code:
    """Why a share was lost; FAULT where its device broke the protocol."""
    if isinstance(error, DeclinedError):
        return error.code
    return Code.FAULT if isinstance(error, ProtocolError) else Code.GONE


async def abandon_shares(link: Link, encoding_id: bytes, devices: Sequence[Optional[bytes]]) -> None:
    """Have the devices, given by share, drop what is not committed, as far as they can be reached."""

    async def abandon(share: int, device: bytes) -> None:
        name = ShareName(encoding_id, share)
        try:
            await link.request(ABANDON, name, device=device, hurried=True)
        except TesseraError as error:
            log.debug("share %d stays where it is for a day: %s", share, error)

    await asyncio.gather(*(abandon(share, device) for share, device in enumerate(devices) if device is not None))


async def withdraw_shares(link: Link, devices: Iterable[Optional[bytes]], tombstone: Tombstone) -> None:
    """Have devices delete committed shares of an image that is not stored, as far as they can be reached.

    The deletion reaches, through these, any other that committed a share without its acknowledgement getting here.
    """

    async def delete(device: bytes) -> None:
        try:
            await link.request(DELETE, tombstone, device=device, timeout=ABANDON.timeout, hurried=True)
        except TesseraError as error:
            log.warning("a share of what was not stored stays on a device: %s", error)

    await asyncio.gather(*(delete(device) for device in devices if device is not None))
