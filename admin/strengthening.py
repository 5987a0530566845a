"""`strengthen`: stores images anew that today's devices allow to be stored stronger, and deletes the old encoding.

    find weak images → store them whole with the new k and n → share them as before → delete the old encoding

An image keeps its old encoding until the new one is whole: all n shares committed and acknowledged. Killed at any
moment, another run goes on from what is stored. Where the new encoding is whole only the old one is left to delete; one
that did not become whole is deleted with it. Devices that are away get the tombstone when they are back.

Storing anew is a get and a put at once (`Reencoding`): a few segments are in memory, and no plaintext is on a disk. The
new encoding has a data key of its own. It is committed only once the whole SHA-256 is the image's, and only where every
share of it has a device; otherwise nothing of it is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import msgspec

from admin.amending import amend, find_current, holders_of
from admin.deleting import remove_encoding
from admin.events import Changed, NotChanged, NothingToDo
from admin.health import could_be_stronger
from common.coding.redundancy import DeviceCount, choose, count_devices
from common.erasure import ErasureCode
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.link.questions import find_places, locate
from common.link.window import Window
from common.process.events import BytesDone, BytesExpected, Warned
from common.protocol.messages import EncodingAt, shares_at_hand
from common.repository.images import Held
from common.repository.repository import Repository
from common.vault.contact_card import pack_cards
from common.vault.granting import grant_to
from common.vault.mapping import Mapping, own_object_id, seal_own
from common.vault.signer import owner_signer
from consumer.events import Missing
from consumer.gathering import Gathering
from consumer.restoring import Restoring
from producer.broker_coding import BrokerCoding
from producer.distribution import Distribution, ShareState
from producer.encoding import Conclusion, Encoding
from producer.owner import withdrawal
from producer.segments import Coding, Sending, coding_of

_IMAGES = 16  # at a time
_MEMORY = 48 << 20  # bytes of segments that are fetched, for all of them
_PER_LARGE_IMAGE = 40 << 20
_PER_IMAGE = 64 << 10
_TIMEOUT = 10.0  # seconds until the broker has the shares that devices have acknowledged
_LOOK = 0.1  # seconds between two checks


@dataclass(frozen=True)
class Weak:
    """An image with encodings that could be stronger."""

    image: Held
    own: list[EncodingAt]  # all that this vault may replace
    whole: Optional[EncodingAt]  # strong enough and whole: left by a run that was interrupted

    @property
    def source(self) -> EncodingAt:
        return self.own[0]


async def strengthen_held(
    repository: Repository, hashes: Optional[Sequence[str]], k: Optional[int], n: Optional[int]
) -> int:
    """Strengthen these images, or all; emits the outcome of each that was weak. The exit code."""
    holdings = await repository.holdings(hashes)
    exit_code = await strengthen_images(repository, holdings.images, k, n)
    if holdings.unreadable:
        repository.emit(Warned(f"{holdings.unreadable} more images cannot be read: their devices are not connected"))
    return exit_code or (NotEnoughError.exit_code if holdings.unreadable else 0)


async def strengthen_images(
    repository: Repository, images: Sequence[Held], k: Optional[int] = None, n: Optional[int] = None
) -> int:
    """Strengthen the weak ones of the images; emits the outcome of each. The exit code, that of the first failure.

    `k`, `n`: as for `choose`.
    """
    devices = count_devices(repository.listed)
    wanted = choose(devices.live, k, n)
    weak = list(find_weak(repository, images, devices, wanted))
    others = sum(could_be_stronger(image.encodings, devices, wanted) for image in images) - len(weak)
    if not weak:
        text = f"{len(images)} images: none could be stronger with the {devices.live} devices that are alive"
        repository.emit(NothingToDo(text))
    exit_code = await _store_anew(repository, weak, wanted)
    if others:
        text = f"{others} images could be stronger, but are other vaults': only their owners can see to it"
        repository.emit(Warned(text))
    return exit_code or (RefusedError.exit_code if others else 0)


async def _store_anew(repository: Repository, weak: Sequence[Weak], wanted: tuple[int, int]) -> int:
    window = Window(_IMAGES, _MEMORY)
    coding = coding_of(*wanted)
    away: set[str] = set()
    repository.emit(BytesExpected(sum(each.image.mapping.image_size for each in weak)))

    async def strengthen(each: Weak) -> int:
        room = min(_PER_LARGE_IMAGE, 4 * each.source.share_bytes * each.source.k + _PER_IMAGE)
        await window.enter(room)
        try:
            await _strengthen(repository, each, coding)
        except TesseraError as failure:
            error = repository.link.cause(failure)
            why = f"{error}; {error.advice}" if error.advice else str(error)
            repository.emit(NotChanged(each.image.sha256, why))
            return error.exit_code
        finally:
            window.leave(room)
        before = f"{each.source.k} of {each.source.n}"
        repository.emit(Changed(each.image.sha256, f"now {wanted[0]} of {wanted[1]}, was {before}"))
        away.update(repository.absent(each.own))
        return 0

    codes = await asyncio.gather(*(strengthen(each) for each in weak))
    if away:
        text = f"{', '.join(sorted(away))}: not connected; the old shares there go when the devices return"
        repository.emit(Warned(text))
    return next((code for code in codes if code), 0)


def find_weak(
    repository: Repository, images: Sequence[Held], devices: DeviceCount, wanted: tuple[int, int]
) -> Iterator[Weak]:
    """Those of the images that could be stronger, as far as they are this vault's own."""
    for image in images:
        own = repository.own(image)
        strong = [encoding for encoding in own if not devices.could_be_stronger(encoding.k, encoding.n, wanted)]
        if len(strong) < len(own):
            yield Weak(image, own, next((e for e in strong if len(shares_at_hand(e)) == e.n), None))


async def _strengthen(repository: Repository, weak: Weak, coding: Coding) -> None:
    """Leave an image with one whole encoding that is strong enough."""
    if weak.whole is not None:
        repository.emit(BytesDone(weak.image.mapping.image_size))
        new = weak.whole.encoding_id
    else:
        new = await Reencoding(repository, weak.image.sha256, weak.source, coding).run()
    there = await _wait_whole(repository, weak, new)
    old = [there[each.encoding_id] for each in weak.own if each.encoding_id in there and each.encoding_id != new]
    if not old:  # nor is the new one deleted: a device that is just registering has announced nothing
        raise TesseraError(
            "its old shares were deleted meanwhile; it is stored anew all the same",
            advice="where the image itself was deleted, delete it once more",
        )
    await _share_alike(repository, old[0], there[new])
    for encoding in old:
        await remove_encoding(repository, encoding)


async def _wait_whole(repository: Repository, weak: Weak, new: bytes) -> dict[bytes, EncodingAt]:
    """The image's encodings, once the broker has all shares of the new one at hand; else NotEnoughError."""
    names = repository.object_ids_of(weak.image.mapping)
    end = repository.link.time() + _TIMEOUT
    while True:
        found, _ = await locate(repository.link, names)
        there = {encoding.encoding_id: encoding for encodings in found.values() for encoding in encodings}
        if new in there and len(shares_at_hand(there[new])) == there[new].n:
            return there
        if repository.link.time() > end:
            raise NotEnoughError(
                "it is stored anew, but not every device that has a share is at hand; the old shares are kept",
                advice="run it again when all devices are connected",
            )
        await asyncio.sleep(_LOOK)


async def _share_alike(repository: Repository, old: EncodingAt, new: EncodingAt) -> None:
    """Share the new encoding as the old one is: that may have changed since it was begun."""
    cards = (await find_current(repository, old)).cards
    current = await find_current(repository, new)
    if {card.owner for card in cards} != {card.owner for card in current.cards}:
        await amend(repository, new.encoding_id, current, cards, holders_of(new))


# --- storing anew


class Reencoding:
    """Stores one image in a new encoding."""

    def __init__(self, repository: Repository, sha256: str, before: EncodingAt, coding: Coding) -> None:
        """`sha256`: the image's, in hexadecimal. Emits its bytes as they are sent, and bad shares."""
        self._repository = repository
        self._sha256 = sha256
        self._before = before
        self._coding = coding
        self._encoding = Encoding(coding.code, coding.slicing, owner_signer(repository.key))

    async def run(self) -> bytes:
        """Store the new encoding whole, and return its id.

        NotEnoughError or IntegrityError where the old one cannot be restored, or a share of the new one finds no
        device: then nothing of the new one is left.
        """
        repository, before = self._repository, self._before
        code = ErasureCode(before.k, before.n)
        gathering = Gathering(repository.devices, before, self._trouble)
        image = await gathering.prove(repository.key, repository.mappings.kept(before), code.block_unit)
        plaintexts = Restoring(code, gathering, image).plaintexts()
        size = image.mapping.image_size
        try:
            distribution = await self._distribute(size)
            sending = Sending(self._coding, self._encoding, distribution)
            try:
                await self._send(sending, distribution, plaintexts, size)
                await self._commit(distribution, await self._conclude(image.mapping))
            except BaseException:
                await sending.cancel()
                await self._withdraw(distribution, image.mapping)
                raise
        finally:
            await plaintexts.aclose()
        return self._encoding.encoding_id

    def _trouble(self, device: bytes, why: str) -> None:
        self._repository.emit(Missing(self._sha256, self._repository.name_of(device), why))

    async def _distribute(self, size: int) -> Distribution:
        repository, coding = self._repository, self._coding
        encoding_id, share_bytes = self._encoding.encoding_id, coding.slicing.share_bytes(size)
        places = await find_places(repository.link, [encoding_id], coding.code.n, share_bytes)
        (devices,) = places.devices
        distribution = Distribution(
            repository.link,
            coding.code,
            coding.slicing,
            encoding_id,
            devices,
            places.lacking,
            repository.name_of,
            broker_coding=BrokerCoding(repository.emit),
        )
        self._require_all(distribution)
        await distribution.open(share_bytes)
        return distribution

    async def _send(
        self, sending: Sending, distribution: Distribution, plaintexts: AsyncIterator[memoryview], size: int
    ) -> None:
        """Slice the image for the new code and send it; the last segment only once all of it was proven."""
        room = memoryview(bytearray(min(size, self._coding.slicing.segment_size)))
        segment = filled = 0
        async for plaintext in plaintexts:
            self._repository.emit(BytesDone(plaintext.nbytes))
            while plaintext.nbytes:
                if filled == room.nbytes:
                    self._require(distribution)
                    await sending.send(segment, room, is_last=False)
                    segment, filled = segment + 1, 0
                piece = plaintext[: room.nbytes - filled]
                room[filled : filled + piece.nbytes] = piece
                filled, plaintext = filled + piece.nbytes, plaintext[piece.nbytes :]
        self._require(distribution)
        await sending.send(segment, room[:filled], is_last=True)
        await sending.wait()

    async def _conclude(self, mapping: Mapping) -> Conclusion:
        """The commitment: name, date and thumbnail as before, for all who may read the image now."""
        repository, encoding_id = self._repository, self._encoding.encoding_id
        current = await find_current(repository, self._before)
        cards = current.cards
        adopted = self._encoding.adopt(mapping)
        adopted = msgspec.structs.replace(adopted, shared_with=pack_cards(cards) if cards else None)
        grants = [grant_to(card, adopted, encoding_id) for card in cards]
        return self._encoding.conclude(seal_own(repository.key, adopted, encoding_id), grants)

    async def _commit(self, distribution: Distribution, conclusion: Conclusion) -> None:
        recipe = self._encoding.recipe()
        await distribution.move_lost(recipe)
        self._require_all(distribution)
        for _ in range(2):  # a device may fail only when the share is committed
            await distribution.commit(conclusion.commitment)
            await distribution.move_lost(recipe)
        self._require_all(distribution)
        sealed = conclusion.sealed
        self._repository.index.keep_mapping(sealed.object_id, self._encoding.encoding_id, sealed.mapping)

    def _require(self, distribution: Distribution) -> None:
        if distribution.count(ShareState.OPEN) < self._coding.code.k:
            self._require_all(distribution)

    def _require_all(self, distribution: Distribution) -> None:
        lost = distribution.lost
        if lost:
            n = self._coding.code.n
            why = ", ".join(sorted({share.reason.value for share in lost}))
            raise NotEnoughError(f"{n - len(lost)} of the {n} shares found a device ({why}); it stays as it was")

    async def _withdraw(self, distribution: Distribution, mapping: Mapping) -> None:
        object_id = own_object_id(self._repository.key, mapping)
        await distribution.withdraw(withdrawal(self._repository.key, object_id, self._encoding.encoding_id))
