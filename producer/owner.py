"""Whom images are stored for: this machine's own vault, or another's, of which only the contact card is known.

For its own vault a machine looks up what is stored already, remembers what it has seen, and goes on with what was
interrupted. For another it can store, and nothing else: what it has sealed to the card it cannot open again, and the
broker answers it no question about that vault. So a camera needs a card and no key, and whoever takes it reads nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Optional, Protocol

import msgspec

from common.home import ClientIdentity
from common.link.link import Link
from common.process.events import Emit
from common.vault.contact_card import ContactCard
from common.vault.folder import VaultFolder
from common.vault.granting import seal_to_card
from common.vault.journal import Journals
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, seal_mapping
from common.vault.seen import SeenFiles
from common.vault.stamp import Stamp

_CAPABILITY_SIZE = 32


@dataclass(frozen=True)
class SealedMapping:
    """A mapping as it lies beside every share, for which object, and the right to delete that."""

    object_id: bytes
    mapping: bytes
    delete_capability: bytes = field(repr=False)

    @property
    def delete_hash(self) -> bytes:
        return hashlib.sha256(self.delete_capability).digest()


class Owner(Protocol):
    """Whom images are stored for."""

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        """The way to the cluster, with the rights that this machine has for the owner."""

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        """Seal a mapping so that the owner, and nobody else, opens it."""


class OtherVault:
    """A contact's vault: images are left there, with the right to delete them."""

    def __init__(self, card: ContactCard) -> None:
        self._card = card

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        return Link(identity, None, deposit_token=self._card.deposit_token, emit=emit)

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        capability = secrets.token_bytes(_CAPABILITY_SIZE)
        left = msgspec.structs.replace(mapping, delete_capability=capability)
        object_id = self._card.object_id(mapping.image_sha256)
        sealed = seal_to_card(self._card, left, encoding_id)
        return SealedMapping(object_id, sealed, capability)


class OwnVault:
    """The vault whose key is on this machine, and what the machine remembers of storing for it."""

    def __init__(self, vault: VaultFolder, key: VaultKey) -> None:
        self.journals = Journals(vault.folder, key)
        self._vault = vault
        self._key = key
        self._seen = SeenFiles(vault.folder, key)

    def link(self, identity: ClientIdentity, emit: Emit) -> Link:
        return Link(identity, self._key.owner_token(), emit=emit)

    def object_id(self, image_sha256: bytes) -> bytes:
        return self._key.object_id(image_sha256)

    def seal(self, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
        sealed = seal_mapping(self._key, mapping, self.object_id(mapping.image_sha256), encoding_id)
        return self.sealed_before(mapping.image_sha256, encoding_id, sealed)

    def sealed_before(self, image_sha256: bytes, encoding_id: bytes, mapping: bytes) -> SealedMapping:
        """The same of a mapping that a put had sealed before it was interrupted."""
        object_id = self.object_id(image_sha256)
        return SealedMapping(object_id, mapping, self._key.delete_capability(object_id, encoding_id))

    # --- what this machine remembers

    def seen(self, stamp: Optional[Stamp]) -> bytes:
        """The SHA-256 of a file seen before; empty where it was not."""
        return b"" if stamp is None else self._seen.sha256_of(stamp)

    def resembles_seen(self, stamp: Stamp) -> bool:
        """Whether a file of this path and size was seen before."""
        return self._seen.resembles(stamp)

    def remember(self, stamp: Optional[Stamp], sha256: bytes) -> None:
        if stamp is not None:
            self._seen.add(stamp, sha256)

    def keep_mapping(self, sealed: SealedMapping, encoding_id: bytes) -> None:
        self._vault.keep_mapping(sealed.object_id, encoding_id, sealed.mapping)

    def save(self) -> None:
        """To be called once, when all is stored or given up. OSError where it could not be kept."""
        self._seen.save()
