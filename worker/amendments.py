"""What replaces the commitment in a share's trailer, as a record. Bytes only.

    array of 6    "tessera-amendment", 4, base, signed commitment without its recipe, digest of that recipe,
                  array of ≤ 33: all that was replaced before and by it, and is held
    bin of 32     BLAKE3-256 of the array

The base is the digest in the share's footer, so an amendment belongs to one committed share and no other. The share is
never changed. One that cannot be read makes its share damaged: the commitment in the share was superseded, and is never
used again.
"""

from __future__ import annotations

import msgspec

from common.coding.recipe import digest
from common.errors import IntegrityError
from common.protocol.device_messages import MAX_GRANTED_MAPPING, MAX_TRANSFERS, SignedCommitment
from common.protocol.messages import MAX_GRANTS, Count, Digest, Identifier, Message, Seconds
from worker.format_version import Record, decode_record, encode_record

_MAGIC = "tessera-amendment"
VERSION = 4
MAX_AMENDMENT_SIZE = (MAX_GRANTS + 1) * (MAX_GRANTED_MAPPING + 256) + MAX_TRANSFERS * 128 + 33 * 96


class Replaced(Message):
    """A commitment that was replaced. Each amendment names all that are held: the one that did it may be gone."""

    serial: Count  # of its own record; 0: it is the one in the share
    owner: Identifier
    content: Digest  # `commitments.content_of`
    first: Seconds  # when it was replaced first, in Unix seconds by this device's clock; it may have been said again
    at: Seconds  # and last


class _Record(Record):
    base: Digest
    signed: SignedCommitment  # its recipe is empty
    recipe_digest: Digest
    replaced: list[Replaced]


def encode_amendment(signed: SignedCommitment, base: bytes, replaced: list[Replaced]) -> bytes:
    """The record that amends the share with this base by a commitment."""
    recipe = signed.commitment.recipe
    return encode_record(_Record(_MAGIC, VERSION, base, _with_recipe(signed, b""), digest(recipe), replaced))


def read_amendment(content: bytes) -> tuple[SignedCommitment, list[Replaced]]:
    """The commitment in a record, without its recipe, whichever share it is of, and what was replaced.

    IntegrityError where it is damaged.
    """
    record = decode_record(content, _Record, _MAGIC, VERSION)
    return record.signed, record.replaced


def decode_amendment(content: bytes, base: bytes, recipe: bytes) -> SignedCommitment:
    """The commitment in a record, with the share's recipe.

    IntegrityError where it is not what was written for this base, or is of another recipe.
    """
    record = decode_record(content, _Record, _MAGIC, VERSION)
    if record.base != base:
        raise IntegrityError("the amendment is another share's")
    if record.recipe_digest != digest(recipe) or record.signed.commitment.recipe:
        raise IntegrityError("the amendment is of another recipe")
    return _with_recipe(record.signed, recipe)


def _with_recipe(signed: SignedCommitment, recipe: bytes) -> SignedCommitment:
    commitment = msgspec.structs.replace(signed.commitment, recipe=recipe)
    return msgspec.structs.replace(signed, commitment=commitment)
