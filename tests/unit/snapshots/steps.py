"""What two machines with one vault do over a cluster in memory, as the programs do it, in one event loop.

There are no threads; the time and what is random come from the test.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, TypeVar
from unittest import mock

from admin import prune_plans
from admin.deleting import delete_images
from admin.pruning import Unneeded, find_unneeded, finish_interrupted, prune
from common.errors import NotEnoughError
from common.protocol.messages import shares_at_hand
from common.repository.repository import Repository
from consumer.snapshots import SnapshotReader
from producer import run as run_of_producer
from producer.events import FailedImage, RecordedSnapshot
from producer.owner import OwnVault
from producer.run import Run, record, store_all
from producer.sources import find_all
from producer.target import StoreOptions, Target
from producer.threads import Threads
from producer.trees import Trees
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import Unseeing

T = TypeVar("T")
DAY = 86_400.0  # seconds
TRASH_DAYS = 7


class Clock:
    """Called as `time.time`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def _at_once() -> None:
    pass


class InPlace(Threads):
    """Threads that are none: what is done in them is done in the loop, after `pause`."""

    def __init__(self, pause: Callable[[], Awaitable[None]] = _at_once) -> None:
        self._pause = pause
        self._viewer = Unseeing()
        self._looking = asyncio.Lock()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        await self._pause()
        return work(*arguments)

    def close(self) -> None:
        pass


@contextmanager
def simulated(clock: Clock, rng: random.Random, threads: Callable[[], InPlace], patience: float) -> Iterator[None]:
    """Take time and random bytes from these; a put waits for a prune's end for `patience` s, and looks all the time."""
    with ExitStack() as changed:
        changed.enter_context(mock.patch.object(time, "time", clock))
        changed.enter_context(
            mock.patch.object(secrets, "token_bytes", lambda size: rng.getrandbits(8 * size).to_bytes(size, "big"))
        )
        changed.enter_context(mock.patch.object(prune_plans, "Threads", lambda _: threads()))
        changed.enter_context(mock.patch.object(run_of_producer, "_PRUNE_TIMEOUT", patience))
        changed.enter_context(mock.patch.object(run_of_producer, "_PRUNE_LOOK", 0.0))
        yield


@dataclass(frozen=True)
class PutFolder:
    """What came of a put: its snapshot, and the first of what failed."""

    recorded: Optional[RecordedSnapshot]
    failed: Optional[FailedImage]

    @property
    def ended_well(self) -> bool:
        return self.recorded is not None and self.failed is None


async def put_folder(
    repository: Repository, cluster: MemoryCluster, code: tuple[int, int], source: Path, threads: Threads, now: float
) -> PutFolder:
    """Store a folder with a snapshot, by k of n; `now` in Unix seconds."""
    given = [str(source)]
    failed: list[FailedImage] = []
    recorded: list[RecordedSnapshot] = []

    def emit(event: object) -> None:
        if isinstance(event, FailedImage):
            failed.append(event)
        elif isinstance(event, RecordedSnapshot):
            recorded.append(event)

    run = Run(given, find_all(given, "stdin"), Trees())
    owner = OwnVault(repository.vault, repository.key)
    target = Target(repository.link, owner, *code, cluster.as_devices(), StoreOptions(), emit=emit)
    async for outcome in store_all(target, threads, run):
        emit(outcome)
    await record(target, threads, run, int(now * 1e9))
    owner.save(target.emit)
    return PutFolder(recorded[0] if recorded else None, failed[0] if failed else None)


async def prune_all(
    repository: Repository, now: float, asked: Callable[[], Awaitable[None]] = _at_once
) -> tuple[Unneeded, int]:
    """What was pruned, and the exit code; `asked`: what happens while the user is asked."""
    await finish_interrupted(repository, TRASH_DAYS)
    unneeded = await find_unneeded(repository, now)
    await asked()
    return unneeded, await prune(repository, unneeded, TRASH_DAYS)


async def delete_rest(repository: Repository) -> list[bytes]:
    """As the prune's advice is: snapshots of which a put that was killed left too few shares."""
    _, failed = await SnapshotReader(repository).snapshots()
    rest = [bytes.fromhex(each.sha256) for each in failed]
    for sha256 in rest:
        await delete_images(repository, (await repository.holdings([sha256.hex()])).images, TRASH_DAYS)
    return rest


async def named_by(repository: Repository, root: bytes) -> set[bytes]:
    """The SHA-256 of all that a snapshot with this root names; NotEnoughError where that cannot be read whole."""
    listing = await SnapshotReader(repository).listing(root)
    if listing.failed:
        raise NotEnoughError(str(listing.failed[0].error))
    return {root, *(each.entry.content for each in listing.entries if each.entry.content is not None)}


async def lacking_of(repository: Repository, root: bytes) -> set[bytes]:
    """What of that is not there, each with k shares at hand; errors as `named_by`."""
    located = await repository.locate_all(sorted(await named_by(repository, root)))
    return {
        sha256
        for sha256, encodings in located.items()
        if not isinstance(encodings, list) or not any(len(shares_at_hand(each)) >= each.k for each in encodings)
    }
