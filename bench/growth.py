"""How cost grows with the image's size, the number of images, devices and clients: python bench/growth.py

Each row doubles or more what is in its first column; what is measured should not grow faster than that. Stores lie
where `--stores` says. What takes the longest is the largest number of images: about five minutes for 100,000.
"""

from __future__ import annotations

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
from bench.metering import peak_memory, run_metered
from bench.workloads import MIB, Workload
from cluster.local import CHECKOUT, LocalCluster
from cluster.ports import find_base_port
from common.errors import TesseraError
from common.process.program import application, run, warn

commands = application("Measure how cost grows.")
_SIZES = (1, 4, 16, 64, 256, 1024, 4096)  # MiB
_COUNTS = (100, 1_000, 10_000, 100_000)
_SMALL = 10 << 10  # bytes
_DEVICES = (3, 6, 12, 24, 60)
_CLIENTS = (1, 2, 4, 8, 16)
_PART = 32  # MiB that each client stores
_TIMEOUT = 120.0  # seconds

Row = dict[str, float]


@commands.command()
def growth(
    largest: int = typer.Option(_SIZES[-1], help="Largest image, in MiB."),
    most_images: int = typer.Option(_COUNTS[-1], help="Most images, of 10 KiB."),
    most_devices: int = typer.Option(_DEVICES[-1], help="Most devices."),
    most_clients: int = typer.Option(_CLIENTS[-1], help="Most clients at once."),
    stores: Optional[Path] = typer.Option(None, help="Where stores lie: a folder on tmpfs or on a disk."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write all figures there, as JSON."),
) -> None:
    """Print a table for each, in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    found: dict[str, list[Row]] = {}
    for title, points, measure in (
        ("image's size in MiB", [size for size in _SIZES if size <= largest], _by_size),
        ("images of 10 KiB", [count for count in _COUNTS if count <= most_images], _by_count),
        ("devices", [count for count in _DEVICES if count <= most_devices], _by_devices),
        ("clients at once", [count for count in _CLIENTS if count <= most_clients], _by_clients),
    ):
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
    wanted, got = ([hashlib.sha256(p.read_bytes()).hexdigest() for p in f.iterdir()] for f in (workload.folder, into))
    if sorted(wanted) != sorted(got):
        raise TesseraError("what came back is not what was stored")


def _by_count(place: Path, counts: Sequence[int]) -> Iterator[Row]:
    """Store, list, find one, and how long the broker takes to know all again after it was started anew."""
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
            consumer = [sys.executable, os.fspath(CHECKOUT / "consumer" / "consumer.py")]
            listing = run_metered([*consumer, "--list"], product.environment)
            one = place / "one"
            finding = run_metered([*consumer, "--hash", last, "--output", os.fspath(one)], product.environment)
            one.unlink()
            started = time.monotonic()
            cluster.kill_broker()
            cluster.start_broker()
            _wait_known(cluster, count)
            pid = cluster.broker_pid()
            yield {
                "put s": put.wall,
                "images/s": workload.count / put.wall,
                "list s": listing.wall,
                "find and restore one s": finding.wall,
                "broker knows all again s": time.monotonic() - started,
                "broker MiB": peak_memory(pid) / MIB if pid is not None else 0.0,
            }


def _wait_known(cluster: LocalCluster, count: int) -> None:
    end = time.monotonic() + _TIMEOUT
    while cluster.status()["objects"]["whole"] < count:
        if time.monotonic() > end:
            raise TesseraError(f"the broker does not know all {count} images")


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
