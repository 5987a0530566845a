"""`verify`: whether images can be restored, and how many devices may still be lost.

Quick, it asks the broker which shares are at hand. Deep, every block of every share at hand is fetched and checked
against the recipe in the mapping, the image is restored from k of them and compared with its SHA-256. Nothing is
written. Shares found bad are reported, so that the steward repairs them. Either way the verdict is that of
`admin.health`; reading corrects what the broker said.

Images that this machine has a mapping of, and no device that the broker knows, are counted too: those lost with all
their devices, or that workers cannot read, would not show otherwise. Not those whose deletion is known.

When the whole vault was last proven restorable, and how many images it had, is kept in `vault/proven.json`; the folder
reveals no less.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple, Optional

import msgspec

from admin.deleting import list_trash
from admin.health import HealthStatus, ImageHealth, assess, could_be_stronger
from admin.needless import find_needless
from admin.null_target import NullTarget
from common.coding.recipe import Recipe
from common.coding.redundancy import count_devices
from common.erasure import ErasureCode
from common.errors import IntegrityError, NotEnoughError, NotFoundError, TesseraError
from common.files import read_limited, write_private
from common.link.questions import locate
from common.process.events import BytesExpected, Emit, Warned, ignore
from common.protocol.device_messages import BlockName
from common.protocol.messages import BadShare, EncodingAt, ShareAt, is_at_hand, shares_at_hand
from common.repository.hedging import Holder
from common.repository.images import Held, Holdings
from common.repository.repository import Repository
from common.vault.mapping import Mapping, own_object_id
from consumer.gathering import Gathering
from consumer.restoring import Restoring

_MAX_FILE = 4096
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]

log = logging.getLogger(__name__)


@dataclass
class Verdict:
    """What was found of one image."""

    image: Held
    health: ImageHealth
    troubles: list[str] = field(default_factory=list)
    weak: bool = False  # it could be stronger: see `strengthen`
    needless: int = 0  # encodings that `repair` deletes, since another is whole

    @property
    def exit_code(self) -> int:
        """0 where it can be restored and a device may be lost, or all is there; else 4 or 5: docs/operations.md."""
        health = self.health
        if health.status in (HealthStatus.WHOLE, HealthStatus.LACKING):
            return 0
        only_damage = not health.restorable and (health.good >= health.k or (health.damaged and not health.away))
        return (IntegrityError if only_damage else NotEnoughError).exit_code

    def as_json(self) -> dict[str, object]:
        health = self.health
        return {
            "sha256": self.image.sha256,
            "name": self.image.mapping.name,
            "kind": kind_of(self.image.mapping),
            "k": health.k,
            "n": health.n,
            "shares_at_hand": health.good,
            "damaged": health.damaged,
            "away": health.away,
            "may_lose": health.spare,
            "state": health.status.value,
            "restorable": health.restorable,
            "could_be_stronger": self.weak,
            "needless_encodings": self.needless,
            "proven": health.proven,
            "troubles": self.troubles,
        }


def kind_of(mapping: Mapping) -> str:
    """`image`, `tree` or `snapshot`."""
    return mapping.kind or "image"


def missing_json(mapping: Mapping) -> dict[str, object]:
    """An image of no device, in the fields of `Verdict.as_json`."""
    return {
        "sha256": mapping.image_sha256.hex(),
        "name": mapping.name,
        "kind": kind_of(mapping),
        "shares_at_hand": 0,
        "state": "missing",
        "restorable": False,
    }


@dataclass(frozen=True)
class Found:
    """What `verify` found, the oldest image first."""

    verdicts: list[Verdict]
    unreadable: int  # images whose mapping no connected device has
    proof: Optional[Proof] = None  # where every image was read whole and could be restored
    missing: Sequence[Mapping] = ()  # images that were stored, and that no device has

    @property
    def exit_code(self) -> int:
        """0; 4 or 5 where one cannot be restored, is in danger or cannot be read."""
        worst = max((verdict.exit_code for verdict in self.verdicts), default=0)
        return NotEnoughError.exit_code if self.unreadable or self.missing else worst


def _bytes_to_prove(images: Sequence[Held]) -> int:
    return sum(image.mapping.image_size for image in images if assess(image.encodings).restorable)


async def verify_images(repository: Repository, holdings: Holdings, *, deep: bool) -> Found:
    """Assess these images; deep, prove each of them from its shares, and emit the bytes to do and done."""
    if deep:
        repository.emit(BytesExpected(_bytes_to_prove(holdings.images)))
    devices = count_devices(repository.listed)
    verdicts = [Verdict(image, assess(image.encodings)) for image in holdings.images]
    for verdict in verdicts:
        verdict.weak = could_be_stronger(verdict.image.encodings, devices)
        needless = await find_needless(repository, verdict.image)
        verdict.needless = len(needless.others) if needless is not None else 0
    for verdict in verdicts:
        if deep and verdict.health.restorable:
            await _prove(repository, verdict)
    proven = bool(verdicts) and not holdings.unreadable and all(verdict.health.proven for verdict in verdicts)
    proof = Proof(int(time.time()), len(holdings.files)) if deep and proven else None
    ordered = sorted(verdicts, key=lambda v: (v.image.mapping.stored_at, v.image.sha256))
    return Found(ordered, holdings.unreadable, proof)


async def with_missing(repository: Repository, found: Found) -> Found:
    """`found` of a whole vault, with the images of which only this machine's mappings are left."""
    listed = {encoding.object_id for verdict in found.verdicts for encoding in verdict.image.encodings}
    missing = {}
    for object_id, encoding_id in repository.index.kept_mappings():
        mapping = None if object_id in listed else repository.index.mapping(object_id, encoding_id)
        if mapping is not None and object_id == own_object_id(repository.key, mapping):
            missing[object_id, encoding_id] = mapping
    if not missing:
        return found
    for trashed in await list_trash(repository, emptied=True):
        name = trashed.object_id, trashed.encoding_id
        if missing.pop(name, None) is not None and not trashed.trash_left:
            repository.index.forget_mapping(*name)  # devices drop tombstones after some time
    images = {(mapping.image_sha256, mapping.kind): mapping for mapping in missing.values()}
    return replace(found, missing=list(images.values()), proof=None) if images else found


async def _prove(repository: Repository, verdict: Verdict) -> None:
    """Restore the image without writing it, from the first of its encodings that can be, reading every share.

    Where a device has a share no more that the broker had named, it is asked once more where all is, and that is read:
    what is moved, or given up as surplus, is on another device before.
    """
    reading = await _read(repository, verdict.image, repository.emit)
    if reading.gone:
        image = await _asked_again(repository, verdict.image)
        if image.encodings != verdict.image.encodings:
            verdict.image = image
            reading = await _read(repository, image, ignore)  # its bytes are counted
    verdict.health, verdict.troubles = reading.health, reading.troubles
    await _report(repository, reading.bad)


async def _asked_again(repository: Repository, image: Held) -> Held:
    found, _ = await locate(repository.link, list({encoding.object_id for encoding in image.encodings}))
    now = {(each.object_id, each.encoding_id): each for encodings in found.values() for each in encodings}
    return replace(image, encodings=[now.get((e.object_id, e.encoding_id), e) for e in image.encodings])


@dataclass
class _Reading:
    """What came of reading every share of an image."""

    health: ImageHealth
    troubles: list[str]
    bad: list[BadShare]
    gone: bool  # a device had a share no more, and no other had it


async def _read(repository: Repository, held: Held, emit: Emit) -> _Reading:
    troubles: list[str] = []
    bad_shares: list[BadShare] = []
    found = list(held.encodings)  # as the broker says, corrected by what was read
    proven = gone = False

    def trouble(device: bytes, text: str) -> None:
        line = f"{repository.name_of(device)}: {text}"
        if line not in troubles:
            troubles.append(line)

    for number, encoding in enumerate(held.encodings):
        if not is_at_hand(encoding):
            continue
        try:
            code = ErasureCode(encoding.k, encoding.n)
            gathering = Gathering(repository.devices, encoding, trouble)
            image = await gathering.prove(repository.key, repository.mappings.kept(encoding), code.block_unit)
            every = EveryShare(repository, encoding, gathering.recipe)
            try:
                await Restoring(code, every, image).write_to(NullTarget(), emit)
            finally:
                bad_shares += every.bad
                troubles += every.troubles()
                gone = gone or every.gone
                found[number] = every.found()
            proven = True
            break
        except (NotEnoughError, IntegrityError) as error:
            troubles.append(str(error))
    return _Reading(assess(found[number:] if proven else found, proven=proven), troubles, bad_shares, gone)


async def _report(repository: Repository, bad_shares: list[BadShare]) -> None:
    try:
        await repository.report_bad(bad_shares)
    except TesseraError as error:
        repository.emit(Warned(f"the damage could not be reported to the broker: {error}"))


class _Fault(NamedTuple):
    """What is wrong with a share on a device."""

    line: str
    damaged: bool
    gone: bool  # the device is here, and has it no more


class EveryShare:
    """Gathers all shares of an encoding, and keeps which of them are bad; gives k good blocks."""

    def __init__(self, repository: Repository, encoding: EncodingAt, recipe: Recipe) -> None:
        self._recipe = recipe
        self.bad: list[BadShare] = []
        self._repository = repository
        self._encoding = encoding
        at_hand = shares_at_hand(encoding)
        self._holders = [Holder(share, device) for share, devices in sorted(at_hand.items()) for device in devices]
        self._faults: dict[Holder, _Fault] = {}

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    def found(self) -> EncodingAt:
        """The encoding as it was read: bad shares are damaged, devices that did not answer are away."""

        def corrected(at: ShareAt) -> ShareAt:
            fault = self._faults.get(Holder(at.share, at.device_id))
            if fault is None:
                return at
            return msgspec.structs.replace(at, sound=at.sound and not fault.damaged, alive=at.alive and fault.damaged)

        return msgspec.structs.replace(self._encoding, shares=[corrected(at) for at in self._encoding.shares])

    def troubles(self) -> list[str]:
        """What is wrong, a line each; not where a second copy is gone: the steward gives up what is surplus."""
        return [fault.line for fault in self._counting()]

    @property
    def gone(self) -> bool:
        """Whether a device that was named has a share no more, and no other has it."""
        return any(fault.gone for fault in self._counting())

    def _counting(self) -> list[_Fault]:
        good = {holder.share for holder in self._holders if holder not in self._faults}
        faults = self._faults.items()
        return [fault for holder, fault in faults if not (fault.gone and holder.share in good)]

    async def segment(self, segment: int, here: Optional[dict[int, memoryview]] = None) -> dict[int, memoryview]:
        """k good blocks of a segment by share, data before parity; NotEnoughError where there are fewer."""
        blocks = await asyncio.gather(*(self._block(holder, segment) for holder in self._holders))
        good = {holder.share: block for holder, block in zip(self._holders, blocks) if block is not None}
        if len(good) < self._encoding.k:
            raise NotEnoughError(f"only {len(good)} good blocks of segment {segment}; {self._encoding.k} are needed")
        return dict(sorted(good.items())[: self._encoding.k])

    async def _block(self, holder: Holder, segment: int) -> Optional[memoryview]:
        name = BlockName(self._encoding.encoding_id, holder.share, segment)
        try:
            block = await self._repository.devices.block(holder.device, name, self._recipe.block_length(segment))
        except TesseraError as error:
            damaged = isinstance(error, IntegrityError) or error.exit_code == IntegrityError.exit_code
            self._failed(holder, str(error), damaged=damaged, gone=error.exit_code == NotFoundError.exit_code)
            return None
        if not self._recipe.accepts(segment, holder.share, block):
            self._failed(holder, f"block {segment} is not the one that was stored", damaged=True)
            return None
        return block

    def _failed(self, holder: Holder, text: str, *, damaged: bool, gone: bool = False) -> None:
        if holder in self._faults:
            return
        line = f"{self._repository.name_of(holder.device)}: share {holder.share}: {text}"
        self._faults[holder] = _Fault(line, damaged, gone)
        if damaged:
            self.bad.append(BadShare(self._encoding.encoding_id, holder.share, holder.device))


# --- the last proof


class Proof(msgspec.Struct, frozen=True):
    """Every share at hand was read, and every image could be restored."""

    at: _Count  # Unix seconds, when it was done
    images: _Count  # trees and snapshots were read too, and are not counted


def keep_proof(home: Path, proof: Proof) -> None:
    """Keep it in place of the last one; warns where the disk refuses."""
    path = _path(home)
    try:
        write_private(path, json.dumps(msgspec.to_builtins(proof)).encode())
    except OSError as error:
        log.warning("%s could not be written: %s", path, error.strerror)


def last_proof(home: Path) -> Optional[Proof]:
    """The last one; None where there was none, or its record is damaged."""
    try:
        return msgspec.json.decode(read_limited(_path(home), _MAX_FILE), type=Proof)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IntegrityError) as error:
        log.warning("%s is damaged, and left out: %s", _path(home), error)
        return None


def _path(home: Path) -> Path:
    return home / "vault" / "proven.json"
