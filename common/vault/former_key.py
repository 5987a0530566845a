"""The vault key before, sealed under the one that takes its place, while a rotation is under way.

    offset  bytes
         0      8  magic "TESSFORM"
         8      2  version, 1
        10     32  salt, random
        42     32  commitment to the new vault key
        74     48  the former vault key ‖ tag, AES-256-GCM
       122     32  SHA-256 of all before it

One-time key and commitment are HKDF-Expand (RFC 5869, section 2.3) of the new key's `former` subkey, info = label ‖
salt; magic and version are the associated data. The digest tells damage from a file of another key: such a one is left
where a rotation was interrupted before its new key was kept, and means nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from typing import Optional

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq

from common.errors import IntegrityError
from common.vault.keys import KEY_SIZE, VaultKey, expand

_MAGIC = b"TESSFORM"
_VERSION = 1
_KEY_LABEL = b"tessera/v1/former/key"
_COMMITMENT_LABEL = b"tessera/v1/former/commitment"
_PREFIX = struct.Struct(">8sH")
_HEADER = struct.Struct(">8sH32s32s")
_SALT_SIZE = 32
_DIGEST_SIZE = 32
_NONCE = bytes(12)  # each one-time key seals once
SIZE = _HEADER.size + KEY_SIZE + 16 + _DIGEST_SIZE


def seal_former_key(key: VaultKey, former: VaultKey) -> bytes:
    """The former vault key, for whoever has the new `key`."""
    salt = secrets.token_bytes(_SALT_SIZE)
    header = _HEADER.pack(_MAGIC, _VERSION, salt, expand(key.former_subkey(), _COMMITMENT_LABEL + salt))
    cipher = AESGCM(expand(key.former_subkey(), _KEY_LABEL + salt))
    content = header + cipher.encrypt(_NONCE, former.reveal(), header[: _PREFIX.size])
    return content + hashlib.sha256(content).digest()


def open_former_key(key: VaultKey, content: bytes) -> Optional[VaultKey]:
    """The former vault key; None where it was sealed under another key. IntegrityError where it is damaged."""
    damaged = IntegrityError(
        "the former vault key is damaged",
        advice="bring the vault back from a copy made before the rotation, in a home of its own, and rotate it there",
    )
    body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if len(content) != SIZE or not bytes_eq(hashlib.sha256(body).digest(), digest):
        raise damaged
    magic, version, salt, commitment = _HEADER.unpack_from(body)
    if magic != _MAGIC:
        raise damaged
    if version != _VERSION:
        raise IntegrityError(
            f"the former vault key has format version {version}, this program reads version {_VERSION}",
            advice="update Tessera",
        )
    if not bytes_eq(expand(key.former_subkey(), _COMMITMENT_LABEL + salt), commitment):
        return None
    cipher = AESGCM(expand(key.former_subkey(), _KEY_LABEL + salt))
    try:
        return VaultKey(cipher.decrypt(_NONCE, body[_HEADER.size :], body[: _PREFIX.size]))
    except InvalidTag:
        raise damaged from None
