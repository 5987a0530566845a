"""Opens, checks and reads committed shares, from packs and from files of their own. A bad block is never given out.

Header and trailer are checked when a share is opened, and kept for the few that were read last; a block is checked
against the recipe each time it is read. The block of a small share of one segment is read with its whole record, by
whose own digest all of it is checked, and nothing is opened.

Not every failure is damage. Wrong content, read errors of the disk and a missing file prove a share bad; too many open
files, a lack of permission, or a version that is not known here, do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections import OrderedDict
from pathlib import Path
from typing import Optional, Protocol

import msgspec

from common.errors import IntegrityError
from common.protocol.device_messages import Commitment, SignedCommitment
from worker.amendments import decode_amendment
from worker.disk import Disk
from worker.format_version import UnknownVersionError
from worker.layout import Layout, Place, ShareKey
from worker.packs import Packs
from worker.share_file import (
    FOOTER_SIZE,
    MAX_HEADER_SIZE,
    MAX_TRAILER_SIZE,
    ShareInformation,
    decode_footer,
    decode_share,
    only_block,
    require_known_version,
    size_of,
)
from worker.share_states import KeptShare

_MAX_OPEN = 64
_MAX_KEPT = 16 << 20  # bytes of recipes and mappings

_DAMAGE = {errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}


def is_damage(error: Exception) -> bool:
    """Whether this error of reading a share proves that the share is bad."""
    if isinstance(error, IntegrityError):
        return not isinstance(error, UnknownVersionError)
    return isinstance(error, OSError) and error.errno in _DAMAGE


def is_lasting(error: Exception) -> bool:
    """Whether another try of this worker would meet the same: damage, or a version that it does not know."""
    return isinstance(error, UnknownVersionError) or is_damage(error)


class Source(Protocol):
    """The bytes of one share's record. All methods raise OSError as the disk does."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the record's end."""

    def uncache(self) -> None:
        """Drop them from the page cache."""

    def close(self) -> None: ...


class _FileSource:
    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._descriptor = disk.open(path)
        try:
            self.size = disk.size(self._descriptor)
        except BaseException:
            self.close()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        return self._disk.read_at(self._descriptor, offset, length)

    def uncache(self) -> None:
        self._disk.uncache(self._descriptor)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # nothing was written
            self._disk.close(self._descriptor)


class _PackSource:
    def __init__(self, packs: Packs, place: Place) -> None:
        self._packs = packs
        self._place = place
        self.size = place.length

    def read_at(self, offset: int, length: int) -> bytes:
        place = self._place
        return self._packs.read_at(place.pack, place.offset + offset, max(0, min(length, place.length - offset)))

    def uncache(self) -> None:
        self._packs.uncache(self._place)

    def close(self) -> None:
        pass


class OpenShare:
    """One committed share, its header and trailer checked against its name, amended where it was."""

    def __init__(self, source: Source, key: ShareKey, amendment: Optional[bytes] = None) -> None:
        """IntegrityError where this is not that whole share, or its amendment is damaged; OSError as the disk does."""
        self._source = source
        information = read_information(source)
        if (information.header.encoding_id, information.header.share) != key:
            raise IntegrityError("this is another share")
        self.information = information if amendment is None else _amended(information, amendment)

    @property
    def signed(self) -> SignedCommitment:
        """The commitment that holds."""
        return self.information.trailer.signed

    @property
    def commitment(self) -> Commitment:
        return self.signed.commitment

    def block(self, segment: int) -> bytes:
        """The block of one segment; IntegrityError where it is damaged, KeyError where there is no such segment."""
        recipe, trailer = self.information.recipe, self.information.trailer
        if segment >= recipe.segment_count:
            raise KeyError(segment)
        data = self._source.read_at(trailer.offsets[segment], recipe.block_length(segment))
        if not recipe.accepts(segment, self.information.header.share, data):
            raise IntegrityError(f"block {segment} is damaged")
        return data

    def uncache(self) -> None:
        """Drop the share from the page cache."""
        with contextlib.suppress(OSError):  # where it fails, the page cache answers
            self._source.uncache()

    @property
    def weight(self) -> int:
        """Bytes that it takes to keep this share open."""
        return size_of(self.commitment)

    def close(self) -> None:
        self._source.close()


def read_information(source: Source) -> ShareInformation:
    """Header, trailer and footer, checked; IntegrityError where they are damaged."""
    start = source.read_at(0, MAX_HEADER_SIZE)
    require_known_version(start)
    offset = decode_footer(source.read_at(max(0, source.size - FOOTER_SIZE), FOOTER_SIZE))
    length = source.size - offset
    if not FOOTER_SIZE < length <= MAX_TRAILER_SIZE:
        raise IntegrityError("the footer points nowhere")
    return decode_share(start, source.read_at(offset, length))


def _amended(information: ShareInformation, amendment: bytes) -> ShareInformation:
    signed = decode_amendment(amendment, information.base, information.trailer.commitment.recipe)
    return dataclasses.replace(information, trailer=msgspec.structs.replace(information.trailer, signed=signed))


class Shares:
    """Opens shares wherever they lie, and keeps those open that were read last, within bounds of number and memory."""

    def __init__(self, disk: Disk, layout: Layout, packs: Packs) -> None:
        self._disk = disk
        self._layout = layout
        self._packs = packs
        self._open: OrderedDict[int, OpenShare] = OrderedDict()  # by serial
        self._weight = 0

    def source(self, key: ShareKey, serial: int, place: Place) -> Source:
        if place.pack:
            return _PackSource(self._packs, place)
        return _FileSource(self._disk, self._layout.share(key, serial))

    def open(self, kept: KeptShare) -> OpenShare:
        """Open a share for one use; IntegrityError or OSError where it cannot be read."""
        source = self.source(kept.key, kept.serial, kept.place)
        try:
            return OpenShare(source, kept.key, None if kept.amendment is None else self._packs.body(kept.amendment))
        except BaseException:
            source.close()
            raise

    def only_block(self, kept: KeptShare) -> Optional[bytes]:
        """The block of a small share of one segment, its whole record read and checked at once.

        None where the share has to be opened to tell, such as what is wrong with it.
        """
        if not kept.place.pack:
            return None
        try:
            record = self._packs.whole(kept.key, kept.serial, kept.place)
            return None if record is None else only_block(record, kept.announced.share_bytes)
        except (IntegrityError, OSError):
            return None

    def get(self, kept: KeptShare) -> OpenShare:
        """Open a share, or take one that is open; IntegrityError or OSError where it cannot be read."""
        there = self._open.get(kept.serial)
        if there is not None:
            self._open.move_to_end(kept.serial)
            return there
        opened = self._open[kept.serial] = self.open(kept)
        self._weight += opened.weight
        while len(self._open) > 1 and (len(self._open) > _MAX_OPEN or self._weight > _MAX_KEPT):
            self._close(next(iter(self._open)))
        return opened

    def forget(self, serial: int) -> None:
        """Close a share, since it moves, goes or is amended."""
        if serial in self._open:
            self._close(serial)

    def close(self) -> None:
        for serial in list(self._open):
            self._close(serial)

    def _close(self, serial: int) -> None:
        closing = self._open.pop(serial)
        self._weight -= closing.weight
        closing.close()
