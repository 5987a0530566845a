"""Seals and codes segments into buffers, and sends them to the devices of their shares.

All images of one run share the buffers: memory does not grow with their number. Puts of files and streams send so, and
`admin.strengthening` what it fetched; batches of small images use the buffers only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from common.coding.slicing import Slicing, block_size_for
from common.erasure import ErasureCode
from common.link.window import Window
from common.process.events import ignore
from producer.distribution import Distribution
from producer.encoding import Bytes, EncodedSegment, Encoding

_MEMORY = 40 << 20  # bytes for all segments under way
_MAX_SEGMENTS = 6


class Buffers:
    """A bounded pool of buffers for the n blocks of one or more segments; `take` waits, first come first served.

    A buffer that is given back is used again, or freed for one of another size.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._segment_bytes = segment_bytes
        self._segments = max(2, min(_MAX_SEGMENTS, _MEMORY // segment_bytes))
        self._window = Window(self._segments, self._segments)
        self._taken = 0  # segments
        self._kept: dict[int, list[Bytes]] = {}  # segments → buffers of that size

    async def take(self, segments: int = 1) -> Bytes:
        await self._window.enter(segments)
        self._taken += segments
        kept = self._kept.setdefault(segments, [])
        if kept:
            return kept.pop()
        for others in self._kept.values():
            while others and self._taken + self.kept_segments > self._segments:
                others.pop()
        return np.empty(segments * self._segment_bytes, np.uint8)

    def give_back(self, buffer: Optional[Bytes], segments: int = 1) -> None:
        """Give a buffer back; None in its place where it must not be used again."""
        self._taken -= segments
        if buffer is not None:
            self._kept[segments].append(buffer)
        self._window.leave(segments)

    @property
    def kept_segments(self) -> int:
        """Segments of the buffers that are free for use again."""
        return sum(segments * len(buffers) for segments, buffers in self._kept.items())


@dataclass(frozen=True)
class Coding:
    """Code, slicing and buffers for one k and n."""

    code: ErasureCode
    slicing: Slicing
    buffers: Buffers


def coding_of(k: int, n: int) -> Coding:
    code = ErasureCode(k, n)
    slicing = Slicing(k, code.block_unit, block_size_for(n))
    return Coding(code, slicing, Buffers(n * slicing.block_size))


async def _at_once() -> bool:
    return True


class Sending:
    """Sends one encoding's segments to the devices of its shares, as many at a time as there are buffers."""

    def __init__(
        self,
        coding: Coding,
        encoding: Encoding,
        distribution: Distribution,
        may_leave: Callable[[], Awaitable[bool]] = _at_once,
    ) -> None:
        """`may_leave` is awaited before a segment is sent; where it gives False, nothing of it is."""
        self._buffers = coding.buffers
        self._encoding = encoding
        self._distribution = distribution
        self._may_leave = may_leave
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(
        self,
        segment: int,
        plaintext: memoryview,
        is_last: bool,
        encoded: Callable[[EncodedSegment], None] = ignore,
    ) -> None:
        """Seal and code the next segment, as soon as there is a buffer, and start sending it.

        `encoded` is called before. Errors as of `Encoding.encode`; `plaintext` may be overwritten afterwards.
        """
        buffer = await self._buffers.take()
        try:
            blocks = self._encoding.encode(segment, plaintext, is_last, buffer)
            encoded(blocks)
        except BaseException:
            self._buffers.give_back(buffer)
            raise
        task = asyncio.get_running_loop().create_task(self._send(blocks, buffer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, blocks: EncodedSegment, buffer: Bytes) -> None:
        acknowledged = False
        try:
            acknowledged = await self._may_leave() and await self._distribution.append(blocks)
        finally:
            # A block without an acknowledgement may still be in a socket: do not use its buffer again.
            self._buffers.give_back(buffer if acknowledged else None)

    async def wait(self) -> None:
        """Wait until all are acknowledged, or their shares lost."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
