"""Replaces the commitment of a share: for a new owner, or with other grants.

    verified → compare → write the amendment, durably → announce

The right is in the commitment itself: the share's present owner signed it, or signed that the encoding is the next
owner's (`coding.commitments`). So a vault key that is replaced has no rights any more, and it does not matter who
brings it. Ranks only rise, so that a request that comes late or twice changes nothing. The recipe stays, since the
blocks do.
"""

from __future__ import annotations

import logging
from typing import Callable

import msgspec

from common.coding.commitments import leaf_of, supersedes
from common.protocol.device_messages import MAX_GRANTED_MAPPING, Commitment, SignedCommitment
from common.protocol.messages import Code
from worker.amendments import MAX_AMENDMENT_SIZE, Amendments, encode_amendment
from worker.capacity import Capacity
from worker.deleting import Deletion
from worker.durability import Durability
from worker.inventory import Inventory, granted
from worker.layout import ShareKey, file_name
from worker.reading import OpenShare
from worker.refusals import Refusal
from worker.share_file import mapping_for

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

    def amend(self, encoding_id: bytes, signed: SignedCommitment) -> None:
        """Replace the commitments of all shares of an encoding that this one supersedes.

        `signed` was verified. Harmless where that was done. Refusal where it supersedes none that is here.
        """
        self._durability.require_writable()
        commitment = signed.commitment
        too_large = len(encode_amendment(signed, bytes(32))) > MAX_AMENDMENT_SIZE
        if too_large or len(commitment.mapping) > MAX_GRANTED_MAPPING:
            raise Refusal(Code.MALFORMED, "the mapping is too large")
        if signed.depositor is not None:
            raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this change")
        fitting = self._fitting(encoding_id, commitment)
        for owner in set(fitting.values()):
            self._deletion.require_not_deleted(encoding_id, owner)
        for key in fitting:
            self._amend_one(key, signed)

    def _fitting(self, encoding_id: bytes, commitment: Commitment) -> dict[ShareKey, bytes]:
        """The shares to amend, with whose they are now; Refusal where none is, nor has this commitment already."""
        fitting: dict[ShareKey, bytes] = {}
        done = False
        leaf = leaf_of(commitment)
        refusals: list[Refusal] = []
        for key in self._inventory.of_encoding(encoding_id):
            try:
                if not self._inventory.sound(key):
                    raise Refusal(Code.DAMAGED, "the share here is damaged")
                there = self._opened(key).commitment
            except Refusal as refused:
                refusals.append(refused)
                continue
            if leaf_of(there) == leaf:
                done = True
            elif commitment.recipe != there.recipe:
                refusals.insert(0, Refusal(Code.CONFLICT, "the recipe is another than the one that lies here"))
            elif not supersedes(commitment, there):
                if mapping_for(there, commitment.owner) is not None:
                    refusals.insert(0, Refusal(Code.CONFLICT, f"revision {there.revision} lies here"))
            else:
                fitting[key] = there.owner
        if fitting or done:
            return fitting
        raise next(iter(refusals), Refusal(Code.NOT_FOUND, "nothing of this encoding is here"))

    def _amend_one(self, key: ShareKey, signed: SignedCommitment) -> None:
        opened, commitment = self._opened(key), signed.commitment
        base = opened.information.base
        size = len(encode_amendment(signed, base))
        self._capacity.require(size)
        rest = opened.size - self._amendments.size(key, base)
        with self._durability.answering():
            self._amendments.write(key, base, signed)
        self._release(key)
        held = msgspec.structs.replace(
            self._inventory.shares[key],
            object_id=commitment.object_id,
            owner=commitment.owner,
            revision=commitment.revision,
            grants=granted(commitment.grants),
            depositor=None,
        )
        self._inventory.put(held, rest + size)
        log.info("amended the share %s: revision %d", file_name(key), commitment.revision)
