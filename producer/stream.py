"""Stores one image segment by segment: for images longer than one segment, and for streams of unknown length.

Two segments of plaintext are in hand at most, one being read and hashed in a thread while the other is sealed, coded
and sent; sent segments are kept until their blocks are acknowledged. So memory does not grow with the image.

Files of up to 64 MiB are hashed first, so that one that is stored already costs no traffic; longer ones are hashed
while they are sent, and the object id is needed only at commit.
"""

from __future__ import annotations

import asyncio
import time
from typing import Optional

from producer.distribution import Distribution, ShareState
from producer.encoding import Bytes, EncodedSegment, Encoding, Image
from producer.outcome import Outcome, SkippedFile, StoredImage, shares_needed, too_few
from producer.picture import Picture
from producer.reading import Reader, changed, hash_file
from producer.session import Session
from producer.sources import Source

HASH_FIRST = 64 << 20  # bytes


async def store_stream(session: Session, source: Source) -> Outcome:
    """Store one source; raises what concerns this source alone, too."""
    started = time.monotonic()
    expected: Optional[bytes] = None
    if source.path is not None and (source.size or 0) <= HASH_FIRST:
        sha256, stamp = await session.in_thread(hash_file, source)
        stored = await session.find_stored(source, sha256, source.size or 0, started)
        if stored is not None:
            session.remember(stamp, sha256)
            return stored
        expected = sha256
    put = _StreamedPut(session, source, started, expected)
    with Reader(source) as reader:
        return await put.run(reader)


class _StreamedPut:
    def __init__(self, session: Session, source: Source, started: float, expected: Optional[bytes]) -> None:
        self._session = session
        self._source = source
        self._started = started
        self._expected = expected  # SHA-256, where the file was hashed first
        self._encoding = Encoding(session.code, session.slicing)
        self._sending: set[asyncio.Task[None]] = set()
        self._picture = Picture()

    async def run(self, reader: Reader) -> Outcome:
        session = self._session
        first = memoryview(bytearray(session.slicing.segment_size))
        count = await session.in_thread(reader.read_into, first)
        await self._look(first[:count])
        if session.images_only and not self._picture.is_image:
            return SkippedFile(self._source.shown)
        share_bytes = session.slicing.share_bytes(reader.size) if reader.size is not None else 0
        places = await session.find_places([self._encoding.encoding_id], share_bytes)
        distribution = Distribution(
            session.link,
            session.code,
            session.slicing,
            self._encoding.encoding_id,
            places,
            session.name_of,
        )
        await distribution.open(share_bytes)
        try:
            self._require(distribution)
            size = await self._send_segments(reader, distribution, first, count)
            return await self._commit(reader, distribution, size)
        except BaseException:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            await distribution.abandon()
            raise

    # --- read → slice → seal → encode → send

    async def _send_segments(self, reader: Reader, distribution: Distribution, here: memoryview, count: int) -> int:
        """Send the whole image, whose first `count` bytes are in `here`; returns its length in bytes."""
        session = self._session
        ahead = memoryview(bytearray(session.slicing.segment_size))
        size = segment = 0
        while True:
            reading = asyncio.ensure_future(session.in_thread(reader.read_into, ahead))
            size += count
            # Where the length is known, what comes next need not be waited for.
            is_last = size >= reader.size if reader.size is not None else await reading == 0
            await self._send_segment(distribution, segment, here[:count], is_last)
            following = await reading
            if is_last or following == 0:
                break
            self._require(distribution)
            here, ahead, count, segment = ahead, here, following, segment + 1
        if following or not is_last:
            raise changed(self._source)  # it is longer, or shorter, than it was when it was opened
        while self._sending:
            await asyncio.wait(self._sending)
        return size

    async def _send_segment(
        self, distribution: Distribution, segment: int, plaintext: memoryview, is_last: bool
    ) -> None:
        buffer = await self._session.buffers.take()
        encoded = self._encoding.encode(segment, plaintext, is_last, buffer)
        task = asyncio.get_running_loop().create_task(self._send_blocks(distribution, encoded, buffer))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        self._session.progress(len(plaintext))

    async def _send_blocks(self, distribution: Distribution, encoded: EncodedSegment, buffer: Bytes) -> None:
        acknowledged = False
        try:
            acknowledged = await distribution.append(encoded)
        finally:
            # A block without an acknowledgement may still lie in a socket: its buffer is not used again.
            self._session.buffers.give_back(buffer if acknowledged else None)

    async def _look(self, first: memoryview) -> None:
        """What the header says; a stream's thumbnail only where its first segment is all of it."""
        path = self._source.path
        content = bytes(first) if path is None or not first else path
        self._picture = await self._session.look_at(content)

    def _require(self, distribution: Distribution) -> None:
        """Give up as soon as too few shares are left to store the image."""
        code = self._session.code
        had, needed = distribution.count(ShareState.OPEN, ShareState.COMMITTED), code.k
        if had < needed:
            raise too_few(self._source.shown, had, shares_needed(code.k, code.n), distribution.lost_reasons())

    # --- commit

    async def _commit(self, reader: Reader, distribution: Distribution, size: int) -> StoredImage:
        session, source = self._session, self._source
        sha256 = reader.finish()
        if self._expected is not None and sha256 != self._expected:
            raise changed(source)
        if self._expected is None:
            stored = await session.find_stored(source, sha256, size, self._started)
            if stored is not None:  # known only now that it was hashed
                await distribution.abandon()
                session.remember(reader.stamp, sha256)
                return stored
        recipe = self._encoding.recipe()
        image = Image(sha256, size, source.name, self._picture, int(time.time()))
        conclusion = self._encoding.conclude(session.key, image)
        needed = shares_needed(session.code.k, session.code.n)
        await distribution.move_lost(recipe)
        if distribution.count(ShareState.OPEN) >= needed:
            await distribution.commit(conclusion.commitment)
            await distribution.move_lost(recipe)
            await distribution.commit(conclusion.commitment)
        if distribution.count(ShareState.COMMITTED) < needed:
            had = distribution.count(ShareState.OPEN, ShareState.COMMITTED)
            raise too_few(source.shown, had, needed, distribution.lost_reasons())
        session.keep(conclusion, self._encoding.encoding_id, reader.stamp, sha256)
        names = [
            session.name_of(share.device or b"") if share.state is ShareState.COMMITTED else None
            for share in distribution.shares
        ]
        return StoredImage(
            sha256,
            source.shown,
            size,
            session.code.k,
            session.code.n,
            names,
            False,
            time.monotonic() - self._started,
            self._picture.is_image,
        )
