"""Gathers one encoding's blocks from its devices: locate → gather → check.

A block counts only if it has the digest in the recipe; a device that gave a bad one is named to the user and reported
to the broker, and another share is used. Where a block is late another share is asked for, too (`hedging`). A device
that is gone is not asked again for this image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Optional

from common.coding.recipe import Recipe
from common.coding.slicing import TAG_SIZE, Slicing
from common.errors import IntegrityError, NotEnoughError, TesseraError, UnreachableError
from common.link.replies import DeclinedError
from common.protocol.device_messages import BlockName, ShareName
from common.protocol.messages import BadShare, Code, EncodingAt
from common.repository.devices import Description, Devices, description_bytes
from common.repository.hedging import Choice, HedgedRequest, Holder
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping
from common.vault.trust import TrustedImage
from consumer.output import Blocks

Trouble = Callable[[bytes, str], None]  # device id, what is wrong with its share
Received = Callable[[bytes, int], None]  # device id, bytes of a good block


class Gathering:
    """Gathers the segments of one encoding, in any order."""

    def __init__(
        self, devices: Devices, encoding: EncodingAt, trouble: Trouble, came: Received = lambda device, count: None
    ) -> None:
        self._devices = devices
        self._encoding = encoding
        self._trouble = trouble
        self._came = came
        self._choice = Choice(
            encoding.k, [Holder(s.share, s.device_id) for s in encoding.shares if s.sound and s.alive]
        )
        self._early: dict[Holder, asyncio.Future[memoryview]] = {}
        self.bad: list[BadShare] = []  # shares that were found bad here
        known = {share.share for share in encoding.shares}
        # Whether shares are missing, not only damaged: of a device that is not connected, or not announced.
        self._missing = len(known) < encoding.n or not all(share.alive for share in encoding.shares)
        for share in encoding.shares:
            if share.alive and not share.sound:
                trouble(share.device_id, f"share {share.share} is damaged")

    def fetch_early(self, mapping: Mapping, unit: int) -> None:
        """Ask for the blocks of an image of one segment at once, not when the recipe is here by which they are checked.

        `mapping`: as this machine has it. Whoever waits for one image only so waits for devices once.
        """
        block_size, rest = divmod(mapping.segment_size + TAG_SIZE, mapping.k)
        if mapping.segment_count != 1 or mapping.k != self._encoding.k or rest or block_size % unit:
            return
        slicing = Slicing(mapping.k, unit, block_size)
        length = slicing.block_length(slicing.segment_length(mapping.image_size, 0))
        while len(self._early) < mapping.k:
            holder = self._choice.next(self._early, {each.share for each in self._early}, self._devices.slow())
            if holder is None:
                return
            block = self._devices.block(holder.device, BlockName(self._encoding.encoding_id, holder.share, 0), length)
            block.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be of no use any more
            self._early[holder] = block

    async def prove(self, key: VaultKey, kept: Optional[Mapping], unit: int) -> TrustedImage:
        """Get mapping and recipe from the first device that has good ones.

        `kept`: the mapping, where this machine has it. NotEnoughError where no device has good ones.
        """

        def check(holder: Holder, answer: asyncio.Future[Description]) -> Optional[TrustedImage]:
            try:
                return self._prove(answer.result(), key, kept, unit)
            except TesseraError as error:  # a mapping sealed under another key counts as damaged
                self._failed(holder, error)
                return None

        proven = await HedgedRequest(1, self._choice, self._devices, self._describe, check).run()
        if not proven:
            raise self._shortage("no device has a good recipe of it")
        self._image = next(iter(proven.values()))  # two devices may have answered in the same moment
        return self._image

    def _describe(self, holder: Holder) -> asyncio.Future[Description]:
        name = ShareName(self._encoding.encoding_id, holder.share)
        return self._devices.description(holder.device, name, description_bytes(self._encoding), with_recipe=True)

    def _prove(self, description: Description, key: VaultKey, kept: Optional[Mapping], unit: int) -> TrustedImage:
        encoding = self._encoding
        encoding_id, object_id = encoding.encoding_id, encoding.object_id
        image = (
            TrustedImage(kept, encoding_id)
            if kept is not None
            else TrustedImage.from_sealed(key, description.mapping, object_id, encoding_id)
        )
        if (image.mapping.k, image.mapping.n) != (encoding.k, encoding.n):
            raise IntegrityError("what the catalog says of the encoding is not what its mapping says")
        image.accept_recipe(description.recipe, unit)
        return image

    @property
    def recipe(self) -> Recipe:
        return self._image.recipe

    async def segment(self, segment: int, here: Optional[Blocks] = None) -> Blocks:
        """k good blocks of a segment by share; NotEnoughError where there are fewer.

        `here`: good ones that need not be fetched; those that come are added, even where others fail.
        """
        k = self._encoding.k
        kept: Blocks = {} if here is None else here

        def ask(holder: Holder) -> asyncio.Future[memoryview]:
            if holder in self._early:
                return self._early.pop(holder)
            name = BlockName(self._encoding.encoding_id, holder.share, segment)
            return self._devices.block(holder.device, name, self.recipe.block_length(segment))

        def check(holder: Holder, answer: asyncio.Future[memoryview]) -> Optional[memoryview]:
            block = self._good_block(holder, segment, answer)
            if block is not None:
                kept[holder.share] = block
            return block

        request = HedgedRequest(k, self._choice, self._devices, ask, check, kept)
        good = await request.run()
        if len(good) < k:
            raise self._shortage(f"only {request.had} good blocks of segment {segment} are to be had; {k} are needed")
        return good

    def _good_block(self, holder: Holder, segment: int, answer: asyncio.Future[memoryview]) -> Optional[memoryview]:
        try:
            block = answer.result()
        except TesseraError as error:
            self._failed(holder, error)
            return None
        if self.recipe.accepts(segment, holder.share, block):
            self._came(holder.device, block.nbytes)
            return block
        self._failed(holder, IntegrityError(f"block {segment} is not the one that was stored"))
        return None

    def _shortage(self, text: str) -> TesseraError:
        """IntegrityError where shares are only damaged, NotEnoughError where any is missing."""
        return NotEnoughError(text) if self._missing else IntegrityError(text)

    def _failed(self, holder: Holder, error: TesseraError) -> None:
        self._choice.fault(holder)
        gone = isinstance(error, DeclinedError) and error.code in (Code.GONE, Code.NOT_FOUND, Code.BUSY)
        if gone or isinstance(error, UnreachableError):
            self._choice.gone(holder.device)
            self._missing = True
        if isinstance(error, IntegrityError) or (isinstance(error, DeclinedError) and error.code is Code.DAMAGED):
            bad = BadShare(self._encoding.encoding_id, holder.share, holder.device)
            if bad not in self.bad:
                self.bad.append(bad)
        self._trouble(holder.device, f"share {holder.share}: {error}")
