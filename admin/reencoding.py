"""One image stored anew from its own shares: fetched → opened → cut, sealed and coded for another k of n → committed.

A get and a put with nothing between them: a few segments are in memory, no plaintext is on a disk. The new encoding has
a data key of its own. It is committed only once the whole SHA-256 is the image's, and only where every share of it has
a device; of what falls short nothing is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Optional

import msgspec

from admin.amending import find_current
from admin.session import Session
from common.erasure import ErasureCode
from common.errors import NotEnoughError
from common.link.questions import find_places
from common.process.events import BytesDone
from common.protocol.messages import EncodingAt
from common.vault.contact_card import pack_cards
from common.vault.granting import grant_to
from common.vault.mapping import Mapping, seal_mapping
from consumer.events import Missing
from consumer.gathering import Gathering
from consumer.restoring import Restoring
from producer.distribution import Distribution, ShareState
from producer.encoding import Bytes, Conclusion, EncodedSegment, Encoding
from producer.owner import SealedMapping
from producer.session import Coding


class Reencoding:
    """One image on its way from an encoding to another."""

    def __init__(self, session: Session, sha256: str, before: EncodingAt, coding: Coding) -> None:
        """`sha256`: the image's, in hexadecimal. It is told of its bytes as they go on their way, and of bad shares."""
        self._session = session
        self._sha256 = sha256
        self._before = before
        self._coding = coding
        self._encoding = Encoding(coding.code, coding.slicing)
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> bytes:
        """Store the new encoding whole, and return its id.

        NotEnoughError or IntegrityError where the old one does not come together, or a share of the new one finds no
        device: then nothing is left of the new one.
        """
        session, before = self._session, self._before
        code = ErasureCode(before.k, before.n)
        gathering = Gathering(session.devices, before, self._trouble)
        image = await gathering.prove(session.key, session.mappings.kept(before), code.block_unit)
        plaintexts = Restoring(code, gathering, image).plaintexts()
        size = image.mapping.image_size
        try:
            distribution = await self._distribute(size)
            try:
                await self._send(distribution, plaintexts, size)
                await self._commit(distribution, await self._conclude(image.mapping))
            except BaseException:
                await self._break_off(distribution, image.mapping.image_sha256)
                raise
        finally:
            await plaintexts.aclose()
        return self._encoding.encoding_id

    def _trouble(self, device: bytes, why: str) -> None:
        self._session.emit(Missing(self._sha256, self._session.name_of(device), why))

    async def _distribute(self, size: int) -> Distribution:
        session, coding = self._session, self._coding
        encoding_id, share_bytes = self._encoding.encoding_id, coding.slicing.share_bytes(size)
        places = await find_places(session.link, [encoding_id], coding.code.n, share_bytes)
        devices: list[Optional[bytes]] = [*places.devices[0]]
        devices += [None] * (coding.code.n - len(devices))
        distribution = Distribution(
            session.link, coding.code, coding.slicing, encoding_id, devices, places.lacking, session.name_of
        )
        self._require_all(distribution)
        await distribution.open(share_bytes)
        return distribution

    async def _send(self, distribution: Distribution, plaintexts: AsyncIterator[memoryview], size: int) -> None:
        """Cut the image for the new code and send it; the last segment only once all of it was proven."""
        room = memoryview(bytearray(min(size, self._coding.slicing.segment_size)))
        segment = filled = 0
        async for plaintext in plaintexts:
            self._session.emit(BytesDone(plaintext.nbytes))
            while plaintext.nbytes:
                if filled == room.nbytes:
                    await self._send_segment(distribution, segment, room, is_last=False)
                    segment, filled = segment + 1, 0
                piece = plaintext[: room.nbytes - filled]
                room[filled : filled + piece.nbytes] = piece
                filled, plaintext = filled + piece.nbytes, plaintext[piece.nbytes :]
        await self._send_segment(distribution, segment, room[:filled], is_last=True)
        while self._sending:
            await asyncio.wait(self._sending)

    async def _send_segment(
        self, distribution: Distribution, segment: int, plaintext: memoryview, *, is_last: bool
    ) -> None:
        if distribution.count(ShareState.OPEN) < self._coding.code.k:
            self._require_all(distribution)
        buffer = await self._coding.buffers.take()
        encoded = self._encoding.encode(segment, plaintext, is_last, buffer)
        task = asyncio.get_running_loop().create_task(self._send_blocks(distribution, encoded, buffer))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_blocks(self, distribution: Distribution, encoded: EncodedSegment, buffer: Bytes) -> None:
        acknowledged = False
        try:
            acknowledged = await distribution.append(encoded)
        finally:
            self._coding.buffers.give_back(buffer if acknowledged else None)  # as the producer does

    async def _conclude(self, mapping: Mapping) -> Conclusion:
        """What is committed: name, date and thumbnail as they are, for all who may read the image now."""
        session, encoding_id = self._session, self._encoding.encoding_id
        current = await find_current(session, self._before)
        cards = current.cards
        adopted = self._encoding.adopt(mapping)
        adopted = msgspec.structs.replace(adopted, shared_with=pack_cards(cards) if cards else None)
        object_id = session.key.object_id(mapping.image_sha256)
        sealed = seal_mapping(session.key, adopted, object_id, encoding_id)
        grants = [grant_to(card, adopted, encoding_id) for card in cards]
        capability = session.key.delete_capability(object_id, encoding_id)
        return self._encoding.conclude_with(SealedMapping(object_id, sealed, capability), grants)

    async def _commit(self, distribution: Distribution, conclusion: Conclusion) -> None:
        recipe = self._encoding.recipe()
        await distribution.move_lost(recipe)
        self._require_all(distribution)
        for _ in range(2):  # a device may fail only when the share is committed
            await distribution.commit(conclusion.commitment)
            await distribution.move_lost(recipe)
        self._require_all(distribution)
        sealed = conclusion.sealed
        self._session.vault.keep_mapping(sealed.object_id, self._encoding.encoding_id, sealed.mapping)

    def _require_all(self, distribution: Distribution) -> None:
        lost = distribution.lost
        if lost:
            n = self._coding.code.n
            why = ", ".join(sorted({share.reason.value for share in lost}))
            raise NotEnoughError(f"{n - len(lost)} of the {n} shares found a device ({why}); it stays as it was")

    async def _break_off(self, distribution: Distribution, sha256: bytes) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        object_id = self._session.key.object_id(sha256)
        await distribution.withdraw(self._session.key.delete_capability(object_id, self._encoding.encoding_id))
