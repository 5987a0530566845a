"""Replaces the commitment of all shares of an encoding: so that others can read it too, or under another vault key.

The owner's own mapping has the cards that an encoding is shared with and its revision, so any machine with the vault
can change them: it takes the mapping of the highest revision on any device, seals the next one for the owner and to the
cards of all who may read, and sends these, signed, to each device. Devices that are away now get them from the steward
when they come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import msgspec

from admin.events import DeviceFailed
from admin.quorum import quorum, require_quorum
from common.coding.recipe import Recipe
from common.erasure import ErasureCode
from common.errors import NotEnoughError, TesseraError
from common.protocol.codec import pack
from common.protocol.device_messages import Amend, Commitment, ShareName
from common.protocol.messages import EncodingAt, shares_at_hand
from common.protocol.operations import AMEND
from common.protocol.signatures import rank
from common.repository.devices import description_bytes
from common.repository.repository import Repository
from common.vault.contact_card import ContactCard, pack_cards, unpack_cards
from common.vault.granting import grant_to, open_any
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, seal_own
from common.vault.trust import TrustedImage


@dataclass(frozen=True)
class Current:
    """An encoding's commitment of the highest revision that is known: a device has it, or this machine wrote it."""

    mapping: Mapping
    recipe: Recipe
    sealed: bytes  # the mapping as a device has it
    settled: bool = False  # so many devices have it that it holds

    @property
    def revision(self) -> int:
        return self.mapping.revision or 1

    @property
    def rank(self) -> bytes:
        return rank(self.revision, self.sealed)

    @property
    def cards(self) -> list[ContactCard]:
        """The cards that it is shared with."""
        return [] if self.mapping.shared_with is None else unpack_cards(self.mapping.shared_with)


async def find_current(repository: Repository, encoding: EncodingAt) -> Current:
    """NotEnoughError where no device has a good mapping and recipe.

    What this machine wrote last is the least that is believed, whatever the devices that are connected now have.
    """
    holders = [(share, devices[0]) for share, devices in shares_at_hand(encoding).items()]
    answers = await asyncio.gather(*(_describe(repository, encoding, *holder) for holder in holders))
    known = [answer for answer in answers if answer is not None]
    if not known:
        raise NotEnoughError("no connected device has a good mapping of it")
    best = max(known, key=lambda current: current.rank)
    having = sum(current.rank == best.rank for current in known)
    kept = repository.vault.mapping(repository.key, encoding.object_id, encoding.encoding_id)
    if kept is not None and (kept.revision or 1) > best.revision:
        return replace(best, mapping=kept)
    everywhere = having == len({share.device_id for share in encoding.shares})
    return replace(best, settled=everywhere or having >= quorum(encoding.k, encoding.n))


async def _describe(repository: Repository, encoding: EncodingAt, share: int, device: bytes) -> Optional[Current]:
    name = ShareName(encoding.encoding_id, share)
    try:
        described = await repository.devices.description(device, name, description_bytes(encoding), with_recipe=True)
        mapping = open_any(repository.key, described.mapping, encoding.object_id, encoding.encoding_id)
        image = TrustedImage(mapping, encoding.encoding_id)
        recipe = image.accept_recipe(described.recipe, ErasureCode(mapping.k, mapping.n).block_unit)
        return Current(mapping, recipe, described.mapping)
    except TesseraError:
        return None


@dataclass(frozen=True)
class Right:
    """The key that signs for the owner of an encoding's shares on some devices."""

    devices: list[bytes]
    key: VaultKey


def right_to(repository: Repository, encoding: EncodingAt) -> Right:
    """The right to an encoding of this repository's vault, on the connected devices that have it."""
    return Right(sorted({share.device_id for share in encoding.shares if share.alive}), repository.key)


async def amend(
    owner: Repository, encoding_id: bytes, current: Current, cards: list[ContactCard], rights: Sequence[Right]
) -> list[str]:
    """Send devices the next revision, for the vault of the repository `owner`, shared with `cards`.

    Returns the names of the devices that did not take it. An image that another left for the vault becomes as if the
    vault had stored it. NotEnoughError where too few devices took it for it to hold.
    """
    revision = current.revision + 1
    mapping = msgspec.structs.replace(
        current.mapping,
        revision=revision,
        shared_with=pack_cards(cards) if cards else None,
    )
    sealed = seal_own(owner.key, mapping, encoding_id)
    grants = [grant_to(card, mapping, encoding_id) for card in cards]
    recipe = current.recipe.encode()
    commitment = Commitment(sealed.object_id, recipe, sealed.mapping, revision, grants)
    payload = pack(commitment)

    async def tell(device: bytes, request: Amend) -> bool:
        try:
            await owner.link.request(AMEND, request, device=device, payload=payload)
        except TesseraError as error:
            owner.emit(DeviceFailed(owner.name_of(device), str(error)))
            return False
        return True

    new_owner = owner.key.owner_id()
    asked: list[tuple[bytes, Amend]] = []
    for right in rights:
        word = right.key.amendment(encoding_id, new_owner, commitment)
        asked += [(device, word) for device in right.devices]
    told = await asyncio.gather(*(tell(device, request) for device, request in asked))
    took = {device for (device, _), taken in zip(asked, told) if taken}
    if took:
        owner.vault.keep_mapping(sealed.object_id, encoding_id, sealed.mapping)  # no later one has this revision, too
    if len(took) < mapping.k:
        raise NotEnoughError(
            f"{len(took)} devices took the change and {mapping.k} are needed for it to hold",
            advice="run it again when more devices are connected",
        )
    require_quorum(owner, (mapping.k, mapping.n), took, {device for device, _ in asked}, "took the change")
    return sorted({owner.name_of(device) for device, _ in asked if device not in took})
