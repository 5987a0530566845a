"""Two machines with one vault, one of which is held up in the middle of what it does, and either killed at any.

A folder was put and its snapshot forgotten, so that a prune is about to delete what a put of the same folder reuses.
One of the two is held before its m-th message, the other runs meanwhile, and either is killed before its n-th message,
or is not. The one that is held goes on once the other ended, or waits for it.

What must hold: where the put ended well, all that its snapshot names is there, at once and whatever comes after. And
once a prune has run in quiet, all that any living snapshot names is there.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Awaitable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from admin.deleting import delete_images
from common.errors import NotEnoughError, TesseraError
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from consumer.snapshots import SnapshotReader
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import KEY, chance
from tests.unit.snapshots.steps import (
    DAY,
    Clock,
    InPlace,
    PutFolder,
    delete_rest,
    lacking_of,
    prune_all,
    put_folder,
    simulated,
)

K, N = 2, 3
LOOKS = 40.0  # at the time, by a put that waits for a prune: the prune has fewer messages
NEVER = 10_000
BEGIN = Clock().now + 2 * DAY
Step = Callable[[Repository, "Session"], Coroutine[Any, Any, object]]


class Failed(AssertionError):
    """What must hold does not."""


class Case(NamedTuple):
    """`held`: put or prune, which is held before its message `at`; `killed`: which is killed, before its `kill_at`."""

    held: str
    at: int
    killed: str
    kill_at: int

    def __str__(self) -> str:
        killed = "none is killed" if self.kill_at == NEVER else f"{self.killed} is killed at {self.kill_at}"
        return f"{self.held} is held at {self.at}, {killed}"


class Session(MemoryCluster):
    """What one machine asks of the cluster: it counts the messages, is held before one of them, and killed."""

    def __init__(self, cluster: MemoryCluster) -> None:
        vars(self).update(vars(cluster))
        self.sent = 0
        self.hold_at = self.kill_at = NEVER
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing
        self.waits = asyncio.Event()  # set where it looked at the time more than once
        self.killed = False
        self._free = asyncio.Event()
        self._free.set()
        self._looks = 0.0

    def time(self) -> float:
        """A second passes from one look at it to the next."""
        self._looks += 1
        if self._looks > 2:
            self.waits.set()
        return self._looks

    async def request(self, *arguments: Any, **options: Any) -> Any:
        self.sent += 1
        number = self.sent
        if number == self.hold_at:
            self._free.clear()
            await self.meanwhile()
            self._free.set()
        await self._free.wait()
        if self.killed or number >= self.kill_at:
            self.killed = True
            raise asyncio.CancelledError
        return await super().request(*arguments, **options)


async def _nothing() -> None:
    pass


class Ground:
    """The cluster as it is before the two begin; each case begins from it, in `loop`."""

    def __init__(self, place: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.clock = Clock()
        self.home = {name: place / name for name in ("put", "prune")}
        self.source = place / "source"
        self.source.mkdir()
        (self.source / "x").write_bytes(chance("x", 200))
        self._cluster = MemoryCluster(N)
        self._loop = loop
        with simulated(self.clock, _drawn("ground"), InPlace, LOOKS):
            loop.run_until_complete(self._prepare())
        shutil.copytree(self.home["put"], self.home["prune"])

    async def _prepare(self) -> None:
        repository = self.repository("put", Session(self._cluster))
        put = await put_folder(repository, self._cluster, (K, N), self.source, InPlace(), self.clock.now)
        assert put.recorded is not None
        images = (await repository.holdings([put.recorded.sha256.hex()])).images
        assert await delete_images(repository, images, 0) == 0

    def repository(self, name: str, session: Session) -> Repository:
        """What the put's, or the prune's machine has open."""
        return Repository(session.link, VaultFolder(self.home[name]), KEY)

    def cluster(self) -> MemoryCluster:
        """Other devices, with what these have on their disks."""
        other = MemoryCluster(N)
        for device, original in zip(other.devices, self._cluster.devices):
            device.disk = original.disk.copied()
            device.start_anew()
        return other

    def run(self, case: Case) -> Outcome:
        """What came of a case; Failed where something does not hold."""
        self.clock.now = BEGIN
        with simulated(self.clock, _drawn(str(case)), InPlace, LOOKS):
            return self._loop.run_until_complete(_Run(case, self).run())


def _drawn(label: str) -> random.Random:
    return random.Random(label)  # noqa: S311 - the same in every run


class Outcome(NamedTuple):
    sent: dict[str, int]  # by put and prune: messages
    put_ended_well: bool


class _Run:
    def __init__(self, case: Case, ground: Ground) -> None:
        self.case = case
        self.ground = ground
        self.clock = ground.clock
        self.cluster = ground.cluster()

    async def run(self) -> Outcome:
        sessions = {name: Session(self.cluster) for name in ("put", "prune")}
        other = "prune" if self.case.held == "put" else "put"
        held, meanwhile = sessions[self.case.held], sessions[other]
        sessions[self.case.killed].kill_at = self.case.kill_at
        under_way: list[asyncio.Task[Optional[PutFolder]]] = []

        async def run_other() -> None:
            task = asyncio.create_task(self._step(other, meanwhile))
            under_way.append(task)
            waits = asyncio.create_task(meanwhile.waits.wait())
            await asyncio.wait([task, waits], return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()

        held.hold_at, held.meanwhile = self.case.at, run_other
        ended = [await self._step(self.case.held, held), *[await task for task in under_way]]
        put = next((each for each in ended if each is not None), None)
        await self._check(put)
        return Outcome({name: each.sent for name, each in sessions.items()}, put is not None and put.ended_well)

    async def _step(self, name: str, session: Session) -> Optional[PutFolder]:
        """What came of a put; None of a prune, and of what was killed."""
        repository = self.ground.repository(name, session)
        try:
            if name == "put":
                return await put_folder(repository, session, (K, N), self.ground.source, InPlace(), self.clock.now)
            await prune_all(repository, self.clock.now)
        except asyncio.CancelledError:
            if not session.killed:
                raise
        except TesseraError:
            if name == "put":
                raise
        return None

    async def _check(self, put: Optional[PutFolder]) -> None:
        wanted = put.recorded.sha256 if put is not None and put.recorded is not None and put.ended_well else None
        await self._require(wanted, "at once")
        self.clock.now += 2 * DAY
        repository = self.ground.repository("prune", Session(self.cluster))
        rest = await delete_rest(repository)
        if wanted in rest:
            raise Failed(f"{self.case}: the snapshot cannot be read")
        try:
            _, exit_code = await prune_all(repository, self.clock.now)
        except TesseraError as error:
            raise Failed(f"{self.case}: a prune in quiet ended with {error}") from error
        if exit_code != 0:
            raise Failed(f"{self.case}: a prune in quiet ended with {exit_code}")
        await self._require(wanted, "after a prune in quiet", all_living=True)

    async def _require(self, wanted: Optional[bytes], when: str, *, all_living: bool = False) -> None:
        repository = self.ground.repository("prune", Session(self.cluster))
        found, _ = await SnapshotReader(repository).snapshots()
        if wanted is not None and wanted not in {each.sha256 for each in found}:
            raise Failed(f"{self.case}: {when} the put's snapshot is gone")
        for each in found:
            if all_living or each.sha256 == wanted:
                try:
                    lacking = await lacking_of(repository, each.snapshot.root)
                except NotEnoughError as error:
                    raise Failed(f"{self.case}: {when} {error}") from error
                if lacking:
                    raise Failed(f"{self.case}: {when} {len(lacking)} of what a snapshot names are not there")


class _AtOnce(ThreadPoolExecutor):
    """Does in the loop what is given to it."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **options))
        return done


@contextmanager
def ground() -> Iterator[Ground]:
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_AtOnce(1))
    with tempfile.TemporaryDirectory() as place, closing(loop):
        yield Ground(Path(place), loop)


def sweep(prepared: Ground, held: str, killed: str, hold_step: int, kill_step: int) -> list[Outcome]:
    """One is held before every `hold_step`-th message, and one is killed before every `kill_step`-th, or not at all.

    Failed at the first in which something does not hold.
    """
    outcomes = []
    for at in itertools.count(1, hold_step):
        whole = prepared.run(Case(held, at, killed, NEVER))
        first = (at if held == killed else 1) + at % kill_step
        kills = range(first, whole.sent[killed] + 1, kill_step)
        outcomes += [whole, *(prepared.run(Case(held, at, killed, kill_at)) for kill_at in kills)]
        if at > whole.sent[held]:
            break
    return outcomes
