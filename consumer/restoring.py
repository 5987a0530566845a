"""Restores one image: decode → open → verify, segment by segment, in order.

A few segments are gathered ahead while one is decoded and opened, and another hashed and written in a thread. So memory
does not grow with the image. After an error what was written is discarded; or, where the target has a checkpoint, kept
as far as it was proven.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import IO, Optional, Protocol

import numpy as np

from common.coding.recipe import Recipe
from common.erasure import ErasureCode
from common.errors import IntegrityError, cannot_write
from common.process.events import BytesDone
from common.vault.sealing import Bytes
from common.vault.trust import TrustedImage
from consumer.output import Blocks, Checkpoint

_AHEAD = 3  # segments gathered while one is opened
_PIECE = 1 << 20  # bytes hashed at a time of what was written before
_BRIEF = 128 << 10  # bytes; up to so many are hashed and written faster without a thread


class Target(Protocol):
    """What an image is written to; see `output`. `place`: its folder, as errors name it."""

    file: IO[bytes]
    place: str

    def discard(self) -> None: ...


class Segments(Protocol):
    """Where an image's blocks come from; see `gathering`."""

    @property
    def recipe(self) -> Recipe: ...

    async def segment(self, segment: int, here: Optional[Blocks] = None) -> Blocks: ...


class Restoring:
    def __init__(
        self, code: ErasureCode, gathering: Segments, image: TrustedImage, checkpoint: Optional[Checkpoint] = None
    ) -> None:
        """`checkpoint`: how far the target has come, to resume there; updated, also after an error."""
        self._code = code
        self._goes_on = checkpoint is not None
        self._checkpoint = Checkpoint() if checkpoint is None else checkpoint
        self._gathering = gathering
        self._image = image
        self._recipe: Recipe = gathering.recipe

    async def write_to(self, target: Target, emit: Callable[[BytesDone], None]) -> None:
        """Write the image, which is proven then, and the target may be kept.

        `emit` gets bytes as they are written, those of earlier attempts first.

        On errors nothing is kept without a checkpoint. With one, what was written is hashed again, and dropped where
        the whole is not the image.
        """
        try:
            await self._write_segments(target, emit)
            self._verify()
        except BaseException:
            if not self._goes_on:
                target.discard()
            raise

    async def plaintexts(self) -> AsyncGenerator[memoryview, None]:
        """The image's bytes, segment by segment, each valid until the next is asked for.

        They are the image only if no IntegrityError is raised at the end.
        """
        async for _, plaintext in self._opened(0):
            if plaintext.nbytes <= _BRIEF:
                self._image.update(plaintext)
            else:
                await self._in_thread(self._image.update, plaintext)
            yield plaintext
        self._image.verify()

    def _verify(self) -> None:
        try:
            self._image.verify()
        except BaseException:
            self._checkpoint.forget()
            raise

    async def _write_segments(self, target: Target, emit: Callable[[BytesDone], None]) -> None:
        first = self._checkpoint.segments
        opened = self._opened(first)
        writing: Optional[asyncio.Future[None]] = None
        try:
            if self._goes_on:
                writing = self._in_thread(self._take_up, target)
                emit(BytesDone(sum(map(self._image.segment_length, range(first)))))
            async for segment, plaintext in opened:
                if writing is not None:
                    await _ended(writing)
                writing = None
                if plaintext.nbytes <= _BRIEF:
                    self._hash_and_write(target, segment, plaintext)
                else:
                    writing = self._in_thread(self._hash_and_write, target, segment, plaintext)
                emit(BytesDone(plaintext.nbytes))
            if writing is not None:
                await _ended(writing)
        finally:
            await opened.aclose()
            if writing is not None:
                await asyncio.wait([writing])

    async def _opened(self, first: int) -> AsyncGenerator[tuple[int, memoryview], None]:
        """The segments from `first` on, opened; the bytes of one stay valid while the next is used."""
        count = self._recipe.segment_count
        ahead: deque[asyncio.Task[Blocks]] = deque()
        size = self._recipe.block_length(0) * self._code.k
        plaintexts = [np.empty(size, np.uint8) for _ in range(min(2, count))]
        try:
            for segment in range(first, count):
                while len(ahead) <= _AHEAD and segment + len(ahead) < count:
                    ahead.append(asyncio.ensure_future(self._gather(segment + len(ahead))))
                blocks = await ahead.popleft()
                plaintext = plaintexts[segment % len(plaintexts)]
                length = self._image.open_blocks(segment, data_blocks(self._code, blocks), plaintext)
                yield segment, plaintext[:length].data
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _gather(self, segment: int) -> Blocks:
        return await self._gathering.segment(segment, self._checkpoint.of(segment) if self._goes_on else None)

    def _in_thread(self, work: Callable[..., None], *arguments: object) -> asyncio.Future[None]:
        """Hash and write beside the event loop; one segment at a time, in order."""
        return asyncio.get_running_loop().run_in_executor(None, work, *arguments)

    def _take_up(self, target: Target) -> None:
        """Hash what was written before, and cut off a segment that was not written whole."""
        file = target.file
        left = sum(map(self._image.segment_length, range(self._checkpoint.segments)))
        try:
            file.seek(0)
            while left and (piece := file.read(min(left, _PIECE))):
                self._image.update(memoryview(piece))
                left -= len(piece)
            file.truncate(file.tell())
        except OSError as error:
            raise IntegrityError(f"cannot read what is here of the image: {error.strerror}") from None

    def _hash_and_write(self, target: Target, segment: int, plaintext: memoryview) -> None:
        self._image.update(plaintext)
        try:
            while plaintext.nbytes:
                plaintext = plaintext[target.file.write(plaintext) :]
        except OSError as error:
            raise cannot_write(target.place, error) from None
        self._checkpoint.wrote(segment)


async def _ended(writing: asyncio.Future[None]) -> None:
    """Wait for a thread's work, even if cancelled: awaiting the future itself would cancel it."""
    await asyncio.wait([writing])
    writing.result()


def data_blocks(code: ErasureCode, blocks: Blocks) -> list[Bytes]:
    """The k data blocks of a segment, in order, from k of its blocks; those that did not come are rebuilt."""
    present = {share: np.frombuffer(block, np.uint8) for share, block in blocks.items()}
    missing = [share for share in range(code.k) if share not in present]
    if missing:
        length = next(iter(present.values())).size
        rebuilt = {share: np.empty(length, np.uint8) for share in missing}
        code.rebuild(present, rebuilt)
        present.update(rebuilt)
    return [present[share] for share in range(code.k)]
