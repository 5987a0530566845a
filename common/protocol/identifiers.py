"""The fixed-size names of the protocol, and how those that are derived come about."""

from __future__ import annotations

import hashlib

IDENTIFIER_SIZE = 16  # device id, session id, owner id, encoding id, request id
OBJECT_ID_SIZE = 32
DIGEST_SIZE = 32
OWNER_TOKEN_SIZE = 32

BROKER = bytes(IDENTIFIER_SIZE)  # as the peer of an envelope: the broker itself
NO_OWNER = bytes(IDENTIFIER_SIZE)


def device_id(public_key: bytes) -> bytes:
    """The 16-byte id of the device with this CURVE public key (32 bytes, raw)."""
    return hashlib.sha256(b"tessera/v1/device" + public_key).digest()[:IDENTIFIER_SIZE]


def owner_id(owner_token: bytes) -> bytes:
    """The 16-byte id of the vault whose client presented this token.

    Workers keep the id beside each share and see nothing that would let them present the token themselves.
    """
    return hashlib.sha256(b"tessera/v1/owner-id" + owner_token).digest()[:IDENTIFIER_SIZE]
