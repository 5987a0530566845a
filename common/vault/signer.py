"""Who commits encodings, and for whom: the vault's owner, or who leaves images for one.

What is left for a vault is its depositor's by its encoding id, and given to the vault's owner with the first commitment
already; it counts for the owner's own only once the owner has signed it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from common.protocol.device_messages import Transfer
from common.protocol.identifiers import IDENTIFIER_SIZE, encoding_id
from common.vault.keys import SigningKey, VaultKey, expand

_DEPOSITOR = b"tessera/v1/depositor"


@dataclass(frozen=True)
class Signer:
    key: SigningKey
    owner: bytes  # the id of whose the encodings are

    def new_encoding(self) -> tuple[bytes, bytes]:
        """A nonce, and the id of the encoding that it makes."""
        nonce = secrets.token_bytes(IDENTIFIER_SIZE)
        return nonce, encoding_id(self.key.public, nonce)

    def transfers(self, encoding_id: bytes) -> list[Transfer]:
        """What gives an encoding to its owner, where that is another."""
        return [] if self.key.owner == self.owner else [self.key.transfer(encoding_id, self.owner)]


def owner_signer(key: VaultKey) -> Signer:
    """Of what a vault's owner stores."""
    return Signer(key.signing_key(), key.owner_id())


def depositor(client_secret: bytes, owner: bytes) -> Signer:
    """Of what a client, known by its CURVE secret key (32 bytes), leaves for another's vault."""
    return Signer(SigningKey(expand(client_secret, _DEPOSITOR)), owner)
