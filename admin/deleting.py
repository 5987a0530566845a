"""`delete` and `undelete`: by the owner's signature.

Each device that holds a share of the image is sent a tombstone that the owner signed; it moves the share to its trash
and keeps the tombstone, which brokers send to devices that are away now when they come back. Until the trash is
emptied, a tombstone of the next generation undeletes the shares. What fewer devices took than must have it (`quorum`)
is not called done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from admin.amending import holders_of
from admin.events import DeviceFailed
from admin.quorum import LateError, quorum, require_quorum, tell
from admin.vault_work import change_each
from common.errors import (
    NotEnoughError,
    NotFoundError,
    RefusedError,
    TesseraError,
    UnreachableError,
    UsageError,
)
from common.link.questions import locate
from common.link.replies import DeclinedError
from common.link.stragglers import LEAST
from common.protocol.codec import pack, unpack
from common.protocol.messages import (
    Acknowledged,
    Code,
    EncodingAt,
    ListTrash,
    RepairNow,
    Tombstone,
    Trashed,
    is_at_hand,
    shares_at_hand,
)
from common.protocol.operations import DELETE, REPAIR, TRASH, UNDELETE, Spec
from common.repository.images import Held
from common.repository.repository import Repository
from common.text import count, is_full, only_one
from common.vault.mapping import SNAPSHOT
from consumer.snapshots import Place, SnapshotReader

_DAY = 24 * 3600
_MAX_GENERATION = 128  # how often one encoding may be deleted and undeleted
_AGAIN = 4  # generations that are tried when others took one: who knows of a later one still does not lie
EMPTY_TRASH = "the trash is empty: no device that is connected has anything to take back"


@dataclass(frozen=True)
class Deletion:
    """What is to be deleted, and where snapshots name it; `unread`: snapshots and trees that cannot be read now."""

    images: list[Held]
    places: dict[bytes, list[Place]]  # by SHA-256
    unread: int

    def places_of(self, image: Held) -> list[Place]:
        return [] if image.mapping.kind == SNAPSHOT else self.places.get(image.mapping.image_sha256, [])

    @property
    def warnings(self) -> list[str]:
        """What is lost beside the images, and what is not known of that."""
        named = [place for image in self.images for place in self.places_of(image)]
        told = []
        if named:
            snapshots = count(len({place.kept.id for place in named}), "snapshot")
            told.append(f"{snapshots} would lack what is deleted, under {count(len(named), 'path')}")
        if self.unread:
            told.append(f"which others name it cannot be told: {count(self.unread, 'object')} of theirs cannot be read")
        return told


async def find_deletion(repository: Repository, hashes: Sequence[str]) -> Deletion:
    """The images with these hashes, or beginnings of them, and which snapshots name them; errors as of `holdings`."""
    encodings = await repository.list_encodings()
    images = (await repository.holdings(hashes, encodings)).images
    reader = SnapshotReader(repository)
    snapshots, unread = await reader.snapshots(encodings)
    places, failed = await reader.places(snapshots, {image.mapping.image_sha256 for image in images})
    return Deletion(images, places, len(unread) + len(failed))


async def delete_images(repository: Repository, images: Sequence[Held], trash_days: int) -> int:
    """Delete images; emits the outcome of each. The exit code."""
    await repository.list_devices()
    return await change_each(
        repository,
        images,
        lambda image: delete_image(repository, image, trash_days),
        "deleted",
        "not connected; the shares there go when the devices come back",
    )


async def delete_image(repository: Repository, image: Held, trash_days: int) -> list[str]:
    """Delete all encodings of an image; the names of devices that hold a share and were not reached."""
    own = repository.own(image)
    if not own:
        raise RefusedError(
            "it is another vault's, shared with this one; only its owner can delete it",
            advice="ask them to take it back",
        )

    async def delete(encoding: EncodingAt) -> Optional[TesseraError]:
        try:
            await delete_encoding(repository, encoding, trash_days)
        except TesseraError as error:
            return error
        return None

    # All at once: a device may claim many that there are not, and then answer nothing.
    tasks = [asyncio.ensure_future(delete(encoding)) for encoding in own]
    deciding = [task for task, encoding in zip(tasks, own) if _may_be_restored(encoding)] or tasks
    try:
        await asyncio.wait(deciding)
        done, _ = await asyncio.wait(tasks, timeout=LEAST)
        errors = {task: error for task in done if (error := task.result()) is not None}
    finally:
        for task in tasks:
            task.cancel()
    failed = [errors[task] for task in deciding if task in errors]
    if failed and (deciding is not tasks or len(failed) == len(tasks)):
        raise failed[0]
    return repository.absent(own)


def _may_be_restored(encoding: EncodingAt) -> bool:
    """Whether as many devices name a share of it as are needed, here or away."""
    return len({share.device_id for share in encoding.shares}) >= encoding.k


async def delete_encoding(repository: Repository, encoding: EncodingAt, trash_days: int) -> None:
    """Delete one encoding of this vault's own on all connected devices; brokers pass the tombstone on to the others.

    NotEnoughError where too few of them did for it to hold, UnreachableError where none is connected.
    """
    devices = sorted(holders_of(encoding))
    if not devices:
        raise UnreachableError("none of the devices that hold it is connected; nothing was deleted")
    told = await _delete_on(repository, encoding, devices, trash_days * _DAY)
    took = {device for device, error in told.items() if error is None}
    nothing = {device for device, error in told.items() if code_of(error) is Code.NOT_FOUND}
    for device, error in told.items():
        if error is not None and device not in nothing:  # a damaged share may not be recognised
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
    if not took:
        raise repository.link.cause(NotEnoughError("no device could delete it"))
    holders = {share.device_id for share in encoding.shares} - nothing
    require_quorum(repository, (encoding.k, encoding.n), took, holders, "deleted it")


async def remove_encoding(repository: Repository, encoding: EncodingAt) -> None:
    """Delete an encoding for good: its content is stored otherwise, or needed no more. Errors as `delete_encoding`."""
    await delete_encoding(repository, encoding, 0)
    repository.index.forget_mapping(encoding.object_id, encoding.encoding_id)


async def _delete_on(
    repository: Repository, encoding: EncodingAt, devices: Sequence[bytes], trash_seconds: int
) -> dict[bytes, Optional[TesseraError]]:
    """Delete the shares of an encoding on these devices, by one tombstone for all; why a device did not.

    A device that knows a later generation says so, and may lie: it is believed a few times only.
    """
    told: dict[bytes, Optional[TesseraError]] = dict.fromkeys(devices)
    taken = 0
    for generation in range(1, _MAX_GENERATION, 2):  # an earlier deletion that was undone used its generation
        word = repository.key.tombstone(encoding.object_id, encoding.encoding_id, generation, trash_seconds)
        asked = [device for device, error in told.items() if error is None or code_of(error) is not None]
        told.update(await _show(repository, DELETE, word, asked, quorum(encoding.k, encoding.n)))
        taken += any(error is None for error in told.values())
        if taken == _AGAIN or not any(code_of(error) is Code.CONFLICT for error in told.values()):
            return told
    raise UsageError(f"it was deleted and taken back {_MAX_GENERATION // 2} times, which is too often")


async def _show(
    repository: Repository,
    operation: Spec[Tombstone, Acknowledged],
    word: Tombstone,
    devices: Sequence[bytes],
    needed: int,
) -> dict[bytes, Optional[TesseraError]]:
    """Show devices a tombstone; for each why it did not act on it, or None. `needed`: how many have to."""
    return await tell(devices, lambda device: repository.link.request(operation, word, device=device), needed)


def code_of(error: Optional[TesseraError]) -> Optional[Code]:
    return error.code if isinstance(error, DeclinedError) else None


# --- undelete


async def list_deleted(repository: Repository) -> list[DeletedImage]:
    """What can be taken back."""
    return deleted_images(repository, await list_trash(repository))


async def list_trash(repository: Repository, *, emptied: bool = False) -> list[Trashed]:
    """The encodings that can be undeleted; `emptied`: also those that cannot any more but have a tombstone."""
    await repository.list_devices(settled=True)
    trash: list[Trashed] = []
    while True:
        request = ListTrash(trash[-1].encoding_id if trash else b"", emptied)
        reply = await repository.link.request(TRASH, request)
        page = unpack(reply.payload, list[Trashed])
        trash += page
        if reply.header.complete or not page:
            return trash


def by_object(trash: Sequence[Trashed]) -> dict[bytes, list[Trashed]]:
    """Object id → its encodings in the trash, on any device."""
    grouped: dict[bytes, list[Trashed]] = {}
    for trashed in trash:
        grouped.setdefault(trashed.object_id, []).append(trashed)
    return grouped


@dataclass(frozen=True)
class DeletedImage:
    """An image that can be undeleted.

    `name` and `sha256`: empty where this machine does not know them, as of an image stored elsewhere.
    """

    name: str
    sha256: str
    until: int  # Unix seconds by this machine's clock, after which it cannot be undeleted
    encodings: tuple[Trashed, ...]

    @property
    def until_words(self) -> str:
        return datetime.fromtimestamp(self.until).astimezone().strftime("%Y-%m-%d %H:%M")


def deleted_images(repository: Repository, trash: Sequence[Trashed]) -> list[DeletedImage]:
    """The images of these encodings in the trash; the plans of prunes that lie there are none."""
    plans = repository.key.prune_object_id()
    groups = by_object(trash)
    return [_deleted(repository, object_id, group) for object_id, group in groups.items() if object_id != plans]


def _deleted(repository: Repository, object_id: bytes, group: Sequence[Trashed]) -> DeletedImage:
    """A deleted image, named by the mapping that this machine may still have."""
    mappings = [repository.index.mapping(object_id, each.encoding_id) for each in group]
    known = next((mapping for mapping in mappings if mapping is not None), None)
    name, sha256 = ("", "") if known is None else (known.name, known.image_sha256.hex())
    until = int(time.time()) + max(each.trash_left for each in group)
    return DeletedImage(name, sha256, until, tuple(group))


def _find(repository: Repository, trash: Sequence[Trashed], text: str) -> tuple[str, list[Trashed]]:
    """The deleted image whose SHA-256 is this, or begins so; NotFoundError, or UsageError where several do."""
    if is_full(text):
        groups, sha256 = by_object(trash), bytes.fromhex(text)
        names = [*repository.object_ids(sha256), repository.key.snapshot_object_id(sha256)]
        found = [trashed for name in names for trashed in groups.get(name, [])]
        matches = [(text, found)] if found else []
    else:
        deleted = deleted_images(repository, trash)
        matches = [(image.sha256, list(image.encodings)) for image in deleted if image.sha256.startswith(text)]
    if not matches:
        raise NotFoundError(
            f"no image in the trash has a SHA-256 that begins with {text}",
            advice="see what is there with: python admin/admin.py undelete --list",
        )
    return only_one(matches, text)


async def undelete_image(repository: Repository, trash: Sequence[Trashed], text: str) -> str:
    """Undelete the image in the `trash` whose SHA-256 is this, or begins so; its SHA-256. Errors as of `_find`."""
    sha256, found = _find(repository, trash, text)
    await undelete_encodings(repository, found)
    return sha256


async def undelete_encodings(repository: Repository, trashed: Sequence[Trashed]) -> None:
    """Undelete encodings on every device that reported their deletion, and have the steward repair the rest.

    NotFoundError where the trash was emptied, NotEnoughError where too few devices took it back.
    """
    told = await asyncio.gather(*(_undelete(repository, each) for each in trashed))
    failed = [(device, error) for one in told for device, error in one.items() if not _has_heard(error)]
    for device, error in failed:
        repository.emit(DeviceFailed(repository.name_of(device), str(error)))
    if not any(error is None for one in told for error in one.values()):
        if failed:
            raise repository.link.cause(NotEnoughError("no device could take it back"))
        raise NotFoundError("the trash was emptied; the image cannot be taken back")
    objects = sorted({each.object_id for each in trashed})
    await repository.link.request(REPAIR, RepairNow(), payload=pack(objects))
    found, _ = await locate(repository.link, objects)
    there = {encoding.encoding_id: encoding for encodings in found.values() for encoding in encodings}
    if not any(map(is_at_hand, there.values())):
        most = max((len(shares_at_hand(encoding)) for encoding in there.values()), default=0)
        raise NotEnoughError(
            f"only {most} of its shares are back, too few to restore it",
            advice="connect the other devices that had it, before they empty their trash",
        )
    for each, one in zip(trashed, told):
        back = there.get(each.encoding_id)
        if back is not None:
            heard = {device for device, error in one.items() if _has_heard(error)}
            require_quorum(repository, (back.k, back.n), heard, set(one), "took it back")


async def _undelete(repository: Repository, trashed: Trashed) -> dict[bytes, Optional[TesseraError]]:
    """How many have to take it back only what is back tells; so who is late is asked once more where it is needed."""
    word = repository.key.tombstone(trashed.object_id, trashed.encoding_id, trashed.generation + 1)
    told = await _show(repository, UNDELETE, word, trashed.devices, -(-len(trashed.devices) // 2))
    late = [device for device, error in told.items() if isinstance(error, LateError)]
    if late:
        found, _ = await locate(repository.link, [trashed.object_id])
        codes = [(e.k, e.n) for e in found[trashed.object_id] if e.encoding_id == trashed.encoding_id]
        heard = sum(map(_has_heard, told.values()))
        needed = max((quorum(*code) - heard for code in codes), default=len(late))
        if needed > 0:
            told.update(await _show(repository, UNDELETE, word, late, needed))
    return told


def _has_heard(error: Optional[TesseraError]) -> bool:
    """Whether a device keeps that a deletion was taken back, be its trash empty or not."""
    return error is None or code_of(error) is Code.NOT_FOUND
