"""Stores many small images together: those that fit into one segment each, the whole share in one message.

Forwarding a message costs the broker much the same whatever its size. So up to 64 images, the bytes of two segments at
most, are read, looked up, sealed and coded together, and all shares for one device are sent together; at first by way
of the broker's coding (`coded_batch`), so that parity does not come from here. A share that is not acknowledged goes to
another device; its block is still in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Optional, Union

from common.errors import ProtocolError, TesseraError, UnreachableError
from common.link.replies import DeclinedError, Reply
from common.link.stragglers import Stragglers
from common.process.events import BytesDone
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.device_messages import Stored
from common.protocol.messages import MAX_BATCH, MAX_CODED_SHARES, Answer, Code
from common.protocol.operations import STORE, STORE_SEGMENTS
from common.vault.mapping import MAX_THUMBNAIL, SNAPSHOT, TREE
from common.vault.stamp import Stamp
from producer.coded_batch import CodedBatch, Sealed, divide, store_header, store_payload
from producer.distribution import withdraw_shares
from producer.encoding import Bytes, Conclusion, EncodedSegment, Encoding, Image, conclude_all, encode_all
from producer.events import FailedImage, LeftOut, Outcome, ShareSteps, SkippedFile, Step, StoredImage, too_few
from producer.reading import WholeFile, read_whole
from producer.sources import Source
from producer.target import FoundImage, Target
from producer.threads import Threads
from viewer.picture import Picture

log = logging.getLogger(__name__)

MAX_IMAGES = MAX_BATCH  # so that the shares of each device are one message
_MAX_MOVES = 3
_MIN_THUMBNAIL = 1024  # bytes; a thumbnail takes no more than a sixteenth of the image, but may take this


@dataclass
class _Image:
    """One image that was read."""

    source: Source
    content: memoryview
    sha256: bytes
    stamp: Optional[Stamp]
    picture: Optional[Picture] = None  # None until it is looked at


@dataclass(eq=False)
class _Encoded:
    """One image being stored."""

    image: _Image
    encoding_id: bytes
    blocks: list[Bytes]
    conclusion: Conclusion
    share_bytes: int  # of a share as it is sent: its block, then its commitment
    held: dict[int, bytes] = field(default_factory=dict)  # share → the device that committed it
    refused: dict[int, Code] = field(default_factory=dict)  # share → why its last device did not
    gone: set[bytes] = field(default_factory=set)  # devices that did not answer

    @property
    def sealed(self) -> Sealed:
        return Sealed(self.encoding_id, self.blocks, self.conclusion.commitment)


_Coded = tuple[Encoding, EncodedSegment]
_PlacedShare = tuple[_Encoded, int, bytes]  # the image, the share's number, its device


async def store_batch(target: Target, threads: Threads, sources: Sequence[Source]) -> list[Outcome]:
    """Store small sources; an error of one is its own outcome only."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    images = await _read(threads, sources, outcomes)
    asked = {image.sha256 for image in images if image.source.kind != SNAPSHOT}  # no two snapshots are alike
    known = await target.stored_encodings(list(asked))
    fresh: dict[bytes, _Image] = {}
    twins: list[_Image] = []
    for image in images:
        encoding = known.get(image.sha256)
        if encoding is not None:
            found = FoundImage(image.source, image.sha256, len(image.content), image.stamp)
            outcomes.append(target.already_stored(found, encoding, started))
            target.owner.remember(image.stamp, image.sha256)
        elif image.sha256 in fresh:
            twins.append(image)
        else:
            fresh[image.sha256] = image
    wanted = list(fresh.values())
    if target.options.images_only:
        await _look(threads, wanted)
        kept = [_is_image(image) or image.source.is_kept or image.source.kind is not None for image in wanted]
        left = [image for image, keep in zip(wanted, kept) if not keep]
        wanted = [image for image, keep in zip(wanted, kept) if keep]
        outcomes += [SkippedFile(image.source.shown, LeftOut.NO_IMAGE) for image in left]
    if wanted:
        outcomes += await _store_fresh(target, threads, wanted, started)
    if twins:  # the same bytes under another name, stored above
        outcomes += await store_batch(target, threads, [twin.source for twin in twins])
    return outcomes


async def _store_fresh(target: Target, threads: Threads, wanted: Sequence[_Image], started: float) -> list[Outcome]:
    slicing = target.coding.slicing
    room = sum(slicing.block_length(len(image.content)) for image in wanted)
    segments = -(-room // slicing.block_size)
    looking = asyncio.ensure_future(_look(threads, wanted))
    try:
        buffer = await target.coding.buffers.take(segments)
        try:
            await asyncio.sleep(0)  # the viewer is asked, and looks while this thread encodes
            coded = _encode(target, wanted, buffer)
            await looking
            images = _conclude_encodings(target, wanted, coded)
            await _send(target, images)
        finally:
            target.coding.buffers.give_back(buffer, segments)  # messages have copies of the blocks
    finally:
        looking.cancel()
    await asyncio.gather(*(_withdraw(target, image) for image in images if not _is_stored(target, image)))
    return _conclude(target, images, started)


# --- read


async def _read(threads: Threads, sources: Sequence[Source], outcomes: list[Outcome]) -> list[_Image]:
    images = []
    for source, read in await threads.run(_read_all, sources):
        if isinstance(read, TesseraError):
            outcomes.append(FailedImage(source.shown, read))
        else:
            images.append(_Image(source, *read))
    return images


def _read_all(sources: Sequence[Source]) -> list[tuple[Source, Union[WholeFile, TesseraError]]]:
    """Read a whole batch in one thread: switching threads for each would take longer than reading."""
    outcomes: list[tuple[Source, Union[WholeFile, TesseraError]]] = []
    for source in sources:
        try:
            outcomes.append((source, read_whole(source)))
        except TesseraError as error:
            outcomes.append((source, error))
    return outcomes


async def _look(threads: Threads, images: Sequence[_Image]) -> None:
    """Look at those that nobody looked at yet; what is no file of the user's is no picture."""
    looked = [image for image in images if image.picture is None and image.source.kind is None]
    if not looked:
        return
    pictures = await threads.look_at_all([(image.content, _thumbnail_limit(image.content)) for image in looked])
    for image, picture in zip(looked, pictures):
        image.picture = picture


def _is_image(image: _Image) -> bool:
    return image.picture is not None and image.picture.is_image


def _thumbnail_limit(content: memoryview) -> int:
    return min(MAX_THUMBNAIL, max(_MIN_THUMBNAIL, len(content) // 16))


# --- seal → encode


def _encode(target: Target, images: Sequence[_Image], buffer: Bytes) -> list[_Coded]:
    """Seal and code the images into one buffer, one after the other."""
    coding, signer = target.coding, target.owner.signer
    parts, offset = [], 0
    for image in images:
        encoding = Encoding(coding.code, coding.slicing, signer)
        room = encoding.buffer_bytes(len(image.content))
        parts.append((encoding, image.content, buffer[offset : offset + room]))
        offset += room
    return [(encoding, segment) for (encoding, _, _), segment in zip(parts, encode_all(coding.code, parts))]


def _conclude_encodings(target: Target, images: Sequence[_Image], coded: Sequence[_Coded]) -> list[_Encoded]:
    """Seal the mappings of images that were looked at, and sign for all at once."""
    owner, now = target.owner, int(time.time())
    sealed = []
    for image, (encoding, _) in zip(images, coded):
        source, picture = image.source, image.picture or Picture()
        about = Image(image.sha256, len(image.content), source.name, picture, now, source.kind, source.kept)
        sealed.append((encoding, encoding.seal(owner, about)))
    return [
        _Encoded(image, encoding.encoding_id, segment.blocks, said, segment.blocks[0].nbytes + len(said.commitment))
        for image, (encoding, segment), said in zip(images, coded, conclude_all(owner.signer, sealed))
    ]


# --- send → commit


async def _send(target: Target, images: Sequence[_Encoded]) -> None:
    """Send every share to a device, and those that are not acknowledged to others, while there are any.

    A late device is still listened to when another gets its shares: whichever is first counts.
    """
    tried: dict[bytes, list[bytes]] = {image.encoding_id: [] for image in images}
    stragglers = Stragglers()
    asked: dict[asyncio.Future[None], bytes] = {}  # device of each
    try:
        for attempt in range(_MAX_MOVES):
            lacking = [image for image in images if len(image.held) < target.coding.code.n]
            sendings = await _place(target, lacking, tried, together=attempt == 0)
            if not sendings:
                break
            sent: dict[asyncio.Future[None], bytes] = {}
            if attempt == 0:
                sent, sendings = _have_coded(target, sendings)
            by_device: dict[bytes, list[_PlacedShare]] = {}
            for sending in sendings:
                by_device.setdefault(sending[2], []).append(sending)
            messages = [m for shares in by_device.values() for m in _messages(shares)]
            for message in messages:
                _tell(target, message, Step.PLACED)
            sent.update((asyncio.ensure_future(_send_message(target, each)), each[0][2]) for each in messages)
            asked.update(sent)
            for task in await stragglers.late(sent, few=attempt > 0):
                target.note_late(sent[task])
        under_way = {task for task in asked if not task.done()}
        while under_way and any(len(image.held) < target.coding.code.n for image in images):
            _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in asked:
            task.cancel()  # another device has its shares: of what it keeps all the same there is too much
        await asyncio.gather(*asked, return_exceptions=True)


async def _place(
    target: Target, images: Sequence[_Encoded], tried: dict[bytes, list[bytes]], *, together: bool
) -> list[_PlacedShare]:
    """Devices for the shares that have none yet. `together`: none was tried, so one request does for all."""
    n = target.coding.code.n
    if together and images:
        ids = [image.encoding_id for image in images]
        places = await target.find_places(ids, max(image.share_bytes for image in images))
        placed = [(devices, places.lacking) for devices in places.devices]
    else:
        found = [
            await target.find_places([i.encoding_id], i.share_bytes, tried[i.encoding_id], wanted=n - len(i.held))
            for i in images
        ]
        placed = [(places.devices[0], places.lacking) for places in found]
    sendings: list[_PlacedShare] = []
    for image, (devices, lacking) in zip(images, placed):
        open_shares = [share for share in range(n) if share not in image.held]
        for share in open_shares[len(devices) :]:
            image.refused.setdefault(share, lacking)
        tried[image.encoding_id] += devices[: len(open_shares)]
        sendings += [(image, share, device) for share, device in zip(open_shares, devices)]
    return sendings


def _messages(sendings: Sequence[_PlacedShare]) -> Iterable[list[_PlacedShare]]:
    """One device's shares in messages of at most the protocol's sizes."""
    message: list[_PlacedShare] = []
    size = 0
    for sending in sendings:
        share_size = sending[0].share_bytes
        if message and (len(message) == MAX_BATCH or size + share_size > MAX_PAYLOAD):
            yield message
            message, size = [], 0
        message.append(sending)
        size += share_size
    if message:
        yield message


def _have_coded(
    target: Target, sendings: list[_PlacedShare]
) -> tuple[dict[asyncio.Future[None], bytes], list[_PlacedShare]]:
    """Have the broker code what it may: what waits for each device, which is named, and what is to be sent alone."""
    k, n = target.coding.code.k, target.coding.code.n
    if not target.broker_coding.in_use or n > MAX_CODED_SHARES:
        return {}, sendings
    devices: dict[_Encoded, dict[int, bytes]] = {}
    for image, share, device in sendings:
        devices.setdefault(image, {})[share] = device
    images = {image.encoding_id: image for image in devices}
    together, alone = divide([(image.sealed, places) for image, places in devices.items()], k)
    waiting: dict[asyncio.Future[None], bytes] = {}
    for group in together:
        batch = CodedBatch(group, k, n)
        answers = target.link.request_combined(STORE_SEGMENTS, batch.header, batch.payload(), batch.requests())
        for (device, shares), answer in zip(batch.shares.items(), answers):
            message = [(images[sealed.encoding_id], share, device) for sealed, share in shares]
            _tell(target, message, Step.PLACED)
            task = asyncio.ensure_future(_take_coded(target, message, answer))
            task.add_done_callback(partial(_give_up, answer))
            waiting[task] = device
    left = [(images[sealed.encoding_id], share, device) for sealed, to in alone for share, device in to.items()]
    return waiting, left


def _give_up(answer: asyncio.Future[Reply[Stored]], _: object) -> None:
    answer.cancel()  # where what waited for it was cancelled, maybe before it began


async def _take_coded(target: Target, sendings: Sequence[_PlacedShare], asking: Awaitable[Reply[Stored]]) -> None:
    """Wait for what a device says of shares that the broker coded; what it refuses as wrong is sent from here."""
    answers = await _answers_of(asking, len(sendings))
    wrong = [sending for sending, answer in zip(sendings, answers) if answer.code is Code.MALFORMED]
    others = [(sending, answer) for sending, answer in zip(sendings, answers) if answer.code is not Code.MALFORMED]
    _take_answers(target, [sending for sending, _ in others], [answer for _, answer in others])
    if wrong:
        await _send_message(target, wrong)
        if any(image.held.get(share) == device for image, share, device in wrong):
            target.broker_coding.was_wrong(target.link.address, target.name_of(sendings[0][2]))


async def _send_message(target: Target, sendings: Sequence[_PlacedShare]) -> None:
    shares = [(image.sealed, share) for image, share, _ in sendings]
    header = store_header(shares, target.coding.code.k, target.coding.code.n)
    asking = target.link.request(STORE, header, device=sendings[0][2], payload=store_payload(shares))
    _take_answers(target, sendings, await _answers_of(asking, len(sendings)))


async def _answers_of(asking: Awaitable[Reply[Stored]], count: int) -> Sequence[Answer]:
    """What a device says of so many shares."""
    try:
        reply = await asking
        answers = reply.header.shares
        if len(answers) != count:
            raise ProtocolError("a reply does not answer what was asked")
    except DeclinedError as error:
        answers = [Answer(error.code, str(error))] * count
    except UnreachableError as error:
        answers = [Answer(Code.GONE, str(error))] * count
    except ProtocolError as error:  # a device that breaks the protocol loses its shares only
        answers = [Answer(Code.FAULT, str(error))] * count
    return answers


def _take_answers(target: Target, sendings: Sequence[_PlacedShare], answers: Sequence[Answer]) -> None:
    granted = []
    for sending, answer in zip(sendings, answers):
        image, share, device = sending
        if share in image.held:
            continue  # by another device meanwhile
        if answer.granted:
            image.held[share] = device
            image.refused.pop(share, None)
            granted.append(sending)
        else:
            image.refused[share] = answer.code
            if answer.code is Code.GONE:
                image.gone.add(device)
            _tell(target, [sending], Step.LOST, why=answer.text or answer.code.value)
    for step in (Step.ACKNOWLEDGED, Step.COMMITTED):
        _tell(target, granted, step)
    refusal = next((answer for answer in answers if not answer.granted), None)
    if refusal is not None:
        log.warning("%s: %s", target.name_of(sendings[0][2]), refusal.text or refusal.code.value)


def _tell(target: Target, sendings: Sequence[_PlacedShare], step: Step, why: str = "") -> None:
    if sendings:
        shares = [(image.image.source.shown, share, image.share_bytes) for image, share, _ in sendings]
        target.emit(ShareSteps(shares, target.name_of(sendings[0][2]), step, why))


# --- what came of it


def _is_stored(target: Target, image: _Encoded) -> bool:
    return len(image.held) >= target.needed(target.coding.code.k, target.coding.code.n)


async def _withdraw(target: Target, image: _Encoded) -> None:
    """Delete the shares of an image that is not stored: they would show as one that lacks some."""
    tombstone = target.owner.withdrawal(image.conclusion.sealed.object_id, image.encoding_id)
    if tombstone is not None:
        await withdraw_shares(target.link, image.held.values(), tombstone)


def _conclude(target: Target, images: Sequence[_Encoded], started: float) -> list[Outcome]:
    stored = [image for image in images if _is_stored(target, image)]
    if stored:
        target.owner.keep_mappings([(each.conclusion.sealed, each.encoding_id, _kept(each)) for each in stored])
        target.emit(BytesDone(sum(len(each.image.content) for each in stored)))
    return [_outcome(target, image, started) for image in images]


def _kept(encoded: _Encoded) -> Optional[bytes]:
    """The content of a snapshot or tree."""
    source = encoded.image.source
    return source.content if source.kind in (SNAPSHOT, TREE) else None


def _outcome(target: Target, encoded: _Encoded, started: float) -> Outcome:
    image, code = encoded.image, target.coding.code
    if not _is_stored(target, encoded):
        needed = target.needed(code.k, code.n)
        address = target.link.address
        error = too_few(image.source.shown, len(encoded.held), needed, encoded.refused, code.k, address)
        return FailedImage(image.source.shown, error)
    target.owner.remember(image.stamp, image.sha256)
    names = [target.name_of(encoded.held[s]) if s in encoded.held else None for s in range(code.n)]
    return StoredImage(
        image.sha256,
        image.source.shown,
        len(image.content),
        code.k,
        code.n,
        names,
        False,
        time.monotonic() - started,
        _is_image(image),
        missing=target.missing(encoded.gone) if None in names else (),
        stamp=image.stamp,
    )
