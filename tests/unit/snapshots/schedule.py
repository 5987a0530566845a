"""A schedule of chance for two machines with one vault, and what must hold: what a living snapshot names restores.

Both put, forget, prune, delete, undelete, repair and rotate, often two of these at once, and are killed anywhere in
them; devices leave, return and lose what they have, never more of them than images bear. All is drawn from the seed.

The programs' own steps run over a cluster in memory, in one event loop and without threads. Days pass on a clock of
the schedule's own. What the steward does, `Cluster.settle` does: whoever was away is told of deletions.
"""

from __future__ import annotations

import asyncio
import copy
import random
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from admin.deleting import delete_images, deleted_images, list_trash
from admin.events import NotChanged
from admin.pruning import finish_interrupted
from admin.repairing import complete_images
from admin.rotating import _hand_over_all
from admin.undeleting import undelete_images
from common.errors import NotEnoughError, TesseraError
from common.protocol.codec import pack_header
from common.protocol.envelope import Operation
from common.protocol.messages import Tombstone
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import SNAPSHOT
from consumer.snapshots import KeptSnapshot, SnapshotReader
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import chance
from tests.support.sample_shares import held_by
from tests.unit.snapshots.steps import (
    DAY,
    TRASH_DAYS,
    Clock,
    InPlace,
    delete_rest,
    lacking_of,
    named_by,
    prune_all,
    put_folder,
    simulated,
)

K, N, DEVICES = 2, 4, 6
CONTENTS = 4  # that files have in turn
RACES = 0.5  # of the rounds have one before them
LONG = 60.0  # seconds, of the real clock, in which a round must end


class Failed(AssertionError):
    """What must hold does not."""


class Cluster(MemoryCluster):
    """Each message takes a while, by chance, so that others come between."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(DEVICES)
        self.rng = rng

    def of(self, key: VaultKey) -> Cluster:
        """The same devices, in a session for this key."""
        session = copy.copy(self)
        session.owner = key.owner_id()
        return session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        await pause(self.rng)
        try:
            return await super().request(*arguments, **options)
        finally:
            await pause(self.rng)

    def settle(self) -> None:
        """As the steward does: devices that are here are told the last that others know of each deletion."""
        here = [device for device in self.devices if device.alive]
        known = {d: {(s.encoding_id, s.owner): s for s in d.store.tombstones()} for d in here}
        newest: dict[tuple[bytes, bytes], Tombstone] = {}
        for name, stone in (item for of_device in known.values() for item in of_device.items()):
            if name not in newest or newest[name].generation < stone.generation:
                newest[name] = stone
        for name, stone in newest.items():
            operation = Operation.DELETE if stone.deleted else Operation.UNDELETE
            for device in here:
                if known[device].get(name) != stone:
                    device.ask(operation, pack_header(stone), owner=stone.owner)

    def bears(self, lost: Sequence[bytes]) -> bool:
        """Whether all that is there, or in the trash, is still there without these devices."""
        kept: dict[bytes, set[int]] = {}
        for device in self.devices:
            for encoding_id, share in [*device.shares, *device.trash]:
                kept.setdefault(encoding_id, set())
                if device.device_id not in lost:
                    kept[encoding_id].add(share)
        return all(len(shares) >= K for shares in kept.values())


async def pause(rng: random.Random) -> None:
    for _ in range(rng.choice([0, 0, 1, 3, 10])):
        await asyncio.sleep(0)


@dataclass
class Machine:
    name: str
    home: Path
    source: Path
    vault: VaultFolder


class Schedule:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - the same in every run
        self.clock = Clock()
        self.cluster = Cluster(self.rng)
        self.key = VaultKey(chance(f"key {seed}", 32))
        self.history: list[str] = []
        self.promised: dict[bytes, str] = {}  # snapshots that a put ended well with, or undelete, → whose
        self.deleting: set[bytes] = set()  # in this round
        self.let_go: set[bytes] = set()  # contents and snapshots that somebody deleted or forgot, or began to
        self.pruned_to_its_end = True

    # --- running it

    def run(self, rounds: int = 6) -> None:
        """Raise Failed, with the history, where anything does not hold."""
        self.place = Path(tempfile.mkdtemp())
        with ExitStack() as changed:
            changed.callback(shutil.rmtree, self.place)
            changed.enter_context(simulated(self.clock, self.rng, self._threads, patience=0.02))
            asyncio.run(self._run(rounds))

    def _threads(self) -> InPlace:
        return InPlace(lambda: pause(self.rng))

    async def _run(self, rounds: int) -> None:
        self.machines = [self._machine(name) for name in ("ann", "bob")]
        await self._round([(self.machines[0], self.put)], kill=False)
        for _ in range(rounds):
            if self.rng.random() < RACES:
                await self._race()
            self._devices()
            some = self.rng.sample(self.machines, self.rng.choice([1, 2, 2]))
            steps = [self._step() for _ in some]
            await self._round(list(zip(some, steps)))
            if self.rng.random() < 0.1:
                await self._round([(self.machines[0], self.rotate)], kill=False)
            if self.rng.random() < 0.6:
                self.clock.now += 2 * DAY
                self._note("two days pass")
        self._note("quiet")
        self._all_here()
        await self._round([(self.machines[0], self.delete_rest)], kill=False)
        await self._round([(self.machines[1], self.prune)], kill=False)
        if not self.pruned_to_its_end:
            self._fail("a prune in quiet did not end well")
        await self._check()

    async def _race(self) -> None:
        """Where most can go wrong: one stores again what the other is about to prune."""
        self._all_here()
        one, other = self.rng.sample(self.machines, 2)
        await self._round([(one, self.forget_all)], kill=False)
        self.clock.now += 2 * DAY
        await self._round([(one, self.put_again), (other, self.prune)])

    def _machine(self, name: str) -> Machine:
        home, source = self.place / name, self.place / f"{name}'s"
        source.mkdir()
        machine = Machine(name, home, source, VaultFolder(home))
        self._change(machine)
        return machine

    def _step(self) -> Callable[[Machine], Coroutine[Any, Any, None]]:
        steps = [
            (5, self.put),
            (3, self.forget),
            (5, self.prune),
            (1, self.delete),
            (1, self.undelete),
            (1, self.repair),
        ]
        return self.rng.choices([step for _, step in steps], [weight for weight, _ in steps])[0]

    async def _round(
        self, steps: Sequence[tuple[Machine, Callable[[Machine], Coroutine[Any, Any, None]]]], *, kill: bool = True
    ) -> None:
        """Do these at once; each may be killed anywhere."""
        loop = asyncio.get_running_loop()
        running = []
        for machine, step in steps:
            self._note(f"{machine.name}: {step.__name__}")
            running.append(loop.create_task(self._one(machine, step, kill=kill and self.rng.random() < 0.4)))
        done, late = await asyncio.wait(running, timeout=LONG)
        if late:
            self._fail("a step does not end")
        for task in done:
            task.result()
        self.let_go |= self.deleting  # a put that ended meanwhile may have looked before the deletion
        self.deleting.clear()
        self.cluster.settle()
        await self._check_promised()

    async def _one(self, machine: Machine, step: Callable[[Machine], Coroutine[Any, Any, None]], *, kill: bool) -> None:
        task = asyncio.get_running_loop().create_task(step(machine))
        if kill:
            for _ in range(int(self.rng.expovariate(1 / self.rng.choice([50, 300, 1000])))):
                await asyncio.sleep(0)
            if not task.done():
                self._note(f"{machine.name} is killed in it")
                task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not kill:
                raise
        except TesseraError as error:
            self._note(f"{machine.name} was told: {error}")

    def _note(self, what: str) -> None:
        self.history.append(what)

    def _fail(self, what: str) -> None:
        raise Failed(f"seed {self.seed}: {what}\n" + "\n".join(self.history))

    # --- devices

    def _devices(self) -> None:
        here = [device for device in self.cluster.devices if device.alive]
        choice = self.rng.random()
        if choice < 0.3:
            self._all_here()
        elif choice < 0.6 and len(here) > DEVICES - (N - K):
            device = self.rng.choice(here)
            self._note(f"{device.name} leaves")
            device.alive = False
        elif choice < 0.75:
            device = self.rng.choice(here)
            if self.cluster.bears([device.device_id, *(d.device_id for d in self.cluster.devices if not d.alive)]):
                self._note(f"{device.name} loses its shares")
                device.lose(*held_by(device.store))

    def _all_here(self) -> None:
        for device in self.cluster.devices:
            device.alive = True
        self.cluster.settle()

    # --- steps

    def _repository(self, machine: Machine, key: Optional[VaultKey] = None) -> Repository:
        used = key or self.key
        return Repository(self.cluster.of(used).link, machine.vault, used, self._take)

    def _take(self, event: object) -> None:
        if isinstance(event, NotChanged):
            self._note(f"{event}")

    def _change(self, machine: Machine) -> None:
        """Another folder than before, of contents that there were before."""
        for path in machine.source.iterdir():
            path.unlink()
        for name in self.rng.sample("abcdefgh", self.rng.randint(1, 3)):
            number = self.rng.randrange(CONTENTS)
            (machine.source / name).write_bytes(chance(f"content {number}", 200 + number))

    async def put(self, machine: Machine) -> None:
        if self.rng.random() < 0.5:
            self._change(machine)
        await self.put_again(machine)

    async def put_again(self, machine: Machine) -> None:
        repository = self._repository(machine)
        put = await put_folder(repository, self.cluster, (K, N), machine.source, self._threads(), self.clock.now)
        if put.failed is not None:
            self._note(f"{machine.name} was told: {put.failed.error}")
        if put.recorded is not None and put.ended_well:
            self._note(f"{machine.name} has the snapshot {put.recorded.sha256.hex()[:8]}")
            self.promised[put.recorded.sha256] = machine.name
            self.let_go -= await named_by(repository, put.recorded.snapshot.root)

    async def forget(self, machine: Machine) -> None:
        repository = self._repository(machine)
        found, failed = await SnapshotReader(repository).snapshots()
        if not failed and len(found) > 1:
            await self._forget(machine, repository, self.rng.sample(found, self.rng.randint(1, len(found) - 1)))

    async def forget_all(self, machine: Machine) -> None:
        repository = self._repository(machine)
        await self._forget(machine, repository, (await SnapshotReader(repository).snapshots())[0])

    async def _forget(self, machine: Machine, repository: Repository, dropped: Sequence[KeptSnapshot]) -> None:
        for each in dropped:
            self._note(f"{machine.name} forgets {each.id[:8]}")
            self.promised.pop(each.sha256, None)
            self.let_go.add(each.sha256)
        names = {each.sha256 for each in dropped}
        images = (await repository.holdings()).images
        chosen = [image for image in images if image.mapping.kind == SNAPSHOT and image.mapping.image_sha256 in names]
        await delete_images(repository, chosen, TRASH_DAYS)

    async def prune(self, machine: Machine) -> None:
        self.pruned_to_its_end = False
        repository = self._repository(machine)
        unneeded, exit_code = await prune_all(repository, self.clock.now, lambda: pause(self.rng))
        self._note(f"{machine.name} pruned {unneeded.words}")
        self.pruned_to_its_end = exit_code == 0

    async def delete(self, machine: Machine) -> None:
        repository = self._repository(machine)
        files = (await repository.holdings()).files
        if files:
            image = self.rng.choice(files)
            self._note(f"{machine.name} deletes {image.sha256[:8]}")
            self.deleting.add(image.mapping.image_sha256)
            await delete_images(repository, [image], TRASH_DAYS)

    async def delete_rest(self, machine: Machine) -> None:
        for sha256 in await delete_rest(self._repository(machine)):
            self._note(f"{machine.name} deletes {sha256.hex()[:8]}, the rest of a put")

    async def undelete(self, machine: Machine) -> None:
        repository = self._repository(machine)
        trash = deleted_images(repository, await list_trash(repository))
        known = [each.sha256 for each in trash if each.sha256]
        if known:
            chosen = self.rng.choice(known)
            self._note(f"{machine.name} takes {chosen[:8]} back")
            await undelete_images(repository, [chosen])

    async def repair(self, machine: Machine) -> None:
        repository = self._repository(machine)
        images = (await repository.holdings()).images
        here = [device.name for device in self.cluster.devices if device.alive]
        await complete_images(repository, images, here)

    async def rotate(self, machine: Machine) -> None:
        """With all devices here, and no prune left half done: what an interrupted one leaves is its own tests'."""
        self._all_here()
        await finish_interrupted(self._repository(machine), TRASH_DAYS)
        new = VaultKey(chance(f"key {self.seed} {len(self.history)}", 32))

        async def lists(repository: Repository) -> Repository:
            await repository.list_devices()
            return repository

        old = await lists(self._repository(machine))
        exit_code = await _hand_over_all(old, await lists(self._repository(machine, new)), ())
        if exit_code != 0:
            self._fail("a rotation with all devices did not end well")
        self.key = new

    # --- what is true

    async def _check_promised(self) -> None:
        """What a put ended well with is there, and what it names, whatever came after it."""
        away = [device for device in self.cluster.devices if not device.alive]
        self._all_here()
        try:
            await self._check(self.promised)
        finally:
            for device in away:
                device.alive = False

    async def _check(self, wanted: Optional[dict[bytes, str]] = None) -> None:
        """All living snapshots restore, or the wanted ones are there and do."""
        repository = self._repository(self.machines[0])
        found, failed = await SnapshotReader(repository).snapshots()
        if failed and wanted is None:
            self._fail(f"a snapshot cannot be read: {failed[0].error}")
        living = {each.sha256: each for each in found}
        for sha256, of in (wanted or {}).items():
            if sha256 not in living:
                self._fail(f"{of}'s snapshot {sha256.hex()[:8]} is gone")
        for each in found:
            if wanted is None or each.sha256 in wanted:
                await self._restores(repository, each)

    async def _restores(self, repository: Repository, each: KeptSnapshot) -> None:
        try:
            lacking = await lacking_of(repository, each.snapshot.root)
        except NotEnoughError as error:
            self._fail(f"snapshot {each.id[:8]}: {error}")
            return
        for sha256 in sorted(lacking - self.let_go):
            self._fail(f"snapshot {each.id[:8]} names {sha256.hex()[:8]}, which is not there")
