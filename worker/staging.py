"""A share on its way: its blocks are appended as they come, in any order, each at most once.

Lives in the store's `staging/` folder until it is committed. Nothing of it is promised before. It outlives its worker:
how it is found again is in `recovery`, when its time is up in `staged`. What the disk refused in the middle of a commit
is dropped at once, since an fsync that failed is never tried again on the same file.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

from common.errors import IntegrityError
from common.protocol.codec import pack
from common.protocol.device_messages import SegmentRange
from common.recipe import Recipe, digest
from worker.disk import Disk
from worker.layout import ShareKey
from worker.share_file import ShareHeader, ShareTrailer, encode_ending, record_prefix

log = logging.getLogger(__name__)


class StagedBlock(NamedTuple):
    offset: int
    length: int
    digest: bytes


@dataclass
class StagedShare:
    """One share being stored for one owner: its file, open, and the blocks that are in it."""

    disk: Disk
    path: Path  # where the file is now
    header: ShareHeader
    owner: bytes
    expected_bytes: int
    touched: float  # monotonic seconds
    descriptor: int
    size: int = 0
    blocks: dict[int, StagedBlock] = field(default_factory=dict)
    dropped: bool = False
    idle: bool = False  # for so long that its place may go to others

    @property
    def key(self) -> ShareKey:
        return self.header.encoding_id, self.header.share

    def touch(self, now: float) -> None:
        self.touched, self.idle = now, False

    def begin(self) -> None:
        """Write the header of a new file; OSError where the disk refuses, and the file is dropped then."""
        try:
            self._append(pack(self.header))
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
        self._append(encode_ending(pack(self.header), trailer, self.size))

    def offsets(self, recipe: Recipe) -> list[int]:
        """Where each segment's block is; IntegrityError where the blocks are not the ones the recipe names."""
        header = self.header
        if (recipe.encoding_id, recipe.k, recipe.n) != (header.encoding_id, header.k, header.n):
            raise IntegrityError("the recipe is another encoding's")
        if recipe.block_size != header.block_size or len(self.blocks) != recipe.segment_count:
            raise IntegrityError(f"the recipe has {recipe.segment_count} segments, {len(self.blocks)} blocks came")
        for segment in range(recipe.segment_count):
            block = self.blocks.get(segment)
            if block is None or block.digest != recipe.digest_of(segment, header.share):
                raise IntegrityError(f"block {segment} is not the one the recipe names")
            if block.length != recipe.block_length(segment):
                raise IntegrityError(f"block {segment} has not the length the recipe names")
        return [self.blocks[segment].offset for segment in range(recipe.segment_count)]

    def ranges(self) -> list[SegmentRange]:
        """The segments whose blocks came, in order."""
        ranges: list[SegmentRange] = []
        for segment in sorted(self.blocks):
            if ranges and ranges[-1].first + ranges[-1].count == segment:
                ranges[-1].count += 1
            else:
                ranges.append(SegmentRange(segment, 1))
        return ranges

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

    def leave(self) -> None:
        """Close the file and let it lie for the worker's next start."""
        self.dropped = True
        try:
            self.close()
        except OSError as error:
            log.warning("closing %s: %s", self.path, error)

    def _remove(self) -> None:
        self.disk.remove(self.path)

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


def begin(disk: Disk, path: Path, header: ShareHeader, owner: bytes, expected_bytes: int, now: float) -> StagedShare:
    """A new share's file, with its header; OSError where the disk refuses."""
    staged = StagedShare(disk, path, header, owner, expected_bytes, now, _create(disk, path))
    staged.begin()
    return staged


def _create(disk: Disk, path: Path) -> int:
    try:
        return disk.create(path)
    except FileExistsError:
        # Left behind by a share that was dropped. A new file, not that one again: its fsync may have failed.
        disk.remove(path)
        return disk.create(path)
