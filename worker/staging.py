"""A share on its way: its blocks are appended as they come, in any order, each at most once.

Lives in the store's `staging/` folder until it is committed. Nothing of it is promised before; it is dropped when its
client gives it up, when nothing came for a while, or when the worker starts anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

from common.errors import IntegrityError
from common.recipe import Recipe, digest
from worker.disk import Disk
from worker.share_file import ShareTrailer, encode_ending, encode_header, record_prefix


class StagedBlock(NamedTuple):
    offset: int
    length: int
    digest: bytes


@dataclass
class StagedShare:
    """One share being stored for one owner; `touched` is monotonic seconds."""

    disk: Disk
    path: Path
    encoding_id: bytes
    share: int
    k: int
    n: int
    block_size: int
    owner: bytes
    expected_bytes: int
    touched: float
    blocks: dict[int, StagedBlock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin the file; OSError where the disk refuses."""
        self.header = encode_header(self.encoding_id, self.share, self.k, self.n, self.block_size)
        self.descriptor = self.disk.create(self.path)
        self.size = 0
        self._append(self.header)

    def append(self, segment: int, block_digest: bytes, block: Union[bytes, memoryview]) -> None:
        """Append a segment's block, already checked against its digest; OSError where the disk refuses."""
        start = self.size
        prefix = record_prefix(segment, block_digest, len(block))
        try:
            self._append(prefix)
            self._append(block)
        except OSError:
            # Whatever part of the record is there must not stand before the next one.
            self.disk.truncate(self.descriptor, start)
            self.size = start
            raise
        self.blocks[segment] = StagedBlock(start + len(prefix), len(block), block_digest)

    def finish(self, trailer: ShareTrailer) -> None:
        """Write trailer and footer; the file is then whole, but neither durable nor in its place."""
        self._append(encode_ending(self.header, trailer, self.size))

    def offsets(self, recipe: Recipe) -> list[int]:
        """Where each segment's block is; IntegrityError where the blocks are not the ones the recipe names."""
        if (recipe.encoding_id, recipe.k, recipe.n) != (self.encoding_id, self.k, self.n):
            raise IntegrityError("the recipe is another encoding's")
        if recipe.block_size != self.block_size or len(self.blocks) != recipe.segment_count:
            raise IntegrityError(f"the recipe has {recipe.segment_count} segments, {len(self.blocks)} blocks came")
        for segment in range(recipe.segment_count):
            block = self.blocks.get(segment)
            if block is None or block.digest != recipe.digest_of(segment, self.share):
                raise IntegrityError(f"block {segment} is not the one the recipe names")
            if block.length != recipe.block_length(segment):
                raise IntegrityError(f"block {segment} has not the length the recipe names")
        return [self.blocks[segment].offset for segment in range(recipe.segment_count)]

    def read(self, segment: int) -> bytes:
        """A block that came, checked; IntegrityError where it is not as it came, KeyError where it did not."""
        block = self.blocks[segment]
        data = self.disk.read_at(self.descriptor, block.offset, block.length)
        if digest(data) != block.digest:
            raise IntegrityError(f"block {segment} of a share being stored is damaged")
        return data

    def close(self) -> None:
        if self.descriptor >= 0:
            self.disk.close(self.descriptor)
            self.descriptor = -1

    def drop(self) -> None:
        """Give it up and remove its file."""
        self.close()
        self.disk.remove(self.path)

    def _append(self, data: Union[bytes, memoryview]) -> None:
        self.disk.append(self.descriptor, data)
        self.size += len(data)


def remove_abandoned(folder: Path) -> None:
    """At the start of a worker: whatever is in staging belongs to nobody, since its descriptors died with the last."""
    for entry in os.scandir(folder):
        Path(entry.path).unlink(missing_ok=True)
