"""Shares that were being stored when their worker ended, found again: their blocks are there to be gone on with.

A staged file is read record by record, each block checked against the digest that stands before it. What is behind the
last good record was being written when the worker ended, or was lost with the power: it is cut off. Where a trailer was
begun, the share was being committed: its fsync may have failed, and an fsync that failed is never tried again on the
same file, so such a share is dropped and has to be stored anew.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Optional

from common.errors import IntegrityError
from common.recipe import digest
from worker.disk import Disk, Entry
from worker.layout import read_staged_name
from worker.share_file import (
    MAX_HEADER_SIZE,
    MAX_RECORD_PREFIX,
    ShareHeader,
    begins_trailer,
    decode_header,
    decode_record_prefix,
)
from worker.staging import StagedBlock, StagedShare

log = logging.getLogger(__name__)


def recover(disk: Disk, entry: Entry, touched: float) -> Optional[StagedShare]:
    """The share whose file lies in `staging/`; None where none can be gone on with, and the file is removed then.

    OSError where the disk refuses; the file lies there still.
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
        if isinstance(error, OSError):
            raise
        log.warning("dropped what was being stored in %s: %s", entry.path.name, error)
        disk.remove(entry.path)
        return None
    return StagedShare(disk, entry.path, header, name[1], end, touched, descriptor, end, blocks)


def _read_records(disk: Disk, descriptor: int, header: ShareHeader, offset: int) -> tuple[dict[int, StagedBlock], int]:
    """The good blocks from an offset on, and where the last of them ends; IntegrityError behind which a trailer is."""
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
