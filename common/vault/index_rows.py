"""Rows of the vault's index (`index`): how each is sealed, and what it says. Format version 1.

    name       first 16 bytes of keyed BLAKE3-256(name key, table (1) ‖ what the row is found by)
    sealed     nonce (12, random) ‖ ciphertext ‖ tag (16), AES-256-GCM(row key, associated data: table (1) ‖ name)
    plaintext  length of the msgpack (4) ‖ msgpack ‖ zeros up to a multiple of 256

    row key, name key = HKDF-Expand(index subkey, "tessera/v1/index/rows" or "/names" ‖ salt)

The salt (32, random) is the file's own: two files have no row and no name in common. So the file tells how many rows
there are of which table and kind, about how long each is, and in which order they came. One key seals many rows: by
random nonces (NIST SP 800-38D, section 8.2.2) up to 2^32 of a file, which a vault of a million images is far from.
"""

from __future__ import annotations

import secrets
from typing import Any, Optional, TypeVar

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import IntegrityError
from common.facts import Facts
from common.protocol.codec import pack
from common.protocol.messages import EncodingAt, ShareAt
from common.vault.keys import expand
from common.vault.mapping import Kind, Mapping

SALT_SIZE = 32
NAME_SIZE = 16
_NONCE_SIZE = 12
_TAG_SIZE = 16
_LABEL = b"tessera/v1/index"
_STEP = 256  # bytes
_LENGTH_SIZE = 4

T = TypeVar("T")


class RowSealer:
    """Seals and names the rows of one index file."""

    def __init__(self, subkey: bytes, salt: bytes) -> None:
        """`subkey`: the vault key's `index`, 32 bytes; `salt`: the file's, 32 bytes."""
        self._cipher = AESGCM(expand(subkey, _LABEL + b"/rows" + salt))
        self._decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}  # made once, since many rows are alike
        self._name_key = expand(subkey, _LABEL + b"/names" + salt)

    def name(self, table: bytes, value: bytes) -> bytes:
        """The 16 bytes by which a row is found; `table`: one byte."""
        return blake3(table + value, key=self._name_key).digest(NAME_SIZE)

    def seal(self, table: bytes, name: bytes, content: object, nonce: Optional[bytes] = None) -> bytes:
        """The row of this name; `nonce`: for vectors only."""
        packed = pack(content)
        framed = len(packed).to_bytes(_LENGTH_SIZE, "big") + packed
        plaintext = framed.ljust(-(-len(framed) // _STEP) * _STEP, b"\0")
        nonce = nonce or secrets.token_bytes(_NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, plaintext, table + name)

    def open(self, table: bytes, name: bytes, sealed: bytes, shape: type[T]) -> T:
        """What the row of this name says; IntegrityError where it is damaged, or another row."""
        try:
            plaintext = self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], table + name)
            end = _LENGTH_SIZE + int.from_bytes(plaintext[:_LENGTH_SIZE], "big")
            found: T = self._decoder(shape).decode(plaintext[_LENGTH_SIZE:end])
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            raise IntegrityError("a row of the vault's index is damaged, or belongs elsewhere") from None
        return found

    def _decoder(self, shape: type[T]) -> msgspec.msgpack.Decoder[T]:
        decoder = self._decoders.get(shape)
        if decoder is None:
            decoder = self._decoders[shape] = msgspec.msgpack.Decoder(shape)
        return decoder


class KeptEncoding(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An encoding as the broker told it, without what changes by itself: which devices are connected."""

    encoding_id: bytes
    k: int
    n: int
    share_bytes: int
    granted: bool
    places: bytes  # of each share: its number (1), sound (1), device id (16)

    @classmethod
    def of(cls, encoding: EncodingAt) -> KeptEncoding:
        places = b"".join([bytes((each.share, each.sound)) + each.device_id for each in encoding.shares])
        return cls(encoding.encoding_id, encoding.k, encoding.n, encoding.share_bytes, encoding.granted, places)

    def at(self, object_id: bytes, alive: frozenset[bytes]) -> EncodingAt:
        """The encoding while these devices are connected."""
        shares = [
            ShareAt(places[0], places[2:], bool(places[1]), places[2:] in alive)
            for places in (self.places[start : start + 18] for start in range(0, len(self.places), 18))
        ]
        return EncodingAt(object_id, self.encoding_id, self.k, self.n, self.share_bytes, shares, self.granted)


class Described(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a mapping says of an object that people look for or look at; fields as there."""

    encoding_id: bytes  # of the mapping that said so
    kind: Kind
    image_sha256: bytes
    image_size: int
    name: str
    media_type: str
    width: Optional[int]
    height: Optional[int]
    stored_at: int
    facts: Optional[Facts]
    has_thumbnail: bool
    is_named_by_lookup: bool  # found under the object id of what others share or leave, not under the vault's own

    @classmethod
    def of(cls, mapping: Mapping, encoding_id: bytes, *, is_named_by_lookup: bool) -> Described:
        m = mapping
        return cls(
            encoding_id,
            m.kind,
            m.image_sha256,
            m.image_size,
            m.name,
            m.media_type,
            m.width,
            m.height,
            m.stored_at,
            m.facts,
            m.has_thumbnail,
            is_named_by_lookup,
        )

    @property
    def sha256(self) -> str:
        return self.image_sha256.hex()

    @property
    def taken_at(self) -> Optional[str]:
        """When it was taken, as its facts tell it."""
        return None if self.facts is None else self.facts.taken_at

    @property
    def date(self) -> int:
        """When it was taken, by the clock there, or else stored; seconds since 1970."""
        taken = None if self.facts is None else self.facts.seconds
        return self.stored_at if taken is None else taken


class ObjectRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An object of the vault: where it lies, and what it is as soon as that is known."""

    object_id: bytes
    encodings: list[KeptEncoding]
    described: Optional[Described]
    paths: list[bytes] = []  # of an image, in the newest snapshots (`VaultIndex.keep_paths`)


class MappingRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A mapping as it lies beside a share."""

    object_id: bytes
    encoding_id: bytes
    sealed: bytes


class SeenRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A file that was stored, but for its path (`stamp`)."""

    size: int
    modified: int
    changed: Optional[int]
    inode: int
    sha256: bytes
