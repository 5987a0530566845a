"""`repair`: has the steward rebuild what images lack now, and follows it until they are whole or cannot be made so.

The steward does the work, in the broker; interrupting this command does not stop it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from admin.health import Standing, best, judge
from admin.session import Session, VaultWork
from admin.status import ask_health
from common.errors import IntegrityError, NotEnoughError
from common.link.link import run_with_link
from common.link.questions import list_devices, locate
from common.program import complain
from common.progress import ByteProgress
from common.protocol.codec import pack
from common.protocol.envelope import Operation
from common.protocol.messages import MAX_OBJECTS, Acknowledged, EncodingAt, Mend, shares_at_hand
from consumer.holdings import Held

Remain = Callable[[int], None]
_LOOK = 0.5  # seconds between two looks at how far it is
_PATIENCE = 15.0  # seconds in which nothing is done, after which nothing more is expected


class Mending(VaultWork):
    """One run of `repair`."""

    def repair(self, hashes: Optional[Sequence[str]]) -> int:
        """Repair these images, or all; prints a line for each that lacked something. 0, 4 or 5."""
        return run_with_link(self._repair(hashes))

    async def _repair(self, hashes: Optional[Sequence[str]]) -> int:
        async with self.session() as session:
            images = await session.images(hashes)
            with ByteProgress("repairing", None) as progress:
                outcomes = await repair_images(session, images, progress.remain)
        return print_outcomes(images, outcomes)


@dataclass(frozen=True)
class Outcome:
    """What came of the repair of one image."""

    image: Held
    repaired: bool
    text: str  # to be read behind its name or SHA-256
    exit_code: int = 0


def print_outcomes(images: Sequence[Held], outcomes: Sequence[Outcome]) -> int:
    """A line for each image that lacked something; the exit code, that of the first failure."""
    if not outcomes:
        print(f"{len(images)} images are whole; nothing to repair")
    for outcome in outcomes:
        (print if outcome.repaired else complain)(f"{outcome.image.sha256}{outcome.text}")
    return next((outcome.exit_code for outcome in outcomes if outcome.exit_code), 0)


async def repair_images(session: Session, images: Sequence[Held], remain: Remain) -> list[Outcome]:
    """Have those of the images repaired that are not whole, and follow it; what came of each of these.

    `remain` is told of the bytes that are left, again and again.
    """
    unwell = [image for image in images if judge(image.encodings).standing is not Standing.WHOLE]
    if not unwell:
        return []
    await _ask_to_mend(session, unwell)
    found = await _follow(session, unwell, remain)
    devices = await list_devices(session.link)
    places = sum(device.alive and not device.retiring for device in devices)
    return [outcome_of(session, image, found[image.encodings[0].object_id], places) for image in unwell]


async def _ask_to_mend(session: Session, images: Sequence[Held]) -> None:
    objects = [image.encodings[0].object_id for image in images]
    for start in range(0, len(objects), MAX_OBJECTS):
        payload = pack(objects[start : start + MAX_OBJECTS])
        await session.link.request(Operation.MEND, Mend(), Acknowledged, payload=payload)


async def _follow(session: Session, images: Sequence[Held], remain: Remain) -> dict[bytes, list[EncodingAt]]:
    """Wait until all are whole, or nothing was done for them for a while; what the catalog then says."""
    objects = [image.encodings[0].object_id for image in images]
    missing = -1
    loop = asyncio.get_running_loop()
    last_change = loop.time()
    while True:
        found, _ = await locate(session.link, objects)
        now_missing = sum(_missing_bytes(encodings) for encodings in found.values())
        _, jobs = await ask_health(session.link)
        remain(now_missing)
        ids = {encoding.encoding_id for encodings in found.values() for encoding in encodings}
        if now_missing != missing or any(job.encoding_id in ids for job in jobs):
            last_change = loop.time()
        missing = now_missing
        if not missing or loop.time() - last_change > _PATIENCE:
            return found
        await asyncio.sleep(_LOOK)


def _missing_bytes(encodings: Sequence[EncodingAt]) -> int:
    """Bytes of shares that are not at hand, of the encoding that the image is judged by; 0 where it is whole."""
    if not encodings:
        return 0
    judged = best(encodings)
    return (judged.n - len(shares_at_hand(judged))) * max(1, judged.share_bytes)


def outcome_of(session: Session, image: Held, encodings: Sequence[EncodingAt], places: int) -> Outcome:
    """What came of an image, by what the catalog says of it now; `places`: devices that can take shares."""
    if not encodings:
        return Outcome(image, False, ": was deleted meanwhile")
    health = judge(encodings)
    if health.standing is Standing.WHOLE:
        return Outcome(image, True, f"  {health.n} of {health.n} shares, repaired")
    if not health.restorable:
        why = f"only {health.good} of its shares are good and at hand, {health.k} are needed"
        absent = session.absent(encodings)
        why += f"; connect one of these again: {', '.join(absent)}" if absent else ""
        return Outcome(image, False, f": {why}", (NotEnoughError if absent else IntegrityError).exit_code)
    why = f"{health.good} of {health.n} shares are there; {places} devices can take shares"
    why += ", and each takes one: add a device" if places < health.n else ", but the rest was not rebuilt"
    return Outcome(image, False, f": {why}", NotEnoughError.exit_code)
