"""How cost grows with the image's size, the number of images, devices and clients: python bench/growth.py

Each row doubles or more what is in its first column; what is measured should not grow faster than that. Stores lie
where `--stores` says. What takes the longest is the largest number of images: about five minutes for 100,000.
`--series` measures some of it alone.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Optional

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import numpy as np
import typer

from bench.contenders import Tessera
from bench.listing import listed
from bench.metering import peak_memory, run_metered
from bench.workloads import MIB, Workload
from cluster.local import CHECKOUT, LocalCluster, program_command
from cluster.ports import find_base_port
from common.errors import TesseraError
from common.process.program import application, run, warn

commands = application("Measure how cost grows.")
_SIZES = (1, 4, 16, 64, 256, 1024, 4096)  # MiB
_COUNTS = (1_000, 10_000, 100_000, 300_000, 1_000_000)
_SMALL = 10 << 10  # bytes
_DEVICES = (3, 6, 12, 24, 60)
_CLIENTS = (1, 2, 4, 8, 16)
_PART = 32  # MiB that each client stores
_TIMEOUT = 900.0  # seconds

Row = dict[str, float]


class Series(enum.Enum):
    SIZES = "sizes"
    IMAGES = "images"
    DEVICES = "devices"
    CLIENTS = "clients"


@commands.command()
def growth(
    largest: int = typer.Option(_SIZES[-1], help="Largest image, in MiB."),
    most_images: int = typer.Option(_COUNTS[2], help="Most images, of 10 KiB."),
    most_devices: int = typer.Option(_DEVICES[-1], help="Most devices."),
    most_clients: int = typer.Option(_CLIENTS[-1], help="Most clients at once."),
    series: list[Series] = typer.Option(list(Series), help="What is to grow; several times for several."),
    stores: Optional[Path] = typer.Option(None, help="Where stores lie: a folder on tmpfs or on a disk."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write all figures there, as JSON."),
) -> None:
    """Print a table for each, in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    found: dict[str, list[Row]] = {}
    for which, title, points, measure in (
        (Series.SIZES, "image's size in MiB", [size for size in _SIZES if size <= largest], _by_size),
        (Series.IMAGES, "images of 10 KiB", [count for count in _COUNTS if count <= most_images], _by_count),
        (Series.DEVICES, "devices", [count for count in _DEVICES if count <= most_devices], _by_devices),
        (Series.CLIENTS, "clients at once", [count for count in _CLIENTS if count <= most_clients], _by_clients),
    ):
        if which not in series:
            continue
        with tempfile.TemporaryDirectory(prefix="tessera-growth-", dir=stores) as folder:
            found[title] = [{title: point, **row} for point, row in zip(points, measure(Path(folder), points))]
        print(_table(found[title]), "", sep="\n", flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def _table(rows: Sequence[Row]) -> str:
    names = list(rows[0]) if rows else []
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(_shown(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


@contextmanager
def _cluster(place: Path, workers: int = 6) -> Iterator[LocalCluster]:
    with LocalCluster(place / "cluster", workers=workers, base_port=find_base_port(1)) as cluster:
        yield cluster
    shutil.rmtree(place / "cluster")


def _workload(folder: Path, sizes: Sequence[int]) -> Workload:
    """Files of rng."""
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (folder / f"{number:06}").write_bytes(np.random.default_rng(number).bytes(size))
    return Workload(folder.name, folder, len(sizes), sum(sizes))


def _by_size(place: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Put and get of one file, whole commands, and the client's memory."""
    with _cluster(place) as cluster:
        product = Tessera(cluster, place)
        for size in sizes:
            warn(f"a file of {size} MiB")
            workload, into = _workload(place / "file", [size * MIB]), place / "got"
            into.mkdir()
            put, get = product.put(workload).command, product.get(workload, into).command
            _require_same(workload, into)
            product.empty()
            for folder in (workload.folder, into):
                shutil.rmtree(folder)
            yield {
                "put s": put.wall,
                "get s": get.wall,
                "put ns/B": put.processor / workload.size * 1e9,
                "producer MiB": put.peak / MIB,
                "consumer MiB": get.peak / MIB,
            }


def _require_same(workload: Workload, into: Path) -> None:
    wanted, got = (_digests(folder) for folder in (workload.folder, into))
    if wanted != got:
        raise TesseraError("what came back is not what was stored")


def _digests(folder: Path) -> list[str]:
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file())


def _by_count(place: Path, counts: Sequence[int]) -> Iterator[Row]:
    """Images stored; what listing, broker and devices cost then, and how long each takes to be there again."""
    with _cluster(place) as cluster:
        product = Tessera(cluster, place)
        stored = 0
        for count in counts:
            warn(f"{count} images")
            workload = _workload(place / "files", [_SMALL] * (count - stored))
            for path in workload.files:  # none of those that are stored already
                path.write_bytes(path.read_bytes() + count.to_bytes(4, "big"))
            put = product.put(workload).command
            last = hashlib.sha256(workload.files[-1].read_bytes()).hexdigest()
            shutil.rmtree(workload.folder)
            stored = count
            row = {"images/s": workload.count / put.wall, "producer MiB": put.peak / MIB}
            row |= {**_listing(product, last), **_broker(cluster, product, last, count), **_device(cluster, count)}
            warn(json.dumps(row))
            yield row


def _listing(product: Tessera, last: str) -> Row:
    """List all on the machine that stored them, twice, since it takes up what was stored at first; and restore one."""
    first, again = (listed(product.environment, "--list") for _ in range(2))
    return {
        "list after the put s": first.whole,
        "list, first line s": again.first,
        "list s": again.whole,
        "one by 8 digits s": _get(product, last),
    }


def _get(product: Tessera, sha256: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = program_command("consumer", "--hash", sha256[:8], "--output", os.path.join(folder, "one"))
        return run_metered(command, product.environment).wall


def _broker(cluster: LocalCluster, product: Tessera, last: str, count: int) -> Row:
    """Kill and start the broker, with its catalog and without, until it knows all again."""
    peaks = [_peak(cluster.broker_pid())]
    row = {}
    for name, is_kept in (("broker again s", True), ("without its catalog s", False)):
        cluster.kill_broker()
        if not is_kept:
            for path in Path(cluster.environment["TESSERA_HOME"], "broker").glob("catalog.sqlite*"):
                path.unlink()
        started = time.monotonic()
        cluster.start_broker()
        if is_kept:
            _get(product, last)
            row["broker serves again s"] = time.monotonic() - started
        _wait_known(cluster, count)
        row[name] = time.monotonic() - started
        peaks.append(_peak(cluster.broker_pid()))
    return {**row, "broker MiB": max(peaks) / MIB}


def _wait_known(cluster: LocalCluster, count: int) -> None:
    end = time.monotonic() + _TIMEOUT
    while True:
        objects = cluster.status()["objects"]
        if objects["settled"] and objects["whole"] >= count:
            return
        if time.monotonic() > end:
            raise TesseraError(f"the broker does not know all {count} images")


def _device(cluster: LocalCluster, count: int) -> Row:
    """Kill and start a device, and look at its store."""
    cluster.kill_device(1)
    _wait_alive(cluster, len(cluster.devices) - 1)
    started = time.monotonic()
    cluster.start_device(1)
    _wait_alive(cluster, len(cluster.devices))
    starting = time.monotonic() - started
    files = [path for path in (cluster.directory / "device-1").rglob("*") if path.is_file()]
    return {
        "device again s": starting,
        "device MiB": _peak(cluster.device_pid(1)) / MIB,
        "files on a device": len(files),
        "bytes an image on a device": sum(path.stat().st_size for path in files) // count,
    }


def _wait_alive(cluster: LocalCluster, count: int) -> None:
    end = time.monotonic() + _TIMEOUT
    while len(cluster.alive()) != count:
        if time.monotonic() > end:
            raise TesseraError(f"there are not {count} devices")
        time.sleep(0.02)


def _peak(pid: Optional[int]) -> int:
    return 0 if pid is None else peak_memory(pid)


def _by_devices(place: Path, counts: Sequence[int]) -> Iterator[Row]:
    """Start the cluster, store and restore one file of 64 MiB, and the memory of the broker."""
    workload = _workload(place / "file", [64 * MIB])
    for count in counts:
        warn(f"{count} devices")
        started = time.monotonic()
        with _cluster(place, count) as cluster:
            starting = time.monotonic() - started
            product, into, pid = Tessera(cluster, place), place / "got", cluster.broker_pid()
            into.mkdir()
            put, get = product.put(workload).command, product.get(workload, into).command
            _require_same(workload, into)
            shutil.rmtree(into)
            memory = peak_memory(pid) / MIB if pid is not None else 0.0
        yield {"start of the cluster s": starting, "put s": put.wall, "get s": get.wall, "broker MiB": memory}


def _by_clients(place: Path, counts: Sequence[int]) -> Iterator[Row]:
    """So many producers at once, each with a vault and a file of 32 MiB of its own."""
    with _cluster(place) as cluster:
        for count in counts:
            warn(f"{count} clients")
            clients = [(Tessera(cluster, place), place / f"file {number}") for number in range(count)]
            for number, (_, path) in enumerate(clients):
                path.write_bytes(np.random.default_rng(number).bytes(_PART * MIB))
            seconds = _together([_storing(product, path) for product, path in clients])
            for product, path in clients:
                path.unlink()
                product.empty()
            pid = cluster.broker_pid()
            yield {
                "all stored s": seconds,
                "MB/s together": count * _PART * MIB / 1e6 / seconds,
                "broker MiB": peak_memory(pid) / MIB if pid is not None else 0.0,
            }


def _storing(product: Tessera, path: Path) -> Callable[[], subprocess.Popen[bytes]]:
    command = [sys.executable, os.fspath(CHECKOUT / "producer" / "producer.py"), os.fspath(path)]
    nothing = subprocess.DEVNULL
    return lambda: subprocess.Popen(command, env=product.environment, stdin=nothing, stdout=nothing, stderr=nothing)


def _together(starts: Sequence[Callable[[], subprocess.Popen[bytes]]]) -> float:
    """Start all, wait for all; the seconds until the last has ended."""
    started = time.monotonic()
    processes = [start() for start in starts]
    if any(process.wait() != 0 for process in processes):
        raise TesseraError("a producer failed")
    return time.monotonic() - started


def main() -> NoReturn:
    run(commands, "growth")


if __name__ == "__main__":
    main()
