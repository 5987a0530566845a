"""Restores images, many at a time, each from the first of its encodings that can be.

Shares that were found bad are reported to the broker at an image's end, so that they are repaired; an error in that is
ignored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Optional, Union

from common.chunks import chunks
from common.erasure import ErasureCode
from common.errors import IntegrityError, NoRoomError, NotEnoughError, NotFoundError, TesseraError, UsageError
from common.link.replies import DeclinedError
from common.link.window import Window
from common.process.events import BytesDone, BytesExpected, ignore
from common.protocol.messages import BadShare, EncodingAt, is_at_hand, shares_at_hand
from common.repository.repository import Repository
from common.text import is_full
from common.vault.mapping import Mapping
from consumer.batch import BATCHES, MAX_IMAGES, BatchRestorer, SmallImage, fits
from consumer.destination import Destination
from consumer.events import Attempt, BytesReceived, Emit, Missing, NotRestored, Restored
from consumer.gathering import Gathering
from consumer.group_commit import GroupCommit
from consumer.output import HeldOutput, Output, ThroughOutput, told_removed
from consumer.restoring import Restoring

log = logging.getLogger(__name__)

_IMAGES = 160  # restored at a time
_MEMORY = 48 << 20  # bytes of segments for all of them; a large image takes about half of it
_PER_LARGE_IMAGE = 28 << 20  # segments gathered ahead, one being opened, two being written
_PER_IMAGE = 64 << 10

OpenOutput = Callable[[Mapping], Union[Output, ThroughOutput, HeldOutput]]


class Restorer:
    def __init__(self, repository: Repository, emit: Emit = ignore, *, early: bool = False) -> None:
        """`emit` gets the outcome of each image. `early`: as of `Gathering.fetch_early`, which is for few images."""
        self._repository = repository
        self._codes: dict[tuple[int, int], ErasureCode] = {}
        self._window = Window(_IMAGES, _MEMORY)
        self._commits = GroupCommit()
        self._early = early
        self._bad: set[bytes] = set()  # devices that gave bad blocks
        self._troubles: dict[str, list[str]] = {}  # SHA-256 → what a batch met, until the image is restored by itself
        self._batches = BatchRestorer(repository.devices, self._code, self._bad)
        self.emit = emit

    async def restore(self, encodings: Sequence[EncodingAt], sha256: str, open_output: OpenOutput) -> Restored:
        """Restore an image from the first of its encodings that can be.

        NotEnoughError where no encoding has k shares at hand, IntegrityError where those at hand are damaged,
        NoRoomError where it cannot be written here. Of a HeldOutput that is opened again after an error only the rest
        is fetched.
        """
        room = min(_PER_LARGE_IMAGE, 3 * encodings[0].share_bytes * encodings[0].k + _PER_IMAGE)
        await self._window.enter(room)
        try:
            with self._repository.link.explaining(sha256):
                return await self._restore(encodings, sha256, open_output)
        finally:
            self._window.leave(room)

    async def restore_small(self, images: Sequence[SmallImage]) -> list[Optional[Restored]]:
        """Restore many images that `batch.fits` tells of; None for each that only `restore` can be tried with."""
        started = time.monotonic()
        self.emit(BytesExpected(sum(image.mapping.image_size for image in images)))
        bad: list[BadShare] = []

        def damaged(image: SmallImage, share: int, error: DeclinedError) -> None:
            sha256 = image.mapping.image_sha256.hex()
            self._trouble(sha256, self._troubles.setdefault(sha256, []), error.device, f"share {share}: {error}")
            bad.append(BadShare(image.encoding.encoding_id, share, error.device))

        paths = await self._batches.restore(images, damaged)
        await self._report(bad)
        seconds = time.monotonic() - started
        restored: list[Optional[Restored]] = []
        for image, path in zip(images, paths):
            mapping = image.mapping
            if path is None:
                restored.append(None)
                continue
            self.emit(BytesDone(mapping.image_size))
            restored.append(Restored(mapping.image_sha256.hex(), mapping.name, mapping.image_size, path, seconds))
        return restored

    def mapping_of_small(self, encodings: Sequence[EncodingAt]) -> Optional[Mapping]:
        """The mapping by which an image is restored together with others; None where it is not."""
        mapping = self._repository.mappings.kept(encodings[0]) if is_at_hand(encodings[0]) else None
        return mapping if mapping is not None and fits(encodings[0], mapping) else None

    async def _restore(self, encodings: Sequence[EncodingAt], sha256: str, open_output: OpenOutput) -> Restored:
        started = time.monotonic()
        failure: Optional[TesseraError] = None
        troubles = self._troubles.pop(sha256, [])

        def trouble(device: bytes, text: str) -> None:
            self._trouble(sha256, troubles, device, text)

        def came(device: bytes, count: int) -> None:
            self.emit(BytesReceived(sha256, self._repository.name_of(device), count))

        for encoding in encodings:
            names = [self._repository.name_of(share.device_id) for share in encoding.shares]
            away = [name for share, name in zip(encoding.shares, names) if not share.alive]
            self.emit(Attempt(sha256, encoding.k, encoding.n, names, away))
            if not is_at_hand(encoding):
                failure = failure or self._too_few(encoding, sha256)
                continue
            gathering = Gathering(self._repository.devices, encoding, trouble, came)
            restored: Optional[Restored] = None
            try:
                mapping, path = await self._restore_from(encoding, gathering, open_output)
                seconds = time.monotonic() - started
                restored = Restored(sha256, mapping.name, mapping.image_size, path, seconds, troubles)
            except (NotEnoughError, IntegrityError) as error:
                failure = type(error)(f"{sha256}: {error}", advice=error.advice)
            self._bad.update(each.device_id for each in gathering.bad)
            await self._report(gathering.bad)
            if restored is not None:
                return restored
        raise failure or NotEnoughError(f"{sha256}: no shares are at hand")

    def _trouble(self, sha256: str, troubles: list[str], device: bytes, text: str) -> None:
        """Tell once what is wrong with a device's share; `troubles`: what was told of the image."""
        line = f"{self._repository.name_of(device)}: {text}"
        if line not in troubles:
            troubles.append(line)
            self.emit(Missing(sha256, self._repository.name_of(device), text))

    async def _restore_from(
        self, encoding: EncodingAt, gathering: Gathering, open_output: OpenOutput
    ) -> tuple[Mapping, Optional[Path]]:
        code = self._code(encoding.k, encoding.n)
        kept = self._repository.mappings.kept(encoding)
        if self._early and kept is not None:
            gathering.fetch_early(kept, code.block_unit)
        image = await gathering.prove(self._repository.key, kept, code.block_unit)
        self.emit(BytesExpected(image.mapping.image_size))
        output = open_output(image.mapping)
        checkpoint = output.checkpoint if isinstance(output, HeldOutput) else None
        try:
            await Restoring(code, gathering, image, checkpoint).write_to(output, self.emit)
            if isinstance(output, Output):
                await self._commits.keep(output)
            else:
                output.keep()
        except NoRoomError as error:
            sha256, name = image.mapping.image_sha256.hex(), image.mapping.name
            raise NoRoomError(f"{sha256} ({name}): {error}", advice=error.advice) from None
        return image.mapping, output.target

    async def _report(self, bad: Sequence[BadShare]) -> None:
        """Report bad shares to the broker; errors are ignored."""
        try:
            await self._repository.report_bad(bad)
        except TesseraError as error:
            log.debug("the broker was not told of %d bad shares: %s", len(bad), error)

    def _too_few(self, encoding: EncodingAt, sha256: str) -> TesseraError:
        """IntegrityError where every share is known and connected, some damaged; else NotEnoughError."""
        had = len(shares_at_hand(encoding))
        if _all_present(encoding):
            return IntegrityError(f"{sha256}: only {had} of its shares are undamaged and {encoding.k} are needed")
        absent = sorted({self._repository.name_of(s.device_id) for s in encoding.shares if not s.alive})
        hint = f"connect one of these again: {', '.join(absent)}" if absent else None
        return NotEnoughError(
            f"{sha256}: {had} of its shares are at hand and {encoding.k} are needed ({encoding.n} were made)",
            advice=hint,
        )

    def _code(self, k: int, n: int) -> ErasureCode:
        code = self._codes.get((k, n))
        if code is None:
            code = self._codes[k, n] = ErasureCode(k, n)
        return code


def _all_present(encoding: EncodingAt) -> bool:
    """Whether all n shares are on connected devices, damaged ones included."""
    return len({share.share for share in encoding.shares if share.alive}) == encoding.n


async def restore_all(
    restorer: Restorer,
    images: dict[str, list[EncodingAt]],
    open_output: OpenOutput,
) -> None:
    """Restore many images at a time, given by SHA-256 (hexadecimal); the outcome of each is emitted at once.

    Those that failed for lack of room beside a larger one are tried again at the end, the smallest first.
    """
    unfit: dict[str, Union[Restored, NotRestored]] = {}

    async def one(sha256: str) -> Union[Restored, NotRestored]:
        try:
            return await restorer.restore(images[sha256], sha256, open_output)
        except TesseraError as error:
            return NotRestored(sha256, error)

    async def first(sha256: str) -> None:
        outcome = await one(sha256)
        if _is_unfit(outcome):
            unfit[sha256] = outcome
        else:
            restorer.emit(outcome)

    async def together(some: Sequence[str]) -> None:
        mappings = {sha256: restorer.mapping_of_small(images[sha256]) for sha256 in some}
        small = {sha256: mapping for sha256, mapping in mappings.items() if mapping is not None}
        others = asyncio.gather(*(first(sha256) for sha256 in some if sha256 not in small))
        batch = [SmallImage(images[sha256][0], each, partial(open_file, each)) for sha256, each in small.items()]
        restored = await restorer.restore_small(batch) if batch else []
        for done in filter(None, restored):
            restorer.emit(done)
        await asyncio.gather(others, *(first(sha256) for sha256, done in zip(small, restored) if done is None))

    def open_file(mapping: Mapping) -> Output:
        output = open_output(mapping)
        if isinstance(output, Output):
            return output
        output.discard()
        raise UsageError("that is no file")

    async def work() -> None:
        for some in waiting:
            await together(some)

    waiting = chunks(images, MAX_IMAGES)
    await asyncio.gather(*(work() for _ in range(BATCHES)))
    by_size = sorted(unfit, key=lambda sha256: images[sha256][0].share_bytes * images[sha256][0].k)
    for sha256 in by_size[:-1]:  # where all others fit, the largest cannot
        outcome = await one(sha256)
        if _is_unfit(outcome):
            break
        del unfit[sha256]
        restorer.emit(outcome)
    for outcome in unfit.values():
        restorer.emit(outcome)


async def restore_held(repository: Repository, wanted: Sequence[str], destination: Destination) -> None:
    """Restore images that the vault holds; what came of each is told as soon as it is done.

    `wanted`: hashes, as `check_hash` returns them, each once.
    """
    if destination.removed:
        repository.emit(told_removed(destination.removed))
    restorer = Restorer(repository, repository.emit, early=len(wanted) == 1)
    await restore_all(restorer, await _find_all(repository, wanted), destination.open)


async def _find_all(repository: Repository, hashes: Sequence[str]) -> dict[str, list[EncodingAt]]:
    """SHA-256 → encodings of the images with these hashes, or beginnings of them; of the others it is told."""
    whole = [bytes.fromhex(text) for text in hashes if is_full(text)]
    located = await repository.locate_all(whole) if whole else {}
    unread = await repository.learn_all() if len(whole) < len(hashes) else 0
    images: dict[str, list[EncodingAt]] = {}
    for text in hashes:
        try:
            if is_full(text):
                found = located[bytes.fromhex(text)]
                if isinstance(found, NotFoundError):
                    raise found
                images[text] = found
            else:
                image = await repository.find(text, unread)
                images[image.sha256] = image.encodings
        except TesseraError as error:
            repository.emit(NotRestored(text, error))
    return images


def _is_unfit(outcome: Union[Restored, NotRestored]) -> bool:
    return isinstance(outcome, NotRestored) and isinstance(outcome.error, NoRoomError)
