"""Which images and trees no snapshot names, and deleting them.

Nothing is deleted that a living snapshot names, whatever else is done meanwhile:

- Where it cannot be known what snapshots there are, or what one names, nothing is deleted at all.
- What was stored in the last day stays: its snapshot may still be coming.
- Images that others left for the vault stay, those that are shared, and those that were stored without a snapshot.
- Once it is done, the snapshots are read again: what a new one names is taken back. A put that recorded one looks
  afterwards whether all that it found stored is still there. So of the two at least one sees what the other did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from admin.deleting import by_object, delete_images, list_trash, undelete_encodings
from admin.needless import GRACE
from common.errors import NotEnoughError, TesseraError
from common.process.events import Warned
from common.repository.images import Held, counted
from common.repository.repository import Repository
from common.vault.mapping import SNAPSHOT, TREE, own_object_id
from consumer.snapshots import KeptSnapshot, SnapshotReader

_MAY_BE_AWAY = 1  # device: a snapshot is on two at least


@dataclass(frozen=True)
class Unneeded:
    """What no snapshot names, and the `snapshots` there were when that was found out."""

    images: list[Held]
    snapshots: frozenset[bytes]

    @property
    def size(self) -> int:
        """Bytes of the images and trees, without redundancy."""
        return sum(image.mapping.image_size for image in self.images)

    @property
    def words(self) -> str:
        return counted(image.mapping for image in self.images)


async def find_unneeded(repository: Repository, now: float) -> Unneeded:
    """What no snapshot names; `now` in Unix seconds.

    NotEnoughError where that cannot be known: devices are away, or a snapshot or tree cannot be read.
    """
    await repository.list_devices(settled=True)
    away = [device.name for device in repository.listed if not device.alive]
    if len(away) > _MAY_BE_AWAY:
        raise NotEnoughError(
            f"{', '.join(away)}: not connected, and may have snapshots that nobody else tells of; nothing was deleted",
            advice="connect them, or retire those that are gone for good",
        )
    encodings = await repository.list_encodings()
    reader = SnapshotReader(repository)
    found, failed = await reader.snapshots(encodings)
    named = await _named(reader, found)
    holdings = await repository.holdings(encodings=encodings)
    if failed or holdings.unreadable:
        why = failed[0].error if failed else "images cannot be read: their devices are not connected"
        raise NotEnoughError(f"it cannot be told what is needed: {why}; nothing was deleted")
    unneeded = [
        image
        for image in holdings.images
        if image.mapping.kind != SNAPSHOT
        and image.mapping.image_sha256 not in named
        and image.mapping.stored_at < now - GRACE
        and image.mapping.shared_with is None
        and not image.mapping.kept
        and all(encoding.object_id == own_object_id(repository.key, image.mapping) for encoding in image.encodings)
    ]
    return Unneeded(unneeded, frozenset(each.sha256 for each in found))


async def _named(reader: SnapshotReader, snapshots: Sequence[KeptSnapshot]) -> set[bytes]:
    """The SHA-256 of all that snapshots name; NotEnoughError where one cannot be read whole."""
    named: set[bytes] = set()
    async for sha256, tree in reader.trees(kept.snapshot.root for kept in snapshots):
        if isinstance(tree, TesseraError):
            raise NotEnoughError(f"what was in a folder of a snapshot: {tree}; nothing was deleted")
        named.add(sha256)
        named.update(each.content for each in tree if each.content is not None)
    return named


async def prune(repository: Repository, unneeded: Unneeded, trash_days: int) -> int:
    """Delete what is unneeded, and take back what a snapshot names that came meanwhile. The exit code."""
    exit_code = await delete_images(repository, unneeded.images, trash_days)
    found, failed = await SnapshotReader(repository).snapshots()
    if failed:
        raise NotEnoughError(
            f"it cannot be told whether a new snapshot needs what was deleted: {failed[0].error}",
            advice="take back what is needed with: python admin/admin.py undelete",
        )
    new = [each for each in found if each.sha256 not in unneeded.snapshots]
    if new:
        repository.emit(Warned("a snapshot was recorded meanwhile; what it names is taken back"))
        await _take_back(repository, [image for image in unneeded.images if image.mapping.kind == TREE])
        named = await _named(SnapshotReader(repository), new)
        images = [image for image in unneeded.images if image.mapping.kind is None]
        await _take_back(repository, [image for image in images if image.mapping.image_sha256 in named])
    return exit_code


async def _take_back(repository: Repository, images: Sequence[Held]) -> None:
    trash = by_object(await list_trash(repository))
    for image in images:
        deleted = trash.get(own_object_id(repository.key, image.mapping), [])
        if deleted:  # else it was not deleted, or by nobody who is here
            await undelete_encodings(repository, deleted)
