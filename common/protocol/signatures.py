"""What a vault's owner signs, and how whoever is shown it checks that: Ed25519 (RFC 8032).

An owner is known by the hash of a public key (`identifiers.owner_id`), so what that key signed is the owner's word, and
nothing else is. Each kind of statement begins with a label of its own and has one length, so that a signature under one
statement is none under another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.protocol.messages import Tombstone

_TOMBSTONE = struct.Struct(">II")
_APPROVERS = struct.Struct(">IB")


def client_statement(client_key: bytes) -> bytes:
    """What an owner signs for a client with this CURVE public key (32 bytes) that is to speak for the vault."""
    return b"tessera/v1/client" + client_key


def tombstone_statement(encoding_id: bytes, object_id: bytes, generation: int, trash_seconds: int) -> bytes:
    """What an owner signs to delete an encoding, or to take that back; the fields are those of `messages.Tombstone`."""
    return b"tessera/v1/tombstone" + encoding_id + object_id + _TOMBSTONE.pack(generation, trash_seconds)


def tombstone_rank(tombstone: Tombstone) -> bytes:
    """Of two of an owner's tombstones of one encoding that of the higher rank holds, everywhere alike.

    By their generation, then by their digest: two machines may use the same one at the same time.
    """
    return tombstone.generation.to_bytes(8, "big") + blake3(_statement_of(tombstone)).digest()


def is_tombstone_signed(tombstone: Tombstone) -> bool:
    """Whether the owner whom a tombstone names signed it."""
    return is_signed(tombstone.owner_key, tombstone.signature, _statement_of(tombstone))


def _statement_of(tombstone: Tombstone) -> bytes:
    t = tombstone
    return tombstone_statement(t.encoding_id, t.object_id, t.generation, t.trash_seconds)


def approvers_statement(generation: int, needed: int, approvers: Sequence[bytes]) -> bytes:
    """What an owner signs to name approvers, in the order of their keys; the fields are those of `ApproverList`."""
    keys = blake3(b"".join(approvers)).digest()
    return b"tessera/v1/approvers" + _APPROVERS.pack(generation, needed) + keys


def emptying_statement(approvers: bytes, deletions: bytes) -> bytes:
    """What an approver signs: digests of the list that names them and of the deletions (`approvals`), 32 bytes each."""
    return b"tessera/v1/emptying" + approvers + deletions


def batch_statement(root: bytes) -> bytes:
    """What an owner signs for commitments: the root, 32 bytes, of the tree over a batch (`coding.commitments`)."""
    return b"tessera/v1/commitments" + root


def transfer_statement(encoding_id: bytes, new_owner: bytes) -> bytes:
    """What an owner signs to give an encoding to another one, whose id has 16 bytes."""
    return b"tessera/v1/transfer" + encoding_id + new_owner


def is_signed(owner_key: bytes, signature: bytes, statement: bytes) -> bool:
    """Whether this key (32 bytes) signed the statement; False also where key or signature are none."""
    try:
        Ed25519PublicKey.from_public_bytes(owner_key).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True
