"""`undelete`: takes back what is in the trash, and with a snapshot all that it names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Container, Sequence
from typing import Optional

from admin.deleting import DeletedImage, by_object, deleted_images, list_trash, undelete_encodings, undelete_image
from admin.events import Changed
from common.chunks import chunks
from common.errors import NotEnoughError, TesseraError
from common.link.questions import locate
from common.process.events import Warned
from common.protocol.messages import Trashed, is_at_hand
from common.repository.repository import Repository
from common.text import check_hash
from consumer.snapshots import SnapshotReader

_AT_ONCE = 500  # images that are asked for
_TOGETHER = 16  # that are taken back at a time


async def undelete_images(repository: Repository, hashes: Sequence[str]) -> int:
    """Undelete images; emits the outcome of each. The exit code: 3 where one is not in the trash."""
    trash = await list_trash(repository)
    exit_code = 0
    for text in dict.fromkeys(map(check_hash, hashes)):
        try:
            sha256 = await undelete_image(repository, trash, text)
            await _undelete_named(repository, by_object(trash), sha256)
            repository.emit(Changed(sha256, "taken back"))
        except TesseraError as error:
            repository.emit(Warned(f"admin: {error}"))
            exit_code = exit_code or error.exit_code
    return exit_code


async def undelete_all(repository: Repository, seconds: float) -> int:
    """Undelete all that was deleted in the last seconds and is held by devices, be it in the trash or not any more.

    Emits the outcome of each. The exit code: 3 where nothing was deleted, or some of it is gone for good.
    """
    exit_code: Optional[int] = None
    async for image, error in undelete_since(repository, seconds):
        emit_taken_back(repository, image, error)
        exit_code = exit_code or (0 if error is None else error.exit_code)
    if exit_code is None:
        repository.emit(Warned("admin: nothing was deleted in that time, as far as connected devices know"))
        return 3
    return exit_code


async def undelete_since(
    repository: Repository, seconds: float
) -> AsyncIterator[tuple[DeletedImage, Optional[TesseraError]]]:
    """Undelete the same; each image, and why it could not be."""
    deleted = [each for each in await list_trash(repository, emptied=True) if each.age <= seconds]
    for some in chunks(deleted_images(repository, deleted), _TOGETHER):
        told = await asyncio.gather(*(_error_of(undelete_encodings(repository, image.encodings)) for image in some))
        for image, error in zip(some, told):
            yield image, error


def emit_taken_back(repository: Repository, image: DeletedImage, error: Optional[TesseraError]) -> None:
    name = image.sha256 or image.encodings[0].object_id.hex()
    repository.emit(Changed(name, "taken back") if error is None else Warned(f"admin: {name}: {error}"))


async def _undelete_named(repository: Repository, trash: Container[bytes], sha256: str) -> None:
    """Where this is a snapshot, what it names is taken back with it: a prune may have deleted that since."""
    object_id = repository.key.snapshot_object_id(bytes.fromhex(sha256))
    if object_id not in trash:
        return
    encodings = (await locate(repository.link, [object_id]))[0][object_id]
    found, failed = await SnapshotReader(repository).snapshots(encodings)
    for each in failed:
        raise each.error
    await undelete_named(repository, [each.snapshot.root for each in found])


async def undelete_named(
    repository: Repository, roots: Sequence[bytes], among: Optional[Collection[bytes]] = None
) -> None:
    """Undelete what the trees with these SHA-256s name, and themselves; `among`: none but these.

    The first error of `undelete_encodings`, once the rest is taken back.
    """
    tried: set[bytes] = set()
    failed: Optional[TesseraError] = None
    while True:
        lacking = await _lacking(repository, roots, among)
        trash = by_object(await list_trash(repository)) if lacking else {}
        left = [group for sha256 in lacking if (group := _untried(trash, repository.key.object_id(sha256), tried))]
        if not left:
            break
        for some in chunks(left, _TOGETHER):  # trees of which these are some are read only then
            tried.update(each.encoding_id for group in some for each in group)
            told = await asyncio.gather(*(_error_of(undelete_encodings(repository, group)) for group in some))
            failed = failed or next((error for error in told if error is not None), None)
    if failed is not None:
        raise NotEnoughError(f"not all that the snapshots name could be taken back: {failed}") from failed


async def _error_of(work: Awaitable[None]) -> Optional[TesseraError]:
    try:
        await work
    except TesseraError as error:
        return error
    return None


def _untried(trash: dict[bytes, list[Trashed]], object_id: bytes, tried: Collection[bytes]) -> list[Trashed]:
    return [each for each in trash.get(object_id, []) if each.encoding_id not in tried]


async def _lacking(repository: Repository, roots: Sequence[bytes], among: Optional[Collection[bytes]]) -> set[bytes]:
    """The SHA-256 of what these trees name, as far as they can be read, that does not restore now."""
    named, failed = await SnapshotReader(repository).contents(roots)
    named.update(roots, failed)
    wanted = sorted(named if among is None else named.intersection(among))
    lacking = set()
    for some in chunks(wanted, _AT_ONCE):
        for sha256, located in (await repository.locate_all(some)).items():
            if isinstance(located, TesseraError) or not any(map(is_at_hand, located)):
                lacking.add(sha256)
    return lacking
