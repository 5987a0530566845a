"""Replaces the commitment of a share: for a new owner, or with other grants.

    prove the right → compare → write the amendment, durably → announce

The right is the signature of the share's present owner, which names the new one: so a vault key that is replaced has no
rights any more. Revisions only rise, so that a request that comes late or twice changes nothing. The recipe stays,
since the blocks do.
"""

from __future__ import annotations

import logging
from typing import Callable, Optional

import msgspec

from common.coding.recipe import digest
from common.protocol.codec import pack
from common.protocol.device_messages import MAX_GRANTED_MAPPING, Amend, Commitment
from common.protocol.identifiers import owner_id
from common.protocol.messages import Code
from common.protocol.signatures import amendment_statement, is_signed
from worker.amendments import MAX_AMENDMENT_SIZE, Amendment, Amendments, amendment_of, encode_amendment
from worker.capacity import Capacity
from worker.deleting import Deletion
from worker.durability import Durability
from worker.inventory import Inventory, granted
from worker.layout import ShareKey, file_name
from worker.reading import OpenShare
from worker.refusals import Refusal
from worker.share_file import ShareTrailer, commitment_of, may_read

log = logging.getLogger(__name__)


class Amending:
    """`opened` opens a held share or raises Refusal; `release` closes it."""

    def __init__(
        self,
        durability: Durability,
        inventory: Inventory,
        amendments: Amendments,
        deletion: Deletion,
        capacity: Capacity,
        opened: Callable[[ShareKey], OpenShare],
        release: Callable[[ShareKey], None],
    ) -> None:
        self._durability = durability
        self._inventory = inventory
        self._amendments = amendments
        self._deletion = deletion
        self._capacity = capacity
        self._opened = opened
        self._release = release

    def amend(self, request: Amend, commitment: Commitment, owner: bytes) -> None:
        """Replace the commitments of all shares of an encoding whose owner signed that by one of a higher revision.

        Harmless where that was done. Refusal where the owner did not sign, or the commitment contradicts the share.
        """
        self._durability.require_writable()
        amendment = amendment_of(commitment, owner)
        if commitment.revision != request.revision:
            raise Refusal(Code.MALFORMED, "the commitment is not of the revision that the request names")
        too_large = len(encode_amendment(amendment, bytes(32))) > MAX_AMENDMENT_SIZE
        if too_large or len(commitment.mapping) > MAX_GRANTED_MAPPING:
            raise Refusal(Code.MALFORMED, "the mapping is too large")
        fitting = self._fitting(request, commitment, owner)
        for trailer in fitting.values():
            self._deletion.require_not_deleted(request.encoding_id, trailer.owner)
        for key in fitting:
            self._amend_one(key, amendment)

    def _fitting(self, request: Amend, commitment: Commitment, owner: bytes) -> dict[ShareKey, ShareTrailer]:
        """The shares to amend, with their trailers; Refusal where none is, nor was amended by this before."""
        fitting: dict[ShareKey, ShareTrailer] = {}
        done = known = False
        statement = amendment_statement(request.encoding_id, owner, digest(pack(commitment)))
        signer = owner_id(request.owner_key) if is_signed(request.owner_key, request.signature, statement) else None
        refusal: Optional[Refusal] = None
        conflict: Optional[Refusal] = None
        for key in self._inventory.of_encoding(request.encoding_id):
            try:
                if not self._inventory.sound(key):
                    raise Refusal(Code.DAMAGED, "the share here is damaged")
                trailer = self._opened(key).information.trailer
            except Refusal as refused:
                refusal = refused
                continue
            known = known or may_read(trailer, owner)
            if trailer.owner == owner and commitment_of(trailer) == commitment:
                done = True
            elif trailer.owner == signer:
                conflict = _conflict(trailer, commitment)
                if conflict is None:
                    fitting[key] = trailer
        if fitting or done:
            return fitting
        if conflict is not None:
            raise conflict
        if known:
            raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this change")
        raise refusal or Refusal(Code.NOT_FOUND, "nothing of this encoding is here that is its signer's")

    def _amend_one(self, key: ShareKey, amendment: Amendment) -> None:
        opened = self._opened(key)
        base = opened.information.base
        size = len(encode_amendment(amendment, base))
        self._capacity.require(size)
        rest = opened.size - self._amendments.size(key, base)
        with self._durability.answering():
            self._amendments.write(key, base, amendment)
        self._release(key)
        held = msgspec.structs.replace(
            self._inventory.shares[key],
            object_id=amendment.object_id,
            owner=amendment.owner,
            revision=amendment.revision,
            grants=granted(amendment.grants),
        )
        self._inventory.put(held, rest + size)
        log.info("amended the share %s: revision %d", file_name(key), amendment.revision)


def _conflict(trailer: ShareTrailer, commitment: Commitment) -> Optional[Refusal]:
    """Why a commitment does not replace a share's; such a share holds up no other of the encoding."""
    if commitment.recipe != trailer.recipe:
        return Refusal(Code.CONFLICT, "the recipe is another than the one that lies here")
    if commitment.revision <= trailer.revision:
        return Refusal(Code.CONFLICT, f"revision {trailer.revision} lies here")
    return None
