"""A share on its way: its blocks are appended as they come, in any order, each at most once.

Lives in the store's `staging/` folder until it is committed. Nothing of it is promised before; it is dropped when its
client gives it up, when nothing came for a while, or when the worker starts anew.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

from common.errors import IntegrityError
from common.recipe import Recipe, digest
from worker.disk import Disk
from worker.share_file import ShareTrailer, encode_ending, encode_header, record_prefix

log = logging.getLogger(__name__)


class StagedBlock(NamedTuple):
    offset: int
    length: int
    digest: bytes


@dataclass
class StagedShare:
    """One share being stored for one owner; `touched` is monotonic seconds, `path` where its file is now."""

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
        self.size = 0
        self.dropped = False
        self.descriptor = self._create()
        try:
            self._append(self.header)
        except OSError:
            self.drop()
            raise

    def append(self, segment: int, block_digest: bytes, block: Union[bytes, memoryview]) -> None:
        """Append a segment's block, already checked against its digest.

        OSError where the disk refuses; the share can go on then, unless it is `dropped`.
        """
        start = self.size
        prefix = record_prefix(segment, block_digest, len(block))
        try:
            self._append(prefix)
            self._append(block)
        except OSError:
            self._cut(start)
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
        descriptor, self.descriptor = self.descriptor, -1  # gone even where closing fails, and soon another file's
        if descriptor >= 0:
            self.disk.close(descriptor)

    def drop(self) -> None:
        """Give it up and remove its file, once. A file that cannot be removed is left to the worker's next start."""
        if self.dropped:
            return
        self.dropped = True
        for step in (self.close, self._remove):
            try:
                step()
            except OSError as error:
                log.warning("dropping %s: %s", self.path, error)

    def _remove(self) -> None:
        self.disk.remove(self.path)

    def _create(self) -> int:
        try:
            return self.disk.create(self.path)
        except FileExistsError:
            # Left behind by a share that was dropped. A new file, not that one again: its fsync may have failed.
            self._remove()
            return self.disk.create(self.path)

    def _cut(self, length: int) -> None:
        """Remove a record that was written in part: it must not stand before the next one."""
        try:
            self.disk.truncate(self.descriptor, length)
        except OSError:
            self.drop()
        else:
            self.size = length

    def _append(self, data: Union[bytes, memoryview]) -> None:
        self.disk.append(self.descriptor, data)
        self.size += len(data)


def remove_abandoned(disk: Disk, folder: Path) -> None:
    """At the start of a worker: whatever is in staging belongs to nobody, since its descriptors died with the last."""
    for entry in os.scandir(folder):
        try:
            disk.remove(Path(entry.path))
        except OSError as error:
            log.warning("cannot remove %s: %s", entry.path, error)
