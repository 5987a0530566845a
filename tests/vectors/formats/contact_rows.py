"""Contact cards, mappings sealed to one, and the vault key before: HPKE (RFC 9180) by hand, as it is in the RFC."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.vault.mapping_vectors import plaintext_of
from tests.vectors.vault.reference import (
    ENCODING_ID,
    IMAGE_SHA256,
    OTHER_ENCODING_ID,
    OTHER_KEY,
    SALT,
    VAULT_KEY,
    expand,
    flipped,
    owner_key,
)

_KEM = b"KEM\x00\x20"  # DHKEM(X25519, HKDF-SHA256)
_SUITE = b"HPKE\x00\x20\x00\x01\x00\x02"  # with HKDF-SHA256 and AES-256-GCM
_EPHEMERAL = X25519PrivateKey.from_private_bytes(bytes(range(128, 160)))


def contact_rows() -> list[Row]:
    return [*cards(), *sealed_to_cards(), *former_keys()]


# --- cards


def contact_key(vault_key: bytes = VAULT_KEY) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(expand(vault_key, b"tessera/v1/contact"))


def raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def card_content(name: bytes = b"Ann", version: int = 2) -> bytes:
    keys = owner_key(VAULT_KEY) + raw(contact_key().public_key()) + expand(VAULT_KEY, b"tessera/v1/lookup")
    return bytes([version]) + keys + name


def card(content: bytes) -> bytes:
    whole = content + hashlib.sha256(b"tessera/v1/contact-card" + content).digest()[:4]
    return b"tessera-contact:" + base64.b32encode(whole).rstrip(b"=").lower()


def cards() -> list[Row]:
    line = card(card_content())

    def row(name: str, data: bytes) -> Row:
        return bad("contact card", name, data, "UsageError", "not complete or has a typing error")

    return [
        good("contact card", "as it should be", line),
        good("contact card", "in capitals, with space around", b"  " + line.upper() + b"\n"),
        row("empty", b""),
        row("an invite", b"tessera-client-" + line[16:]),
        row("last character missing", line[:-1]),
        row("one character behind", line + b"a"),
        row("a character changed", line[:40] + (b"a" if line[40:41] != b"a" else b"b") + line[41:]),
        row("no base32", line[:40] + b"1" + line[41:]),
        row("the version before", card(card_content(version=1))),
        row("a later version", card(card_content(version=3))),
        row("without a name", card(card_content(name=b""))),
        row("a name of 65 bytes", card(card_content(name=b"a" * 65))),
        row("a name that is no Unicode", card(card_content(name=b"\xff"))),
        row("a name that cannot be printed", card(card_content(name=b"a\nb"))),
        row("a name with space at its end", card(card_content(name=b"Ann "))),
        row("a key missing", card(card_content()[:90])),
    ]


# --- what is sealed to one


def _extract(salt: bytes, label: bytes, secret: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")


def _expand(secret: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    return expand(secret, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info)[:length]


def hpke(plaintext: bytes, recipient: X25519PublicKey, info: bytes) -> bytes:
    """Base mode: encapsulated key ‖ ciphertext ‖ tag. RFC 9180, sections 4.1, 5.1 and 5.2."""
    encapsulated = raw(_EPHEMERAL.public_key())
    agreed = _extract(b"", b"eae_prk", _EPHEMERAL.exchange(recipient), _KEM)
    shared = _expand(agreed, b"shared_secret", encapsulated + raw(recipient), 32, _KEM)
    context = b"\x00" + _extract(b"", b"psk_id_hash", b"", _SUITE) + _extract(b"", b"info_hash", info, _SUITE)
    secret = _extract(shared, b"secret", b"", _SUITE)
    key, nonce = _expand(secret, b"key", context, 32, _SUITE), _expand(secret, b"base_nonce", context, 12, _SUITE)
    return encapsulated + AESGCM(key).encrypt(nonce, plaintext, b"")


def granted_object_id() -> bytes:
    return hmac.digest(expand(VAULT_KEY, b"tessera/v1/lookup"), IMAGE_SHA256, "sha256")


def sealed_to_card(plaintext: bytes, magic: bytes = b"TESSCARD", version: int = 1) -> bytes:
    info = b"tessera/v1/contact/mapping" + granted_object_id() + ENCODING_ID
    return magic + version.to_bytes(2, "big") + hpke(plaintext, contact_key().public_key(), info)


def sealed_to_cards() -> list[Row]:
    sealed = sealed_to_card(plaintext_of())
    place: dict[str, Any] = {"vault_key": VAULT_KEY, "object_id": granted_object_id(), "encoding_id": ENCODING_ID}
    other = "sealed to another contact card, or is damaged"

    def row(name: str, data: bytes, error: str, words: str, **changed: Any) -> Row:
        return bad("mapping sealed to a card", name, data, error, words, **{**place, **changed})

    def holding(name: str, words: str, **fields: Any) -> Row:
        return row(name, sealed_to_card(plaintext_of(**fields)), "IntegrityError", words)

    return [
        good("mapping sealed to a card", "as it should be", sealed, **place),
        row("a later version", sealed_to_card(plaintext_of(), version=2), "IntegrityError", "format version 2"),
        row("last byte missing", sealed[:-1], "IntegrityError", "never has 1081 bytes"),
        row("one byte behind", sealed + b"\0", "IntegrityError", "never has 1083 bytes"),
        row("encapsulated key changed", flipped(sealed, 10), "RefusedError", other),
        row("ciphertext changed", flipped(sealed, 42), "RefusedError", other),
        row("tag changed", flipped(sealed, -1), "RefusedError", other),
        row("another vault key", sealed, "RefusedError", other, vault_key=OTHER_KEY),
        row("another encoding", sealed, "RefusedError", other, encoding_id=OTHER_ENCODING_ID),
        row("another object", sealed, "RefusedError", other, object_id=bytes(32)),
        holding("of another image", "another image than the one", image_sha256=bytes(32)),
        holding("data key of 31 bytes", "a mapping is not sound", data_key=bytes(31)),
    ]


# --- the vault key before


def former_key(magic: bytes = b"TESSFORM", version: int = 1, *, bound: bool = True) -> bytes:
    """OTHER_KEY, sealed under VAULT_KEY."""
    subkey, prefix = expand(VAULT_KEY, b"tessera/v1/former"), magic + version.to_bytes(2, "big")
    cipher = AESGCM(expand(subkey, b"tessera/v1/former/key" + SALT))
    sealed = cipher.encrypt(bytes(12), OTHER_KEY, prefix if bound else b"")
    return with_digest(prefix + SALT + expand(subkey, b"tessera/v1/former/commitment" + SALT) + sealed)


def with_digest(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def former_keys() -> list[Row]:
    file, damaged = former_key(), "the former vault key is damaged"

    def row(name: str, data: bytes, words: str = damaged) -> Row:
        return bad("former vault key", name, data, "IntegrityError", words, vault_key=VAULT_KEY)

    return [
        good("former vault key", "as it should be", file, vault_key=VAULT_KEY, former_key=OTHER_KEY),
        good("former vault key", "of another vault key", file, vault_key=OTHER_KEY),
        row("empty", b""),
        row("last byte missing", file[:-1]),
        row("one byte behind", file + b"\0"),
        row("a byte changed", flipped(file, 80)),
        row("another magic", former_key(magic=b"TESSKEY\0")),
        row("a later version", former_key(version=2), "format version 2, this program reads version 1"),
        row("sealed key changed", with_digest(flipped(file[:-32], 80))),
        row("header not bound", former_key(bound=False)),
    ]
