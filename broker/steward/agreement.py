"""Which commitment holds, of those that the holders of an encoding's shares have.

A steward has no key to check a recipe with, but the owner's signature shows which commitment is the owner's word, so
one device that tells the truth is enough. Of several the one that supersedes the others holds: the others' devices were
away when it was amended. Of two that rank alike, of machines that amended at once, the one of most devices does. So it
is where an owner before, whose key somebody else may have by now, has given an encoding to two others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from broker.claims import Claim
from common.coding.commitments import CommitmentVerifier, leaf_of, rank, supersedes, takes_back
from common.coding.recipe import Recipe, decode_recipe
from common.errors import IntegrityError
from common.protocol.codec import unpack
from common.protocol.device_messages import Commitment, SignedCommitment


@dataclass(frozen=True)
class Shown:
    """A commitment that a device showed, and its owner signed."""

    packed: bytes
    signed: SignedCommitment
    recipe: Recipe
    leaf: bytes


def read(packed: bytes, encoding_id: bytes, verifier: CommitmentVerifier) -> Optional[Shown]:
    """What a device showed, with a recipe of this encoding; None where its owner did not sign it."""
    try:
        signed = unpack(packed, SignedCommitment)
        recipe = decode_recipe(signed.commitment.recipe)
    except IntegrityError:
        return None
    if recipe.encoding_id != encoding_id or verifier.fault(signed, encoding_id) is not None:
        return None
    return Shown(packed, signed, recipe, leaf_of(signed.commitment))


@dataclass(frozen=True)
class Agreed:
    """The commitment that holds, and which devices have what."""

    packed: bytes
    signed: SignedCommitment
    recipe: Recipe
    devices: frozenset[bytes]  # that have it
    older: frozenset[bytes]  # that have one which it supersedes

    @property
    def commitment(self) -> Commitment:
        return self.signed.commitment

    def is_claimed(self, claim: Claim) -> bool:
        """Whether it is what devices claim to hold."""
        whose = (self.commitment.owner, self.commitment.object_id, self.signed.depositor)
        shape = (self.recipe.k, self.recipe.n, self.recipe.share_bytes)
        return (whose, shape) == (
            (claim.owner, claim.object_id, claim.depositor),
            (claim.k, claim.n, claim.share_bytes),
        )


def agree(shown: Mapping[bytes, Optional[Shown]]) -> Optional[Agreed]:
    """The commitment that holds, of what each device showed; None where its owner signed none of them."""
    found = {device: each for device, each in shown.items() if each is not None}
    if not found:
        return None
    signed = {device: each.signed.commitment for device, each in found.items()}
    alike = Counter(each.leaf for each in found.values())

    def weight(device: bytes) -> tuple[int, tuple[int, int, int], int, bytes]:
        own, leaf = signed[device], found[device].leaf
        return sum(_agrees(own, other) for other in signed.values()), rank(own), alike[leaf], leaf

    best = max(signed, key=weight)
    holds = found[best]
    devices = frozenset(device for device, each in found.items() if each.leaf == holds.leaf)
    older = frozenset(device for device, other in signed.items() if _follows(signed[best], other))
    return Agreed(holds.packed, holds.signed, holds.recipe, devices, older)


def _follows(best: Commitment, other: Commitment) -> bool:
    """Whether one that most agree to replaces another; the other's device decides whether it may be taken back."""
    return supersedes(best, other) or takes_back(best, other)


def _agrees(one: Commitment, other: Commitment) -> bool:
    """Whether two commitments are of one line of owners, and of the same blocks."""
    of_one_line = supersedes(one, other) or supersedes(other, one) or one.owner == other.owner
    return of_one_line and one.recipe == other.recipe
