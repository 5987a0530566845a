"""What the vectors are made of: fixed keys, HKDF by hand, the shape of a vector.

All of it, with the four modules beside it, is a second implementation, on purpose: it shares no code with
common/vault, so that a mistake there is not repeated here, and takes salts and nonces as arguments, which
production code never does.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Vector = dict[str, Any]

VAULT_KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
DATA_KEY = bytes(range(64, 96))
ENCODING_ID = bytes(range(16))
OTHER_ENCODING_ID = bytes(range(1, 17))
IMAGE = b"a tile of a mosaic"
IMAGE_SHA256 = hashlib.sha256(IMAGE).digest()
SALT = bytes(range(160, 192))
NONCE = bytes(range(100, 112))
PASSPHRASE = "correct horse battery staple"


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand of one block: RFC 5869, section 2.3, with L = 32."""
    return hmac.digest(key, info + b"\x01", "sha256")


def signing_key(vault_key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(expand(vault_key, b"tessera/v1/sign"))


def owner_key(vault_key: bytes) -> bytes:
    return signing_key(vault_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def flipped(data: bytes, offset: int) -> bytes:
    """`data` with the lowest bit of one byte flipped."""
    changed = bytearray(data)
    changed[offset] ^= 1
    return bytes(changed)


def vector(name: str, expect: str, **inputs: Any) -> Vector:
    shown = {key: value.hex() if isinstance(value, bytes) else value for key, value in inputs.items()}
    return {"name": name, "expect": expect, **shown}


def object_id(vault_key: bytes = VAULT_KEY, image_sha256: bytes = IMAGE_SHA256) -> bytes:
    return hmac.digest(expand(vault_key, b"tessera/v1/id"), image_sha256, "sha256")


def snapshot_object_id(vault_key: bytes = VAULT_KEY, sha256: bytes = IMAGE_SHA256) -> bytes:
    key = expand(expand(vault_key, b"tessera/v1/id"), b"tessera/v1/snapshot")
    half = hmac.digest(key, sha256, "sha256")[:16]
    return half + hmac.digest(key, half, "sha256")[:16]


def prune_object_id(vault_key: bytes = VAULT_KEY, _: bytes = IMAGE_SHA256) -> bytes:
    return hmac.digest(expand(vault_key, b"tessera/v1/id"), b"tessera/v1/prune", "sha256")
