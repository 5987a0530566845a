"""Measures Tessera beside what people use instead, in turn and repeatedly in one run: python bench/bench.py

Whole commands are timed, from their start to their end, the start of Python and the derivation of a key from the
passphrase among them. What comes back is compared by SHA-256 each time. Of the peers scp, rsync and restic take part
where they are installed; others where an option asks for them. What cannot be had is left out by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, Optional

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import typer

from bench.contenders import Contender, Redundant, Tessera
from bench.metering import Measured, find_memory
from bench.peers import peers
from bench.report import GET, GET_TWO_DEAD, ONE_PHOTO, PUT, Run, as_json, costs_table, moments_table, rates_table
from bench.roofline import measure_roofline
from bench.workloads import MIB, Workload, make_photo, make_workloads
from cluster.local import LocalCluster
from cluster.ports import find_base_port
from common.process.program import application, run, warn

commands = application("Measure Tessera beside what people use instead.")
_PHOTO = 3 * MIB
_SPARE_MEMORY = 64 * MIB  # for a run, beside five times what it stores


@commands.command()
def bench(
    repeats: int = typer.Option(3, min=1, help="Rounds; in each every contender has its turn."),
    scale: float = typer.Option(1.0, min=0.01, max=1.0, help="Make the workloads smaller, for a try."),
    stores: Optional[Path] = typer.Option(None, help="Where stores lie: a folder on tmpfs or on a disk."),
    latencies: int = typer.Option(30, min=0, help="How often one photograph of 3 MB is stored and restored."),
    with_tahoe: bool = typer.Option(False, "--with-tahoe", help="Tahoe-LAFS, installed into the user's cache."),
    with_zfec: bool = typer.Option(False, "--with-zfec", help="openssl or age, zfec and rsync, put together by hand."),
    with_gluster: bool = typer.Option(False, "--with-gluster", help="GlusterFS, from the system's packages, as root."),
    with_swift: bool = typer.Option(False, "--with-swift", help="OpenStack Swift, installed into the user's cache."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write each run there, as JSON."),
) -> None:
    """Print tables in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    with tempfile.TemporaryDirectory(prefix="tessera-bench-", dir=stores) as folder:
        place = Path(folder)
        workloads = make_workloads(place / "workloads", scale)
        roofline = measure_roofline(place)
        with ExitStack() as stack:
            cluster = stack.enter_context(LocalCluster(place / "cluster", workers=6, base_port=find_base_port(1)))
            product = Tessera(cluster, place)
            asked = {"tahoe": with_tahoe, "zfec": with_zfec, "gluster": with_gluster, "swift": with_swift}
            contenders = [product, *stack.enter_context(peers(place, {name for name, yes in asked.items() if yes}))]
            runs = [r for _ in range(repeats) for workload in workloads for r in _round(contenders, workload, place)]
            runs += [r for number in range(latencies) for r in _round(contenders, _one_photo(place, number), place)]
            moments = _latencies(product, place, latencies)
            runs += _two_dead(contenders, workloads[0], place, repeats)
    print(rates_table(runs), "", costs_table(runs), "", roofline.table(runs), "", moments_table(runs), sep="\n")
    print("", *moments, "", *(f"- {c.name}: {c.lacks}" for c in contenders if c.lacks), sep="\n")
    if json_file is not None:
        found = {"scale": scale, "runs": as_json(runs), "roofline": roofline.as_json()}
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def _one_photo(place: Path, number: int) -> Workload:
    """Another one for each number."""
    folder = place / "one" / str(number)
    folder.mkdir(parents=True)
    photo = folder / "photo.jpg"
    photo.write_bytes(make_photo(_PHOTO) + number.to_bytes(4, "big"))
    return Workload(ONE_PHOTO, folder, 1, photo.stat().st_size)


def _round(contenders: Sequence[Contender], workload: Workload, place: Path) -> list[Run]:
    runs = []
    for contender in contenders:
        _find_memory_for(workload)
        runs.append(_run(contender, workload, PUT, contender.put(workload)))
        runs.append(_got(contender, workload, GET, place))
        contender.empty()
    return runs


def _two_dead(contenders: Sequence[Contender], workload: Workload, place: Path, repeats: int) -> list[Run]:
    redundant = [contender for contender in contenders if isinstance(contender, Redundant)]
    for contender in redundant:
        contender.put(workload)
    for contender in redundant:  # only now, since two of them may share their devices
        contender.lose_two()
    return [_got(contender, workload, GET_TWO_DEAD, place) for _ in range(repeats) for contender in redundant]


def _run(contender: Contender, workload: Workload, what: str, measured: Measured) -> Run:
    warn(f"{contender.name}: {workload.name}: {what}: {measured.command.wall:.2f} s")
    return Run(contender.name, workload.name, what, workload.size, workload.count, measured)


def _got(contender: Contender, workload: Workload, what: str, place: Path) -> Run:
    into = place / "got"
    _find_memory_for(workload)
    result = _run(contender, workload, what, contender.get(workload, into))
    wanted = sorted(_sha256(path) for path in workload.files)
    if sorted(_sha256(path) for path in into.rglob("*") if path.is_file()) != wanted:
        raise RuntimeError(f"{contender.name} did not bring {workload.name} back")
    shutil.rmtree(into)
    return result


def _find_memory_for(workload: Workload) -> None:
    find_memory(_SPARE_MEMORY + 5 * workload.size)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _latencies(product: Tessera, place: Path, times: int) -> list[str]:
    """One photograph at a time, as the programs themselves measure it, once they have started."""
    taken: dict[str, list[float]] = {PUT: [], GET: []}
    for number in range(times):
        photo = place / f"photo {number}.jpg"
        photo.write_bytes(make_photo(_PHOTO) + number.to_bytes(4, "big"))
        stored = json.loads(product.run("producer", "--json", str(photo)).splitlines()[0])
        restored = json.loads(
            product.run("consumer", "--json", "--hash", stored["sha256"], "--output", str(place / f"got {number}"))
        )
        taken[PUT].append(stored["seconds"])
        taken[GET].append(restored["seconds"])
    product.empty()
    return [
        f"One photograph of 3 MB, {what}, {len(seconds)} times: {statistics.median(seconds) * 1e3:.0f} ms (median), "
        f"{max(seconds) * 1e3:.0f} ms at most."
        for what, seconds in taken.items()
        if seconds
    ]


def main() -> NoReturn:
    run(commands, "bench")


if __name__ == "__main__":
    main()
