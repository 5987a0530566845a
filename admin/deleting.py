"""`delete` and `undelete`: by the owner's signature.

Each device that holds a share of the image is sent a tombstone that the owner signed; it moves the share to its trash
and keeps the tombstone, which brokers send to devices that are away now when they come back. Until the trash is
emptied, a tombstone of the next generation undeletes the shares.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from admin.events import Changed, DeviceFailed
from admin.vault_work import change_each
from common.errors import NotEnoughError, NotFoundError, RefusedError, TesseraError, UnreachableError, UsageError
from common.link.replies import DeclinedError
from common.process.events import Warned
from common.protocol.codec import pack, unpack
from common.protocol.messages import Code, EncodingAt, ListTrash, RepairNow, Trashed
from common.protocol.operations import DELETE, REPAIR, TRASH, UNDELETE
from common.repository.images import Held
from common.repository.repository import Repository
from common.text import check_hash, is_full, only_one

_DAY = 24 * 3600
_MAX_GENERATION = 64  # how often one encoding may be deleted and undeleted
EMPTY_TRASH = "the trash is empty: no device that is connected has anything to take back"


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
    for encoding in own:
        await delete_encoding(repository, encoding, trash_days)
    return repository.absent(own)


async def delete_encoding(repository: Repository, encoding: EncodingAt, trash_days: int) -> None:
    """Delete one encoding of this vault's own on all connected devices; brokers pass the tombstone on to the others."""
    devices = sorted({share.device_id for share in encoding.shares if share.alive})
    if not devices:
        raise UnreachableError("none of the devices that hold it is connected; nothing was deleted")
    trash_seconds = trash_days * _DAY
    told = await asyncio.gather(*(_delete_on(repository, encoding, device, trash_seconds) for device in devices))
    if not any(told):
        raise NotEnoughError("no device could delete it")


async def _delete_on(repository: Repository, encoding: EncodingAt, device: bytes, trash_seconds: int) -> bool:
    """Delete one device's shares of an encoding; whether it did. It may not recognise damaged ones."""
    for generation in range(1, _MAX_GENERATION, 2):  # an earlier deletion that was undone used its generation
        word = repository.key.tombstone(encoding.object_id, encoding.encoding_id, generation, trash_seconds)
        try:
            await repository.link.request(DELETE, word, device=device)
            return True
        except DeclinedError as error:
            if error.code is Code.CONFLICT:
                continue
            if error.code is not Code.NOT_FOUND:
                repository.emit(DeviceFailed(repository.name_of(device), str(error)))
            return False
        except UnreachableError as error:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
            return False
    raise UsageError(f"it was deleted and taken back {_MAX_GENERATION // 2} times, which is too often")


# --- undelete


async def undelete_images(repository: Repository, hashes: Sequence[str]) -> int:
    """Undelete images; emits the outcome of each. The exit code: 3 where one is not in the trash."""
    trash = await list_trash(repository)
    exit_code = 0
    for text in dict.fromkeys(map(check_hash, hashes)):
        try:
            sha256 = await undelete_image(repository, trash, text)
            repository.emit(Changed(sha256, "taken back"))
        except TesseraError as error:
            repository.emit(Warned(f"admin: {error}"))
            exit_code = exit_code or error.exit_code
    return exit_code


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
    """The images of these encodings in the trash."""
    return [_deleted(repository, object_id, group) for object_id, group in by_object(trash).items()]


def _deleted(repository: Repository, object_id: bytes, group: Sequence[Trashed]) -> DeletedImage:
    """A deleted image, named by the mapping that this machine may still have."""
    mappings = [repository.vault.mapping(repository.key, object_id, each.encoding_id) for each in group]
    known = next((mapping for mapping in mappings if mapping is not None), None)
    name, sha256 = ("", "") if known is None else (known.name, known.image_sha256.hex())
    until = int(time.time()) + max(each.trash_left for each in group)
    return DeletedImage(name, sha256, until, tuple(group))


def _find(repository: Repository, trash: Sequence[Trashed], text: str) -> tuple[str, list[Trashed]]:
    """The deleted image whose SHA-256 is this, or begins so; NotFoundError, or UsageError where several do."""
    if is_full(text):
        groups, sha256 = by_object(trash), bytes.fromhex(text)
        found = [trashed for name in repository.object_ids(sha256) for trashed in groups.get(name, [])]
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
    """Undelete encodings on every device that reported their deletion, and have the steward repair the rest."""
    answers = await asyncio.gather(
        *(_undelete_on(repository, each, device) for each in trashed for device in each.devices)
    )
    if not any(answers):
        raise NotFoundError("the trash was emptied; the image cannot be taken back")
    payload = pack(sorted({each.object_id for each in trashed}))
    await repository.link.request(REPAIR, RepairNow(), payload=payload)


async def _undelete_on(repository: Repository, trashed: Trashed, device: bytes) -> bool:
    word = repository.key.tombstone(trashed.object_id, trashed.encoding_id, trashed.generation + 1)
    try:
        await repository.link.request(UNDELETE, word, device=device)
    except (DeclinedError, UnreachableError) as error:
        if not isinstance(error, DeclinedError) or error.code is not Code.NOT_FOUND:
            repository.emit(DeviceFailed(repository.name_of(device), str(error)))
        return False
    return True
