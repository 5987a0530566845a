"""Gathers one encoding's blocks from its devices: locate → gather → check.

A block counts only once it has the digest that the recipe names; whoever gave a bad one is named to the user, and
another share takes its place. A device that is gone is not asked again for this image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Optional

from common.errors import IntegrityError, NotEnoughError, TesseraError, UnreachableError
from common.link.declined import DeclinedError
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import BlockName, Code, EncodingAt, ShareName
from common.recipe import Recipe
from common.slicing import block_size_for
from common.vault.keys import VaultKey
from common.vault.mapping import MAX_SEALED_MAPPING, Mapping
from common.vault.trust import TrustedImage
from consumer.asking import Devices
from consumer.choice import Choice, Holder

_RECIPE_FRAME = 256  # bytes of a recipe beside its digests
Trouble = Callable[[bytes, str], None]  # device id, what is wrong with its share


class Gathering:
    """One encoding, from which segments are asked for in any order."""

    def __init__(self, devices: Devices, encoding: EncodingAt, trouble: Trouble) -> None:
        self._devices = devices
        self._encoding = encoding
        self._trouble = trouble
        self._holders = [Holder(s.share, s.device_id) for s in encoding.shares if s.sound and s.alive]
        self._choice = Choice(encoding.k, self._holders)
        known = {share.share for share in encoding.shares}
        # Whether anything but damage is in the way: a device that is not connected, a share that nobody announced.
        self._missing = len(known) < encoding.n or not all(share.alive for share in encoding.shares)
        for share in encoding.shares:
            if share.alive and not share.sound:
                trouble(share.device_id, f"share {share.share} is damaged")

    async def prove(self, key: VaultKey, kept: Optional[Mapping], unit: int) -> TrustedImage:
        """Get mapping and recipe from whichever device has good ones.

        `kept`: the mapping, where this machine has it. NotEnoughError where no device has good ones.
        """
        encoding = self._encoding
        encoding_id, object_id = encoding.encoding_id, encoding.object_id
        for holder in sorted(self._holders):
            name = ShareName(encoding_id, holder.share)
            try:
                description = await self._devices.description(
                    holder.device, name, self._description_bytes(), with_recipe=True
                )
                image = (
                    TrustedImage(kept, encoding_id)
                    if kept is not None
                    else TrustedImage.from_sealed(key, description.mapping, object_id, encoding_id)
                )
                if (image.mapping.k, image.mapping.n) != (encoding.k, encoding.n):
                    raise IntegrityError("what the catalog says of the encoding is not what its mapping says")
                self._recipe = image.accept_recipe(description.recipe, unit)
                self._image = image
                return image
            except TesseraError as error:  # a mapping that another key sealed is damage, too
                self._failed(holder, error)
        raise self._shortage("no device has a good recipe of it")

    def _description_bytes(self) -> int:
        """The most that mapping and recipe may take, by what the catalog says of the share's length."""
        encoding = self._encoding
        segments = encoding.share_bytes // block_size_for(encoding.n) + 1
        return MAX_SEALED_MAPPING + segments * encoding.n * DIGEST_SIZE + _RECIPE_FRAME

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    async def segment(self, segment: int) -> dict[int, memoryview]:
        """k good blocks of a segment by share; NotEnoughError where so many are not to be had."""
        k = self._encoding.k
        good: dict[int, memoryview] = {}
        asked: set[Holder] = set()
        waiting: dict[asyncio.Task[memoryview], Holder] = {}
        try:
            while len(good) < k:
                self._ask_more(segment, k - len(good), good, asked, waiting)
                if len(good) + len(waiting) < k:
                    had = len(good) + len(waiting)
                    raise self._shortage(f"only {had} good blocks of segment {segment} are to be had; {k} are needed")
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._receive(segment, waiting.pop(task), task, good)
        finally:
            for task in waiting:
                task.cancel()
        return good

    def _ask_more(
        self,
        segment: int,
        wanted: int,
        good: dict[int, memoryview],
        asked: set[Holder],
        waiting: dict[asyncio.Task[memoryview], Holder],
    ) -> None:
        while len(waiting) < wanted:
            taken = [*good, *(holder.share for holder in waiting.values())]
            holder = self._choice.next(asked, taken)
            if holder is None:
                return
            asked.add(holder)
            name = BlockName(self._encoding.encoding_id, holder.share, segment)
            length = self._recipe.block_length(segment)
            task = asyncio.ensure_future(self._devices.block(holder.device, name, length))
            waiting[task] = holder

    def _receive(
        self, segment: int, holder: Holder, task: asyncio.Task[memoryview], good: dict[int, memoryview]
    ) -> None:
        try:
            block = task.result()
        except TesseraError as error:
            self._failed(holder, error)
            return
        if self._image.is_good(segment, holder.share, block):
            good[holder.share] = block
        else:
            self._failed(holder, IntegrityError(f"block {segment} is not the one that was stored"))

    def _shortage(self, text: str) -> TesseraError:
        """Too little is left: damaged where only damage is in the way, else not enough devices."""
        return NotEnoughError(text) if self._missing else IntegrityError(text)

    def _failed(self, holder: Holder, error: TesseraError) -> None:
        self._choice.fault(holder)
        gone = isinstance(error, DeclinedError) and error.code in (Code.GONE, Code.NOT_FOUND, Code.BUSY)
        if gone or isinstance(error, UnreachableError):
            self._choice.gone(holder.device)
            self._missing = True
        self._trouble(holder.device, f"share {holder.share}: {error}")
