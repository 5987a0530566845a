"""Restores many small images together, as `producer.batch` stores them: those that are one segment.

k blocks of each are asked for, of one device all in as few messages as take them. Then all are opened, verified and
written in one go of a thread, and made durable together. Their recipes are not asked for: that they are the images is
proven without, by a segment's tag and the whole SHA-256; a recipe only tells whose block is bad. So what does not come
together here is left to `restorer`, which does: of what a block is late, missing or bad, or cannot be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.errors import TesseraError
from common.link.replies import DeclinedError
from common.link.window import Window
from common.protocol.device_messages import BlockName
from common.protocol.messages import Code, EncodingAt, shares_at_hand
from common.repository.devices import Devices
from common.vault.mapping import Mapping
from common.vault.trust import TrustedImage
from consumer.output import Blocks, Output, keep_all
from consumer.restoring import data_blocks

MAX_IMAGES = 80  # in a batch: two thirds of so many blocks, of each of six devices, are one message
MAX_SIZE = 128 << 10  # bytes of an image
BATCHES = 3  # at a time


@dataclass(frozen=True)
class SmallImage:
    """`open`: its output, in another thread; TesseraError where there can be none."""

    encoding: EncodingAt
    mapping: Mapping
    open: Callable[[], Output]


def fits(encoding: EncodingAt, mapping: Mapping) -> bool:
    """Whether an encoding, by its mapping, is restored in a batch; not one that a known damage is to be told of."""
    small = mapping.segment_count == 1 and mapping.image_size <= MAX_SIZE
    sound = all(share.sound or not share.alive for share in encoding.shares)
    return small and sound and (mapping.k, mapping.n) == (encoding.k, encoding.n)


Damaged = Callable[[SmallImage, int, DeclinedError], None]  # an image, which share, and the device's words


class BatchRestorer:
    def __init__(self, devices: Devices, code: Callable[[int, int], ErasureCode], avoided: Collection[bytes]) -> None:
        """`avoided`: devices that are not asked, such as those that gave a bad block before."""
        self._devices = devices
        self._code = code
        self._avoided = avoided
        self._window = Window(BATCHES, 0)

    async def restore(self, images: Sequence[SmallImage], damaged: Damaged) -> list[Optional[Path]]:
        """Restore images that `fits` tells of; for each where it is, durable, or None where it was not restored.

        `damaged`: told of each share of which its device says that it is, since nobody may ask that one again.
        """
        await self._window.enter(0)
        try:
            gathered = await self._gather(images, damaged)
            codes = [self._code(image.encoding.k, image.encoding.n) for image in images]
            keeping = asyncio.get_running_loop().run_in_executor(None, _keep, images, codes, gathered)
            try:
                await asyncio.wait([keeping])
            finally:
                await asyncio.wait([keeping])  # also where this is cancelled: nothing unfinished is left behind
            return keeping.result()
        finally:
            self._window.leave(0)

    async def _gather(self, images: Sequence[SmallImage], damaged: Damaged) -> list[Blocks]:
        """Of each image the blocks that come in time."""
        avoided = self._devices.slow().union(self._avoided)
        asked: dict[bytes, list[tuple[int, BlockName, int]]] = {}  # device → which image, what, its length
        for number, image in enumerate(images):
            encoding = image.encoding
            length = self._block_length(image)
            for share, device in _chosen(encoding, avoided):
                asked.setdefault(device, []).append((number, BlockName(encoding.encoding_id, share, 0), length))
        blocks: list[Blocks] = [{} for _ in images]
        if not asked:
            return blocks
        answers = {
            self._devices.blocks(device, [name for _, name, _ in some], [length for *_, length in some]): some
            for device, some in asked.items()
        }
        done, _ = await asyncio.wait(answers, timeout=max(map(self._devices.late_after, asked)))
        for answer in done:
            for (number, name, length), block in zip(answers[answer], answer.result()):
                if isinstance(block, DeclinedError) and block.code is Code.DAMAGED:
                    damaged(images[number], name.share, block)
                if not isinstance(block, TesseraError) and block.nbytes == length:
                    blocks[number][name.share] = block
        return blocks

    def _block_length(self, image: SmallImage) -> int:
        unit = self._code(image.encoding.k, image.encoding.n).block_unit
        return Slicing(image.encoding.k, unit, unit).block_length(image.mapping.image_size)


def _chosen(encoding: EncodingAt, avoided: Collection[bytes]) -> list[tuple[int, bytes]]:
    """k shares and the devices to ask for them, data shares first; none where there are too few."""
    fit = [
        (share, device)
        for share, devices in shares_at_hand(encoding).items()
        for device in devices[:1]
        if device not in avoided
    ]
    return fit[: encoding.k] if len(fit) >= encoding.k else []


def _keep(
    images: Sequence[SmallImage], codes: Sequence[ErasureCode], gathered: Sequence[Blocks]
) -> list[Optional[Path]]:
    """Open, verify, write and keep those of which k blocks are here."""
    outputs = [_written(image, code, blocks) for image, code, blocks in zip(images, codes, gathered)]
    errors = iter(keep_all([output for output in outputs if output is not None]))
    return [output.target if output is not None and next(errors) is None else None for output in outputs]


def _written(image: SmallImage, code: ErasureCode, blocks: Blocks) -> Optional[Output]:
    """The image, proven, in a file without its name; None where it cannot be."""
    if len(blocks) < code.k:
        return None
    try:
        content = _opened(image, code, blocks)
        output = image.open()
    except TesseraError:
        return None
    try:
        while content:
            content = content[output.file.write(content) :]
    except OSError:
        output.discard()
        return None
    except BaseException:
        output.discard()
        raise
    return output


def _opened(image: SmallImage, code: ErasureCode, blocks: Blocks) -> memoryview:
    """The image's bytes; IntegrityError where these blocks do not give it."""
    trusted = TrustedImage(image.mapping, image.encoding.encoding_id)
    plaintext = np.empty(image.mapping.image_size, np.uint8)
    sealed = np.frombuffer(b"".join([block.data for block in data_blocks(code, blocks)]), np.uint8)
    length = trusted.open_segment(0, sealed, plaintext)
    content = plaintext[:length].data
    trusted.update(content)
    trusted.verify()
    return content
