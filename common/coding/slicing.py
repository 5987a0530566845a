"""How an image is cut: into segments, and each sealed segment into k blocks.

A sealed segment is ciphertext and tag. It is the sealed segment that has the round size, k × 1 MiB, so that every
block but the last segment's is exactly 1 MiB; a segment of the image is therefore 16 bytes shorter. The last
segment is cut as it comes, and padded with zeros up to k equal blocks of whole units (the erasure code's smallest
step). An empty image is one empty segment.

    image      |-- segment_size --|-- segment_size --|- rest -|
    sealed     |-- k × block_size |-- k × block_size |- rest + 16, padded to k × last_block_size -|
"""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import UsageError

BLOCK_SIZE = 1024 * 1024
TAG_SIZE = 16


def block_size_for(n: int) -> int:
    """Bytes of a full block: 1 MiB, and less for many shares, so that a segment's buffer stays of one size."""
    return BLOCK_SIZE if n <= 16 else BLOCK_SIZE // 4


@dataclass(frozen=True)
class Slicing:
    """The sizes of an encoding: k data blocks of `block_size` bytes a segment, in whole `unit`s."""

    k: int
    unit: int
    block_size: int

    def __post_init__(self) -> None:
        if self.block_size % self.unit:
            raise UsageError(f"a block of {self.block_size} bytes is not whole units of {self.unit}")

    @property
    def segment_size(self) -> int:
        """Bytes of the image in every segment but the last."""
        return self.k * self.block_size - TAG_SIZE

    def segment_count(self, image_size: int) -> int:
        return max(1, -(-image_size // self.segment_size))

    def segment_length(self, image_size: int, segment: int) -> int:
        """Bytes of the image in one segment."""
        return min(self.segment_size, image_size - segment * self.segment_size)

    def block_length(self, segment_length: int) -> int:
        """Bytes of each block of a segment that has so many bytes of the image."""
        per_block = -(-(segment_length + TAG_SIZE) // self.k)
        return -(-per_block // self.unit) * self.unit

    def share_bytes(self, image_size: int) -> int:
        """Bytes of blocks in one share."""
        full = self.segment_count(image_size) - 1
        return full * self.block_size + self.block_length(self.segment_length(image_size, full))
