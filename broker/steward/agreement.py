"""Which commitment holds, of those that the holders of an encoding's shares have.

A steward has no key to check a recipe with. It believes one of which at least k different devices hold identical
copies: fewer than k hostile ones cannot put theirs in its place. Of several that so many hold the one of the highest
revision holds: the others' devices were away when it was amended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from broker.catalog import Claim
from common.coding.recipe import Recipe, decode_recipe
from common.errors import IntegrityError
from common.protocol.codec import unpack
from common.protocol.device_messages import Commitment


@dataclass(frozen=True)
class Agreed:
    """A commitment that enough devices hold."""

    packed: bytes
    commitment: Commitment
    recipe: Recipe
    devices: frozenset[bytes]


def agree(commitments: Mapping[bytes, bytes], claim: Claim) -> Union[Agreed, str]:
    """The commitment (packed, by device) that at least k devices have alike and that fits the claim, or why none is."""
    copies: dict[bytes, set[bytes]] = {}
    for device, packed in commitments.items():
        copies.setdefault(packed, set()).add(device)
    weight = {packed: (revision_of(packed), len(copies[packed])) for packed in copies if len(copies[packed]) >= claim.k}
    enough = sorted(weight, key=lambda packed: weight[packed], reverse=True)
    if not enough:
        most = max((len(devices) for devices in copies.values()), default=0)
        return f"only {most} devices have the same recipe and mapping, {claim.k} are needed"
    if len(enough) > 1 and weight[enough[0]] == weight[enough[1]]:
        return "its devices contradict each other about the recipe and mapping"
    try:
        commitment = unpack(enough[0], Commitment)
        recipe = decode_recipe(commitment.recipe)
    except IntegrityError as error:
        return str(error)
    said = (commitment.object_id, recipe.encoding_id, recipe.k, recipe.n, recipe.share_bytes)
    if said != (claim.object_id, claim.encoding_id, claim.k, claim.n, claim.share_bytes):
        return "its recipe is not what its devices claim"
    return Agreed(enough[0], commitment, recipe, frozenset(copies[enough[0]]))


def revision_of(packed: bytes) -> int:
    """A commitment's revision; 0 where it is none."""
    try:
        return unpack(packed, Commitment).revision
    except IntegrityError:
        return 0
