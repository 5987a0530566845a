"""Replaces the commitment of a share: for a new owner, or with other grants.

    verified → compare → append the amendment to a pack, durably → announce

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
from worker.amendments import MAX_AMENDMENT_SIZE, encode_amendment
from worker.capacity import Capacity
from worker.deleting import Deletion
from worker.durability import Durability
from worker.index import Index
from worker.layout import file_name
from worker.pack_format import Kind
from worker.packs import Packs, Record
from worker.reading import OpenShare
from worker.refusals import Refusal
from worker.share_file import mapping_for
from worker.share_states import KeptShare, amended

log = logging.getLogger(__name__)


class Amending:
    """`opened` opens a held share or raises Refusal; `release` closes it."""

    def __init__(
        self,
        durability: Durability,
        packs: Packs,
        index: Index,
        deletion: Deletion,
        capacity: Capacity,
        opened: Callable[[KeptShare], OpenShare],
        release: Callable[[int], None],
    ) -> None:
        self._durability = durability
        self._packs = packs
        self._index = index
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
        for owner in {there for _, there in fitting}:
            self._deletion.require_not_deleted(encoding_id, owner)
        for kept, _ in fitting:
            self._amend_one(kept, signed)

    def _fitting(self, encoding_id: bytes, commitment: Commitment) -> list[tuple[KeptShare, bytes]]:
        """The shares to amend, with whose they are now; Refusal where none is, nor has this commitment already."""
        fitting: list[tuple[KeptShare, bytes]] = []
        done = False
        leaf = leaf_of(commitment)
        refusals: list[Refusal] = []
        for kept in self._index.of_encoding(encoding_id):
            if not kept.here:
                continue
            try:
                if not kept.sound:
                    raise Refusal(Code.DAMAGED, "the share here is damaged")
                there = self._opened(kept).commitment
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
                fitting.append((kept, there.owner))
        if fitting or done:
            return fitting
        raise next(iter(refusals), Refusal(Code.NOT_FOUND, "nothing of this encoding is here"))

    def _amend_one(self, kept: KeptShare, signed: SignedCommitment) -> None:
        body = encode_amendment(signed, self._opened(kept).information.base)
        self._capacity.require(len(body))
        serial = self._index.next_serial()
        with self._durability.answering():
            (place,) = self._packs.append([Record(Kind.AMENDMENT, kept.key, serial, kept.serial, body)])
            self._packs.sync()
            with self._index.transaction():
                after = msgspec.structs.replace(kept, amendment=place, amended_by=serial)
                self._index.change(kept, after.kept(amended(kept.announced, signed)))
        self._release(kept.serial)
        log.info("amended the share %s: revision %d", file_name(kept.key), signed.commitment.revision)
