"""The mapping: the secret part of an encoding, and how it is sealed. Format version 1.

    offset  bytes
         0      8  magic "TESSMAP\\0"
         8      2  version, 1
        10     32  salt, random
        42     32  commitment
        74         ciphertext ‖ tag (16), AES-256-GCM

Integers are big-endian. Sealing: a one-time key of the mapping subkey, and a commitment to it (`one_time`), so that a
mapping opens under one vault key only; the associated data are magic, version, object id, encoding id. The plaintext is
the length (4 bytes) of the msgpack that follows, the msgpack, and zeros up to a power of two, at least 1024: its size
tells next to nothing about the name and the thumbnail.

Opening checks shape, then commitment, then tag, then every field and how they agree. The name is still untrusted text,
which is made safe where it becomes a path.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, Optional

import msgpack
import msgspec
from cryptography.hazmat.primitives.constant_time import bytes_eq
from msgspec import Meta

from common.errors import IntegrityError, RefusedError, TesseraError, UsageError
from common.facts import Facts, fault_of
from common.vault.keys import VaultKey, require_ids
from common.vault.one_time import COMMITTED_OVERHEAD, open_committed, seal_committed

MAGIC = b"TESSMAP\0"
VERSION = 1
LABEL = b"tessera/v1/mapping"
TREE: Literal["tree"] = "tree"  # `common.vault.tree`
SNAPSHOT: Literal["snapshot"] = "snapshot"  # `common.vault.snapshot`
PRUNE: Literal["prune"] = "prune"  # `common.vault.prune_plan`
UNKNOWN_MEDIA_TYPE = "application/octet-stream"
MAX_SEALED_MAPPING = 32 * 1024
MAX_THUMBNAIL = 8 * 1024
MAX_NAME = 1024  # characters
MAX_MEDIA_TYPE = 100  # characters
MAX_SHARED_WITH = 8 * 1024

_PREFIX = struct.Struct(">8sH")
_LENGTH = struct.Struct(">I")
_MIN_PLAINTEXT = 1024
_LEFT_OUT = ("facts", "revision", "shared_with", "kind", "kept")  # where they are None

_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Shares = Annotated[int, Meta(ge=2, le=64)]
Kind = Optional[Literal["tree", "snapshot", "prune"]]  # None of an image
_Pixels = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, weakref=True):
    """What the owner of an encoding knows of it, and nobody else.

    data_key, image_sha256, recipe_digest: 32 bytes each. image_size: bytes. segment_size: plaintext bytes of
    every segment but the last. width, height: pixels. thumbnail: a small encoded image, at most 8 KiB.
    stored_at: seconds since 1970, UTC. name: as the producer found it, at most 1024 characters, never to be
    trusted as a path. facts: what the image tells of itself, where it tells any. revision: of the commitment that it
    is part of, where that was amended. shared_with: the contact cards that it was sealed to as well
    (`contact_card.pack_cards`). kind: what it is where it is no image; a remark, which nothing is believed for but a
    snapshot's object id. kept: an image that was stored without a snapshot, so that a prune leaves it. What is None of
    these five is not written.
    """

    data_key: _Digest
    image_sha256: _Digest
    image_size: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    segment_count: _Count
    segment_size: Annotated[int, Meta(ge=1, le=2**30)]
    k: _Shares
    n: _Shares
    recipe_digest: _Digest
    name: Annotated[str, Meta(max_length=MAX_NAME)]
    media_type: Annotated[str, Meta(max_length=MAX_MEDIA_TYPE)] = UNKNOWN_MEDIA_TYPE
    width: Optional[_Pixels] = None
    height: Optional[_Pixels] = None
    thumbnail: Optional[Annotated[bytes, Meta(max_length=MAX_THUMBNAIL)]] = None
    stored_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    facts: Optional[Facts] = None
    revision: Optional[Annotated[int, Meta(ge=2, le=2**53 - 1)]] = None
    shared_with: Optional[Annotated[bytes, Meta(min_length=1, max_length=MAX_SHARED_WITH)]] = None
    kind: Kind = None
    kept: Optional[bool] = None  # never False: older msgspec knows no Literal[True]

    @property
    def taken_at(self) -> Optional[str]:
        """When it was taken, as its facts tell it."""
        return None if self.facts is None else self.facts.taken_at

    @property
    def has_thumbnail(self) -> bool:
        return self.thumbnail is not None

    def __repr__(self) -> str:
        return f"<Mapping: {self.k} of {self.n}, contents hidden>"

    # rich would print every field, in a traceback with locals too.
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("k", self.k), ("n", self.n)]

    def __reduce__(self) -> NoReturn:
        raise TesseraError("a mapping is not pickled: it leaves memory only sealed")


def own_object_id(key: VaultKey, mapping: Mapping) -> bytes:
    """The 32-byte object id of what a mapping describes, as the vault's own."""
    if mapping.kind == PRUNE:
        return key.prune_object_id()
    name = key.snapshot_object_id if mapping.kind == SNAPSHOT else key.object_id
    return name(mapping.image_sha256)


def granted_object_id(key: VaultKey, mapping: Mapping) -> bytes:
    """The same as shared with the vault, or left for it."""
    name = key.granted_snapshot_object_id if mapping.kind == SNAPSHOT else key.granted_object_id
    return name(mapping.image_sha256)


def seal_mapping(key: VaultKey, mapping: Mapping, object_id: bytes, encoding_id: bytes) -> bytes:
    """The mapping sealed for its object id (32 bytes) and encoding id (16), at most MAX_SEALED_MAPPING bytes.

    UsageError where a field is out of its limits or two contradict each other; TesseraError where the object id
    is not that of the mapping's image.
    """
    associated = _associated_data(object_id, encoding_id)
    plaintext = pack_mapping(mapping)
    if not bytes_eq(own_object_id(key, mapping), object_id):
        raise TesseraError("a mapping was to be sealed under the object id of another image")
    return _PREFIX.pack(MAGIC, VERSION) + seal_committed(key.mapping_subkey(), LABEL, plaintext, associated)


@dataclass(frozen=True)
class SealedMapping:
    """A mapping as it lies beside every share, and for which object."""

    object_id: bytes
    mapping: bytes


def seal_own(key: VaultKey, mapping: Mapping, encoding_id: bytes) -> SealedMapping:
    """A mapping sealed as the vault's own; errors as of `seal_mapping`."""
    object_id = own_object_id(key, mapping)
    return SealedMapping(object_id, seal_mapping(key, mapping, object_id, encoding_id))


def open_mapping(key: VaultKey, sealed: bytes, object_id: bytes, encoding_id: bytes) -> Mapping:
    """The mapping that was sealed for this object id (32 bytes) and encoding id (16).

    RefusedError where it was sealed under another vault key; IntegrityError where it is damaged, belongs to
    another object or encoding, or its fields contradict each other.
    """
    associated = _associated_data(object_id, encoding_id)
    _check_shape(sealed)
    try:
        plaintext = open_committed(key.mapping_subkey(), LABEL, sealed[_PREFIX.size :], associated)
    except RefusedError:
        raise RefusedError(
            "the mapping was sealed with another vault key", advice="check which vault's key file is in use"
        ) from None
    except IntegrityError:
        raise IntegrityError("the mapping is damaged, or belongs to another object or encoding") from None
    mapping = read_mapping(plaintext)
    if not bytes_eq(own_object_id(key, mapping), object_id):
        raise IntegrityError("the mapping describes another image than the one it is kept for")
    return mapping


def _associated_data(object_id: bytes, encoding_id: bytes) -> bytes:
    require_ids(object_id, encoding_id)
    return _PREFIX.pack(MAGIC, VERSION) + object_id + encoding_id


def _check_shape(sealed: bytes) -> None:
    if len(sealed) < _PREFIX.size or not sealed.startswith(MAGIC):
        raise IntegrityError("this is not a sealed mapping")
    _, version = _PREFIX.unpack_from(sealed)
    if version != VERSION:
        raise IntegrityError(
            f"the mapping has format version {version}, this program reads version {VERSION}",
            advice="update Tessera",
        )
    if not is_padded_size(len(sealed) - _PREFIX.size - COMMITTED_OVERHEAD) or len(sealed) > MAX_SEALED_MAPPING:
        raise IntegrityError(f"a sealed mapping never has {len(sealed)} bytes: it is damaged")


def is_padded_size(size: int) -> bool:
    """Whether a mapping's plaintext can have so many bytes."""
    return size >= _MIN_PLAINTEXT and not size & (size - 1)


def pack_mapping(mapping: Mapping) -> bytes:
    """A mapping's plaintext, padded, always the same; UsageError where its fields are no mapping's.

    Secret: for what seals it only.
    """
    fields = _fields(mapping)
    _parse(fields, UsageError)
    return _framed(fields)


def _fields(mapping: Mapping) -> dict[str, Any]:
    fields = msgspec.structs.asdict(mapping)
    if mapping.facts is not None:
        told = msgspec.structs.asdict(mapping.facts)
        fields["facts"] = {name: value for name, value in told.items() if value is not None}
    return fields


def _framed(fields: dict[str, Any]) -> bytes:
    fields = {name: value for name, value in fields.items() if value is not None or name not in _LEFT_OUT}
    body: bytes = msgpack.packb(fields)
    framed = _LENGTH.pack(len(body)) + body
    size = max(_MIN_PLAINTEXT, 1 << (len(framed) - 1).bit_length())
    return framed.ljust(size, b"\0")


def read_mapping(plaintext: bytes) -> Mapping:
    """The mapping of what was opened; IntegrityError where it is not what `pack_mapping` makes."""
    if len(plaintext) < _LENGTH.size:
        raise IntegrityError("a mapping is not sound: it is too short")
    (length,) = _LENGTH.unpack_from(plaintext)
    mapping = _parse(_unpack(plaintext[_LENGTH.size : _LENGTH.size + length]), IntegrityError)
    # One mapping has one plaintext: this checks length, padding, and how msgpack wrote the fields.
    if _framed(_fields(mapping)) != plaintext:
        raise IntegrityError("a mapping is not sound: it is written in another way than it should be")
    return mapping


def _unpack(body: bytes) -> object:
    """What the msgpack says, or None, which is no mapping either, when it does not read."""
    try:
        return msgpack.unpackb(
            body,
            max_str_len=4 * MAX_NAME,
            max_bin_len=MAX_THUMBNAIL,
            max_array_len=0,
            max_map_len=len(Mapping.__struct_fields__),
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException):
        # Nothing is raised in the handler: msgpack's exceptions hold what they had read, the data key too.
        return None


def _parse(fields: object, error: type[TesseraError]) -> Mapping:
    """The fields as a mapping; otherwise `error`, with what is wrong and nothing secret."""
    try:
        # Without builtin_types, msgspec would take text for bytes and read it as base64.
        mapping = msgspec.convert(fields, Mapping, builtin_types=(bytes,))
    except msgspec.ValidationError as invalid:
        raise error(f"a mapping is not sound: {invalid}") from None
    fault = _fault(mapping)
    if fault is not None:
        raise error(f"a mapping is not sound: {fault}")
    return mapping


def _fault(mapping: Mapping) -> Optional[str]:
    """How fields contradict each other that are each valid."""
    if mapping.k > mapping.n:
        return f"k = {mapping.k} is more than n = {mapping.n}"
    # An empty image has one segment, which is empty.
    if mapping.segment_count != max(1, -(-mapping.image_size // mapping.segment_size)):
        return "its sizes and its number of segments disagree"
    if mapping.kept is False:
        return "what is not kept has no such field"
    if not (_is_unicode(mapping.name) and _is_unicode(mapping.media_type)):
        return "its name or media type is not valid Unicode"
    return None if mapping.facts is None else fault_of(mapping.facts)


def _is_unicode(text: str) -> bool:
    # A file name that is not valid in the system's encoding reaches Python with lone surrogates.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
