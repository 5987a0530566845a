"""What all images of one run share: the link, their owner, the code, the buffers, and what is known to be stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, TypeVar, Union

from common.coding.redundancy import count_devices
from common.coding.slicing import Slicing, block_size_for
from common.erasure import ErasureCode
from common.link.link import Link
from common.link.questions import FoundPlaces, find_places, locate
from common.process.events import BytesDone, Warned, ignore
from common.protocol.messages import Device, EncodingAt, shares_at_hand
from common.vault.mapping import MAX_THUMBNAIL
from common.vault.stamp import Stamp
from producer.buffers import Buffers
from producer.encoding import Conclusion
from producer.events import Emit, StoredImage, shares_needed
from producer.owner import Owner, OwnVault
from producer.reading import stamp_of
from producer.sources import Source
from producer.threads import Threads
from viewer.picture import Picture
from viewer.process import Viewer

T = TypeVar("T")
_BATCH_SEGMENTS = 2  # whose bytes a batch of small images may have: with two there are fewer messages than with one


@dataclass(frozen=True)
class Coding:
    """How images are cut and coded for one k and n, and buffers of that size."""

    code: ErasureCode
    slicing: Slicing
    buffers: Buffers


def coding_of(k: int, n: int) -> Coding:
    code = ErasureCode(k, n)
    slicing = Slicing(k, code.block_unit, block_size_for(n))
    return Coding(code, slicing, Buffers(n * slicing.block_size))


class Session:
    def __init__(
        self,
        link: Link,
        owner: Owner,
        k: int,
        n: int,
        devices: Sequence[Device],
        *,
        viewer: Viewer,
        images_only: bool,
        reread: bool = False,
        allow_empty: bool = False,
        required: tuple[Optional[int], Optional[int]] = (None, None),
        avoid: Sequence[bytes] = (),
        accept_degraded: bool = False,
        emit: Emit = ignore,
    ) -> None:
        """`emit` is told of each share's steps, and of bytes as they go on their way.

        `required`: k and n as far as the user gave them. Where not, an interrupted put keeps to those that it had.
        `avoid`: devices that get no share. `reread`: no file is recognised without being read. `allow_empty`: stdin
        may give nothing. `accept_degraded`: k shares are enough.
        """
        self.link = link
        self.owner = owner
        self.own = owner if isinstance(owner, OwnVault) else None  # what can be asked and remembered for it only
        self._codings = {(k, n): coding_of(k, n)}
        self.coding = self._codings[k, n]
        self._required = required
        self.images_only = images_only
        self.allow_empty = allow_empty
        self._reread = reread
        self.emit = emit
        self.avoid = tuple(avoid)
        self._count = count_devices(devices)
        self._accept_degraded = accept_degraded
        self._away = {d.device_id for d in devices if not d.alive and not d.retiring} - set(avoid)
        self._names: dict[bytes, str] = {device.device_id: device.name for device in devices}
        self._viewer = viewer
        self._looking = asyncio.Lock()
        self._threads = Threads()

    @property
    def code(self) -> ErasureCode:
        return self.coding.code

    @property
    def slicing(self) -> Slicing:
        return self.coding.slicing

    @property
    def batch_room(self) -> int:
        """Bytes of each share that a batch of small images has room for."""
        return _BATCH_SEGMENTS * self.slicing.block_size

    def needed(self, k: int, n: int) -> int:
        """Committed shares without which an image of k of n does not count as stored."""
        return shares_needed(k, n, accept_degraded=self._accept_degraded)

    def missing(self, lost: Iterable[bytes] = ()) -> tuple[str, ...]:
        """The names of the devices that could not get a share: those that are away, and the `lost` ones."""
        return tuple(sorted(self.name_of(device) for device in self._away.union(lost)))

    def coding_for(self, k: int, n: int) -> Optional[Coding]:
        """The coding of a put that was interrupted; None where the user wants another now."""
        if self._required[0] not in (None, k) or self._required[1] not in (None, n):
            return None
        if (k, n) not in self._codings:
            self._codings[k, n] = coding_of(k, n)
        return self._codings[k, n]

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what reads, hashes or looks at pictures beside the event loop."""
        return await self._threads.run(work, *arguments)

    async def look_at(self, content: Union[memoryview, Path], thumbnail_limit: int = MAX_THUMBNAIL) -> Picture:
        """What a look at an image says."""
        return (await self.look_at_all([(content, thumbnail_limit)]))[0]

    async def look_at_all(self, images: Sequence[tuple[Union[memoryview, Path], int]]) -> list[Picture]:
        """What looks at images say, each with its thumbnail's most bytes.

        By one thread at a time, so that those that wait keep none from reading, and for all in one go.
        """
        async with self._looking:
            return await self.in_thread(lambda: [self._viewer.look_at(*image) for image in images])

    def name_of(self, device: bytes) -> str:
        return self._names.get(device, device.hex())

    def close(self) -> None:
        """To be called once, when all is stored or given up."""
        self._threads.close()
        if self.own is not None:
            try:
                self.own.save()
            except OSError as error:
                self.emit(
                    Warned(f"the index of files seen could not be kept: {error.strerror}; they will be read again")
                )

    # --- asking

    async def find_places(
        self, encoding_ids: Sequence[bytes], share_bytes: int, exclude: Sequence[bytes] = ()
    ) -> FoundPlaces:
        excluded = [*self.avoid, *exclude]
        return await find_places(self.link, encoding_ids, self.code.n, share_bytes, excluded)

    async def stored_encodings(self, sha256s: Sequence[bytes]) -> dict[bytes, EncodingAt]:
        """SHA-256 → an encoding with enough shares at hand to count as stored; those without are left out.

        Of another's vault nothing can be asked: then there are none.
        """
        if self.own is None:
            return {}
        by_object = {self.own.object_id(sha256): sha256 for sha256 in sha256s}
        found, _ = await locate(self.link, list(by_object))
        return {
            by_object[object_id]: encoding
            for object_id, encodings in found.items()
            for encoding in encodings[:1]
            if len(shares_at_hand(encoding)) >= self.needed(encoding.k, encoding.n)
        }

    async def find_stored(self, source: Source, sha256: bytes, size: int, started: float) -> Optional[StoredImage]:
        encoding = (await self.stored_encodings([sha256])).get(sha256)
        return None if encoding is None else self.already_stored(source, sha256, size, encoding, started)

    def already_stored(
        self, source: Source, sha256: bytes, size: int, encoding: EncodingAt, started: float
    ) -> StoredImage:
        at_hand = shares_at_hand(encoding)
        names = [self.name_of(at_hand[s][0]) if s in at_hand else None for s in range(encoding.n)]
        seconds = time.monotonic() - started
        self.emit(BytesDone(size))
        asked = self.code.k, self.code.n
        weaker = self._count.could_be_stronger(encoding.k, encoding.n, asked)
        away = {share.device_id for share in encoding.shares if not share.alive and share.share not in at_hand}
        return StoredImage(
            sha256,
            source.shown,
            size,
            encoding.k,
            encoding.n,
            names,
            True,
            seconds,
            None,
            asked if weaker else None,
            self.missing(away) if None in names else (),
        )

    # --- remembering

    def seen(self, stamp: Optional[Stamp]) -> bytes:
        """The SHA-256 of a file seen before; empty where it was not, or where no stamp is believed."""
        return b"" if self.own is None or self._reread else self.own.seen(stamp)

    def resembles_seen(self, source: Source) -> bool:
        """Whether a file of this path and size was seen before: it is likely to be stored already."""
        stamp = stamp_of(source)
        return stamp is not None and self.own is not None and self.own.resembles_seen(stamp)

    def remember(self, stamp: Optional[Stamp], sha256: bytes) -> None:
        if self.own is not None:
            self.own.remember(stamp, sha256)

    def keep(self, conclusion: Conclusion, encoding_id: bytes, stamp: Optional[Stamp], sha256: bytes) -> None:
        """What this machine keeps of an image that was stored."""
        if self.own is not None:
            self.own.keep_mapping(conclusion.sealed, encoding_id)
            self.own.remember(stamp, sha256)
