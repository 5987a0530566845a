"""Stores one image segment by segment: for images longer than one segment, and for streams of unknown length.

At most two segments of plaintext are in memory, one being read and hashed in a thread while the other is sealed, coded
and sent; sent segments are kept until their blocks are acknowledged. So memory does not grow with the image.

Files of up to 64 MiB are hashed first, so that one that is stored already costs no traffic, and so are those of a path
and size that were seen before; other ones are hashed while they are sent, and the object id is needed only at commit.
Those of more than 64 MiB have a journal (`journal`), by which an interrupted put is resumed: the file is read from its
start, since its hash is needed, and what the devices have already is neither sealed nor sent again. Where the journal
does not match, the put starts anew under another key. None of this holds for another's vault, which cannot be asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from common.errors import IntegrityError, NotEnoughError, TesseraError, UnreachableError, UnstorableError
from common.process.events import BytesDone, Warned
from common.protocol.messages import Code
from common.vault.journal import Beginning
from common.vault.mapping import SealedMapping
from common.vault.sealing import fingerprint
from producer.distribution import Distribution, ShareState, abandon_shares
from producer.encoding import Conclusion, EncodedSegment, Encoding, Image, longest_image
from producer.events import AGAIN, Interrupted, LeftOut, Outcome, SkippedFile, StoredImage, too_few
from producer.journal import OutdatedError, StuckJournalError, WriteAhead
from producer.reading import Reader, changed, hash_file, stamp_of
from producer.segments import Coding, Sending
from producer.sources import Source
from producer.target import FoundImage, Target
from producer.threads import Threads
from viewer.picture import Picture

HASH_FIRST = 64 << 20  # bytes


async def store_stream(target: Target, threads: Threads, source: Source) -> Outcome:
    """Store one source; raises errors that concern it alone, too."""
    started = time.monotonic()
    expected: Optional[bytes] = None
    size = source.size or 0
    owner = target.owner
    is_here = source.path is not None or source.content is not None
    if owner.is_own and is_here and (size <= HASH_FIRST or owner.resembles_seen(stamp_of(source))):
        sha256, stamp = await threads.run(hash_file, source)
        stored = await target.find_stored(FoundImage(source, sha256, size, stamp), started)
        if stored is not None:
            owner.remember(stamp, sha256)
            return stored
        expected = sha256
    try:
        return await _put(target, threads, source, started, expected, journaled=size > HASH_FIRST)
    except StuckJournalError as error:
        target.emit(Warned(f"{error}; it is stored from its beginning, without one"))
        return await _put(target, threads, source, started, expected, journaled=False)


async def _put(
    target: Target, threads: Threads, source: Source, started: float, expected: Optional[bytes], *, journaled: bool
) -> Outcome:
    ahead = WriteAhead(target.owner, threads, source, target.emit, wanted=journaled)
    try:
        if ahead.begun is not None:
            try:
                return await _go_on(target, threads, source, started, ahead, ahead.begun.beginning)
            except OutdatedError as error:
                target.emit(Warned(f"{source.shown}: {error}; it is stored from its beginning"))
                await abandon_shares(target.link, ahead.begun.beginning.encoding_id, ahead.begun.devices)
                ahead.forget()
        put = _StreamedPut(target, threads, source, started, expected, target.coding, ahead)
        with Reader(source) as reader:
            return await put.run(reader)
    finally:
        ahead.close()


async def _go_on(
    target: Target, threads: Threads, source: Source, started: float, ahead: WriteAhead, beginning: Beginning
) -> Outcome:
    """Resume an interrupted put; OutdatedError where that cannot be."""
    coding = target.coding_for(beginning.k, beginning.n)
    if coding is None:
        raise OutdatedError(f"{beginning.k} of {beginning.n}, as it was begun, is not what is wanted now")
    if coding.slicing.block_size != beginning.block_size:
        raise OutdatedError("it was cut otherwise when it was interrupted")
    with Reader(source) as reader:
        if reader.origin != beginning.origin:
            raise OutdatedError("the file changed since it was interrupted")
        return await _StreamedPut(target, threads, source, started, None, coding, ahead).run(reader)


class _StreamedPut:
    def __init__(
        self,
        target: Target,
        threads: Threads,
        source: Source,
        started: float,
        expected: Optional[bytes],
        coding: Coding,
        ahead: WriteAhead,
    ) -> None:
        """`expected`: the SHA-256, where the file was hashed first; `ahead`: has what an earlier run began."""
        self._target = target
        self._threads = threads
        self._source = source
        self._started = started
        self._expected = expected
        self._coding = coding
        self._ahead = ahead
        self._begun = ahead.begun
        self._encoding = Encoding(coding.code, coding.slicing, target.owner.signer, ahead.begun)
        self._needed = target.needed(coding.code.k, coding.code.n)
        self._conclusion: Optional[Conclusion] = None
        self._picture = Picture()

    async def run(self, reader: Reader) -> Outcome:
        options, slicing = self._target.options, self._coding.slicing
        self._check_length(reader.size or 0)
        first = memoryview(bytearray(slicing.segment_size))
        count, so_far = await self._threads.run(reader.read_segment, first)
        if count == 0 and self._source.path is None and not options.allow_empty:
            advice = "a command before the | may have failed; --allow-empty stores an empty image"
            raise UnstorableError(f"{self._source.shown}: stdin gave nothing", advice=advice)
        if self._source.kind is None:
            await self._look(first[:count])
        is_kept = self._source.kind is not None or self._source.is_kept or self._picture.is_image
        if options.images_only and not is_kept:
            return SkippedFile(self._source.shown, LeftOut.NO_IMAGE)
        share_bytes = slicing.share_bytes(reader.size) if reader.size is not None else 0
        distribution = await self._distribute(share_bytes)
        sending = Sending(self._coding, self._encoding, distribution, self._may_leave)
        try:
            if self._begun is not None:
                await self._take_up(distribution, reader.size or 0, share_bytes)
            else:
                await self._open(distribution, reader, share_bytes)
            self._require(distribution)
            size = await self._send_segments(reader, sending, distribution, first, count, so_far)
            outcome = await self._commit(reader, distribution, size)
        except BaseException as error:
            await sending.cancel()
            await self._break_off(distribution, error)
            raise
        self._ahead.finish()
        return outcome

    def _check_length(self, size: int) -> None:
        """UnstorableError for an image of so many bytes (of stdin: so far) that is too long."""
        code, slicing = self._coding.code, self._coding.slicing
        limit = longest_image(code.n, slicing)
        if size <= limit:
            return
        length = f"{size:,} bytes are" if self._source.path is not None else "what comes from stdin is"
        longest = longest_image(code.n, replace(slicing, k=code.n - 1))
        advice = "cut it into pieces and store these"
        if longest >= size and code.k < code.n - 1:
            advice = f"-k {code.n - 1} -n {code.n} allows {longest:,} bytes, and one share may be lost; or {advice}"
        raise UnstorableError(
            f"{self._source.shown}: {length} too large: with {code.k} of {code.n} at most {limit:,}", advice=advice
        )

    # --- its shares' devices

    async def _distribute(self, share_bytes: int) -> Distribution:
        target, coding = self._target, self._coding
        devices: Sequence[Optional[bytes]]
        if self._begun is not None:
            devices, lacking = self._begun.devices, Code.GONE
        else:
            (devices,), lacking = await target.find_places([self._encoding.encoding_id], share_bytes)
        return Distribution(
            target.link,
            coding.code,
            coding.slicing,
            self._encoding.encoding_id,
            devices,
            lacking,
            target.name_of,
            self._ahead.moved,
            may_read=target.owner.is_own,
            avoid=target.avoid,
            shown=self._source.shown,
            emit=target.emit,
            on_late=target.note_late,
            broker_coding=target.broker_coding,
        )

    async def _open(self, distribution: Distribution, reader: Reader, share_bytes: int) -> None:
        await distribution.open(share_bytes)
        if reader.origin is not None:
            opened = [share.device if share.state is ShareState.OPEN else None for share in distribution.shares]
            await self._ahead.begin(self._encoding.beginning(reader.origin, opened))

    async def _take_up(self, distribution: Distribution, size: int, share_bytes: int) -> None:
        """Ask how far an interrupted put came; OutdatedError where too little is left of it."""
        segment_count = self._coding.slicing.segment_count(size)
        kept = await distribution.take_up(share_bytes, segment_count)
        if kept < self._coding.code.k or distribution.count(ShareState.OPEN, ShareState.COMMITTED) < self._needed:
            raise OutdatedError("too few of its devices are here with what was sent before")
        # What was read of the journal may not be on the disk yet: its writer may have been killed before its own fsync.
        await self._ahead.sync()
        part = distribution.staged_part(segment_count)
        self._target.emit(Warned(f"{self._source.shown}: goes on at {100 * part:.0f} %"))

    async def _break_off(self, distribution: Distribution, error: BaseException) -> None:
        """Keep what was sent, where another run can resume it; else have the devices drop it."""
        if isinstance(error, OutdatedError):
            return
        if self._ahead.active and not isinstance(error, Exception):
            self._target.emit(Interrupted(self._source.shown))
        elif self._ahead.active and isinstance(error, (NotEnoughError, UnreachableError)):
            error.advice = f"{error.advice}; then {AGAIN}"
        else:
            # What was committed of an image that is not stored would show as one that lacks shares.
            if self._conclusion is None:
                await distribution.abandon()
            else:
                object_id, encoding_id = self._conclusion.sealed.object_id, self._encoding.encoding_id
                await distribution.withdraw(self._target.owner.withdrawal(object_id, encoding_id))
            self._ahead.finish()

    # --- read → slice → seal → encode → send

    async def _send_segments(
        self, reader: Reader, sending: Sending, distribution: Distribution, here: memoryview, count: int, so_far: bytes
    ) -> int:
        """Send the whole image, whose first `count` bytes are in `here`; returns its length in bytes.

        `so_far`: the SHA-256 of these.
        """
        ahead = memoryview(bytearray(self._coding.slicing.segment_size))
        size = segment = 0
        while True:
            reading = asyncio.ensure_future(self._threads.run(reader.read_segment, ahead))
            try:
                size += count
                self._check_length(size)
                # Where the length is known, the next segment need not be waited for.
                is_last = size >= reader.size if reader.size is not None else (await reading)[0] == 0
                await self._send_segment(sending, distribution, segment, here[:count], so_far, is_last)
                following, so_far = await reading
            except BaseException:
                await self._end_reading(reading)
                raise
            if is_last or following == 0:
                break
            self._require(distribution)
            here, ahead, count, segment = ahead, here, following, segment + 1
        if following or not is_last:
            raise changed(self._source)  # it is longer, or shorter, than it was when it was opened
        await sending.wait()
        return size

    async def _end_reading(self, reading: asyncio.Future[tuple[int, bytes]]) -> None:
        """Wait until the file is not read any more: once closed, its descriptor may become another file's."""
        if self._source.path is None:
            reading.cancel()  # stdin is never closed, and may block for ever
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.exception()  # the error that ended the sending is raised instead

    async def _send_segment(
        self,
        sending: Sending,
        distribution: Distribution,
        segment: int,
        plaintext: memoryview,
        so_far: bytes,
        is_last: bool,
    ) -> None:
        is_new = self._begun is None or segment >= len(self._begun.segments)

        def write_ahead(encoded: EncodedSegment) -> None:
            if is_new:
                self._ahead.segment(segment, fingerprint(so_far, is_last), encoded.digests)

        self._target.emit(BytesDone(len(plaintext)))
        try:
            if not is_new and distribution.has_segment(segment):
                await self._threads.run(self._encoding.skip, segment, plaintext, is_last)
            else:
                await sending.send(segment, plaintext, is_last, write_ahead)
        except IntegrityError as error:
            raise OutdatedError(f"the file is not what it was when it was interrupted: {error}") from None

    async def _may_leave(self) -> bool:
        try:
            await self._ahead.sync()
        except StuckJournalError:
            return False  # the next write ahead raises it, too
        return True

    async def _look(self, first: memoryview) -> None:
        """Read the header; a stream gets a thumbnail only where its first segment is all of it."""
        path = self._source.path
        content = first if path is None or not first else path
        self._picture = await self._threads.look_at(content)

    def _require(self, distribution: Distribution) -> None:
        """Raise as soon as too few shares are left to store the image."""
        had = distribution.count(ShareState.OPEN, ShareState.COMMITTED)
        if had < self._coding.code.k:
            raise self._too_few(distribution, had)

    def _too_few(self, distribution: Distribution, had: int) -> TesseraError:
        target, reasons = self._target, distribution.lost_reasons()
        return too_few(self._source.shown, had, self._needed, reasons, self._coding.code.k, target.link.address)

    # --- commit

    async def _commit(self, reader: Reader, distribution: Distribution, size: int) -> StoredImage:
        target, source, code = self._target, self._source, self._coding.code
        sha256 = await self._threads.run(reader.finish)
        if self._expected is not None and sha256 != self._expected:
            raise changed(source)
        if self._expected is None and not distribution.count(ShareState.COMMITTED):
            stored = await target.find_stored(FoundImage(source, sha256, size, reader.stamp), self._started)
            if stored is not None:  # its hash is known only now
                await distribution.abandon()
                target.owner.remember(reader.stamp, sha256)
                return stored
        recipe = self._encoding.recipe()
        conclusion = self._conclusion = await self._conclude(sha256, size)
        await distribution.move_lost(recipe)
        if distribution.count(ShareState.OPEN, ShareState.COMMITTED) >= self._needed:
            await distribution.commit(conclusion.commitment)
            await distribution.move_lost(recipe)
            await distribution.commit(conclusion.commitment)
        if distribution.count(ShareState.COMMITTED) < self._needed:
            had = distribution.count(ShareState.OPEN, ShareState.COMMITTED)
            raise self._too_few(distribution, had)
        target.owner.keep_mappings([(conclusion.sealed, self._encoding.encoding_id, None)])
        target.owner.remember(reader.stamp, sha256)
        names = [
            target.name_of(share.device or b"") if share.state is ShareState.COMMITTED else None
            for share in distribution.shares
        ]
        seconds = time.monotonic() - self._started
        is_image = self._picture.is_image
        gone = [share.device for share in distribution.lost if share.device and share.reason is Code.GONE]
        missing = target.missing(gone) if None in names else ()
        return StoredImage(
            sha256,
            source.shown,
            size,
            code.k,
            code.n,
            names,
            False,
            seconds,
            is_image,
            missing=missing,
            stamp=reader.stamp,
        )

    async def _conclude(self, sha256: bytes, size: int) -> Conclusion:
        """Recipe and mapping; those of the earlier run, where it was interrupted during the commit."""
        owner, ending = self._target.owner, self._begun.ending if self._begun is not None else None
        if ending is not None:
            if ending.sha256 != sha256:
                raise OutdatedError("the file is not what it was when it was interrupted")
            return self._encoding.conclude(SealedMapping(owner.object_id(sha256), ending.mapping))
        source = self._source
        image = Image(sha256, size, source.name, self._picture, int(time.time()), source.kind, source.kept)
        sealed = self._encoding.seal(owner, image)
        await self._ahead.ending(sha256, sealed.mapping)
        return self._encoding.conclude(sealed)
