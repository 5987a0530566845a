"""The recipe: the public part of an encoding, which lies beside every share.

It has the number of blocks, their sizes and the BLAKE3-256 digest of each, so that blocks can be checked without any
key. Of the image's length it gives only the rounded block sizes. Its own digest is in the mapping; a consumer accepts
no other recipe.

    msgpack array: [1, encoding_id, k, n, block_size, last_block_size, digests]
    digests: 32 bytes for each block, segment by segment, share by share
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Union

import msgspec
from blake3 import blake3

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import Identifier, Message, Redundancy

_VERSION = 1
_BlockSize = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAYLOAD)]


class _Packed(Message):
    version: int
    encoding_id: Identifier
    k: Redundancy
    n: Redundancy
    block_size: _BlockSize
    last_block_size: _BlockSize
    digests: bytes


def digest(data: Union[bytes, memoryview]) -> bytes:
    """BLAKE3-256, 32 bytes: of a block, a recipe or a trailer."""
    return blake3(data).digest()


@dataclass(frozen=True)
class Recipe:
    encoding_id: bytes
    k: int
    n: int
    block_size: int
    last_block_size: int
    digests: bytes

    @property
    def segment_count(self) -> int:
        return len(self.digests) // (self.n * DIGEST_SIZE)

    @property
    def share_bytes(self) -> int:
        """Bytes of blocks in one share."""
        return (self.segment_count - 1) * self.block_size + self.last_block_size

    def digest_of(self, segment: int, share: int) -> bytes:
        start = (segment * self.n + share) * DIGEST_SIZE
        return self.digests[start : start + DIGEST_SIZE]

    def accepts(self, segment: int, share: int, block: Union[bytes, memoryview]) -> bool:
        """Whether this is the block of a segment and a share, by its length and its digest."""
        if not (0 <= segment < self.segment_count and 0 <= share < self.n):
            return False  # its digest would be that of another place, or none
        return len(block) == self.block_length(segment) and digest(block) == self.digest_of(segment, share)

    def block_length(self, segment: int) -> int:
        """Bytes of each block of a segment."""
        return self.last_block_size if segment == self.segment_count - 1 else self.block_size

    def encode(self) -> bytes:
        return pack(
            _Packed(
                _VERSION,
                self.encoding_id,
                self.k,
                self.n,
                self.block_size,
                self.last_block_size,
                self.digests,
            )
        )


def decode_recipe(data: Union[bytes, memoryview]) -> Recipe:
    """Read a recipe; IntegrityError where it is not one, or contradicts itself."""
    try:
        packed = unpack(data, _Packed)
    except ProtocolError as error:
        raise IntegrityError(f"this is no recipe: {error}") from None
    row = packed.n * DIGEST_SIZE
    if (
        packed.version != _VERSION
        or packed.k > packed.n
        or not packed.digests
        or len(packed.digests) % row
        or packed.last_block_size > packed.block_size
    ):
        raise IntegrityError("this recipe contradicts itself")
    return Recipe(
        packed.encoding_id,
        packed.k,
        packed.n,
        packed.block_size,
        packed.last_block_size,
        packed.digests,
    )
