"""`repair --to`: missing shares are made here, and sent to devices that were named.

The steward puts what it rebuilds wherever there is room; who wants to say where makes the shares on their own machine,
as a producer does when a device fails in mid-put (`producer.distribution`): blocks of k others are fetched, checked
against the recipe, rebuilt, and appended at a device that has no share of the encoding yet. What is committed beside
them is what the other devices have, byte for byte.

That is only possible where the vault can say all of it by itself: grants that go with a share are known to devices
alone, so what is shared, was left by another, or is kept under a new vault key is left to the steward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import msgspec

from admin.amending import Current, find_current
from admin.events import Repaired
from admin.health import Standing, judge
from admin.mending import exit_code_of, outcome_of
from admin.session import Session, VaultWork
from common.coding.slicing import Slicing
from common.erasure import ErasureCode
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.link.link import run_with_link
from common.link.questions import list_devices
from common.protocol.codec import pack
from common.protocol.device_messages import Commitment
from common.protocol.messages import Code, EncodingAt, ShareAt, shares_at_hand
from common.repository.images import Held
from producer.distribution import Distribution, ShareState
from producer.work import choose_devices

_ATTEMPTS = 2  # a device may fail only when the share is committed


class Completing(VaultWork):
    """One run of `repair --to`."""

    def complete(self, hashes: Optional[Sequence[str]], to: Sequence[str]) -> int:
        """Complete these images, or all; it is told of each that lacked something. 0, 3, 4 or 5."""
        return run_with_link(self._complete(hashes, to))

    async def _complete(self, hashes: Optional[Sequence[str]], to: Sequence[str]) -> int:
        async with self.session() as session:
            images = await session.images(hashes)
            return exit_code_of(session, images, await complete_images(session, images, to))


async def complete_images(session: Session, images: Sequence[Held], to: Sequence[str]) -> list[Repaired]:
    """Make what the images lack on the devices with these names; what came of each image that lacked something.

    Each share's steps are told meanwhile, and what came of each image. NotFoundError where there is no such device.
    """
    devices = await list_devices(session.link)
    chosen = choose_devices(devices, to)
    avoid = [device.device_id for device in devices if device not in chosen]
    outcomes = []
    for image in images:
        if judge(image.encodings).standing is Standing.WHOLE:
            continue
        try:
            encoding = await _complete(session, image, avoid)
        except TesseraError as failure:
            error = session.link.cause(failure)
            why = f": {error}" + (f"; {error.advice}" if error.advice else "")
            outcome = Repaired(image, False, why, error.exit_code)
        else:
            outcome = _outcome(session, image, encoding)
        session.emit(outcome)
        outcomes.append(outcome)
    return outcomes


async def _complete(session: Session, image: Held, avoid: Sequence[bytes]) -> EncodingAt:
    """The most complete encoding of the image, with the shares that it lacked, as far as devices took them."""
    encoding = image.encodings[0]
    at_hand = shares_at_hand(encoding)
    if len(at_hand) < encoding.k:
        return encoding
    current = await find_current(session, encoding)
    commitment = _commitment(session, encoding, current)
    code = ErasureCode(encoding.k, encoding.n)
    distribution = Distribution(
        session.link,
        code,
        Slicing(encoding.k, code.block_unit, current.recipe.block_size),
        encoding.encoding_id,
        [at_hand[share][0] if share in at_hand else None for share in range(encoding.n)],
        Code.GONE,
        session.name_of,
        avoid=[*avoid, *(share.device_id for share in encoding.shares)],
        shown=image.sha256,
        emit=session.emit,
    )
    distribution.are_committed()
    try:
        for _ in range(_ATTEMPTS):
            await distribution.move_lost(current.recipe)
            await distribution.commit(commitment)
    except BaseException:
        await distribution.abandon()
        raise
    return _after(encoding, distribution)


def _commitment(session: Session, encoding: EncodingAt, current: Current) -> bytes:
    """What lies beside every other share; RefusedError where this vault alone cannot say that."""
    mapping = current.mapping
    object_id = session.key.object_id(mapping.image_sha256)
    amended = current.revision > 1 or mapping.delete_capability is not None or bool(current.cards)
    if amended or object_id != encoding.object_id:
        raise RefusedError(
            "it is shared, was left by another, or its vault key was replaced: only the cluster itself can make its "
            "shares, on whichever devices have room",
            advice="repair it without naming devices",
        )
    delete_hash = session.key.delete_hash(object_id, encoding.encoding_id)
    return pack(Commitment(object_id, current.recipe.encode(), current.sealed, delete_hash))


def _after(encoding: EncodingAt, distribution: Distribution) -> EncodingAt:
    """What the catalog will say."""
    had = set(shares_at_hand(encoding))
    made = [
        ShareAt(share.index, share.device, True, True)
        for share in distribution.shares
        if share.state is ShareState.COMMITTED and share.device is not None and share.index not in had
    ]
    return msgspec.structs.replace(encoding, shares=[*encoding.shares, *made])


def _outcome(session: Session, image: Held, encoding: EncodingAt) -> Repaired:
    health = judge([encoding])
    if health.standing is Standing.WHOLE or not health.restorable:
        return outcome_of(session, image, [encoding], 0)
    why = f": {health.good} of {health.n} shares are there; no other of the chosen devices took one: choose more"
    return Repaired(image, False, why, NotEnoughError.exit_code)
