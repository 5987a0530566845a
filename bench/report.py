"""Runs in a table: medians with their spread, ratios, and what the processes cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.metering import Cost, Measured
from bench.workloads import MIB

PUT, GET, GET_TWO_DEAD = "put", "get", "get, two devices dead"
YARDSTICK = "scp, one plain copy"
TESSERA = "Tessera, 4 of 6"
ONE_PHOTO = "one photo of 3 MB"
PROCESSES = ("client", "broker", "workers")


@dataclass(frozen=True)
class Run:
    """One put or get of one contender."""

    contender: str
    workload: str
    what: str
    size: int  # bytes
    count: int
    measured: Measured

    @property
    def rate(self) -> float:
        """MB (10^6 bytes) of image bytes in a second."""
        return self.size / 1e6 / self.measured.command.wall


Key = tuple[str, str, str]


def grouped(runs: Sequence[Run]) -> dict[Key, list[Run]]:
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.what, run.contender), []).append(run)
    return groups


def rates_table(runs: Sequence[Run]) -> str:
    """Markdown: each contender's rate by workload, as a multiple of scp's in the same run."""
    runs = [run for run in runs if run.workload != ONE_PHOTO]
    lines = [
        "| workload | | contender | MB/s: median (least to most) | files/s | × scp |",
        "|---|---|---|---|---|---|",
    ]
    groups = grouped(runs)
    for (workload, what, contender), group in groups.items():
        rates = sorted(run.rate for run in group)
        median = statistics.median(rates)
        files = statistics.median(run.count / run.measured.command.wall for run in group)
        yard = groups.get((workload, GET if what == GET_TWO_DEAD else what, YARDSTICK))
        ratio = f"{median / statistics.median(run.rate for run in yard):.2f}" if yard else "–"
        spread = f"{median:.0f} ({rates[0]:.0f} to {rates[-1]:.0f})"
        lines.append(f"| {workload} | {what} | {contender} | {spread} | {files:.0f} | {ratio} |")
    return "\n".join(lines)


def moments_table(runs: Sequence[Run]) -> str:
    """Markdown: how long whole commands take for one photograph."""
    lines = ["| one photo of 3 MB, whole commands | put ms: median (least to most) | get ms |", "|---|---|---|"]
    groups = grouped([run for run in runs if run.workload == ONE_PHOTO])
    for contender in dict.fromkeys(contender for _, _, contender in groups):
        shown = []
        for what in (PUT, GET):
            taken = sorted(run.measured.command.wall * 1e3 for run in groups[ONE_PHOTO, what, contender])
            shown.append(f"{statistics.median(taken):.0f} ({taken[0]:.0f} to {taken[-1]:.0f})")
        lines.append(f"| {contender} | {' | '.join(shown)} |")
    return "\n".join(lines)


def costs_table(runs: Sequence[Run]) -> str:
    """Markdown: processor nanoseconds per image byte, and peak memory, of each process of those that have several.

    A peer's gateway stands in the place of the broker, its storage servers in that of the workers.
    """
    lines = [
        "| workload | | contender | client ns/B | broker ns/B | workers ns/B | all "
        "| client MiB | broker MiB | worker MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    measured = [run for run in runs if run.measured.behind and run.workload != ONE_PHOTO]
    for (workload, what, contender), group in grouped(measured).items():
        costs = [nanoseconds(group, process) for process in PROCESSES]
        peaks = [
            max(run.measured.command.peak for run in group),
            *(max(run.measured.peaks.get(name, 0) for run in group) for name in PROCESSES[1:]),
        ]
        shown = " | ".join(f"{cost:.2f}" for cost in [*costs, sum(costs)])
        sizes = " | ".join(str(peak // MIB) if peak else "–" for peak in peaks)
        lines.append(f"| {workload} | {what} | {contender} | {shown} | {sizes} |")
    return "\n".join(lines)


def nanoseconds(group: Sequence[Run], process: str) -> float:
    """Of processor time for each byte: the median of these runs of one kind."""
    seconds = [r.measured.command.processor if process == "client" else r.measured.behind[process] for r in group]
    return statistics.median(seconds) / group[0].size * 1e9


def as_json(runs: Sequence[Run]) -> list[dict[str, object]]:
    """Each run by itself."""
    return [
        {
            "contender": run.contender,
            "workload": run.workload,
            "what": run.what,
            "bytes": run.size,
            "files": run.count,
            "seconds": round(run.measured.command.wall, 4),
            "processor_seconds": {"client": round(run.measured.command.processor, 4), **run.measured.behind},
            "peak_bytes": {"client": run.measured.command.peak, **run.measured.peaks},
        }
        for run in runs
    ]


def from_json(told: Sequence[Mapping[str, Any]]) -> list[Run]:
    """The runs that `as_json` told of."""
    runs = []
    for run in told:
        used, peaks = dict(run["processor_seconds"]), dict(run["peak_bytes"])
        command = Cost(run["seconds"], used.pop("client"), peaks.pop("client"))
        measured = Measured(command, used, peaks)
        runs.append(Run(run["contender"], run["workload"], run["what"], run["bytes"], run["files"], measured))
    return runs
