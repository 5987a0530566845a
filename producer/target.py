"""Vault, coding and devices for the images of one run, and what is stored there already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from common.coding.redundancy import count_devices
from common.link.link import Link
from common.link.questions import FoundPlaces, find_places, locate
from common.process.events import BytesDone, ignore
from common.protocol.messages import Device, EncodingAt, shares_at_hand
from common.vault.stamp import Stamp
from producer.broker_coding import BrokerCoding, CodeAt
from producer.events import Emit, StoredImage, shares_needed
from producer.owner import Owner
from producer.segments import Coding, coding_of
from producer.sources import Source

_LATE_FOR = 60.0  # seconds for which a device that was late gets no shares that others can have


@dataclass(frozen=True)
class StoreOptions:
    """How the user wants images stored; what is left out is chosen by the devices there are."""

    k: Optional[int] = None
    n: Optional[int] = None
    images_only: bool = False
    reread: bool = False  # ignore the index of files seen
    allow_empty: bool = False  # of stdin
    accept_degraded: bool = False  # for the devices on the list, where some are away
    snapshot: bool = True  # record one, of the vault's own
    label: Optional[str] = None  # of the snapshot
    to: Sequence[str] = ()  # the names of the devices that may get shares; all where there are none
    code_at: CodeAt = CodeAt.BROKER


class FoundImage(NamedTuple):
    """A source whose SHA-256 is known."""

    source: Source
    sha256: bytes
    size: int  # bytes
    stamp: Optional[Stamp]


class Target:
    def __init__(
        self,
        link: Link,
        owner: Owner,
        k: int,
        n: int,
        devices: Sequence[Device],
        options: StoreOptions,
        *,
        avoid: Sequence[bytes] = (),
        emit: Emit = ignore,
    ) -> None:
        """`k`, `n`: as in `options`, or chosen where these leave them out. `avoid`: devices that get no share.

        `emit` gets each share's steps, and bytes as they are sent.
        """
        self.link = link
        self.owner = owner
        self.coding = coding_of(k, n)
        self.avoid = tuple(avoid)
        self.emit = emit
        self._codings = {(k, n): self.coding}
        self.options = options
        self.broker_coding = BrokerCoding(emit, options.code_at)
        self._count = count_devices(devices)
        self._away = {d.device_id for d in devices if not d.alive and not d.retiring} - set(avoid)
        self._names: dict[bytes, str] = {device.device_id: device.name for device in devices}
        self._late: dict[bytes, float] = {}  # device → when it was late last, in monotonic seconds

    def needed(self, k: int, n: int) -> int:
        """The committed shares that an image of k of n needs to count as stored."""
        return shares_needed(k, n, accept_degraded=self.options.accept_degraded)

    def coding_for(self, k: int, n: int) -> Optional[Coding]:
        """The coding of a put that was interrupted; None where the user wants another now."""
        if self.options.k not in (None, k) or self.options.n not in (None, n):
            return None
        if (k, n) not in self._codings:
            self._codings[k, n] = coding_of(k, n)
        return self._codings[k, n]

    # --- devices

    async def find_places(
        self, encoding_ids: Sequence[bytes], share_bytes: int, exclude: Sequence[bytes] = (), wanted: int = 0
    ) -> FoundPlaces:
        """Devices for shares of encodings, those that were late only where too few others have room.

        `wanted`: shares of each that need one; n where it is 0.
        """
        n, excluded = self.coding.code.n, [*self.avoid, *exclude]
        since = time.monotonic() - _LATE_FOR
        late = [device for device, when in self._late.items() if when > since and device not in excluded]
        places = await find_places(self.link, encoding_ids, n, share_bytes, [*excluded, *late])
        if late and any(len(devices) < (wanted or n) for devices in places.devices):
            places = await find_places(self.link, encoding_ids, n, share_bytes, excluded)
        return places

    def note_late(self, device: bytes) -> None:
        """A device does not answer where the others have: each image of the run that is given to it waits for that."""
        self._late[device] = time.monotonic()

    def name_of(self, device: bytes) -> str:
        return self._names.get(device, device.hex())

    def missing(self, lost: Iterable[bytes] = ()) -> tuple[str, ...]:
        """The names of the devices that could not get a share: those that are not connected, and the `lost` ones."""
        return tuple(sorted(self.name_of(device) for device in self._away.union(lost)))

    # --- what is there already

    async def stored_encodings(self, sha256s: Sequence[bytes]) -> dict[bytes, EncodingAt]:
        """SHA-256 → an encoding with enough shares at hand to count as stored; those without are left out.

        Always empty for another's vault, which cannot be asked.
        """
        if not self.owner.is_own:
            return {}
        by_object = {self.owner.object_id(sha256): sha256 for sha256 in sha256s}
        found, _ = await locate(self.link, list(by_object))
        return {
            by_object[object_id]: encoding
            for object_id, encodings in found.items()
            for encoding in encodings[:1]
            if len(shares_at_hand(encoding)) >= self.needed(encoding.k, encoding.n)
        }

    async def find_stored(self, image: FoundImage, started: float) -> Optional[StoredImage]:
        encoding = (await self.stored_encodings([image.sha256])).get(image.sha256)
        return None if encoding is None else self.already_stored(image, encoding, started)

    def already_stored(self, image: FoundImage, encoding: EncodingAt, started: float) -> StoredImage:
        at_hand = shares_at_hand(encoding)
        names = [self.name_of(at_hand[s][0]) if s in at_hand else None for s in range(encoding.n)]
        self.emit(BytesDone(image.size))
        asked = self.coding.code.k, self.coding.code.n
        weaker = self._count.could_be_stronger(encoding.k, encoding.n, asked)
        away = {share.device_id for share in encoding.shares if not share.alive and share.share not in at_hand}
        return StoredImage(
            image.sha256,
            image.source.shown,
            image.size,
            encoding.k,
            encoding.n,
            names,
            True,
            time.monotonic() - started,
            None,
            asked if weaker else None,
            self.missing(away) if None in names else (),
            image.stamp,
            may_be_pruned=image.source.kept and not self.owner.marks_kept(encoding),
        )
