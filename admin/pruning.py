"""Which images and trees no snapshot names, and deleting them.

Nothing is deleted that a living snapshot names, whatever else is done meanwhile:

- Where it cannot be known what snapshots there are, or what one names, nothing is deleted at all.
- What was stored in the last day stays: its snapshot may still be coming. A put that takes longer looks at its end
  whether all is there.
- Images that others left for the vault stay, those that are shared, and those that were stored without a snapshot.
- What is about to be deleted is kept in the vault first (`admin.prune_plans`), and the snapshots are read again after
  that. A put that recorded one looks afterwards for such a plan, and waits for its end: either the prune sees the
  snapshot, or the put the plan, wherever one of them is broken off.
- Once it is done, the snapshots are read once more: what a new one names, of a put that was broken off before it could
  look, is taken back. Where the snapshot came later, or the prune was broken off too, the next one does that, by the
  plan: it stays in the trash for as long as what was deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from admin.deleting import by_object, delete_images, list_trash
from admin.prune_plans import announce, find_plans, take_back_plans
from admin.undeleting import undelete_named
from common.chunks import chunks
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.process.events import Warned
from common.repository.images import Held, counted
from common.repository.repository import Repository
from common.vault.mapping import SNAPSHOT, own_object_id
from common.vault.prune_plan import PRUNE_GRACE
from consumer.snapshots import KeptSnapshot, SnapshotReader, require_readable

_MAY_BE_AWAY = 1  # device: a snapshot is on two at least
_AT_ONCE = 256  # images that are deleted before another look at the plan


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
    require_readable(failed, "nothing was deleted")
    named = await _named(reader, found)
    holdings = await repository.holdings(encodings=encodings)
    if holdings.unreadable:
        raise NotEnoughError("images cannot be read: their devices are not connected; nothing was deleted")
    unneeded = [
        image
        for image in holdings.images
        if image.mapping.kind != SNAPSHOT
        and image.mapping.image_sha256 not in named
        and image.mapping.stored_at < now - PRUNE_GRACE
        and image.mapping.shared_with is None
        and not image.mapping.kept
        and all(encoding.object_id == own_object_id(repository.key, image.mapping) for encoding in image.encodings)
    ]
    return Unneeded(unneeded, frozenset(each.sha256 for each in found))


async def _named(reader: SnapshotReader, snapshots: Sequence[KeptSnapshot]) -> set[bytes]:
    """The SHA-256 of all that snapshots name; NotEnoughError where one cannot be read whole."""
    roots = {kept.snapshot.root for kept in snapshots}
    named, failed = await reader.contents(roots)
    for error in failed.values():
        raise NotEnoughError(f"what was in a folder of a snapshot: {error}; nothing was deleted")
    return named | roots


async def finish_interrupted(repository: Repository, trash_days: int, but: Collection[bytes] = ()) -> None:
    """Take back what earlier prunes deleted and a snapshot names, of a put or a prune that was broken off.

    Plans that stand are removed: should such a prune be at work after all, it stops before it deletes more. What can
    be taken back still is in a plan in the trash afterwards. `but`: SHA-256s of what is to be deleted on purpose.
    """
    await repository.list_devices(settled=True)
    interrupted = await find_plans(repository)
    if interrupted:
        repository.emit(Warned("an earlier prune was broken off; what snapshots name of it is taken back"))
    plans = await find_plans(repository) if await take_back_plans(repository) else interrupted
    planned = {sha256 for _, contents in plans for sha256 in contents}.difference(but)
    if planned:
        await undelete_named(repository, [each.snapshot.root for each in await _all(repository)], planned)
        trash = by_object(await list_trash(repository))
        left = {sha256 for sha256 in planned if repository.key.object_id(sha256) in trash}
        if left:
            await (await announce(repository, left)).end(trash_days)
    for plan, _ in plans:
        await plan.remove()


async def let_go(repository: Repository, contents: Collection[bytes], trash_days: int) -> None:
    """To be called before these (SHA-256s) are deleted on purpose, so that no prune takes back what it deleted of them.

    Where that cannot be had now, a warning says so.
    """
    try:
        trash = by_object(await list_trash(repository))
        in_trash = any(repository.key.object_id(sha256) in trash for sha256 in contents)
        ended = in_trash and repository.key.prune_object_id() in trash
        if ended or any(planned.intersection(contents) for _, planned in await find_plans(repository)):
            await finish_interrupted(repository, trash_days, but=contents)
    except TesseraError as error:
        repository.emit(Warned(f"the next prune may take back what a snapshot names of it: {error}"))


async def prune(repository: Repository, unneeded: Unneeded, trash_days: int) -> int:
    """Delete what is unneeded, but for what a snapshot names that came meanwhile. The exit code."""
    if not unneeded.images:
        return 0
    plan = await announce(repository, {image.mapping.image_sha256 for image in unneeded.images})
    try:
        before = await _all(repository)
        named = await _named(SnapshotReader(repository), _new(before, unneeded.snapshots))
    except TesseraError:
        await plan.remove()  # nothing was deleted
        raise
    images = [image for image in unneeded.images if image.mapping.image_sha256 not in named]
    exit_code, stopped = 0, False
    for some in chunks(images, _AT_ONCE):
        if not await plan.stands():
            stopped = True
            break
        exit_code = await delete_images(repository, some, trash_days) or exit_code
    after = _new(await _all(repository), {each.sha256 for each in before})
    if after:
        repository.emit(Warned("a snapshot was recorded meanwhile; what it names is taken back"))
        deleted = {image.mapping.image_sha256 for image in images}
        await undelete_named(repository, [each.snapshot.root for each in after], deleted)
    if stopped:
        raise RefusedError("another machine began to prune; this one stopped", advice="run it again once that is done")
    await plan.end(trash_days)
    return exit_code


async def _all(repository: Repository) -> list[KeptSnapshot]:
    found, failed = await SnapshotReader(repository).snapshots()
    require_readable(failed, "run it again once it can")
    return found


def _new(snapshots: Sequence[KeptSnapshot], known: Collection[bytes]) -> list[KeptSnapshot]:
    return [each for each in snapshots if each.sha256 not in known]
