"""Encodings that another one of the same image makes needless: of two puts at once, of one that was broken off, or of
what was left for the vault several times.

Only the owner decides that one goes, so a client with the key deletes it, by the owner's word. What stays is whole, the
vault's own before what others left, of those the one of which most devices may be lost, and the same for all clients.
It is read and compared with the image's SHA-256 before anything is deleted. What is not a day old stays: a put may be
at it. So does what is shared with others than the one that would stay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from admin.amending import find_current
from admin.deleting import remove_encoding
from admin.events import Changed, NotChanged
from admin.null_target import NullTarget
from common.erasure import ErasureCode
from common.errors import RefusedError, TesseraError
from common.protocol.messages import EncodingAt, shares_at_hand
from common.repository.images import Held
from common.repository.repository import Repository
from common.vault.mapping import own_object_id
from consumer.gathering import Gathering
from consumer.restoring import Restoring

GRACE = 86_400  # seconds


class Needless(NamedTuple):
    """An image's encoding that stays, and those that need not be there beside it."""

    stays: EncodingAt
    others: list[EncodingAt]


async def find_needless(repository: Repository, image: Held) -> Optional[Needless]:
    """What of an image is needless, by what the broker knows; None where nothing is."""
    own = repository.own(image)
    whole = [encoding for encoding in own if len(shares_at_hand(encoding)) == encoding.n]
    if len(own) < 2 or not whole:
        return None
    object_id = own_object_id(repository.key, image.mapping)
    stays = min(whole, key=lambda e: (e.object_id != object_id, e.k - e.n, e.encoding_id))
    mappings = await repository.mappings.of(own)
    before = time.time() - GRACE
    others = []
    for encoding in own:
        mapping = mappings.get((encoding.object_id, encoding.encoding_id))
        if encoding is not stays and mapping is not None and mapping.stored_at <= before:
            others.append(encoding)
    return Needless(stays, others) if others else None


async def delete_needless(repository: Repository, images: Sequence[Held]) -> int:
    """Delete what is needless of these images; emits the outcome of each that had any. The exit code, the first's."""
    exit_code = 0
    for image in images:
        needless = await find_needless(repository, image)
        if needless is None:
            continue
        try:
            deleted = await _delete_others(repository, needless)
        except TesseraError as failure:
            error = repository.link.cause(failure)
            repository.emit(NotChanged(image.sha256, f"it is stored more than once, and stays so: {error}"))
            exit_code = exit_code or error.exit_code
            continue
        repository.emit(Changed(image.sha256, f"was stored more than once: deleted {deleted} encodings"))
    return exit_code


async def _delete_others(repository: Repository, needless: Needless) -> int:
    stays = needless.stays
    await _prove(repository, stays)
    readers = await _readers(repository, stays)
    alike = [encoding for encoding in needless.others if await _readers(repository, encoding) <= readers]
    if len(alike) < len(needless.others):
        raise RefusedError(
            "one encoding is shared with others than the one that would stay",
            advice="share the image anew, or take that back, and run it again",
        )
    for encoding in alike:
        await remove_encoding(repository, encoding)
    return len(alike)


async def _prove(repository: Repository, encoding: EncodingAt) -> None:
    """Read it and compare it with the image's SHA-256; NotEnoughError or IntegrityError where it is not that."""
    code = ErasureCode(encoding.k, encoding.n)
    gathering = Gathering(repository.devices, encoding, lambda device, why: None)
    image = await gathering.prove(repository.key, repository.mappings.kept(encoding), code.block_unit)
    await Restoring(code, gathering, image).write_to(NullTarget(), repository.emit)


async def _readers(repository: Repository, encoding: EncodingAt) -> set[bytes]:
    return {card.owner for card in (await find_current(repository, encoding)).cards}
