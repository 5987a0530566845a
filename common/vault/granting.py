"""Mappings that are sealed to a contact card, and opening whichever kind there is.

    offset  bytes
         0      8  magic "TESSCARD"
         8      2  version, 1
        10         HPKE (RFC 9180, base mode): encapsulated key (32) ‖ ciphertext ‖ tag (16)

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; info = label ‖ object id ‖ encoding id, so that a mapping
opens for this object and encoding only. The plaintext is that of any mapping, padded alike. The object id is the one of
the card's lookup key. Base mode does not authenticate who sealed it.
"""

from __future__ import annotations

import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from common.errors import IntegrityError, RefusedError
from common.protocol.device_messages import Grant
from common.vault.contact_card import ContactCard
from common.vault.keys import VaultKey, require_ids
from common.vault.mapping import (
    MAX_SEALED_MAPPING,
    SNAPSHOT,
    Mapping,
    granted_object_id,
    is_padded_size,
    open_mapping,
    pack_mapping,
    read_mapping,
)

MAGIC = b"TESSCARD"
VERSION = 1
LABEL = b"tessera/v1/contact/mapping"
_PREFIX = struct.Struct(">8sH")
_OVERHEAD = _PREFIX.size + 32 + 16


def seal_to_card(card: ContactCard, mapping: Mapping, encoding_id: bytes) -> bytes:
    """The mapping sealed for the card's owner, without the cards of others that it is shared with."""
    mapping = msgspec.structs.replace(mapping, revision=None, shared_with=None)
    information = _information(card_object_id(card, mapping), encoding_id)
    sealed = _suite().encrypt(pack_mapping(mapping), card.recipient(), information)
    return _PREFIX.pack(MAGIC, VERSION) + sealed


def card_object_id(card: ContactCard, mapping: Mapping) -> bytes:
    """The 32-byte object id under which the card's owner finds what a mapping describes."""
    name = card.snapshot_object_id if mapping.kind == SNAPSHOT else card.object_id
    return name(mapping.image_sha256)


def grant_to(card: ContactCard, mapping: Mapping, encoding_id: bytes) -> Grant:
    """What lets the card's owner find and read an encoding of another's."""
    return Grant(card.owner, card_object_id(card, mapping), seal_to_card(card, mapping, encoding_id))


def open_any(key: VaultKey, sealed: bytes, object_id: bytes, encoding_id: bytes) -> Mapping:
    """A mapping that was sealed under this vault key, or to this vault's card.

    RefusedError where it was sealed for another; IntegrityError where it is damaged.
    """
    if not sealed.startswith(MAGIC):
        return open_mapping(key, sealed, object_id, encoding_id)
    _check_shape(sealed)
    information = _information(object_id, encoding_id)
    try:
        plaintext = _suite().decrypt(sealed[_PREFIX.size :], key.contact_private_key(), information)
    except (InvalidTag, ValueError):
        raise RefusedError(
            "the mapping was sealed to another contact card, or is damaged",
            advice="check which vault's key file is in use",
        ) from None
    mapping = read_mapping(plaintext)
    if not bytes_eq(granted_object_id(key, mapping), object_id):
        raise IntegrityError("the mapping describes another image than the one it is kept for")
    return mapping


def _check_shape(sealed: bytes) -> None:
    if len(sealed) > MAX_SEALED_MAPPING or not is_padded_size(len(sealed) - _OVERHEAD):
        raise IntegrityError(f"a mapping sealed to a card never has {len(sealed)} bytes: it is damaged")
    _, version = _PREFIX.unpack_from(sealed)
    if version != VERSION:
        raise IntegrityError(
            f"the mapping has format version {version}, this program reads version {VERSION}",
            advice="update Tessera",
        )


def _information(object_id: bytes, encoding_id: bytes) -> bytes:
    require_ids(object_id, encoding_id)
    return LABEL + object_id + encoding_id


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
