"""What it takes a broker without its catalog to know all again, and who waits: python -m bench.announcing pretended

A real broker; six devices in one process announce shares that there are not (`bench.listing`). Its catalog is removed
and it is started anew; until it knows all, and has looked at all, a client asks LOCATE, LIST and STATUS in turns.
`python -m bench.announcing stored` stores the images first, of 10 KiB, at six real devices.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Optional

import numpy as np
import typer

from bench.listing import Made, N, Pretenders
from bench.metering import peak_memory, processor_seconds
from cluster.local import LocalCluster, require_success
from cluster.ports import find_base_port
from common.errors import TesseraError, UnreachableError
from common.link.link import Link
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair
from common.process.program import application, run, warn
from common.protocol.codec import unpack
from common.protocol.messages import Device, Empty, ListObjects, Locate
from common.protocol.operations import HEALTH, LIST, LOCATE, STATUS
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey

commands = application("Measure a broker that lost its catalog.")
_DEADLINE = 1800.0  # seconds
_SMALL = 10 << 10  # bytes of an image
_PART = 20_000  # images stored by one command
_MIB = 1 << 20


class Waits:
    """How long a client waited for each kind of answer, in seconds."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[float]] = {"LOCATE": [], "LIST": [], "STATUS": []}
        self.first: Optional[float] = None

    def __str__(self) -> str:
        shown = [f"first answer after {self.first or 0.0:.2f} s"]
        for kind, waits in self.by_kind.items():
            some = sorted(waits)
            last = some[len(some) * 99 // 100] if some else 0.0
            shown.append(
                f"{kind} {1000 * statistics.median(some or [0.0]):.0f} ms (median), {1000 * last:.0f} (99 of 100),"
                f" {1000 * max(some, default=0.0):.0f} (most) of {len(some)}"
            )
        return "; ".join(shown)


_IMAGES = typer.Option(100_000, help="Images, each one encoding.")
_FOLDER = typer.Option(None, help="Where stores and the broker's catalog lie.")


@commands.command("pretended")
def pretended(images: int = _IMAGES, folder: Optional[Path] = _FOLDER) -> None:
    """Print times, the broker's processor and memory, and how long a client waited."""
    with _cluster(folder, 1) as (cluster, place):
        key = VaultKey(bytes(range(32)))
        pretenders = Pretenders(place / "pretenders", cluster, key.owner_id())
        drawn = random.Random(1)
        pretenders.hold([Made(drawn.randbytes(32), drawn.randbytes(16), b"") for _ in range(images)])
        pretenders.start()
        try:
            pretenders.wait_known(cluster)
            _restart(cluster, key, images)
        finally:
            pretenders.stop()


@commands.command("stored")
def store(images: int = _IMAGES, folder: Optional[Path] = _FOLDER) -> None:
    """The same of images that are stored, and what starting a device takes."""
    with _cluster(folder, N) as (cluster, place):
        home = Path(cluster.environment["TESSERA_HOME"])
        key = VaultFolder(home).unlock(cluster.environment["TESSERA_PASSPHRASE"])
        drawn = np.random.default_rng(1)
        for first in range(0, images, _PART):
            (place / "files").mkdir()
            count = min(_PART, images - first)
            for number in range(count):
                (place / "files" / str(number)).write_bytes(drawn.bytes(_SMALL))
            began = time.monotonic()
            stored = cluster.run("producer", "--no-snapshot", str(place / "files"), timeout=_DEADLINE)
            require_success("producer", stored)
            warn(f"{first + count:,} stored, {count / (time.monotonic() - began):,.0f} a second")
            shutil.rmtree(place / "files")
        _restart(cluster, key, images)
        _restart_device(cluster)


@contextmanager
def _cluster(folder: Optional[Path], workers: int) -> Iterator[tuple[LocalCluster, Path]]:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    with tempfile.TemporaryDirectory(prefix="tessera-announcing-", dir=folder) as scratch:
        place = Path(scratch)
        with LocalCluster(place / "cluster", workers=workers, base_port=find_base_port(1)) as cluster:
            yield cluster, place


def _restart(cluster: LocalCluster, key: VaultKey, images: int) -> None:
    """Kill and start the broker without its catalog, and then with it."""
    for is_kept in (False, True):
        cluster.kill_broker()
        if not is_kept:
            for path in Path(cluster.environment["TESSERA_HOME"], "broker").glob("catalog.sqlite*"):
                path.unlink()
        before, started = _used_by_devices(cluster), time.monotonic()
        cluster.start_broker()
        asyncio.run(_watch(cluster, key, images, started, "with its catalog" if is_kept else "without its catalog"))
        used = _used_by_devices(cluster) - before
        print(f"  the real devices' processors: {used:.1f} s; load {os.getloadavg()[0]:.0f}", flush=True)


def _restart_device(cluster: LocalCluster) -> None:
    cluster.kill_device(1)
    while len(cluster.alive()) == N:
        time.sleep(0.1)
    began = time.monotonic()
    cluster.start_device(1)
    while len(cluster.alive()) < N:
        time.sleep(0.02)
    took, pid = time.monotonic() - began, cluster.device_pid(1)
    assert pid is not None
    print(f"a device is back after {took:.1f} s, {peak_memory(pid) / _MIB:.0f} MiB")


def _used_by_devices(cluster: LocalCluster) -> float:
    pids = [cluster.device_pid(number) for number in range(1, len(cluster.devices) + 1)]
    return sum(processor_seconds(pid) for pid in pids if pid is not None)


async def _watch(cluster: LocalCluster, key: VaultKey, images: int, started: float, what: str) -> None:
    """Ask until all is known and looked at."""
    pid, waits, drawn, known = cluster.broker_pid(), Waits(), random.Random(2), 0.0
    assert pid is not None
    client = Path(cluster.environment["TESSERA_HOME"]) / "client"
    pair = load_key_pair(client / "client.key")
    identity = ClientIdentity(pair, load_brokers(client / "brokers.json"))
    async with Link(identity, key.owner_proof(pair.public)) as link:
        while True:
            await _ask(link, waits, drawn, started)
            devices = unpack((await link.request(STATUS, Empty())).payload, list[Device])
            health = (await link.request(HEALTH, Empty())).header
            if not known and sum(device.alive and device.shares >= images for device in devices) >= N:
                known, processor = time.monotonic() - started, processor_seconds(pid)
            if known and health.settled and health.whole >= images:
                break
            if time.monotonic() - started > _DEADLINE:
                raise UnreachableError(f"{health.whole:,} of {images:,} images are known")
            await asyncio.sleep(0.05)
    print(
        f"{what}: all known after {known:.1f} s and {processor:.1f} s of the broker's processor, looked at after"
        f" {time.monotonic() - started:.1f} s and {processor_seconds(pid):.1f} s; {peak_memory(pid) / _MIB:.0f} MiB"
    )
    print(f"  {waits}", flush=True)


async def _ask(link: Link, waits: Waits, drawn: random.Random, started: float) -> None:
    for kind in waits.by_kind:
        began = time.monotonic()
        try:
            if kind == "LOCATE":
                await link.request(LOCATE, Locate(), payload=b"\x91\xc4\x20" + drawn.randbytes(32))
            elif kind == "LIST":
                await link.request(LIST, ListObjects(drawn.randbytes(32), 100))
            else:
                await link.request(STATUS, Empty())
        except TesseraError as error:
            print(f"  {kind}: {error}")
            continue
        waits.by_kind[kind].append(time.monotonic() - began)
        waits.first = waits.first or time.monotonic() - started


def main() -> NoReturn:
    run(commands, "bench.announcing")


if __name__ == "__main__":
    main()
