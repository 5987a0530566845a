"""The buffers that all images of one run are sealed and coded into: so much memory, however many images there are."""

from __future__ import annotations

from typing import Optional

import numpy as np

from common.link.window import Window
from producer.encoding import Bytes

_MEMORY = 40 << 20  # bytes for all segments under way
_MAX_SEGMENTS = 6


class Buffers:
    """Room for the n blocks of a few segments, lent as buffers of one or more; whoever wants one waits for its turn.

    A buffer that comes back is lent again, or makes way for one of another size.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._segment_bytes = segment_bytes
        self._segments = max(2, min(_MAX_SEGMENTS, _MEMORY // segment_bytes))
        self._window = Window(self._segments, self._segments)
        self._lent = 0  # segments
        self._kept: dict[int, list[Bytes]] = {}  # segments → buffers of that size

    async def take(self, segments: int = 1) -> Bytes:
        await self._window.enter(segments)
        self._lent += segments
        kept = self._kept.setdefault(segments, [])
        if kept:
            return kept.pop()
        for others in self._kept.values():
            while others and self._lent + self.kept_segments > self._segments:
                others.pop()
        return np.empty(segments * self._segment_bytes, np.uint8)

    def give_back(self, buffer: Optional[Bytes], segments: int = 1) -> None:
        """Make room for the next; None where the buffer itself must not be used again."""
        self._lent -= segments
        if buffer is not None:
            self._kept[segments].append(buffer)
        self._window.leave(segments)

    @property
    def kept_segments(self) -> int:
        """Room of the buffers that wait to be lent again."""
        return sum(segments * len(buffers) for segments, buffers in self._kept.items())
