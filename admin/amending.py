"""Replaces the commitment of all shares of an encoding: so that others can read it too, or under another vault key.

The owner's own mapping has the cards that an encoding is shared with and its revision, so any machine with the vault
can change them: it takes the commitment that holds on any device, seals the next mapping for the owner and to the cards
of all who may read, and sends these, signed, to each device. Devices that are away now get them from the steward
when they come back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Optional

import msgspec

from admin.events import DeviceFailed
from admin.quorum import quorum, require_quorum, tell
from common.coding.commitments import leaf_of, rank
from common.coding.recipe import Recipe
from common.erasure import ErasureCode
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.link.stragglers import Stragglers
from common.protocol.codec import pack
from common.protocol.device_messages import MAX_TRANSFERS, Amend, Commitment, ShareName, SignedCommitment
from common.protocol.messages import EncodingAt, shares_at_hand
from common.protocol.operations import AMEND
from common.repository.devices import commitment_bytes
from common.repository.repository import Repository
from common.vault.contact_card import ContactCard, pack_cards, unpack_cards
from common.vault.granting import grant_to, open_any
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, SealedMapping, seal_own
from common.vault.trust import TrustedImage


@dataclass(frozen=True)
class Current:
    """An encoding's commitment that supersedes the others that are known: a device has it, or this machine wrote it."""

    mapping: Mapping
    recipe: Recipe
    signed: SignedCommitment  # as a device has it
    settled: bool = False  # so many devices have it that it holds

    @property
    def commitment(self) -> Commitment:
        return self.signed.commitment

    @property
    def revision(self) -> int:
        return max(self.commitment.revision, self.mapping.revision or 1)

    @property
    def cards(self) -> list[ContactCard]:
        """The cards that it is shared with."""
        return [] if self.mapping.shared_with is None else unpack_cards(self.mapping.shared_with)


async def find_current(repository: Repository, encoding: EncodingAt) -> Current:
    """NotEnoughError where no device has a good commitment.

    What this machine wrote last is the least that is believed, whatever the devices that are connected now have.
    """
    known = await _describe_all(repository, encoding)
    if not known:
        raise NotEnoughError("no connected device has a good commitment of it")
    leaves = [leaf_of(current.commitment) for current in known]
    alike = Counter(leaves)
    best, leaf = max(zip(known, leaves), key=lambda found: (rank(found[0].commitment), alike[found[1]]))
    having = alike[leaf]
    kept = repository.index.mapping(encoding.object_id, encoding.encoding_id)
    if kept is not None and (kept.revision or 1) > best.revision:
        return replace(best, mapping=kept)
    everywhere = having == len({share.device_id for share in encoding.shares})
    return replace(best, settled=everywhere or having >= quorum(encoding.k, encoding.n))


async def _describe_all(repository: Repository, encoding: EncodingAt) -> list[Current]:
    """What devices have; once so many tell that any change which holds is among them, the late are not waited for."""
    holders = [(share, devices[0]) for share, devices in shares_at_hand(encoding).items()]
    tasks = [asyncio.ensure_future(_describe(repository, encoding, *holder)) for holder in holders]

    def known() -> list[Current]:
        return [current for task in tasks if task.done() and (current := task.result()) is not None]

    try:
        await Stragglers().late(tasks, lambda: len(known()) >= quorum(encoding.k, encoding.n))
        return known()
    finally:
        for task in tasks:
            task.cancel()


async def _describe(repository: Repository, encoding: EncodingAt, share: int, device: bytes) -> Optional[Current]:
    name = ShareName(encoding.encoding_id, share)
    try:
        signed = await repository.devices.commitment(device, name, commitment_bytes(encoding))
        commitment = signed.commitment
        if commitment.owner != repository.key.owner_id() or repository.verifier.fault(signed, encoding.encoding_id):
            return None
        mapping = open_any(repository.key, commitment.mapping, commitment.object_id, encoding.encoding_id)
        image = TrustedImage(mapping, encoding.encoding_id)
        recipe = image.accept_recipe(commitment.recipe, ErasureCode(mapping.k, mapping.n).block_unit)
        return Current(mapping, recipe, signed)
    except TesseraError:
        return None


def holders_of(encoding: EncodingAt) -> set[bytes]:
    """The connected devices that have shares of an encoding."""
    return {share.device_id for share in encoding.shares if share.alive}


def _next(
    key: VaultKey, encoding_id: bytes, current: Current, cards: list[ContactCard], former: Optional[VaultKey]
) -> tuple[SealedMapping, SignedCommitment]:
    """The next revision of a commitment, for the vault with this key: its mapping, and all of it signed."""
    revision, before = current.revision + 1, current.commitment
    shared_with = pack_cards(cards) if cards else None
    mapping = msgspec.structs.replace(current.mapping, revision=revision, shared_with=shared_with)
    sealed, signing = seal_own(key, mapping, encoding_id), key.signing_key()
    transfers = list(before.transfers)
    if former is not None and before.owner == former.owner_id():
        transfers.append(former.signing_key().transfer(encoding_id, signing.owner))
    if len(transfers) > MAX_TRANSFERS:
        raise RefusedError(f"its vault key was replaced {MAX_TRANSFERS} times: delete it and store it anew")
    commitment = msgspec.structs.replace(
        before,
        object_id=sealed.object_id,
        owner=signing.owner,
        mapping=sealed.mapping,
        transfers=transfers,
        revision=revision,
        grants=[grant_to(card, mapping, encoding_id) for card in cards],
    )
    (signed,) = signing.commit([commitment])
    return sealed, signed


async def amend(
    owner: Repository,
    encoding_id: bytes,
    current: Current,
    cards: list[ContactCard],
    devices: Collection[bytes],
    former: Optional[VaultKey] = None,
) -> list[str]:
    """Send devices the next revision, for the vault of the repository `owner`, shared with `cards`.

    `former`: the key of the vault whose it was, where that is another. Returns the names of the devices that did not
    take it. An image that another left for the vault becomes as if the vault had stored it. NotEnoughError where too
    few devices took it for it to hold.
    """
    sealed, signed = _next(owner.key, encoding_id, current, cards, former)
    mapping = current.mapping
    request, payload = Amend(encoding_id), pack(signed)

    asked = sorted(devices)
    told = await tell(
        asked,
        lambda device: owner.link.request(AMEND, request, device=device, payload=payload),
        quorum(mapping.k, mapping.n),
    )
    for device, error in told.items():
        if error is not None:
            owner.emit(DeviceFailed(owner.name_of(device), str(error)))
    took = {device for device, error in told.items() if error is None}
    if took:
        owner.index.keep_mapping(sealed.object_id, encoding_id, sealed.mapping)  # no later one has this revision, too
    if len(took) < mapping.k:
        raise NotEnoughError(
            f"{len(took)} devices took the change and {mapping.k} are needed for it to hold",
            advice="run it again when more devices are connected",
        )
    require_quorum(owner, (mapping.k, mapping.n), took, set(asked), "took the change")
    return sorted({owner.name_of(device) for device in asked if device not in took})
