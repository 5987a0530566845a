"""Which encodings are a vault's own, and by what right it deletes or changes them.

Own is what it stored itself, and what others left for it by its contact card: these lie under the name that shared ones
have too, and their mapping tells the right, since no key derives it.
"""

from __future__ import annotations

from typing import Optional

from common.protocol.messages import EncodingAt
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping


def is_own(key: VaultKey, encoding: EncodingAt, mapping: Mapping) -> bool:
    """Whether an encoding with this mapping is the vault's, and not another's that is shared with it."""
    return encoding.object_id == key.object_id(mapping.image_sha256) or mapping.delete_capability is not None


def delete_capability(key: VaultKey, mapping: Optional[Mapping], object_id: bytes, encoding_id: bytes) -> bytes:
    """The right to delete an encoding and to change what lies beside its shares; `mapping` as far as it is known."""
    told = None if mapping is None else mapping.delete_capability
    return told or key.delete_capability(object_id, encoding_id)
