"""Opens, checks and reads committed shares. A bad block is never given out.

Header and trailer are checked when a file is opened, and kept for the few shares that were read last; a block is
checked against the recipe each time it is read.

Not every failure is damage. Wrong content, read errors of the disk and a missing file prove a share bad; too many open
files, a lack of permission, or a version that is not known here, do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections import OrderedDict
from pathlib import Path

import msgspec

from common.errors import IntegrityError
from common.protocol.device_messages import Commitment, SignedCommitment
from worker.amendments import Amendments
from worker.disk import Disk
from worker.format_version import UnknownVersionError
from worker.share_file import (
    FOOTER_SIZE,
    MAX_HEADER_SIZE,
    MAX_TRAILER_SIZE,
    ShareInformation,
    decode_footer,
    decode_share,
    require_known_version,
    size_of,
)

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


class OpenShare:
    """One committed share's file, its header and trailer checked against its name, amended where it was.

    `size`: bytes of the file and of its amendment.
    """

    def __init__(self, disk: Disk, path: Path, encoding_id: bytes, share: int, amendments: Amendments) -> None:
        """IntegrityError where the file is not that whole share; OSError where it cannot be read."""
        self._disk = disk
        self._descriptor = disk.open(path)
        try:
            self.information = self._read_information()
            header = self.information.header
            if (header.encoding_id, header.share) != (encoding_id, share):
                raise IntegrityError("the file is another share's")
            self._amend((encoding_id, share), amendments)
        except BaseException:
            self.close()
            raise

    def _read_information(self) -> ShareInformation:
        disk, descriptor = self._disk, self._descriptor
        self.size = disk.size(descriptor)
        start = disk.read_at(descriptor, 0, MAX_HEADER_SIZE)
        require_known_version(start)
        footer = disk.read_at(descriptor, max(0, self.size - FOOTER_SIZE), FOOTER_SIZE)
        offset = decode_footer(footer)
        length = self.size - offset
        if not FOOTER_SIZE < length <= MAX_TRAILER_SIZE:
            raise IntegrityError("the footer points nowhere")
        return decode_share(start, disk.read_at(descriptor, offset, length))

    def _amend(self, key: tuple[bytes, int], amendments: Amendments) -> None:
        """Replace the commitment in the file by the amendment, if there is one."""
        information = self.information
        signed = amendments.find(key, information.base, information.trailer.commitment.recipe)
        if signed is not None:
            trailer = msgspec.structs.replace(information.trailer, signed=signed)
            self.information = dataclasses.replace(information, trailer=trailer)
            self.size += amendments.size(key, information.base)

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
        data = self._disk.read_at(self._descriptor, trailer.offsets[segment], recipe.block_length(segment))
        if not recipe.accepts(segment, self.information.header.share, data):
            raise IntegrityError(f"block {segment} is damaged")
        return data

    def uncache(self) -> None:
        """Drop the file from the page cache."""
        with contextlib.suppress(OSError):  # where it fails, the page cache answers
            self._disk.uncache(self._descriptor)

    @property
    def weight(self) -> int:
        """Bytes that it takes to keep this share open."""
        return size_of(self.commitment)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # nothing was written
            self._disk.close(self._descriptor)


class OpenShares:
    """The shares that were read last, within bounds of number and memory."""

    def __init__(self, disk: Disk, amendments: Amendments) -> None:
        self._disk = disk
        self._amendments = amendments
        self._open: OrderedDict[tuple[bytes, int], OpenShare] = OrderedDict()
        self._weight = 0

    def get(self, path: Path, encoding_id: bytes, share: int) -> OpenShare:
        key = (encoding_id, share)
        kept = self._open.get(key)
        if kept is not None:
            self._open.move_to_end(key)
            return kept
        opened = self._open[key] = OpenShare(self._disk, path, encoding_id, share, self._amendments)
        self._weight += opened.weight
        while len(self._open) > 1 and (len(self._open) > _MAX_OPEN or self._weight > _MAX_KEPT):
            self._close(next(iter(self._open)))
        return opened

    def forget(self, key: tuple[bytes, int]) -> None:
        """Close a share's file, since it moves or goes."""
        if key in self._open:
            self._close(key)

    def close(self) -> None:
        for key in list(self._open):
            self._close(key)

    def _close(self, key: tuple[bytes, int]) -> None:
        closing = self._open.pop(key)
        self._weight -= closing.weight
        closing.close()
