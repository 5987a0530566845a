"""The format of a share's file: a row of msgpack objects, so that any msgpack reader can walk through it.

    header    array ["tessera-share", 1, encoding id, share, k, n, block size]
    record    array [segment, digest, block]      one for each segment, in the order in which blocks came
    trailer   array [object id, owner, recipe, mapping, delete hash, [offset of each segment's block]]
    footer    bin of 48 bytes: u64 offset of the trailer ‖ BLAKE3-256 of header and trailer ‖ "TSHREND1"

The footer has a fixed length and is found from the end. The trailer's recipe names every block's digest, so header,
trailer and footer together vouch for the whole file. A file without a footer is a share that was never committed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Union

import msgpack
from blake3 import blake3

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.messages import Digest, Identifier, Message, ObjectId, Redundancy, ShareIndex
from common.recipe import Recipe, decode_recipe

_MAGIC = "tessera-share"
_VERSION = 1
_END = b"TSHREND1"
_FOOTER = struct.Struct(">Q32s8s")
_FOOTER_PREFIX = b"\xc4" + bytes([_FOOTER.size])  # msgpack bin 8
FOOTER_SIZE = len(_FOOTER_PREFIX) + _FOOTER.size
MAX_HEADER_SIZE = 128
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
    object_id: ObjectId
    owner: Identifier
    recipe: bytes
    mapping: bytes
    delete_hash: Digest
    offsets: list[int]


def encode_header(encoding_id: bytes, share: int, k: int, n: int, block_size: int) -> bytes:
    return pack(ShareHeader(_MAGIC, _VERSION, encoding_id, share, k, n, block_size))


def record_prefix(segment: int, digest: bytes, block_bytes: int) -> bytes:
    """What stands before a block in its record: the block itself follows without being copied."""
    bin_32 = b"\xc6" + block_bytes.to_bytes(4, "big")
    return b"\x93" + bytes(msgpack.packb(segment)) + bytes(msgpack.packb(digest)) + bin_32


def encode_ending(header: bytes, trailer: ShareTrailer, trailer_offset: int) -> bytes:
    """Trailer and footer, to be written behind the last record."""
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
    """All that a share's file says beside the blocks, checked."""

    header: ShareHeader
    trailer: ShareTrailer
    recipe: Recipe


def decode_share(start: bytes, ending: bytes) -> ShareInformation:
    """Read header (from the file's first bytes) and trailer with footer; IntegrityError where they don't agree."""
    header_bytes, header = _decode_header(start)
    body, footer = ending[:-FOOTER_SIZE], ending[-FOOTER_SIZE:]
    trailer_offset = decode_footer(footer)
    if blake3(header_bytes + body).digest() != _FOOTER.unpack(footer[len(_FOOTER_PREFIX) :])[1]:
        raise IntegrityError("header or trailer are damaged")
    try:
        trailer = unpack(body, ShareTrailer, limit=MAX_TRAILER_SIZE)
    except ProtocolError as error:
        raise IntegrityError(f"the trailer is no trailer: {error}") from None
    recipe = decode_recipe(trailer.recipe)
    if (recipe.encoding_id, recipe.k, recipe.n) != (header.encoding_id, header.k, header.n):
        raise IntegrityError("the recipe is another encoding's")
    if len(trailer.offsets) != recipe.segment_count or header.share >= header.n:
        raise IntegrityError("the trailer contradicts the recipe")
    if not all(len(header_bytes) < offset < trailer_offset for offset in trailer.offsets):
        raise IntegrityError("the trailer points to blocks outside the records")
    return ShareInformation(header, trailer, recipe)


def _decode_header(start: Union[bytes, memoryview]) -> tuple[bytes, ShareHeader]:
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_HEADER_SIZE)
    unpacker.feed(start[:MAX_HEADER_SIZE])
    try:
        unpacker.skip()
        length = unpacker.tell()
        header = unpack(start[:length], ShareHeader)
    except (ProtocolError, msgpack.UnpackException, ValueError):
        raise IntegrityError("this is no share file") from None
    if header.magic != _MAGIC or header.version != _VERSION:
        raise IntegrityError("this is no share file of version 1")
    return bytes(start[:length]), header
