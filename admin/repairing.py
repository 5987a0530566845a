"""`repair`: rebuilds missing shares now, by the steward, or by this machine on named devices; deletes the needless.

The steward in the broker rebuilds wherever there is room. Its progress is shown until the images are whole, or it says
that it has tried all that it can now; interrupting this command does not stop it.

With `--to` this machine makes the shares, as a producer does when a device fails in mid-put (`producer.distribution`):
blocks of k others are fetched, checked against the recipe, rebuilt, and appended at a device that has no share of the
encoding yet. Their commitment is that of the other devices, signatures and all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Optional

import msgspec

from admin.amending import find_current
from admin.events import NothingToDo, Repaired, Stalled
from admin.health import HealthStatus, assess, best
from admin.needless import delete_needless
from admin.status import ask_health
from common.chunks import chunks
from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.errors import IntegrityError, NotEnoughError, TesseraError
from common.link.questions import list_devices, locate
from common.process.events import BytesLeft
from common.protocol.codec import pack
from common.protocol.messages import MAX_OBJECTS, Code, EncodingAt, RepairNow, ShareAt, shares_at_hand
from common.protocol.operations import REPAIR
from common.repository.images import Held, counted
from common.repository.repository import Repository
from producer.distribution import Distribution, ShareState
from producer.run import choose_devices

_LOOK = 0.5  # seconds between two checks of the progress
_SURE = 2.0  # seconds without progress of an image, after which what seems impossible is taken to be so
_TIMEOUT = 15.0  # seconds without any progress, after which no more is expected of a broker, whatever it says
_ATTEMPTS = 2  # a device may fail only when the share is committed


async def repair_held(repository: Repository, hashes: Optional[Sequence[str]], to: Sequence[str]) -> int:
    """Repair these images, or all; on the devices with the names `to`, where there are any.

    Then deletes encodings that others of the same image make needless. Emits the outcome of each image that lacked
    something, or had too much. The exit code: 0, or that of the first failure, 3, 4, 5 or 6.
    """
    images = (await repository.holdings(hashes)).images
    outcomes = await (complete_images(repository, images, to) if to else repair_images(repository, images))
    if not outcomes:
        repository.emit(NothingToDo(f"all is whole: {counted(image.mapping for image in images)}; nothing to repair"))
    exit_code = next((outcome.exit_code for outcome in outcomes if outcome.exit_code), 0)
    return exit_code or await delete_needless(repository, images)


# --- by the steward


async def repair_images(repository: Repository, images: Sequence[Held]) -> list[Repaired]:
    """Have the steward repair those of the images that are not whole; the outcome of each of these.

    Emits meanwhile how many bytes are left, and the outcome of each image as soon as it is known.
    """
    lacking = [image for image in images if assess(image.encodings).status is not HealthStatus.WHOLE]
    if not lacking:
        return []
    await _ask_for_repair(repository, lacking)
    outcomes = []
    async for outcome in _follow(repository, lacking):
        repository.emit(outcome)
        outcomes.append(outcome)
    return outcomes


async def _ask_for_repair(repository: Repository, images: Sequence[Held]) -> None:
    for objects in chunks((image.encodings[0].object_id for image in images), MAX_OBJECTS):
        await repository.link.request(REPAIR, RepairNow(), payload=pack(objects))


class _Followed:
    """An image that is not whole yet."""

    def __init__(self, image: Held, now: float) -> None:
        self.image = image
        self.encodings: Sequence[EncodingAt] = []
        self.missing = -1  # bytes
        self.changed = now
        self._impossible = False

    def look(self, encodings: Sequence[EncodingAt], places: set[bytes], under_way: set[bytes], now: float) -> None:
        """Update it from the catalog; `places`: devices that can take shares."""
        self.encodings, missing = encodings, _missing_bytes(encodings)
        if missing != self.missing or any(encoding.encoding_id in under_way for encoding in encodings):
            self.changed = now
        self.missing = missing
        self._impossible = bool(encodings) and _is_impossible(best(encodings), places)

    def is_over(self, now: float, changed: float, tried: bool) -> bool:
        """Whether nothing more is expected; `changed`: when there was last progress of any image.

        `tried`: the steward has, all that it can.
        """
        if not self.missing or tried:
            return True
        return now - self.changed > _SURE if self._impossible else now - changed > _TIMEOUT


async def _follow(repository: Repository, images: Sequence[Held]) -> AsyncIterator[Repaired]:
    """The outcome of each image, as soon as it is known: of some only after a while without progress."""
    changed = repository.link.time()
    waiting = {image.encodings[0].object_id: _Followed(image, changed) for image in images}
    given_up, said = 0, False
    idle = 0  # looks in a row at which the steward had nothing left to do
    while waiting:
        found, settled = await locate(repository.link, list(waiting))
        devices = await list_devices(repository.link)
        places = {device.device_id for device in devices if device.alive and not device.retiring}
        health, jobs = await ask_health(repository.link)
        idle = idle + 1 if health.settled and health.due == 0 else 0
        under_way = {job.encoding_id for job in jobs if job.kind != "check"}  # which makes nothing whole
        now = repository.link.time()
        for object_id, each in waiting.items():
            each.look(found[object_id], places, under_way, now)
        repository.emit(BytesLeft(given_up + sum(each.missing for each in waiting.values())))
        # A broker that was restarted may not have all announcements yet.
        changed = max(changed, *(each.changed for each in waiting.values())) if settled else now
        over = [object_id for object_id, each in waiting.items() if settled and each.is_over(now, changed, idle > 1)]
        for object_id in over:
            each = waiting.pop(object_id)
            given_up += each.missing
            yield _outcome_of(repository, each.image, each.encodings, len(places))
        if waiting and not said and now - changed > _SURE:
            said = True
            seconds = _TIMEOUT - _SURE
            text = f"nothing is being done for {len(waiting)} images; waiting {seconds:.0f} s for the broker"
            repository.emit(Stalled(text))
        if waiting:
            await asyncio.sleep(_LOOK)


def _is_impossible(encoding: EncodingAt, places: set[bytes]) -> bool:
    """Whether the connected devices cannot make it whole: they have too few shares, or each has one already."""
    at_hand = shares_at_hand(encoding)
    return len(at_hand) < encoding.k or places <= {device for devices in at_hand.values() for device in devices}


def _missing_bytes(encodings: Sequence[EncodingAt]) -> int:
    """Bytes of shares that are not at hand, of the encoding that the image is judged by; 0 where it is whole."""
    if not encodings:
        return 0
    judged = best(encodings)
    return (judged.n - len(shares_at_hand(judged))) * max(1, judged.share_bytes)


def _outcome_of(repository: Repository, image: Held, encodings: Sequence[EncodingAt], places: int) -> Repaired:
    """The outcome of an image, by the catalog; `places`: devices that can take shares."""
    if not encodings:
        return Repaired(image, False, ": was deleted meanwhile")
    health = assess(encodings)
    if health.status is HealthStatus.WHOLE:
        return Repaired(image, True, f"  {health.n} of {health.n} shares, repaired")
    if not health.restorable:
        why = f"only {health.good} of its shares are good and at hand, {health.k} are needed"
        absent = repository.absent(encodings)
        why += f"; connect one of these again: {', '.join(absent)}" if absent else ""
        return Repaired(image, False, f": {why}", (NotEnoughError if absent else IntegrityError).exit_code)
    why = f"{health.good} of {health.n} shares are there; {places} devices can take shares"
    why += ", and each takes one: add a device" if places < health.n else ", but the rest was not rebuilt"
    return Repaired(image, False, f": {why}", NotEnoughError.exit_code)


# --- on devices that were named


async def complete_images(repository: Repository, images: Sequence[Held], to: Sequence[str]) -> list[Repaired]:
    """Rebuild missing shares on the devices with these names; the outcome of each image that lacked something.

    Emits each share's steps and each image's outcome. NotFoundError where there is no such device.
    """
    devices = await list_devices(repository.link)
    chosen = choose_devices(devices, to)
    avoid = [device.device_id for device in devices if device not in chosen]
    outcomes = []
    for image in images:
        if assess(image.encodings).status is HealthStatus.WHOLE:
            continue
        try:
            encoding = await _complete(repository, image, avoid)
        except TesseraError as failure:
            error = repository.link.cause(failure)
            why = f": {error}" + (f"; {error.advice}" if error.advice else "")
            outcome = Repaired(image, False, why, error.exit_code)
        else:
            outcome = _after_completing(repository, image, encoding)
        repository.emit(outcome)
        outcomes.append(outcome)
    return outcomes


async def _complete(repository: Repository, image: Held, avoid: Sequence[bytes]) -> EncodingAt:
    """The most complete encoding of the image, with the shares that it lacked, as far as devices took them."""
    encoding = image.encodings[0]
    at_hand = shares_at_hand(encoding)
    if len(at_hand) < encoding.k:
        return encoding
    current = await find_current(repository, encoding)
    commitment = pack(current.signed)
    code = ErasureCode(encoding.k, encoding.n)
    distribution = Distribution(
        repository.link,
        code,
        Slicing(encoding.k, code.block_unit, current.recipe.block_size),
        encoding.encoding_id,
        [at_hand[share][0] if share in at_hand else None for share in range(encoding.n)],
        Code.GONE,
        repository.name_of,
        avoid=[*avoid, *(share.device_id for share in encoding.shares)],
        shown=image.sha256,
        emit=repository.emit,
    )
    distribution.are_committed()
    try:
        for _ in range(_ATTEMPTS):
            await distribution.move_lost(current.recipe)
            await distribution.commit(commitment)
    except BaseException:
        await distribution.abandon()
        raise
    return _as_it_is(encoding, distribution)


def _as_it_is(encoding: EncodingAt, distribution: Distribution) -> EncodingAt:
    """The encoding as the catalog will have it."""
    had = set(shares_at_hand(encoding))
    made = [
        ShareAt(share.index, share.device, True, True)
        for share in distribution.shares
        if share.state is ShareState.COMMITTED and share.device is not None and share.index not in had
    ]
    return msgspec.structs.replace(encoding, shares=[*encoding.shares, *made])


def _after_completing(repository: Repository, image: Held, encoding: EncodingAt) -> Repaired:
    health = assess([encoding])
    if health.status is HealthStatus.WHOLE or not health.restorable:
        return _outcome_of(repository, image, [encoding], 0)
    why = f": {health.good} of {health.n} shares are there; no other of the chosen devices took one: choose more"
    return Repaired(image, False, why, NotEnoughError.exit_code)
