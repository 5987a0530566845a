"""The protocol's fixed-size identifiers, and how some of them are derived."""

from __future__ import annotations

import hashlib
from typing import Union

IDENTIFIER_SIZE = 16  # device id, session id, owner id, encoding id, request id
OBJECT_ID_SIZE = 32
DIGEST_SIZE = 32
CURVE_KEY_SIZE = 32
LIST_MARK_SIZE = 32

BROKER = bytes(IDENTIFIER_SIZE)  # as the peer of an envelope: the broker itself
NO_OWNER = bytes(IDENTIFIER_SIZE)
NO_ACCOUNT = bytes(IDENTIFIER_SIZE)

_SHOWN_KEY = 16  # hexadecimal digits


def device_id(public_key: bytes) -> bytes:
    """The 16-byte id of the device with this CURVE public key (32 bytes, raw)."""
    return hashlib.sha256(b"tessera/v1/device" + public_key).digest()[:IDENTIFIER_SIZE]


def account_id(public_key: bytes, device: bytes) -> bytes:
    """As whom a device (by its id) counts what a client (by its CURVE public key, 32 bytes) has stored there.

    One for each device, and none says whose it is to who does not know the key.
    """
    return hashlib.sha256(b"tessera/v1/account" + public_key + device).digest()[:IDENTIFIER_SIZE]


def shown_key(public_key: Union[bytes, str]) -> str:
    """How a member's public key (32 bytes, raw, or hexadecimal) is shown: by its beginning, in hexadecimal."""
    return (public_key if isinstance(public_key, str) else public_key.hex())[:_SHOWN_KEY]


def owner_id(owner_key: bytes) -> bytes:
    """The 16-byte id of the vault with this public signing key (32 bytes)."""
    return hashlib.sha256(b"tessera/v1/owner-id" + owner_key).digest()[:IDENTIFIER_SIZE]


def encoding_id(owner_key: bytes, nonce: bytes) -> bytes:
    """The 16-byte id of an encoding that this owner (public signing key, 32 bytes) made with a nonce of 16 bytes.

    So nobody else can commit anything under it.
    """
    return hashlib.sha256(b"tessera/v1/encoding-id" + owner_key + nonce).digest()[:IDENTIFIER_SIZE]
