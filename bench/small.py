"""Small images beside scp, in turn in one run: python -m bench.small --stores FOLDER

Whole commands over six devices, each round with a vault of its own, which records a snapshot and restores it. scp
neither fsyncs nor encrypts what it stores, and keeps one copy. Nothing is removed before the end: for some minutes
after many files were, ext4 takes 0.1 to 0.3 ms of processor time to make one (it passes over the inodes of those).
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import typer

from bench.contenders import Contender, OverSsh, Tessera, ssh_server
from bench.metering import Cost
from bench.report import GET, PUT
from bench.workloads import Workload
from cluster.local import LocalCluster
from cluster.ports import find_base_port
from common.errors import TesseraError
from common.process.program import application, run, warn

commands = application("Measure small images beside scp.")
_SIZE = 10 << 10  # bytes
_DEVICES = 6

Costs = dict[tuple[str, str], list[Cost]]  # by contender, and put or get


@commands.command()
def small(
    images: int = typer.Option(3000, min=1, help="How many."),
    rounds: int = typer.Option(5, min=1, help="How often each has its turn."),
    stores: Optional[Path] = typer.Option(None, help="Where stores and files lie: a folder on tmpfs or on a disk."),
) -> None:
    """Print a table in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    costs: Costs = {}
    with tempfile.TemporaryDirectory(prefix="tessera-small-", dir=stores) as folder:
        place = Path(folder)
        with ExitStack() as stack:
            cluster = stack.enter_context(
                LocalCluster(place / "cluster", workers=_DEVICES, base_port=find_base_port(1))
            )
            server = stack.enter_context(ssh_server(place))
            for number in range(rounds):
                here = place / f"round-{number}"
                here.mkdir()
                workload = _workload(here / "files", images, number)
                contenders: list[Contender] = [Tessera(cluster, here), OverSsh("scp", replace(server, place=here))]
                for which, contender in [*enumerate(contenders)][:: 1 if number % 2 == 0 else -1]:
                    _round(contender, workload, here / f"got-{which}", costs)
    print(_table(costs, images))


def _workload(folder: Path, count: int, seed: int) -> Workload:
    folder.mkdir()
    drawn = np.random.default_rng(seed)
    for number in range(count):
        (folder / f"{number:06}").write_bytes(drawn.bytes(_SIZE))
    return Workload(folder.name, folder, count, count * _SIZE)


def _round(contender: Contender, workload: Workload, into: Path, costs: Costs) -> None:
    for what in (PUT, GET):
        _flush()  # nobody waits for what another left to be written
        cost = (contender.put(workload) if what == PUT else contender.get(workload, into)).command
        costs.setdefault((contender.name, what), []).append(cost)
        warn(f"{contender.name}: {what}: {workload.count / cost.wall:,.0f}/s")
    if sum(path.is_file() for path in into.rglob("*")) != workload.count:
        raise TesseraError(f"{contender.name} did not bring all back")


def _flush() -> None:
    if hasattr(os, "sync"):
        os.sync()


def _table(costs: Costs, images: int) -> str:
    lines = ["| | | images/s: median | least, most | client's processor, ms each |", "|---|---|---|---|---|"]
    for (name, what), each in costs.items():
        rates = [images / cost.wall for cost in each]
        processor = statistics.median(cost.processor for cost in each) / images * 1e3
        shown = f"{statistics.median(rates):,.0f} | {min(rates):,.0f}, {max(rates):,.0f}"
        lines.append(f"| {what} | {name} | {shown} | {processor:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(commands, "small")
