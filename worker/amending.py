"""Replaces the commitment of a share: for a new owner, or with other grants; and holds the one before.

    verified → compare → append the amendment to a pack, durably → announce

The right is in the commitment itself: the share's present owner signed it, or signed that the encoding is the next
owner's (`coding.commitments`). So a vault key that is replaced has no rights any more, and it does not matter who
brings it. Ranks only rise, so that a request that comes late or twice changes nothing. The recipe stays, since the
blocks do.

What is replaced stays for this device's *hold*, by its own clock, and is shown to the owner who signed it. Within it
they can also take the encoding back, out of the next owner's trash, too: who has stolen the owner's key may give all
away, and whoever else has the key brings it back. Neither can it be changed so often that nothing could be held.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

import msgspec

from common.coding.commitments import content_of, leaf_of, supersedes, takes_back
from common.errors import IntegrityError
from common.protocol.device_messages import MAX_GRANTED_MAPPING, Commitment, SignedCommitment
from common.protocol.messages import MOST_AHEAD, Code
from worker.amendments import MAX_AMENDMENT_SIZE, Replaced, encode_amendment
from worker.capacity import Capacity
from worker.deleting import Deletion
from worker.durability import Durability
from worker.index import Index
from worker.layout import file_name
from worker.pack_format import Kind
from worker.packs import Packs, Record
from worker.reading import OpenShare, Shares
from worker.refusals import Refusal
from worker.share_file import mapping_for
from worker.share_states import KeptShare, State

log = logging.getLogger(__name__)

_MOST_HELD = 32  # commitments of a share
_MOST_HELD_BYTES = 2 * MAX_AMENDMENT_SIZE


class HeldCommitment(NamedTuple):
    """A commitment that was replaced, and is held for its owner."""

    kept: KeptShare  # of which share, as it is now
    signed: SignedCommitment
    age: int  # seconds since it was replaced first
    now: Commitment  # what holds


class _Fitting(NamedTuple):
    kept: KeptShare
    there: Commitment


class Amending:
    """`opened` opens a held share or raises Refusal; `release` closes it. `hold`: seconds; times are Unix seconds."""

    def __init__(
        self,
        durability: Durability,
        packs: Packs,
        index: Index,
        shares: Shares,
        deletion: Deletion,
        capacity: Capacity,
        opened: Callable[[KeptShare], OpenShare],
        release: Callable[[int], None],
        hold: int,
    ) -> None:
        self._durability = durability
        self._packs = packs
        self._index = index
        self._shares = shares
        self._deletion = deletion
        self._capacity = capacity
        self._opened = opened
        self._release = release
        self._hold = hold

    def amend(self, encoding_id: bytes, signed: SignedCommitment, unix: float) -> None:
        """Replace the commitments of all shares of an encoding that this one supersedes, or takes back.

        `signed` was verified. Harmless where that was done. Refusal where it replaces none that is here.
        """
        self._durability.require_writable()
        commitment = signed.commitment
        too_large = len(encode_amendment(signed, bytes(32), [])) > MAX_AMENDMENT_SIZE
        if too_large or len(commitment.mapping) > MAX_GRANTED_MAPPING:
            raise Refusal(Code.MALFORMED, "the mapping is too large")
        if signed.depositor is not None:
            raise Refusal(Code.NOT_ALLOWED, "its owner did not sign this change")
        fitting = self._fitting(encoding_id, commitment, unix)
        for owner in {commitment.owner if takes_back(commitment, there) else there.owner for _, there in fitting}:
            self._deletion.require_not_deleted(encoding_id, owner)
        for kept, there in fitting:
            replaced = kept.replaced_by_another(content_of(there), int(unix), kept.held(self._hold, unix))
            self._amend_one(kept, signed, replaced)

    def _fitting(self, encoding_id: bytes, commitment: Commitment, unix: float) -> list[_Fitting]:
        """The shares to amend, as they are now; Refusal where none is, nor has this commitment already."""
        fitting: list[_Fitting] = []
        done = False
        refusals: list[Refusal] = []
        for kept in self._index.of_encoding(encoding_id):
            if not kept.here and kept.state not in (State.DELETED, State.SURPLUS):
                continue
            try:
                if not kept.sound:
                    raise Refusal(Code.DAMAGED, "the share here is damaged")
                there = self._opened(kept).commitment
            except Refusal as refused:
                refusals.append(refused)
                continue
            if kept.here and leaf_of(there) == leaf_of(commitment):
                done = True
            elif (refusal := self._refusal(kept, there, commitment, unix)) is None:
                fitting.append(_Fitting(kept, there))
            elif kept.here:
                refusals.insert(0, refusal)
        if fitting or done:
            return fitting
        raise next(iter(refusals), Refusal(Code.NOT_FOUND, "nothing of this encoding is here"))

    def _refusal(self, kept: KeptShare, there: Commitment, commitment: Commitment, unix: float) -> Optional[Refusal]:
        """Why a commitment does not take the place of another; None where it does."""
        if commitment.recipe != there.recipe:
            return Refusal(Code.CONFLICT, "the recipe is another than the one that lies here")
        back = takes_back(commitment, there)
        if not back and not (kept.here and supersedes(commitment, there)):
            if mapping_for(there, commitment.owner) is None:
                return Refusal(Code.NOT_FOUND, "nothing of this encoding is here")
            return Refusal(Code.CONFLICT, f"revision {there.revision} lies here")
        if back and not any(each.replaced.owner == commitment.owner for each in kept.held(self._hold, unix)):
            return Refusal(Code.NOT_ALLOWED, "it was given away, and is not held for the owner before any more")
        if not kept.here and self._index.held(kept.key) is not None:
            return Refusal(Code.CONFLICT, "another share is in its place")
        if max(commitment.generation - there.generation, commitment.revision - there.revision) > MOST_AHEAD:
            return Refusal(Code.NOT_ALLOWED, f"it is too far ahead of revision {there.revision}")
        if not self._may_hold_more(kept, commitment, unix):
            return Refusal(Code.NO_ROOM, "it was changed as often as this device holds what was replaced")
        return None

    def _may_hold_more(self, kept: KeptShare, commitment: Commitment, unix: float) -> bool:
        """Whether what is replaced can be held, too. What says again what is held takes no more room once replaced."""
        held = kept.held(self._hold, unix)
        size = sum(each.place.length for each in held if each.place is not None)
        few = len(held) < _MOST_HELD and size < _MOST_HELD_BYTES
        return few or content_of(commitment) in {each.replaced.content for each in held}

    def _amend_one(self, kept: KeptShare, signed: SignedCommitment, replaced: list[Replaced]) -> None:
        body = encode_amendment(signed, self._opened(kept).information.base, replaced)
        self._capacity.require(len(body))
        serial = self._index.next_serial()
        with self._durability.answering():
            (place,) = self._packs.append([Record(Kind.AMENDMENT, kept.key, serial, kept.serial, body)])
            self._packs.sync()
            with self._index.transaction():
                after = kept.amended(place, serial, signed, replaced)
                self._index.change(kept, after.kept(after.announced))
        self._release(kept.serial)
        log.info("amended the share %s: revision %d", file_name(kept.key), signed.commitment.revision)

    # --- what is held

    def held_for(self, owner: bytes, after: int, unix: float) -> Iterator[list[HeldCommitment]]:
        """What is held for an owner, those of one share at a time, the oldest first, from behind a serial on."""
        while shares := self._index.superseded_of(owner, after):
            for kept in shares:
                after = kept.serial
                yield self._held_of(kept, owner, unix)

    def _held_of(self, kept: KeptShare, owner: bytes, unix: float) -> list[HeldCommitment]:
        found: list[HeldCommitment] = []
        try:
            now = self._opened(kept).commitment
        except Refusal:
            return []  # the steward stores it anew, or another device has it
        for each in kept.held(self._hold, unix):
            replaced = each.replaced
            if replaced.owner != owner:
                continue
            try:
                opened = self._shares.open(msgspec.structs.replace(kept, amendment=each.place))
            except (IntegrityError, OSError) as error:
                log.warning("what was replaced of the share %s cannot be read: %s", file_name(kept.key), error)
                continue
            if (opened.commitment.owner, content_of(opened.commitment)) == (owner, replaced.content):
                found.append(HeldCommitment(kept, opened.signed, max(0, int(unix - replaced.first)), now))
            opened.close()
        return found

    def purge(self, unix: float) -> None:
        """Forget what was replaced, and is held no more."""
        try:
            for kept in self._index.superseded_before(unix - self._hold):
                with self._index.transaction():
                    held = tuple(kept.held(self._hold, unix))
                    self._index.change(kept, msgspec.structs.replace(kept, superseded=held))
        except (OSError, Refusal) as error:
            log.warning("cannot forget what was replaced: %s", error)
