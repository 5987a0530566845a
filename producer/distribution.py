"""The shares of one streamed image on their devices.

    placed ──OPEN──▶ open ──APPEND…──▶ open ──COMMIT──▶ committed
                       │ the device fails                  │
                       └──────────▶ lost ◀─────────────────┘ (before it acknowledged)
                                     │ another device has room: its blocks are rebuilt from k others
                                     └──────────▶ open there

A device that fails costs its share only, and the share moves to another device where there is one. Blocks that have
left memory by then are read back from the other shares, checked against their digests and rebuilt; the file is never
read again and nothing is encrypted twice. The legal moves are in `_MOVES`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Callable, Optional

import numpy as np
from numpy.typing import NDArray

from common.erasure import ErasureCode
from common.errors import NotEnoughError, ProtocolError, TesseraError, UnreachableError
from common.link.declined import DeclinedError
from common.link.link import Link
from common.link.questions import FoundPlaces, find_places
from common.protocol.envelope import Operation
from common.protocol.messages import (
    Acknowledged,
    Append,
    BlockName,
    Code,
    Commit,
    Fetch,
    Fetched,
    Open,
    ShareName,
)
from common.recipe import Recipe, digest
from common.slicing import Slicing
from producer.encoding import EncodedSegment

log = logging.getLogger(__name__)

_COMMIT_PATIENCE = 60.0  # seconds: a large share's fsync on a slow disk
_REFILLED_TOGETHER = 3  # segments of a moved share under way at a time
_MAX_MOVES = 3  # times that lost shares are moved before the image is stored degraded, or not


class ShareState(enum.Enum):
    PLACED = "placed"
    OPEN = "open"
    COMMITTED = "committed"
    LOST = "lost"


_MOVES: set[tuple[ShareState, ShareState]] = {
    (ShareState.PLACED, ShareState.OPEN),
    (ShareState.PLACED, ShareState.LOST),
    (ShareState.OPEN, ShareState.COMMITTED),
    (ShareState.OPEN, ShareState.LOST),
    (ShareState.LOST, ShareState.PLACED),
}


class SentShare:
    """One share: where it is, and how far it has come."""

    def __init__(self, index: int, device: Optional[bytes], lacking: Code) -> None:
        self.index = index
        self.device = device
        self.state = ShareState.PLACED if device is not None else ShareState.LOST
        self.reason = lacking if device is None else Code.GRANTED

    def move(self, state: ShareState) -> None:
        if (self.state, state) not in _MOVES:
            raise TesseraError(f"a share cannot go from {self.state.value} to {state.value}")
        self.state = state


class Distribution:
    def __init__(
        self,
        link: Link,
        code: ErasureCode,
        slicing: Slicing,
        encoding_id: bytes,
        places: FoundPlaces,
        name_of: Callable[[bytes], str],
    ) -> None:
        """`places`: for this one encoding; shares for which there is no device begin as lost."""
        self._link = link
        self._code = code
        self._slicing = slicing
        self._encoding_id = encoding_id
        self._name_of = name_of
        devices = places.devices[0]
        self._tried: set[bytes] = set(devices)
        padded: list[Optional[bytes]] = [*devices, *[None] * (code.n - len(devices))]
        self.shares = [SentShare(index, device, places.lacking) for index, device in enumerate(padded)]

    def count(self, *states: ShareState) -> int:
        return sum(share.state in states for share in self.shares)

    @property
    def lost(self) -> list[SentShare]:
        return [share for share in self.shares if share.state is ShareState.LOST]

    def lost_reasons(self) -> dict[int, Code]:
        return {share.index: share.reason for share in self.lost}

    # --- the steps

    async def open(self, share_bytes: int) -> None:
        """Open every placed share; `share_bytes` as expected for each, 0 where it is not known."""
        placed = [share for share in self.shares if share.state is ShareState.PLACED]
        await asyncio.gather(*(self._open(share, share_bytes) for share in placed))

    async def append(self, encoded: EncodedSegment) -> bool:
        """Send a segment's blocks to all open shares; whether every block of it was acknowledged or never sent."""
        open_shares = [share for share in self.shares if share.state is ShareState.OPEN]
        sent = await asyncio.gather(
            *(
                self._append(share, encoded.segment, encoded.blocks[share.index], encoded.digests[share.index])
                for share in open_shares
            )
        )
        return all(sent)

    async def commit(self, commitment: bytes) -> None:
        """Commit every open share."""
        open_shares = [share for share in self.shares if share.state is ShareState.OPEN]
        await asyncio.gather(*(self._commit(share, commitment) for share in open_shares))

    async def move_lost(self, recipe: Recipe) -> None:
        """Give lost shares to other devices, as far as there are any, and rebuild there what they had."""
        for _ in range(_MAX_MOVES):
            lost = self.lost
            if not lost or self.count(ShareState.OPEN, ShareState.COMMITTED) < self._code.k:
                return
            places = await find_places(self._link, [self._encoding_id], len(lost), recipe.share_bytes, self._tried)
            devices = places.devices[0]
            if not devices:
                return
            moved = lost[: len(devices)]
            for share, device in zip(moved, devices):
                log.warning("share %d moves to %s", share.index, self._name_of(device))
                self._tried.add(device)
                share.device = device
                share.move(ShareState.PLACED)
            await asyncio.gather(*(self._open(share, recipe.share_bytes) for share in moved))
            for start in range(0, recipe.segment_count, _REFILLED_TOGETHER):
                segments = range(start, min(start + _REFILLED_TOGETHER, recipe.segment_count))
                await asyncio.gather(*(self._refill(moved, segment, recipe) for segment in segments))

    async def abandon(self) -> None:
        """Have the devices forget what was not committed; as far as they can be reached."""
        await asyncio.gather(*(self._abandon(share) for share in self.shares if share.state is ShareState.OPEN))

    # --- one share

    async def _open(self, share: SentShare, share_bytes: int) -> None:
        code, slicing = self._code, self._slicing
        header = Open(self._encoding_id, share.index, code.k, code.n, slicing.block_size, share_bytes)
        if await self._ask(share, Operation.OPEN, header):
            share.move(ShareState.OPEN)

    async def _append(self, share: SentShare, segment: int, block: NDArray[np.uint8], block_digest: bytes) -> bool:
        if share.state is not ShareState.OPEN:
            return True
        header = Append(self._encoding_id, share.index, segment, block_digest)
        return await self._ask(share, Operation.APPEND, header, block.data)

    async def _commit(self, share: SentShare, commitment: bytes) -> None:
        header = Commit(self._encoding_id, share.index)
        if await self._ask(share, Operation.COMMIT, header, memoryview(commitment), _COMMIT_PATIENCE):
            share.move(ShareState.COMMITTED)

    async def _abandon(self, share: SentShare) -> None:
        await self._ask(share, Operation.ABANDON, ShareName(self._encoding_id, share.index), patience=3.0)

    async def _ask(
        self,
        share: SentShare,
        operation: Operation,
        header: Open | Append | Commit | ShareName,
        payload: memoryview | None = None,
        patience: float = 20.0,
    ) -> bool:
        """Ask the share's device; whether it was granted. If not, the share is lost."""
        try:
            await self._link.request(
                operation,
                header,
                Acknowledged,
                device=share.device or b"",
                payload=payload,
                patience=patience,
            )
        except (DeclinedError, UnreachableError, ProtocolError) as error:
            if share.state is not ShareState.LOST:
                log.warning("%s: share %d: %s", self._name_of(share.device or b""), share.index, error)
                self._lose(share, _reason(error))
                if share.reason is not Code.GONE:
                    await self._abandon(share)  # the device is there: what came so far only takes its room
            return False
        return True

    def _lose(self, share: SentShare, reason: Code) -> None:
        share.reason = reason
        share.move(ShareState.LOST)

    # --- moving

    async def _refill(self, moved: list[SentShare], segment: int, recipe: Recipe) -> None:
        """Bring shares that were opened anew one segment further: their blocks, rebuilt from those of the others."""
        wanted = [share for share in moved if share.state is ShareState.OPEN]
        if not wanted:
            return
        present = await self._read_back(segment, recipe, moved)
        rebuilt = {share.index: np.empty(recipe.block_length(segment), np.uint8) for share in wanted}
        try:
            self._code.rebuild(present, rebuilt)
        except NotEnoughError:
            for share in wanted:
                if share.state is ShareState.OPEN:  # another segment may have lost it meanwhile
                    self._lose(share, Code.DAMAGED)
            return
        for share in wanted:
            if digest(rebuilt[share.index].data) != recipe.digest_of(segment, share.index):
                raise TesseraError("a rebuilt block is not what it was")
        await asyncio.gather(
            *(
                self._append(share, segment, rebuilt[share.index], recipe.digest_of(segment, share.index))
                for share in wanted
            )
        )

    async def _read_back(self, segment: int, recipe: Recipe, moved: list[SentShare]) -> dict[int, NDArray[np.uint8]]:
        """Good blocks of a segment, from shares that are open or committed elsewhere: k of them, if there are."""
        whole = (ShareState.OPEN, ShareState.COMMITTED)
        sources = [share for share in self.shares if share.state in whole and share not in moved]
        present: dict[int, NDArray[np.uint8]] = {}
        while sources and len(present) < self._code.k:
            asked = [sources.pop(0) for _ in range(min(len(sources), self._code.k - len(present)))]
            length = recipe.block_length(segment)
            blocks = await asyncio.gather(*(self._fetch(source, segment, length) for source in asked))
            for source, block in zip(asked, blocks):
                if block is not None and digest(block) == recipe.digest_of(segment, source.index):
                    present[source.index] = np.frombuffer(block, np.uint8)
        return present

    async def _fetch(self, source: SentShare, segment: int, length: int) -> Optional[memoryview]:
        request = Fetch([BlockName(self._encoding_id, source.index, segment)])
        try:
            reply = await self._link.request(
                Operation.FETCH, request, Fetched, device=source.device or b"", reply_bytes=length
            )
        except (DeclinedError, UnreachableError, ProtocolError):
            return None
        granted = len(reply.header.parts) == 1 and reply.header.parts[0].answer.granted
        return reply.payload if granted and reply.payload.nbytes == length else None


def _reason(error: TesseraError) -> Code:
    """Why a share was lost; a device that answers nonsense has a fault, and costs no more than its share either."""
    if isinstance(error, DeclinedError):
        return error.code
    return Code.FAULT if isinstance(error, ProtocolError) else Code.GONE
