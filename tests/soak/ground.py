"""What every proof stands on: a cluster that can be started with faults, a user, and the books of what was promised.

`SoakCluster` is the local cluster of the tests, with devices whose disk or clock is wrong. `Keeper` stores images and
writes down what the producer reported as stored, and nothing else: that is what must be there afterwards, byte for
byte. `intact_shares` reads the shares on the disks themselves, block by block, as the last judge.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from cluster.local import CHECKOUT, LocalCluster
from cluster.ports import HOST, port_answers
from cluster.process import HOME
from common.discovery.addresses import BrokerAddress
from common.errors import TesseraError
from common.link.link import Link, run_with_link
from common.link.questions import list_devices
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair, save_brokers
from common.protocol.messages import Device
from common.vault.folder import VaultFolder
from tests.support.devices import held_shares
from tests.support.passphrases import create_cheap_vault
from tests.support.ports import own_base_port
from tests.support.programs import Ended, User, wait_until

SOAK = CHECKOUT / "tests" / "soak"
PASSPHRASE = "the passphrase of a soak"
REGISTERED = 30.0  # seconds in which a device that was started must be alive
DOCUMENTED = {0, 3, 4, 5, 7, 8}  # exit codes that a fault of disk, network or another process may lead to


class SoakCluster(LocalCluster):
    """A local cluster whose programs can be started with a wrong disk or clock."""

    settings: Mapping[str, str] = {}  # of its programs, as environment variables

    def __enter__(self) -> SoakCluster:
        self.start()
        return self

    def start_faulty(self, index: int, faults: Sequence[dict[str, Any]], *arguments: str) -> Path:
        """Start a device whose disk has these faults (see `faulty_worker`); returns its journal, begun anew."""
        journal = self.directory / f"device-{index}.journal"
        journal.unlink(missing_ok=True)
        variables = {"SOAK_FAULTS": json.dumps(list(faults)), "SOAK_JOURNAL": str(journal)}
        store = self.directory / f"device-{index}"
        command = [sys.executable, str(SOAK / "faulty_worker.py"), "--store", str(store), *arguments]
        self._workers[index - 1].start(command, {**self._environment_of(store.name), **variables})
        return journal

    def start_lying(self, index: int, orders: Path) -> None:
        """Start a device that lies as this file says (see `hostile_worker`)."""
        store = self.directory / f"device-{index}"
        command = [sys.executable, str(SOAK / "hostile_worker.py"), "--store", str(store)]
        self._workers[index - 1].start(command, {**self._environment_of(store.name), "HOSTILE_ORDERS": str(orders)})

    def start_lying_broker(self, orders: Path) -> None:
        """Start the broker, which lies as this file says (see `hostile_broker`)."""
        self._start_other_broker([sys.executable, str(SOAK / "hostile_broker.py")], {"HOSTILE_ORDERS": str(orders)})

    def start_shifted_device(self, index: int, offset: float, *arguments: str) -> None:
        """Start a device whose clock is wrong by `offset` seconds."""
        store = self.directory / f"device-{index}"
        command = [*shifted("worker"), "--store", str(store), *arguments]
        variables = {"SOAK_CLOCK_OFFSET": str(offset)}
        self._workers[index - 1].start(command, {**self._environment_of(store.name), **variables})

    def start_shifted_broker(self, offset: float) -> None:
        """Start the broker with a clock that is wrong by `offset` seconds."""
        self._start_other_broker(shifted("broker"), {"SOAK_CLOCK_OFFSET": str(offset)})

    def _start_other_broker(self, program: Sequence[str], variables: Mapping[str, str]) -> None:
        command = [*program, "--host", HOST]
        command += ["--client-port", str(self.base_port), "--worker-port", str(self.base_port + 1)]
        command += ["--lane-port", "0"]
        self._brokers[0].start(command, {**self._environment_of(HOME), **variables})
        wait_until(lambda: port_answers(self.base_port) and port_answers(self.base_port + 1), "the broker", 30)

    def device_died(self, index: int) -> bool:
        return self._workers[index - 1].died

    def forget_device_process(self, index: int) -> None:
        """A device that ended by itself, as a fault wanted it."""
        self._workers[index - 1].kill()

    def _environment_of(self, home: str, passphrase: Optional[str] = None) -> dict[str, str]:
        return {**super()._environment_of(home, passphrase), **self.settings}

    def devices_seen(self) -> list[Device]:
        """What the broker says of the devices; none where it does not answer."""
        pair = load_key_pair(self.directory / "home" / "client" / "client.key")
        own = load_brokers(self.directory / "device-1" / "brokers.json")[0]
        direct = BrokerAddress(HOST, self.base_port, self.base_port + 1, own.public_key)

        async def ask() -> list[Device]:
            async with Link(ClientIdentity(pair, [direct]), None) as link:
                return await list_devices(link)

        try:
            return run_with_link(ask)
        except TesseraError:
            return []

    def wait_alive(self, *indices: int, seconds: float = REGISTERED) -> None:
        """Return once these devices (by default all) are alive in the broker's eyes."""
        wanted = {self.devices[index - 1] for index in indices} or set(self.devices)
        wait_until(
            lambda: wanted <= {device.name for device in self.devices_seen() if device.alive},
            f"{sorted(wanted)} alive",
            seconds,
        )

    def wait_gone(self, *indices: int) -> None:
        """Return once the broker has noticed that these devices are gone."""
        names = {self.devices[index - 1] for index in indices}

        def gone() -> bool:
            seen = self.devices_seen()
            return bool(seen) and not names & {device.name for device in seen if device.alive}

        wait_until(gone, f"the loss of {sorted(names)}", REGISTERED)

    def kill_devices(self, *indices: int) -> None:
        for index in indices:
            self.kill_device(index)
        self.wait_gone(*indices)

    def revive(self, *arguments: str) -> None:
        """Start whatever does not run, and return once all devices are alive."""
        if self.broker_pid() is None:
            self.start_broker()
        dead = [index for index in range(1, len(self.devices) + 1) if self.device_pid(index) is None]
        if dead:
            self.wait_gone(*dead)  # before, a device that is alive may be the one that was
        for index in dead:
            self.forget_device_process(index)
            self.start_device(index, *arguments)
        self.wait_alive()

    def lead_through(self, base_port: int, indices: Iterable[int], *homes: Path, host: Optional[str] = None) -> None:
        """Have these devices (which do not run), and the clients with these homes, go to other ports, or a host."""
        folders = [self.directory / self.devices[index - 1] for index in indices]
        for path in [folder / "brokers.json" for folder in folders] + [h / "client" / "brokers.json" for h in homes]:
            known = load_brokers(path)
            led = [BrokerAddress(host or b.host, base_port, base_port + 1, b.public_key) for b in known]
            save_brokers(path, led)


def shifted(program: str) -> list[str]:
    return [sys.executable, str(SOAK / "shifted_clock.py"), program]


def new_cluster(folder: Path, workers: int, settings: Optional[Mapping[str, str]] = None) -> SoakCluster:
    """A cluster in `folder`, not yet started; `settings` are options of its programs, as environment variables."""
    cluster = SoakCluster(folder / "cluster", workers=workers, base_port=own_base_port())
    cluster.settings = dict(settings or {})
    return cluster


def new_user(cluster: LocalCluster, name: str, *, snapshots: bool = False) -> User:
    """A user with an empty vault, with the admission of the cluster's client; `snapshots`: as of `User`."""
    home = cluster.directory / name
    shutil.copytree(cluster.directory / "home" / "client", home / "client")
    create_cheap_vault(home, PASSPHRASE)
    environment = {**cluster.environment, "TESSERA_HOME": str(home), "TESSERA_PASSPHRASE": PASSPHRASE}
    return User(environment, home / "work", snapshots=snapshots)


@dataclass(frozen=True)
class Promise:
    """An image that the producer reported as stored."""

    sha256: str
    k: int
    n: int
    devices: tuple[Optional[str], ...]  # by share; None where it is degraded

    @property
    def bears(self) -> int:
        """How many devices may be lost."""
        return sum(device is not None for device in self.devices) - self.k


class Keeper:
    """Stores images of seeded bytes for one user, and holds the cluster to what it promised."""

    def __init__(self, user: User, drawn: random.Random) -> None:
        self.user = user
        self.promises: dict[str, Promise] = {}
        self.exit_codes: list[int] = []
        self.longest = 0.0  # seconds that a program took
        self._random = drawn
        self._count = 0

    def make_folder(self, small: int, large: int, segments: int = 3, k: int = 2) -> Path:
        """A folder of new images: `small` ones of up to 40 KB, `large` ones of so many segments for this k."""
        self._count += 1
        folder = self.user.folder / f"in-{self._count}"
        folder.mkdir()
        sizes = [self._random.randint(1, 40_000) for _ in range(small)]
        sizes += [k * (segments << 20) - self._random.randint(100, 900_000) for _ in range(large)]
        for number, size in enumerate(sizes):
            (folder / f"{number}.bin").write_bytes(self._random.randbytes(size))
        return folder

    def put(self, folder: Path, *options: str) -> Ended:
        """Store a folder; what is reported as stored is promised from now on."""
        ended = self.user.run("producer", "--json", *options, str(folder))
        self.note(ended)
        shutil.rmtree(folder)
        return ended

    def note(self, ended: Ended) -> None:
        """Write down what a producer reported, which ended by itself; its exit code must be one that fits."""
        self.note_killed(ended)
        self.judge_exit(ended)

    def note_killed(self, ended: Ended) -> None:
        """Write down what a producer had reported until it was killed."""
        for stored in ended.stored:
            promise = Promise(stored["sha256"], stored["k"], stored["n"], tuple(stored["devices"]))
            self.promises[promise.sha256] = promise

    def judge_exit(self, ended: Ended, also: Sequence[int] = ()) -> None:
        self.exit_codes.append(ended.exit_code)
        self.longest = max(self.longest, ended.seconds)
        assert ended.exit_code in {*DOCUMENTED, *also}, ended

    def check_restored(self, bearing: int = 0, hashes: Optional[Iterable[str]] = None) -> int:
        """Restore all promised images that bear the loss of so many devices; each must be whole. How many were."""
        wanted = [promise.sha256 for promise in self.promises.values() if promise.bears >= bearing]
        wanted = wanted if hashes is None else list(hashes)
        if not wanted:
            return 0
        out = self.user.folder / "out"
        for start in range(0, len(wanted), 200):
            ended = self.user.restore(*wanted[start : start + 200], output=out, options=("--json", "--force"))
            assert ended.exit_code == 0, (len(wanted), ended)
            restored = {each["sha256"]: Path(each["path"]) for each in ended.objects}
            assert set(restored) == set(wanted[start : start + 200])
            for sha256, path in restored.items():
                content = (self.user.folder / path).read_bytes()
                assert hashlib.sha256(content).hexdigest() == sha256, f"{sha256} came back as something else"
        shutil.rmtree(out, ignore_errors=True)
        return len(wanted)

    def objects(self, hashes: Iterable[str]) -> list[bytes]:
        """The object ids of images, by which shares on disk are known."""
        key = VaultFolder(self.user.home).unlock(PASSPHRASE)
        return [key.object_id(bytes.fromhex(sha256)) for sha256 in hashes]

    def check_on_disks(self, cluster: SoakCluster) -> int:
        """Every share that a device acknowledged is on its disk, each block of it good; how many these are."""
        whole = whole_on_devices(cluster)
        count = 0
        for object_id, promise in zip(self.objects(self.promises), self.promises.values()):
            acknowledged = {(device, share) for share, device in enumerate(promise.devices) if device is not None}
            lost = acknowledged - whole.get(object_id, set())
            assert not lost, f"acknowledged, and not on disk: {sorted(lost)} of {promise}"
            count += len(acknowledged)
        return count


def check_with_losses(cluster: SoakCluster, keepers: Sequence[Keeper], losses: Iterable[tuple[int, ...]]) -> int:
    """Restore all that bears it while these devices are killed, group by group; how many images that were.

    Afterwards all devices run again.
    """
    restored = 0
    for lost in losses:
        cluster.kill_devices(*lost)
        restored += sum(keeper.check_restored(bearing=len(lost)) for keeper in keepers)
        cluster.revive()
    return restored


def whole_on_devices(cluster: LocalCluster) -> dict[bytes, set[tuple[str, int]]]:
    """Object id → on which device's disk which of its shares is whole."""
    found: dict[bytes, set[tuple[str, int]]] = {}
    for record in held_shares(cluster):
        object_id = record.object_id()
        if object_id is not None:
            found.setdefault(object_id, set()).add((record.device, record.share))
    return found


def intact_shares(cluster: LocalCluster, devices: Sequence[str]) -> dict[str, set[int]]:
    """Encoding id in hex → its shares of which the disk of one of these devices has a record that is whole."""
    found: dict[str, set[int]] = {}
    for record in held_shares(cluster):
        if record.device in devices and record.is_whole():
            found.setdefault(record.encoding, set()).add(record.share)
    return found


def devices_with_two(cluster: LocalCluster) -> list[str]:
    """Encodings of which one device has two shares or more: there must be none."""
    found = Counter(f"{record.encoding} on {record.device}" for record in held_shares(cluster))
    return [name for name, count in found.items() if count > 1]


def wait_whole(cluster: SoakCluster, keeper: Keeper, away: int = 0, seconds: float = 60.0) -> None:
    """Return once every promised image has all n shares, each whole on one device, and no device has two.

    The disk of the device with the number `away` does not count.
    """
    gone = cluster.devices[away - 1] if away else None
    wanted = dict(zip(keeper.objects(keeper.promises), (promise.n for promise in keeper.promises.values())))

    def all_whole() -> bool:
        whole = whole_on_devices(cluster)
        complete = all(
            len({s for d, s in whole.get(object_id, ()) if d != gone}) == n for object_id, n in wanted.items()
        )
        return complete and not devices_with_two(cluster)

    wait_until(all_whole, "every image whole", seconds)
