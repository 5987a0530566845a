"""Shares being stored: block by block; large ones are resumed after a restart, and dropped after a day.

A share's blocks are appended as they come, in any order, each at most once: to a file in the store's `staging/` folder,
or in memory where the share is small, as far as there is room. Nothing of it is durable before it is committed. A share
whose commit fails on the disk is dropped at once, since a failed fsync is never tried again on the same file.

A file survives a restart: it is read record by record, each block checked against the digest before it. What follows
the last good record was being written when the worker ended, or was lost in a power cut: it is cut off. Where a trailer
was begun the share was being committed, and its fsync may have failed: it is dropped, and has to be stored anew. What
another version of the worker was storing is left alone.

After three minutes without a block a share is idle. It can still be resumed, for a day and across restarts, unless its
place or its room is needed before: then the one that is idle for longest is dropped first. Where that is not enough,
shares of the account that has most give way, as long as it has more than the one that asks would have: so each account
gets an even part of places and room, whatever others have reserved, and who asks for more gets what is free.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Protocol, Union

from common.coding.recipe import Recipe, digest
from common.errors import IntegrityError
from common.protocol.codec import pack
from common.protocol.device_messages import Open, SegmentRange, SignedCommitment, WholeShare
from common.protocol.messages import MAX_SHARES, Code
from worker.disk import Disk, Entry
from worker.format_version import UnknownVersionError
from worker.layout import Layout, ShareKey, file_name, read_staged_name
from worker.pack_format import MAX_PACKED
from worker.refusals import Refusal
from worker.share_file import (
    MAX_HEADER_SIZE,
    MAX_RECORD_PREFIX,
    ShareHeader,
    ShareTrailer,
    begins_trailer,
    decode_header,
    decode_record_prefix,
    encode_ending,
    record_prefix,
    share_header,
)

log = logging.getLogger(__name__)

_IDLE_AFTER = 180.0  # seconds; a client waits for up to 120 s for a broker
_DROPPED_AFTER = 24 * 3600.0  # seconds
_TOLD_FOR = 5.0  # seconds, in which each broker gets some reports
_MAX_STAGED = 512  # each has a file open, and a process may often have no more than 1024
_MOST_IN_MEMORY = 32 << 20  # bytes of small shares
OVERHEAD = 64 * 1024  # bytes beside the blocks that a share may take: header, records, mapping


class Payer(NamedTuple):
    """Whom a share that is being stored counts for."""

    account: bytes
    members: int = 0  # among how many the broker shares this device's room; 0 where it did not say whom this counts for


class StagedBlock(NamedTuple):
    offset: int
    length: int
    digest: bytes


class Body(Protocol):
    """What was written of a share that is being stored. Methods raise OSError as the disk does."""

    size: int

    def append(self, data: Union[bytes, memoryview]) -> None: ...

    def read_at(self, offset: int, length: int) -> bytes: ...

    def truncate(self, length: int) -> None: ...

    def close(self) -> None: ...

    def remove(self) -> None: ...


class MemoryBody:
    def __init__(self, room: int, content: bytes = b"") -> None:
        """`room`: bytes that it may take, as far as is known."""
        self.room = room
        self._content: Union[bytes, bytearray] = content  # the former until something is appended
        self.size = len(content)

    def append(self, data: Union[bytes, memoryview]) -> None:
        if isinstance(self._content, bytes):
            self._content = bytearray(self._content)
        self._content += data
        self.size = len(self._content)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._content[offset : offset + length])

    def truncate(self, length: int) -> None:
        self._content = self._content[:length]
        self.size = length

    def close(self) -> None:
        pass

    def remove(self) -> None:
        self._content = b""


class FileBody:
    def __init__(self, disk: Disk, path: Path, descriptor: int, size: int = 0) -> None:
        self._disk = disk
        self.path = path
        self.descriptor = descriptor
        self.size = size

    def append(self, data: Union[bytes, memoryview]) -> None:
        self._disk.append(self.descriptor, data)
        self.size += len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._disk.read_at(self.descriptor, offset, length)

    def truncate(self, length: int) -> None:
        self._disk.truncate(self.descriptor, length)
        self.size = length

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1  # invalid even where closing fails, and soon another file's
        if descriptor >= 0:
            self._disk.close(descriptor)

    def remove(self) -> None:
        self._disk.remove(self.path)


@dataclass(eq=False)
class StagedShare:
    """One share being stored for one owner, and the blocks that are here of it."""

    body: Body
    header: ShareHeader
    owner: bytes
    payer: Payer
    expected_bytes: int
    touched: float  # when it was asked for last, in monotonic seconds
    grown: float  # when its last block came
    blocks: dict[int, StagedBlock] = field(default_factory=dict)
    dropped: bool = False
    idle: bool = False  # may be dropped for another
    ending: bool = False  # is about to be committed
    finished: bool = False  # has its trailer

    @property
    def key(self) -> ShareKey:
        return self.header.encoding_id, self.header.share

    @property
    def size(self) -> int:
        return self.body.size

    @property
    def reserved(self) -> int:
        """Bytes that it takes, or is to take."""
        return max(self.size, self.expected_bytes)

    @property
    def on_disk(self) -> bool:
        return isinstance(self.body, FileBody)

    def grow(self, now: float) -> None:
        """A block of it comes."""
        self.touched, self.grown, self.idle = now, now, False

    def begin(self) -> None:
        """Write the header of a new file; OSError where the disk refuses, and the file is dropped then."""
        try:
            self.body.append(pack(self.header))
        except OSError:
            self.drop()
            raise

    def append(self, segment: int, block_digest: bytes, block: Union[bytes, memoryview]) -> None:
        """Append a segment's block, already checked against its digest.

        OSError where the disk refuses; more can be appended then, unless it is `dropped`.
        """
        start = self.size
        prefix = record_prefix(segment, block_digest, len(block))
        try:
            self.body.append(prefix)
            self.body.append(block)
        except OSError:
            self._cut(start)
            raise
        self.blocks[segment] = StagedBlock(start + len(prefix), len(block), block_digest)

    def finish(self, trailer: ShareTrailer) -> None:
        """Write trailer and footer; the record is then whole, but neither durable nor in its place."""
        if not self.finished:
            self.body.append(encode_ending(pack(self.header), trailer, self.size))
            self.finished = True

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
        """The segments whose blocks are here, in order."""
        ranges: list[SegmentRange] = []
        for segment in sorted(self.blocks):
            if ranges and ranges[-1].first + ranges[-1].count == segment:
                ranges[-1].count += 1
            else:
                ranges.append(SegmentRange(segment, 1))
        return ranges

    def read(self, segment: int) -> bytes:
        """A block, checked; IntegrityError where it is damaged, KeyError where it is not here."""
        block = self.blocks[segment]
        data = self.body.read_at(block.offset, block.length)
        if digest(data) != block.digest:
            raise IntegrityError(f"block {segment} of a share being stored is damaged")
        return data

    def drop(self) -> None:
        """Drop it and remove its file, once. A file that cannot be removed is left to the worker's next start."""
        if self.dropped:
            return
        self.dropped = True
        for step in (self.body.close, self.body.remove):
            try:
                step()
            except OSError as error:
                log.warning("dropping the share %s, which was being stored: %s", file_name(self.key), error)

    def leave(self) -> None:
        """Close the file and keep it for the worker's next start."""
        self.dropped = True
        try:
            self.body.close()
        except OSError as error:
            log.warning("closing the share %s, which is being stored: %s", file_name(self.key), error)

    def _cut(self, length: int) -> None:
        """Cut off a record that was written in part, before the next one is appended."""
        try:
            self.body.truncate(length)
        except OSError:
            self.drop()


def _create(disk: Disk, path: Path) -> int:
    try:
        return disk.create(path)
    except FileExistsError:
        # Of a share that was dropped. A new file, since that one's fsync may have failed.
        disk.remove(path)
        return disk.create(path)


def recover(disk: Disk, entry: Entry, touched: float) -> Optional[StagedShare]:
    """The share of a file in `staging/`; None where it cannot be resumed, and the file is removed.

    OSError where the disk refuses, UnknownVersionError where another version wrote it; the file is kept.
    """
    name = read_staged_name(entry.path.name)
    descriptor = disk.reopen(entry.path)
    try:
        if name is None:
            raise IntegrityError("this is no staged share's name")
        header_bytes, header = decode_header(disk.read_at(descriptor, 0, MAX_HEADER_SIZE))
        if (header.encoding_id, header.share) != name[0]:
            raise IntegrityError("the file is another share's")
        blocks, end = _read_records(disk, descriptor, header, len(header_bytes))
        if end < entry.size:
            disk.truncate(descriptor, end)
    except (IntegrityError, OSError) as error:
        with contextlib.suppress(OSError):
            disk.close(descriptor)
        if isinstance(error, (OSError, UnknownVersionError)):
            raise
        log.warning("dropped what was being stored in %s: %s", entry.path.name, error)
        disk.remove(entry.path)
        return None
    owner, body = name[1], FileBody(disk, entry.path, descriptor, end)
    return StagedShare(body, header, owner, Payer(owner), end, touched, touched, blocks)


def _read_records(disk: Disk, descriptor: int, header: ShareHeader, offset: int) -> tuple[dict[int, StagedBlock], int]:
    """The good blocks from an offset on, and where the last of them ends; IntegrityError where a trailer follows."""
    blocks: dict[int, StagedBlock] = {}
    while True:
        start = disk.read_at(descriptor, offset, MAX_RECORD_PREFIX)
        if begins_trailer(start):
            raise IntegrityError("it was being committed")
        prefix = decode_record_prefix(start)
        if prefix is None or prefix.block_bytes > header.block_size or prefix.segment in blocks:
            return blocks, offset
        block = disk.read_at(descriptor, offset + prefix.size, prefix.block_bytes)
        if len(block) != prefix.block_bytes or digest(block) != prefix.digest:
            return blocks, offset
        blocks[prefix.segment] = StagedBlock(offset + prefix.size, prefix.block_bytes, prefix.digest)
        offset += prefix.size + prefix.block_bytes


class StagedShares:
    """`now` is monotonic seconds."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._layout = layout
        self._shares: dict[tuple[ShareKey, bytes], StagedShare] = {}  # by share and owner
        self._in_memory = 0  # bytes that those in memory may take
        self._unknown: set[Path] = set()  # which another version wrote
        self._over: dict[bytes, float] = {}  # account → when it last had, or wanted, more than its part
        self._now = 0.0  # as `expire` was told last

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[StagedShare]:
        return iter(self._shares.values())

    def get(self, key: ShareKey, owner: bytes) -> Optional[StagedShare]:
        """The share that this owner is storing."""
        return self._shares.get((key, owner))

    def reserved(self) -> Counter[bytes]:
        """Bytes that the shares of each account take, or are to take, the idle ones not counted."""
        reserved: Counter[bytes] = Counter()
        for staged in self:
            if not staged.idle:
                reserved[staged.payer.account] += staged.reserved
        return reserved

    @property
    def idle_bytes(self) -> int:
        return sum(staged.reserved for staged in self if staged.idle)

    def begin(self, request: Open, owner: bytes, payer: Payer, expected_bytes: int, now: float) -> None:
        """Begin to store a share; OSError where the disk refuses."""
        key = (request.encoding_id, request.share)
        if self._unknown and self._layout.staged(key, owner) in self._unknown:
            raise Refusal(Code.FAULT, "this share is being stored by another version of the worker")
        header = share_header(*key, request.k, request.n, request.block_size)
        staged = StagedShare(self._new_body(key, owner, expected_bytes), header, owner, payer, expected_bytes, now, now)
        staged.begin()
        self._shares[key, owner] = staged
        if isinstance(staged.body, MemoryBody):
            self._in_memory += staged.body.room

    def take_whole(
        self,
        share: WholeShare,
        recipe: Recipe,
        signed: SignedCommitment,
        payer: Payer,
        block_digest: bytes,
        block: memoryview,
        now: float,
    ) -> Optional[StagedShare]:
        """Keep a checked share of one block in memory, whole with its trailer, about to be committed.

        None where its owner stores it already, or there is no place for it in memory.
        """
        owner, key, expected = signed.commitment.owner, (share.encoding_id, share.share), len(block) + OVERHEAD
        full = len(self._shares) >= _MAX_STAGED or self._in_memory + expected > _MOST_IN_MEMORY
        if full or expected > MAX_PACKED or (key, owner) in self._shares:
            return None
        header = share_header(*key, share.k, share.n, recipe.block_size)
        packed = pack(header)
        start = packed + record_prefix(0, block_digest, len(block))
        ending = encode_ending(packed, ShareTrailer(signed, [len(start)]), len(start) + len(block))
        body = MemoryBody(expected, b"".join((start, block, ending)))
        blocks = {0: StagedBlock(len(start), len(block), block_digest)}
        staged = StagedShare(body, header, owner, payer, expected, now, now, blocks, ending=True, finished=True)
        self._shares[key, owner] = staged
        self._in_memory += expected
        return staged

    def make_room(self, staged: StagedShare, more: int) -> None:
        """A share that outgrows memory goes on in a file; OSError where the disk refuses."""
        if not isinstance(staged.body, MemoryBody) or staged.size + more <= MAX_PACKED:
            return
        path = self._layout.staged(staged.key, staged.owner)
        body = FileBody(self._disk, path, _create(self._disk, path))
        body.append(staged.body.read_at(0, staged.size))
        self._in_memory -= staged.body.room
        staged.body = body

    def _new_body(self, key: ShareKey, owner: bytes, expected_bytes: int) -> Body:
        if expected_bytes <= MAX_PACKED and self._in_memory + expected_bytes <= _MOST_IN_MEMORY:
            return MemoryBody(expected_bytes)
        path = self._layout.staged(key, owner)
        return FileBody(self._disk, path, _create(self._disk, path))

    def require_places(self, count: int, account: bytes) -> None:
        """Have others give way where so many more shares find no place; Refusal(BUSY) where they need not."""
        lacking = len(self._shares) + count - _MAX_STAGED
        giving = self.giving_way(lacking, account, count, lambda staged: 1)
        if giving is None:
            raise Refusal(Code.BUSY, "too many shares are being stored at once")
        for staged in giving:
            self.give_up(staged)

    def giving_way(
        self, lacking: int, account: bytes, wanted: int, size: Callable[[StagedShare], int]
    ) -> Optional[list[StagedShare]]:
        """What has to go for so much that an account lacks of what it wants, in order; None where that is not enough.

        What is idle, and then shares of whichever other account has most, as long as that is more than this account
        would have. Of each those first whose last block is longest ago. `size`: what one takes, places or bytes.
        """
        giving: list[StagedShare] = []
        if lacking <= 0:
            return giving
        has: Counter[bytes] = Counter()
        live: dict[bytes, deque[StagedShare]] = {}
        for staged in sorted((each for each in self if not each.ending), key=lambda staged: staged.grown):
            if not staged.idle:
                has[staged.payer.account] += size(staged)
                live.setdefault(staged.payer.account, deque()).append(staged)
            elif lacking > 0:
                giving.append(staged)
                lacking -= size(staged)
        mine = has.pop(account, 0) + wanted
        while lacking > 0:
            most, its = max(has.items(), key=lambda item: item[1], default=(account, 0))
            if its <= mine:
                return None
            staged = live[most].popleft()
            giving.append(staged)
            has[most] -= size(staged)
            lacking -= size(staged)
        return giving

    def give_up(self, staged: StagedShare) -> None:
        """Drop a share whose place or room another account needs."""
        if staged.idle:
            log.warning("dropped a share that nobody continued to store: others need its place")
        else:
            log.warning("dropped a share of the member that has most being stored here: others need its place")
            self.note_over(staged.payer.account)
        self.drop(staged)

    def drop(self, staged: StagedShare) -> None:
        self.forget(staged)
        staged.drop()

    def drop_encoding(self, encoding_id: bytes, owner: bytes) -> None:
        for share in range(MAX_SHARES):
            staged = self.get((encoding_id, share), owner)
            if staged is not None:
                self.drop(staged)

    def forget(self, staged: StagedShare) -> None:
        """Remove it from the list, whatever became of its file."""
        if self._shares.get((staged.key, staged.owner)) is staged:
            del self._shares[staged.key, staged.owner]
            if isinstance(staged.body, MemoryBody):
                self._in_memory -= staged.body.room

    def note_over(self, account: bytes) -> None:
        """An account has more than its part where others need some, or wants more."""
        self._over[account] = self._now

    def over(self) -> list[bytes]:
        """The accounts of which that was noted lately."""
        return list(self._over)

    def expire(self, now: float) -> None:
        """Mark idle shares, and drop those without a new block for a day."""
        self._now = now
        self._over = {account: noted for account, noted in self._over.items() if now - noted < _TOLD_FOR}
        for staged in list(self._shares.values()):
            staged.idle = now - staged.grown > _IDLE_AFTER
            if now - staged.touched > _DROPPED_AFTER:
                log.warning("dropped a share that nobody continued to store for a day")
                self.drop(staged)

    def recover(self, wanted: Callable[[StagedShare], bool], unix: float, now: float) -> None:
        """At the start: recover what the last worker left, and remove what cannot be resumed."""
        for entry in self._disk.entries(self._layout.staging):
            try:
                staged = recover(self._disk, entry, now - max(0.0, unix - entry.modified))
            except (UnknownVersionError, OSError) as error:
                log.error("cannot take up %s: %s", entry.path, error)
                if isinstance(error, UnknownVersionError):
                    self._unknown.add(entry.path)
                continue
            if staged is not None:
                self._take_up(staged, wanted)
        self.expire(now)

    def _take_up(self, staged: StagedShare, wanted: Callable[[StagedShare], bool]) -> None:
        if len(self._shares) >= _MAX_STAGED or not wanted(staged):
            staged.drop()
        else:
            self._shares[staged.key, staged.owner] = staged

    def close(self) -> None:
        """Leave all of them for the worker's next start."""
        for staged in self._shares.values():
            staged.leave()
        self._shares.clear()
        self._in_memory = 0
