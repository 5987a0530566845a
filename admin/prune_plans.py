"""Plans of prunes: what each is about to delete, kept in the vault from before it deletes until it is through.

A put that finds one once its snapshot is recorded does not say that all is well before it is gone (`producer.run`). One
that was left by a prune that was broken off tells the next what may have to be taken back. So does one of a prune that
ended, from the trash: a put that was broken off may have recorded a snapshot since, of what was there before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence

from admin.deleting import by_object, delete_encoding, list_trash, remove_encoding, undelete_encodings
from common.coding.redundancy import count_devices
from common.errors import NotEnoughError, TesseraError
from common.link.questions import list_devices, locate
from common.process.events import Warned
from common.protocol.messages import EncodingAt, is_at_hand
from common.repository.repository import Repository
from common.vault.mapping import PRUNE
from common.vault.prune_plan import decode_prune_plan, encode_prune_plan
from consumer.snapshots import SnapshotReader
from producer.events import StoredImage
from producer.owner import OwnVault
from producer.run import store_object
from producer.sources import Source
from producer.target import StoreOptions, Target
from producer.threads import Threads
from viewer.process import Viewer

_LOOK = 0.2  # seconds
_TIMEOUT = 10.0  # seconds until brokers know what devices said that they have


class PrunePlan:
    """One plan as it stands in the vault; `encoding` is its own, whatever others there are."""

    def __init__(self, repository: Repository, encoding: EncodingAt) -> None:
        self._repository = repository
        self.encoding = encoding

    async def stands(self) -> bool:
        """Whether it is there still: another prune removes those that seem broken off."""
        return any(each.encoding_id == self.encoding.encoding_id for each in await _find(self._repository))

    async def remove(self) -> None:
        """Nothing of what is planned was deleted, or another plan tells of it."""
        await remove_encoding(self._repository, self.encoding)

    async def end(self, trash_days: int) -> None:
        """What is planned is done, and goes to the trash for as long as what it deleted."""
        await delete_encoding(self._repository, self.encoding, trash_days)


async def announce(repository: Repository, contents: Collection[bytes]) -> PrunePlan:
    """Keep in the vault that these (SHA-256s) are about to be deleted; returns once brokers tell of it.

    Errors as of a put.
    """
    content = encode_prune_plan(contents)
    devices = await list_devices(repository.link)
    k, n = count_devices(devices).choose(None, None, accept_degraded=True)
    owner = OwnVault(repository.vault, repository.key)
    target = Target(repository.link, owner, k, n, devices, StoreOptions(accept_degraded=True))
    threads = Threads(Viewer())  # which is not asked for what is no image
    try:
        source = Source(None, "the plan of a prune", "prune", len(content), content=content, kind=PRUNE)
        outcome = await store_object(target, threads, source)
    finally:
        threads.close()
    if not isinstance(outcome, StoredImage):
        raise getattr(outcome, "error", TesseraError("the plan of a prune was not stored"))
    return await _own(repository, hashlib.sha256(content).digest())


async def _own(repository: Repository, sha256: bytes) -> PrunePlan:
    end = repository.link.time() + _TIMEOUT
    while True:
        found = await _find(repository)
        mappings = await repository.mappings.of(found)
        for encoding in found:
            mapping = mappings.get((encoding.object_id, encoding.encoding_id))
            if mapping is not None and mapping.image_sha256 == sha256 and is_at_hand(encoding):
                return PrunePlan(repository, encoding)
        if repository.link.time() > end:
            raise NotEnoughError("the plan of the prune is not to be seen by others; nothing was deleted")
        await asyncio.sleep(_LOOK)


async def find_plans(repository: Repository) -> list[tuple[PrunePlan, set[bytes]]]:
    """The plans that stand, each with the SHA-256s in it: of prunes at work, or of such as were broken off.

    NotEnoughError where one cannot be read now. One that was not stored whole, of a prune that had not begun to delete,
    is empty.
    """
    plans = []
    for encoding in await _find(repository):
        plans.append((PrunePlan(repository, encoding), await _read(repository, encoding)))
    return plans


async def take_back_plans(repository: Repository) -> bool:
    """Take those of prunes that ended out of the trash, so that `find_plans` finds them; whether there were any."""
    trashed = by_object(await list_trash(repository)).get(repository.key.prune_object_id(), [])
    if trashed:
        try:
            await undelete_encodings(repository, trashed)
        except TesseraError as error:
            repository.emit(Warned(f"what an earlier prune deleted is not known for certain: {error}"))
    return bool(trashed)


async def _read(repository: Repository, encoding: EncodingAt) -> set[bytes]:
    if not is_at_hand(encoding) and all(device.alive for device in repository.listed):
        return set()
    try:
        _, content = await SnapshotReader(repository).read([encoding], "the plan of a prune")
    except TesseraError as error:
        raise NotEnoughError(f"a prune was broken off, and its plan cannot be read: {error}") from error
    return decode_prune_plan(content)


async def _find(repository: Repository) -> Sequence[EncodingAt]:
    object_id = repository.key.prune_object_id()
    return (await locate(repository.link, [object_id]))[0][object_id]
