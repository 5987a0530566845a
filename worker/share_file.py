"""The format of a share's file: a sequence of msgpack objects, which any msgpack reader can read.

    header    array ["tessera-share", 3, encoding id, share, k, n, block size]
    record    array [segment, digest, block]      one for each segment, in the order in which blocks came
    trailer   array [signed commitment, [offset of each segment's block]]
    footer    bin of 48 bytes: u64 offset of the trailer ‖ BLAKE3-256 of header and trailer ‖ "TSHREND1"

The footer has a fixed length and is found from the end. The recipe in the commitment names every block's digest, so
header, trailer and footer together authenticate the whole file. All of the commitment but the recipe may be superseded
by an amendment (`amendments`). A file without a footer is a share that was never committed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, Optional

import msgpack
from blake3 import blake3

from common.coding.recipe import Recipe, decode_recipe
from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.device_messages import Commitment, SignedCommitment
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import Identifier, Message, Redundancy, ShareIndex
from worker.format_version import require_version, unknown_format

_MAGIC = "tessera-share"
VERSION = 3
_END = b"TSHREND1"
_FOOTER = struct.Struct(">Q32s8s")
_FOOTER_PREFIX = b"\xc4" + bytes([_FOOTER.size])  # msgpack bin 8
_BIN_32 = b"\xc6"
_BIN_32_SIZE = 5  # with the length behind it
_DIGEST = b"\xc4" + bytes([DIGEST_SIZE])  # msgpack bin 8
_FIRST_RECORD = b"\x93\x00" + _DIGEST  # msgpack array of 3: segment 0, a digest, a block
_PREFIX_SIZE = len(_FIRST_RECORD) + DIGEST_SIZE + _BIN_32_SIZE
_TRAILER_PREFIX = b"\x92"  # msgpack array of 2
FOOTER_SIZE = len(_FOOTER_PREFIX) + _FOOTER.size
MAX_HEADER_SIZE = 128
MAX_RECORD_PREFIX = 64
MAX_TRAILER_SIZE = 2 * MAX_PAYLOAD


class ShareHeader(Message):
    magic: str
    version: int
    encoding_id: Identifier
    share: ShareIndex
    k: Redundancy
    n: Redundancy
    block_size: int


class ShareTrailer(Message):
    signed: SignedCommitment
    offsets: list[int]

    @property
    def commitment(self) -> Commitment:
        return self.signed.commitment

    @property
    def owner(self) -> bytes:
        return self.commitment.owner


def mapping_for(commitment: Commitment, owner: bytes) -> Optional[bytes]:
    """The mapping that was sealed for this owner; None where a share is neither theirs nor granted to them."""
    if commitment.owner == owner:
        return commitment.mapping
    return next((grant.mapping for grant in commitment.grants if grant.owner == owner), None)


def size_of(commitment: Commitment) -> int:
    """Bytes of what has no fixed size in a commitment."""
    size = len(commitment.recipe) + len(commitment.mapping)
    return size + sum(len(grant.mapping) for grant in commitment.grants) if commitment.grants else size


class RecordPrefix(NamedTuple):
    """What precedes a block in its record; `size` is its own length."""

    segment: int
    digest: bytes
    block_bytes: int
    size: int


def share_header(encoding_id: bytes, share: int, k: int, n: int, block_size: int) -> ShareHeader:
    return ShareHeader(_MAGIC, VERSION, encoding_id, share, k, n, block_size)


def record_prefix(segment: int, digest: bytes, block_bytes: int) -> bytes:
    """What precedes a block in its record: the block itself is appended without being copied."""
    return b"\x93" + pack(segment) + _DIGEST + digest + _BIN_32 + block_bytes.to_bytes(4, "big")


def decode_record_prefix(start: bytes) -> Optional[RecordPrefix]:
    """A record's prefix; None where this is none."""
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_RECORD_PREFIX)
    unpacker.feed(start[:MAX_RECORD_PREFIX])
    try:
        if unpacker.read_array_header() != 3:
            return None
        segment, block_digest = unpacker.unpack(), unpacker.unpack()
        size = unpacker.tell() + _BIN_32_SIZE
    except (msgpack.UnpackException, ValueError):
        return None
    if type(segment) is not int or type(block_digest) is not bytes or len(block_digest) != DIGEST_SIZE:
        return None
    length = int.from_bytes(start[size - 4 : size], "big")
    written = record_prefix(segment, block_digest, length)
    return RecordPrefix(segment, block_digest, length, size) if start[:size] == written else None


def only_block(record: bytes, length: int) -> Optional[bytes]:
    """The block of a record that is undamaged, if it is the only one and has this length."""
    end = decode_footer(record[-FOOTER_SIZE:])
    start = end - length
    before = record[max(0, start - _PREFIX_SIZE) : start]
    if before.startswith(_FIRST_RECORD) and before.endswith(_BIN_32 + length.to_bytes(4, "big")):
        return record[start:end]
    return None


def begins_trailer(start: bytes) -> bool:
    """Whether what follows the last record may be a trailer."""
    return start[:1] == _TRAILER_PREFIX


def encode_ending(header: bytes, trailer: ShareTrailer, trailer_offset: int) -> bytes:
    """Trailer and footer, to be appended to the last record."""
    body = pack(trailer)
    footer = _FOOTER.pack(trailer_offset, blake3(header + body).digest(), _END)
    return body + _FOOTER_PREFIX + footer


def decode_footer(footer: bytes) -> int:
    """The trailer's offset; IntegrityError where the file does not end as a committed share does."""
    if len(footer) != FOOTER_SIZE or not footer.startswith(_FOOTER_PREFIX) or not footer.endswith(_END):
        raise IntegrityError("the file is cut short or was never committed")
    return int(_FOOTER.unpack(footer[len(_FOOTER_PREFIX) :])[0])


@dataclass(frozen=True)
class ShareInformation:
    """All of a share's file but the blocks, checked; `base` is the footer's digest of it."""

    header: ShareHeader
    trailer: ShareTrailer
    recipe: Recipe
    base: bytes


def decode_share(start: bytes, ending: bytes) -> ShareInformation:
    """Read header (from the file's first bytes), trailer and footer; IntegrityError where they disagree.

    UnknownVersionError where they agree, and are of no format that is known.
    """
    header_bytes, header = decode_header(start)
    body, footer = ending[:-FOOTER_SIZE], ending[-FOOTER_SIZE:]
    trailer_offset = decode_footer(footer)
    base = blake3(header_bytes + body).digest()
    if base != _FOOTER.unpack(footer[len(_FOOTER_PREFIX) :])[1]:
        raise IntegrityError("header or trailer are damaged")
    try:
        trailer = unpack(body, ShareTrailer, limit=MAX_TRAILER_SIZE)
        recipe = decode_recipe(trailer.commitment.recipe)
    except IntegrityError as error:
        raise unknown_format(error) from None
    if (recipe.encoding_id, recipe.k, recipe.n) != (header.encoding_id, header.k, header.n):
        raise IntegrityError("the recipe is another encoding's")
    if len(trailer.offsets) != recipe.segment_count or header.share >= header.n:
        raise IntegrityError("the trailer contradicts the recipe")
    if not all(len(header_bytes) < offset < trailer_offset for offset in trailer.offsets):
        raise IntegrityError("the trailer points to blocks outside the records")
    return ShareInformation(header, trailer, recipe, base)


def require_known_version(start: bytes) -> None:
    """UnknownVersionError where a file that begins so is a share of another version, whatever its ending is."""
    require_version(start, _MAGIC, VERSION)


def decode_header(start: bytes) -> tuple[bytes, ShareHeader]:
    """The header, as bytes and decoded; IntegrityError where a file does not begin with one."""
    require_known_version(start)
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_HEADER_SIZE)
    unpacker.feed(start[:MAX_HEADER_SIZE])
    try:
        unpacker.skip()
        length = unpacker.tell()
        header = unpack(start[:length], ShareHeader)
    except (ProtocolError, msgpack.UnpackException, ValueError):
        raise IntegrityError("this is no share file") from None
    if header.magic != _MAGIC:
        raise IntegrityError("this is no share file")
    return bytes(start[:length]), header
