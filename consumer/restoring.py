"""Restores one image: decode → open → verify, segment by segment, in order.

A few segments are gathered ahead while one is decoded and opened, and another hashed and written in a thread. So memory
does not grow with the image. Whatever goes wrong, what was written is discarded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import IO, Protocol

import numpy as np

from common.erasure import ErasureCode
from common.errors import TesseraError
from common.recipe import Recipe
from common.vault.sealing import Bytes
from common.vault.trust import TrustedImage

_AHEAD = 3  # segments gathered while one is opened
_BRIEF = 128 << 10  # bytes that are hashed and written sooner than another thread has begun


class Target(Protocol):
    """What an image is written to; see `output`."""

    file: IO[bytes]

    def keep(self) -> None: ...

    def discard(self) -> None: ...


class Segments(Protocol):
    """Where an image's blocks come from; see `gathering`."""

    @property
    def recipe(self) -> Recipe: ...

    async def segment(self, segment: int) -> dict[int, memoryview]: ...


class Restoring:
    def __init__(self, code: ErasureCode, gathering: Segments, image: TrustedImage) -> None:
        self._code = code
        self._gathering = gathering
        self._image = image
        self._recipe: Recipe = gathering.recipe

    async def write_to(self, target: Target, progress: Callable[[int], None]) -> None:
        """Write the image; `progress` is called with bytes as they are written. On errors nothing is kept."""
        try:
            await self._write_segments(target.file, progress)
            self._image.verify()
        except BaseException:
            target.discard()
            raise
        target.keep()

    async def _write_segments(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        count = self._recipe.segment_count
        ahead: deque[asyncio.Task[dict[int, memoryview]]] = deque()
        size = self._recipe.block_length(0) * self._code.k
        sealed = np.empty(size, np.uint8)
        plaintexts = [np.empty(size, np.uint8) for _ in range(min(2, count))]
        writing: asyncio.Future[None] | None = None
        try:
            for segment in range(count):
                while len(ahead) <= _AHEAD and segment + len(ahead) < count:
                    ahead.append(asyncio.ensure_future(self._gathering.segment(segment + len(ahead))))
                blocks = await ahead.popleft()
                plaintext = plaintexts[segment % len(plaintexts)]
                length = self._open(segment, blocks, sealed, plaintext)
                if writing is not None:
                    await writing
                writing = None
                if length <= _BRIEF:
                    self._hash_and_write(file, plaintext[:length].data)
                else:
                    writing = self._in_thread(file, plaintext[:length].data)
                progress(length)
            if writing is not None:
                await writing
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
            if writing is not None:
                await asyncio.wait([writing])

    def _open(self, segment: int, blocks: dict[int, memoryview], sealed: Bytes, plaintext: Bytes) -> int:
        """Put the sealed segment together, rebuilding data blocks that did not come, and open it."""
        k, length = self._code.k, self._recipe.block_length(segment)
        data = [sealed[share * length : (share + 1) * length] for share in range(k)]
        missing = {share: data[share] for share in range(k) if share not in blocks}
        for share, block in blocks.items():
            if share < k:
                data[share][:] = np.frombuffer(block, np.uint8)
        if missing:
            present = {share: np.frombuffer(block, np.uint8) for share, block in blocks.items()}
            self._code.rebuild(present, missing)
        return self._image.open_segment(segment, sealed[: k * length], plaintext)

    def _in_thread(self, file: IO[bytes], plaintext: memoryview) -> asyncio.Future[None]:
        """Hash and write beside the event loop; one segment at a time, in order."""
        return asyncio.get_running_loop().run_in_executor(None, self._hash_and_write, file, plaintext)

    def _hash_and_write(self, file: IO[bytes], plaintext: memoryview) -> None:
        self._image.update(plaintext)
        try:
            while plaintext.nbytes:
                plaintext = plaintext[file.write(plaintext) :]
        except OSError as error:
            raise TesseraError(f"cannot write the image: {error.strerror}") from None
