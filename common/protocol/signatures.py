"""What a vault's owner signs, and how whoever is shown it checks that: Ed25519 (RFC 8032).

An owner is known by the hash of a public key (`identifiers.owner_id`), so what that key signed is the owner's word, and
nothing else is. Each kind of statement begins with a label of its own and has one length, so that a signature under one
statement is none under another.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def client_statement(client_key: bytes) -> bytes:
    """What an owner signs for a client with this CURVE public key (32 bytes) that is to speak for the vault."""
    return b"tessera/v1/client" + client_key


def is_signed(owner_key: bytes, signature: bytes, statement: bytes) -> bool:
    """Whether this key (32 bytes) signed the statement; False also where key or signature are none."""
    try:
        Ed25519PublicKey.from_public_bytes(owner_key).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True
