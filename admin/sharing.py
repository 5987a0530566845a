"""`share` and `unshare`: who else may read an image is written anew beside every share of it.

The owner's own mapping tells with whom an encoding is shared and of which revision it is; so any machine with the vault
can go on from there. To change it, the mapping of the highest revision is taken that any device has, the next one is
sealed for the owner and, to their cards, for all who may read; each device that is shown the delete capability puts
these in the place of what it has. Devices that are away now get them from the steward when they come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import msgspec

from admin.session import Session, VaultWork, change_each
from common.errors import NotEnoughError, NotFoundError, RefusedError, TesseraError, UsageError
from common.link.link import run_with_link
from common.program import complain
from common.protocol.codec import pack
from common.protocol.device_messages import Amend, Commitment, ShareName
from common.protocol.envelope import Operation
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import MAX_GRANTS, Acknowledged, EncodingAt, shares_at_hand
from common.recipe import Recipe
from common.slicing import block_size_for
from common.vault.contact_card import ContactCard, pack_cards, unpack_cards
from common.vault.contacts import Contacts
from common.vault.granting import grant_to, open_any
from common.vault.mapping import MAX_SEALED_MAPPING, Mapping, seal_mapping
from common.vault.trust import TrustedImage
from consumer.holdings import Held

_PATIENCE = 20.0  # seconds for one device
_RECIPE_FRAME = 256  # bytes of a recipe beside its digests

Change = Callable[[list[ContactCard]], list[ContactCard]]


class Sharing(VaultWork):
    """One run of `share` or `unshare`."""

    def share(self, hashes: Sequence[str], name: str) -> int:
        """Share images with a contact; a line for each. The exit code."""
        card = Contacts(self._home, self._key).card(name)
        if card.owner == self._own_owner():
            raise UsageError(f"{name} is this very vault")

        def add(cards: list[ContactCard]) -> list[ContactCard]:
            others = [each for each in cards if each.owner != card.owner]
            if len(others) >= MAX_GRANTS:
                raise UsageError(f"an image is shared with {MAX_GRANTS} others at most")
            return [*others, card]

        return run_with_link(self._change(hashes, add, f"shared with {name}"))

    def unshare(self, hashes: Sequence[str], name: str) -> int:
        """Take images back from a contact; a line for each. The exit code."""
        card = Contacts(self._home, self._key).card(name)

        def remove(cards: list[ContactCard]) -> list[ContactCard]:
            others = [each for each in cards if each.owner != card.owner]
            if len(others) == len(cards):
                raise NotFoundError(f"is not shared with {name}")
            return others

        exit_code = run_with_link(self._change(hashes, remove, f"taken back from {name}"))
        complain(f"{name} cannot fetch it any more; what {name} has copied stays copied")
        return exit_code

    async def _change(self, hashes: Sequence[str], change: Change, done: str) -> int:
        async with self.session() as session:
            return await change_each(
                await session.images(hashes),
                lambda image: _change_image(session, image, change),
                done,
                "not reached; it is changed there when they come back",
            )


async def _change_image(session: Session, image: Held, change: Change) -> list[str]:
    """Change all encodings of this vault's own; the names of devices that could not be told."""
    own = [e for e in image.encodings if e.object_id == session.key.object_id(image.mapping.image_sha256)]
    if not own:
        raise RefusedError("only its owner can share it or take it back; it is another vault's")
    untold: list[str] = []
    for encoding in own:
        current = await _current(session, encoding)
        untold += await _amend(session, encoding, current, change(current.cards))
    return sorted(set(untold) | set(session.absent(own)))


@dataclass(frozen=True)
class _Current:
    """What holds of an encoding now, by the highest revision that a device has."""

    mapping: Mapping
    recipe: Recipe

    @property
    def revision(self) -> int:
        return self.mapping.revision or 1

    @property
    def cards(self) -> list[ContactCard]:
        return [] if self.mapping.shared_with is None else unpack_cards(self.mapping.shared_with)


async def _current(session: Session, encoding: EncodingAt) -> _Current:
    """NotEnoughError where no device has a good mapping and recipe."""
    holders = [(share, devices[0]) for share, devices in shares_at_hand(encoding).items()]
    answers = await asyncio.gather(*(_describe(session, encoding, *holder) for holder in holders))
    known = [answer for answer in answers if answer is not None]
    if not known:
        raise NotEnoughError("no connected device has a good mapping of it")
    return max(known, key=lambda current: current.revision)


async def _describe(session: Session, encoding: EncodingAt, share: int, device: bytes) -> Optional[_Current]:
    segments = encoding.share_bytes // block_size_for(encoding.n) + 1
    limit = MAX_SEALED_MAPPING + segments * encoding.n * DIGEST_SIZE + _RECIPE_FRAME
    name = ShareName(encoding.encoding_id, share)
    try:
        described = await session.devices.description(device, name, limit, with_recipe=True)
        mapping = open_any(session.key, described.mapping, encoding.object_id, encoding.encoding_id)
        image = TrustedImage(mapping, encoding.encoding_id)
        return _Current(mapping, image.accept_recipe(described.recipe, session.unit(mapping.k, mapping.n)))
    except TesseraError:
        return None


async def _amend(session: Session, encoding: EncodingAt, current: _Current, cards: list[ContactCard]) -> list[str]:
    """Have all connected devices take the next revision; the names of those that did not."""
    key, encoding_id = session.key, encoding.encoding_id
    revision = current.revision + 1
    shared_with = pack_cards(cards) if cards else None
    mapping = msgspec.structs.replace(current.mapping, revision=revision, shared_with=shared_with)
    sealed = seal_mapping(key, mapping, encoding.object_id, encoding_id)
    grants = [grant_to(card, mapping, encoding_id) for card in cards]
    delete_hash = key.delete_hash(encoding.object_id, encoding_id)
    commitment = Commitment(encoding.object_id, current.recipe.encode(), sealed, delete_hash, revision, grants)
    request = Amend(encoding_id, key.delete_capability(encoding.object_id, encoding_id), revision)
    payload = pack(commitment)

    async def tell(device: bytes) -> bool:
        try:
            await session.link.request(
                Operation.AMEND, request, Acknowledged, device=device, payload=payload, patience=_PATIENCE
            )
        except TesseraError as error:
            complain(f"{session.name_of(device)}: {error}")
            return False
        return True

    devices = sorted({share.device_id for share in encoding.shares if share.alive})
    told = await asyncio.gather(*(tell(device) for device in devices))
    if sum(told) < current.mapping.k:
        raise NotEnoughError(
            f"{sum(told)} devices took the change and {current.mapping.k} are needed for it to hold",
            advice="run it again when more devices are connected",
        )
    session.vault.keep_mapping(encoding.object_id, encoding_id, sealed)
    return [session.name_of(device) for device, took in zip(devices, told) if not took]
