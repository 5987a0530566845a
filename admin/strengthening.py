"""`strengthen`: what is stored weaker than the devices allow that there are today is stored anew, and the old one goes.

    find what is weak → store it whole in the new code → have it shared as before → delete the old encoding

An image has its old encoding until the new one is whole: all n shares committed and acknowledged. Killed at any moment,
another run goes on: it looks at what is there. Where the new encoding is whole only the old one is left to delete; what
lies there of one that did not become whole is deleted with it. The devices that are away now learn of the deletion from
the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from admin.amending import amend, find_current, right_to
from admin.deleting import delete_encoding
from admin.events import Changed, NotChanged, NothingToDo
from admin.health import could_be_stronger
from admin.ownership import is_own
from admin.reencoding import Reencoding
from admin.session import Session, VaultWork
from common.coding.redundancy import DeviceCount, choose, count_devices
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.files import lock
from common.link.link import run_with_link
from common.link.questions import locate
from common.link.window import Window
from common.process.events import BytesDone, BytesExpected, Warned
from common.protocol.messages import EncodingAt, shares_at_hand
from common.repository.images import Held
from producer.session import Coding, coding_of

_IMAGES = 16  # at a time
_MEMORY = 48 << 20  # bytes of segments that are fetched, for all of them
_PER_LARGE_IMAGE = 40 << 20
_PER_IMAGE = 64 << 10
_TIMEOUT = 10.0  # seconds until the broker has heard of what devices have acknowledged
_LOOK = 0.1  # seconds between two looks
_NO_TRASH = 0  # days: the image itself is not deleted


@dataclass(frozen=True)
class Weak:
    """An image with encodings that could be stronger."""

    image: Held
    own: list[EncodingAt]  # all that this vault may replace
    whole: Optional[EncodingAt]  # strong enough and whole: left by a run that was interrupted

    @property
    def source(self) -> EncodingAt:
        return self.own[0]


class Strengthening(VaultWork):
    """One run of `strengthen`."""

    def strengthen(self, hashes: Optional[Sequence[str]], k: Optional[int], n: Optional[int]) -> int:
        """Strengthen these images, or all; it is told of each that was weak. The exit code."""
        with lock(self._vault.folder / "rotation.lock"):  # nor may the vault key change meanwhile
            return run_with_link(self._strengthen(hashes, k, n))

    async def _strengthen(self, hashes: Optional[Sequence[str]], k: Optional[int], n: Optional[int]) -> int:
        async with self.session() as session:
            exit_code = await strengthen_images(session, await session.images(hashes), k, n)
            if session.unreadable:
                text = f"{session.unreadable} more images cannot be read: their devices are not connected"
                session.emit(Warned(text))
            return exit_code or (NotEnoughError.exit_code if session.unreadable else 0)


async def strengthen_images(
    session: Session, images: Sequence[Held], k: Optional[int] = None, n: Optional[int] = None
) -> int:
    """Strengthen those of the images that are weak; it is told of each. The exit code, that of the first failure.

    `k`, `n`: as for `choose`, which says what they are for so many devices where they are left out.
    """
    devices = count_devices(session.listed)
    wanted = choose(devices.live, k, n)
    weak = list(find_weak(session, images, devices, wanted))
    others = sum(could_be_stronger(image.encodings, devices, wanted) for image in images) - len(weak)
    if not weak:
        text = f"{len(images)} images: none could be stronger with the {devices.live} devices that are alive"
        session.emit(NothingToDo(text))
    exit_code = await _store_anew(session, weak, wanted)
    if others:
        text = f"{others} images could be stronger, but are other vaults': only their owners can see to it"
        session.emit(Warned(text))
    return exit_code or (RefusedError.exit_code if others else 0)


async def _store_anew(session: Session, weak: Sequence[Weak], wanted: tuple[int, int]) -> int:
    window = Window(_IMAGES, _MEMORY)
    coding = coding_of(*wanted)
    away: set[str] = set()
    session.emit(BytesExpected(sum(each.image.mapping.image_size for each in weak)))

    async def strengthen(each: Weak) -> int:
        room = min(_PER_LARGE_IMAGE, 4 * each.source.share_bytes * each.source.k + _PER_IMAGE)
        await window.enter(room)
        try:
            await _strengthen(session, each, coding)
        except TesseraError as failure:
            error = session.link.cause(failure)
            why = f"{error}; {error.advice}" if error.advice else str(error)
            session.emit(NotChanged(each.image.sha256, why))
            return error.exit_code
        finally:
            window.leave(room)
        before = f"{each.source.k} of {each.source.n}"
        session.emit(Changed(each.image.sha256, f"now {wanted[0]} of {wanted[1]}, was {before}"))
        away.update(session.absent(each.own))
        return 0

    codes = await asyncio.gather(*(strengthen(each) for each in weak))
    if away:
        text = f"{', '.join(sorted(away))}: not connected; the old shares there go when the devices return"
        session.emit(Warned(text))
    return next((code for code in codes if code), 0)


def find_weak(
    session: Session, images: Sequence[Held], devices: DeviceCount, wanted: tuple[int, int]
) -> Iterator[Weak]:
    """Those of the images that could be stronger, as far as they are this vault's own."""
    for image in images:
        own = [e for e in image.encodings if is_own(session.key, e, session.mapping_of(image, e))]
        strong = [encoding for encoding in own if not devices.could_be_stronger(encoding.k, encoding.n, wanted)]
        if len(strong) < len(own):
            yield Weak(image, own, next((e for e in strong if len(shares_at_hand(e)) == e.n), None))


async def _strengthen(session: Session, weak: Weak, coding: Coding) -> None:
    """Bring an image to one whole encoding that is strong enough."""
    if weak.whole is not None:
        session.emit(BytesDone(weak.image.mapping.image_size))
        new = weak.whole.encoding_id
    else:
        new = await Reencoding(session, weak.image.sha256, weak.source, coding).run()
    there = await _wait_whole(session, weak, new)
    old = [there[each.encoding_id] for each in weak.own if each.encoding_id in there and each.encoding_id != new]
    if not old:  # nor is what was stored anew deleted: a device that is just registering shows nothing either
        raise TesseraError(
            "its old shares were deleted meanwhile; it is stored anew all the same",
            advice="where the image itself was deleted, delete it once more",
        )
    await _share_alike(session, old[0], there[new])
    for encoding in old:
        await delete_encoding(session, encoding, _NO_TRASH)
        session.vault.forget_mapping(encoding.object_id, encoding.encoding_id)


async def _wait_whole(session: Session, weak: Weak, new: bytes) -> dict[bytes, EncodingAt]:
    """The image's encodings, once the broker has all shares of the new one at hand; else NotEnoughError."""
    sha256 = weak.image.mapping.image_sha256
    names = [session.key.object_id(sha256), session.key.granted_object_id(sha256)]
    end = session.link.time() + _TIMEOUT
    while True:
        found, _ = await locate(session.link, names)
        there = {encoding.encoding_id: encoding for encodings in found.values() for encoding in encodings}
        if new in there and len(shares_at_hand(there[new])) == there[new].n:
            return there
        if session.link.time() > end:
            raise NotEnoughError(
                "it is stored anew, but not every device that has a share is at hand; the old shares are kept",
                advice="run it again when all devices are connected",
            )
        await asyncio.sleep(_LOOK)


async def _share_alike(session: Session, old: EncodingAt, new: EncodingAt) -> None:
    """Have the new encoding shared with whom the old one is: that may have changed since it was begun."""
    cards = (await find_current(session, old)).cards
    current = await find_current(session, new)
    if {card.owner for card in cards} != {card.owner for card in current.cards}:
        await amend(session, new.encoding_id, current, cards, [right_to(session, new, current.mapping)])
