"""One large file over lanes and over CURVE, in turn in one run: python -m bench.wire --stores FOLDER

Two clusters of six devices each on this machine, whole commands; a round stores one file in a vault of its own, which
it then restores. Processor time is that of all processes, the start of the command included.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Optional

import numpy as np
import typer

from bench.contenders import Tessera
from bench.metering import Measured
from bench.report import GET, PUT
from bench.workloads import Workload
from cluster.local import LocalCluster
from cluster.ports import find_base_port
from common.errors import TesseraError
from common.process.program import application, run, warn

commands = application("Measure lanes beside CURVE.")
_WIRES = ("lane", "curve")
_DEVICES = 6
_MIB = 1 << 20

Rounds = dict[tuple[str, str], list[Measured]]  # by wire, and put or get


@commands.command()
def wire(
    mib: int = typer.Option(256, min=1, help="How large the file is."),
    rounds: int = typer.Option(5, min=1, help="How often each has its turn."),
    stores: Optional[Path] = typer.Option(None, help="Where stores and files lie: a folder on tmpfs or on a disk."),
) -> None:
    """Print a table in Markdown."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their programs compiled once, not at each start
    measured: Rounds = {}
    with tempfile.TemporaryDirectory(prefix="tessera-wire-", dir=stores) as folder, ExitStack() as stack:
        place = Path(folder)
        clusters = {
            each: stack.enter_context(
                LocalCluster(place / each, workers=_DEVICES, base_port=find_base_port(1), wire=each)
            )
            for each in _WIRES
        }
        file = place / "file"
        for number in range(rounds):
            file.write_bytes(np.random.default_rng(number).bytes(mib * _MIB))
            for each in _WIRES[:: 1 if number % 2 == 0 else -1]:
                _round(each, clusters[each], place, file, measured)
    print(_table(measured, mib * _MIB))


def _round(name: str, cluster: LocalCluster, place: Path, file: Path, measured: Rounds) -> None:
    contender = Tessera(cluster, place)
    into = place / "restored"
    for what in (PUT, GET):
        workload = Workload(file.name, file, 1, file.stat().st_size)
        each = contender.put(workload) if what == PUT else contender.get(workload, into)
        measured.setdefault((name, what), []).append(each)
        warn(f"{name}: {what}: {each.command.wall:.2f} s, {_processor(each):.2f} s of all processors")
    restored = next(path for path in into.rglob("*") if path.is_file())
    if restored.read_bytes() != file.read_bytes():
        raise TesseraError(f"{name} did not bring it back")
    restored.unlink()
    contender.empty()


def _processor(each: Measured) -> float:
    return each.command.processor + sum(each.behind.values())


def _table(measured: Rounds, size: int) -> str:
    lines = ["| | wall, s | ns a byte: all | client | broker | workers |", "|---|---|---|---|---|---|"]
    for (name, what), rounds in measured.items():
        figures = [
            [each.command.wall for each in rounds],
            [_processor(each) / size * 1e9 for each in rounds],
            [each.command.processor / size * 1e9 for each in rounds],
            [each.behind["broker"] / size * 1e9 for each in rounds],
            [each.behind["workers"] / size * 1e9 for each in rounds],
        ]
        shown = " | ".join(f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" for each in figures)
        lines.append(f"| {what}, {name} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(commands, "wire")
