"""`repair`: has the steward rebuild what images lack now, and follows it until they are whole or cannot be made so.

The steward does the work, in the broker; interrupting this command does not stop it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Optional

from admin.events import NothingToDo, Repaired
from admin.health import Standing, best, judge
from admin.session import Session, VaultWork
from admin.status import ask_health
from common.errors import IntegrityError, NotEnoughError
from common.link.link import run_with_link
from common.link.questions import list_devices, locate
from common.process.events import BytesLeft, Warned
from common.protocol.codec import pack
from common.protocol.messages import MAX_OBJECTS, EncodingAt, Mend, shares_at_hand
from common.protocol.operations import MEND
from common.repository.images import Held

_LOOK = 0.5  # seconds between two looks at how far it is
_SURE = 2.0  # seconds in which nothing is done for an image, after which what seems impossible is taken to be so
_TIMEOUT = 15.0  # seconds in which nothing is done, after which nothing more is expected


class Mending(VaultWork):
    """One run of `repair`."""

    def repair(self, hashes: Optional[Sequence[str]]) -> int:
        """Repair these images, or all; it is told of each that lacked something. 0, 4 or 5."""
        return run_with_link(self._repair(hashes))

    async def _repair(self, hashes: Optional[Sequence[str]]) -> int:
        async with self.session() as session:
            images = await session.images(hashes)
            return exit_code_of(session, images, await repair_images(session, images))


def exit_code_of(session: Session, images: Sequence[Held], outcomes: Sequence[Repaired]) -> int:
    """That of the first failure; where no image lacked anything it is told so."""
    if not outcomes:
        session.emit(NothingToDo(f"{len(images)} images are whole; nothing to repair"))
    return next((outcome.exit_code for outcome in outcomes if outcome.exit_code), 0)


async def repair_images(session: Session, images: Sequence[Held]) -> list[Repaired]:
    """Have those of the images repaired that are not whole, and follow it; what came of each of these.

    Meanwhile it is told how many bytes are left, again and again, and what came of each image as soon as that is known.
    """
    unwell = [image for image in images if judge(image.encodings).standing is not Standing.WHOLE]
    if not unwell:
        return []
    await _ask_to_mend(session, unwell)
    outcomes = []
    async for outcome in _follow(session, unwell):
        session.emit(outcome)
        outcomes.append(outcome)
    return outcomes


async def _ask_to_mend(session: Session, images: Sequence[Held]) -> None:
    objects = [image.encodings[0].object_id for image in images]
    for start in range(0, len(objects), MAX_OBJECTS):
        payload = pack(objects[start : start + MAX_OBJECTS])
        await session.link.request(MEND, Mend(), payload=payload)


class _Followed:
    """An image that is not whole yet."""

    def __init__(self, image: Held, now: float) -> None:
        self.image = image
        self.encodings: Sequence[EncodingAt] = []
        self.missing = -1  # bytes
        self.changed = now
        self._impossible = False

    def look(self, encodings: Sequence[EncodingAt], places: set[bytes], under_way: set[bytes], now: float) -> None:
        """Take up what the catalog says of it now; `places`: devices that can take shares."""
        self.encodings, missing = encodings, _missing_bytes(encodings)
        if missing != self.missing or any(encoding.encoding_id in under_way for encoding in encodings):
            self.changed = now
        self.missing = missing
        self._impossible = bool(encodings) and _is_impossible(best(encodings), places)

    def is_over(self, now: float, changed: float) -> bool:
        """Whether nothing more is expected; `changed`: when something was last done for any of the images."""
        if self._impossible:
            return not self.missing or now - self.changed > _SURE
        return not self.missing or now - changed > _TIMEOUT


async def _follow(session: Session, images: Sequence[Held]) -> AsyncIterator[Repaired]:
    """What comes of each image, as soon as that is known: of some only when nothing was done for a while."""
    changed = session.link.time()
    waiting = {image.encodings[0].object_id: _Followed(image, changed) for image in images}
    given_up, said = 0, False
    while waiting:
        found, settled = await locate(session.link, list(waiting))
        devices = await list_devices(session.link)
        places = {device.device_id for device in devices if device.alive and not device.retiring}
        under_way = {job.encoding_id for job in (await ask_health(session.link))[1]}
        now = session.link.time()
        for object_id, each in waiting.items():
            each.look(found[object_id], places, under_way, now)
        session.emit(BytesLeft(given_up + sum(each.missing for each in waiting.values())))
        # A broker that was started again may not have heard of all shares.
        changed = max(changed, *(each.changed for each in waiting.values())) if settled else now
        over = [object_id for object_id, each in waiting.items() if settled and each.is_over(now, changed)]
        for object_id in over:
            each = waiting.pop(object_id)
            given_up += each.missing
            yield outcome_of(session, each.image, each.encodings, len(places))
        if waiting and not said and now - changed > _SURE:
            said = True
            seconds = _TIMEOUT - _SURE
            text = f"nothing is being done for {len(waiting)} images; waiting {seconds:.0f} s for the broker"
            session.emit(Warned(text))
        if waiting:
            await asyncio.sleep(_LOOK)


def _is_impossible(encoding: EncodingAt, places: set[bytes]) -> bool:
    """Whether the devices that are here cannot make it whole: they have too little of it, or each has a share."""
    at_hand = shares_at_hand(encoding)
    return len(at_hand) < encoding.k or places <= {device for devices in at_hand.values() for device in devices}


def _missing_bytes(encodings: Sequence[EncodingAt]) -> int:
    """Bytes of shares that are not at hand, of the encoding that the image is judged by; 0 where it is whole."""
    if not encodings:
        return 0
    judged = best(encodings)
    return (judged.n - len(shares_at_hand(judged))) * max(1, judged.share_bytes)


def outcome_of(session: Session, image: Held, encodings: Sequence[EncodingAt], places: int) -> Repaired:
    """What came of an image, by what the catalog says of it now; `places`: devices that can take shares."""
    if not encodings:
        return Repaired(image, False, ": was deleted meanwhile")
    health = judge(encodings)
    if health.standing is Standing.WHOLE:
        return Repaired(image, True, f"  {health.n} of {health.n} shares, repaired")
    if not health.restorable:
        why = f"only {health.good} of its shares are good and at hand, {health.k} are needed"
        absent = session.absent(encodings)
        why += f"; connect one of these again: {', '.join(absent)}" if absent else ""
        return Repaired(image, False, f": {why}", (NotEnoughError if absent else IntegrityError).exit_code)
    why = f"{health.good} of {health.n} shares are there; {places} devices can take shares"
    why += ", and each takes one: add a device" if places < health.n else ", but the rest was not rebuilt"
    return Repaired(image, False, f": {why}", NotEnoughError.exit_code)
