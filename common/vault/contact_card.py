"""Contact cards: what one vault's owner hands to others, so that they can share with it or store for it.

    tessera-contact:<base32 of the content, lower case, without padding>

    content = version (2) ‖ owner key (32) ‖ public key (32) ‖ lookup key (32) ‖ name ‖ checksum (4)

Name is UTF-8, at most 64 bytes; checksum is the first 4 bytes of SHA-256(label ‖ all before it). The owner key
(Ed25519) names the vault, so that others can store for it; the public key (X25519) seals mappings that only the vault
opens; the lookup key names images for it. So a card lets nobody read, but whoever has it can fill the vault's devices,
and can test whether an image that they already know is shared with this vault where they also see the object ids: it is
not for the public.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import IntegrityError, ProtocolError, UsageError
from common.protocol.codec import pack, unpack
from common.protocol.identifiers import owner_id
from common.protocol.messages import MAX_GRANTS
from common.text import as_typed
from common.vault.keys import KEY_SIZE, VaultKey, object_id_by, snapshot_id_by

_PREFIX = "tessera-contact:"
_LABEL = b"tessera/v1/contact-card"
_VERSION = 2
_CHECKSUM_SIZE = 4
_MAX_TEXT = 512
MAX_NAME = 64  # bytes


@dataclass(frozen=True)
class ContactCard:
    owner_key: bytes
    public_key: bytes
    lookup_key: bytes = field(repr=False)
    name: str

    @property
    def owner(self) -> bytes:
        """The vault's owner id."""
        return owner_id(self.owner_key)

    def object_id(self, image_sha256: bytes) -> bytes:
        """The object id under which the vault finds an image with this SHA-256."""
        return object_id_by(self.lookup_key, image_sha256)

    def snapshot_object_id(self, sha256: bytes) -> bytes:
        """The same for a snapshot."""
        return snapshot_id_by(self.lookup_key, sha256)

    def recipient(self) -> X25519PublicKey:
        """The key to seal to."""
        return X25519PublicKey.from_public_bytes(self.public_key)

    def content(self) -> bytes:
        """The card's bytes, without checksum."""
        return bytes([_VERSION]) + self.owner_key + self.public_key + self.lookup_key + self.name.encode()

    def encode(self) -> str:
        """The line that is given to others."""
        content = self.content()
        return _PREFIX + _base32(content + _checksum(content))


def card_of(key: VaultKey, name: str) -> ContactCard:
    """A vault's own card; UsageError where the name is empty, too long or not printable."""
    public_key = key.contact_private_key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    require_name(name)
    return ContactCard(key.owner_key(), public_key, key.lookup_key(), name)


def require_name(name: str) -> None:
    """UsageError where a contact cannot have this name."""
    if not _is_name(name):
        raise UsageError(f"a contact's name has 1 to {MAX_NAME} bytes, all printable, and no space at its ends")


def decode_card(text: str) -> ContactCard:
    """Read a card as a person pasted it; UsageError (which never repeats it) where it has a fault."""
    refusal = UsageError(
        "this contact card is not complete or has a typing error",
        advice="paste the whole line that `admin.py contacts card` printed",
    )
    text = as_typed(text).strip()
    if len(text) > _MAX_TEXT or not text.lower().startswith(_PREFIX):
        raise refusal
    coded = text[len(_PREFIX) :]
    try:
        whole = base64.b32decode(coded + "=" * (-len(coded) % 8), casefold=True)
    except (ValueError, binascii.Error):
        raise refusal from None
    content, checksum = whole[:-_CHECKSUM_SIZE], whole[-_CHECKSUM_SIZE:]
    # The last character has bits to spare, which the checksum does not cover.
    if checksum != _checksum(content) or _base32(whole) != coded.lower():
        raise refusal
    try:
        return _card(content)
    except IntegrityError:
        raise refusal from None


def pack_cards(cards: list[ContactCard]) -> bytes:
    """Cards as a mapping keeps them: a msgpack array of their bytes."""
    return pack([card.content() for card in cards])


def unpack_cards(packed: bytes) -> list[ContactCard]:
    """Read them back; IntegrityError where they are not what `pack_cards` made."""
    try:
        contents = unpack(packed, _Contents)
    except ProtocolError:
        raise IntegrityError("a list of contact cards is damaged") from None
    return [_card(content) for content in contents]


_Contents = Annotated[list[bytes], msgspec.Meta(max_length=MAX_GRANTS)]


def _card(content: bytes) -> ContactCard:
    keys = [content[1 + index * KEY_SIZE : 1 + (index + 1) * KEY_SIZE] for index in range(3)]
    try:
        name = content[1 + 3 * KEY_SIZE :].decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if content[:1] != bytes([_VERSION]) or not _is_name(name):
        raise IntegrityError("this is no contact card of this version")
    return ContactCard(keys[0], keys[1], keys[2], name)


def _is_name(name: str) -> bool:
    return name.isprintable() and 1 <= len(name.encode("utf-8", "replace")) <= MAX_NAME and name == name.strip()


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode("ascii").rstrip("=").lower()


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(_LABEL + content).digest()[:_CHECKSUM_SIZE]
