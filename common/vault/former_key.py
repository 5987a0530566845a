"""The former vault key, sealed under the new one, while a rotation is under way.

    offset  bytes
         0      8  magic "TESSFORM"
         8      2  version, 1
        10     32  salt, random
        42     32  commitment to the new vault key
        74     48  the former vault key ‖ tag, AES-256-GCM
       122     32  SHA-256 of all before it

Sealed under a one-time key of the new key's `former` subkey (`one_time`); magic and version are the associated data.
The digest tells damage from a file of another key, which a rotation leaves that was interrupted before its new key was
kept; that one is ignored.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Optional

from cryptography.hazmat.primitives.constant_time import bytes_eq

from common.errors import IntegrityError, RefusedError
from common.vault.keys import KEY_SIZE, VaultKey
from common.vault.one_time import COMMITTED_OVERHEAD, open_committed, seal_committed

_MAGIC = b"TESSFORM"
_VERSION = 1
_LABEL = b"tessera/v1/former"
_PREFIX = struct.Struct(">8sH")
_DIGEST_SIZE = 32
SIZE = _PREFIX.size + COMMITTED_OVERHEAD + KEY_SIZE + _DIGEST_SIZE


def seal_former_key(key: VaultKey, former: VaultKey) -> bytes:
    """The former vault key, for whoever has the new `key`."""
    prefix = _PREFIX.pack(_MAGIC, _VERSION)
    content = prefix + seal_committed(key.former_subkey(), _LABEL, former.reveal(), prefix)
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
    magic, version = _PREFIX.unpack_from(body)
    if magic != _MAGIC:
        raise damaged
    if version != _VERSION:
        raise IntegrityError(
            f"the former vault key has format version {version}, this program reads version {_VERSION}",
            advice="update Tessera",
        )
    prefix, sealed = body[: _PREFIX.size], body[_PREFIX.size :]
    try:
        return VaultKey(open_committed(key.former_subkey(), _LABEL, sealed, prefix))
    except RefusedError:
        return None
    except IntegrityError:
        raise damaged from None
