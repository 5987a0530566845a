"""Runs in a table: medians with their spread, ratios, and what the processes cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contenders import Measured
from bench.workloads import MIB

PUT, GET, GET_TWO_DEAD = "put", "get", "get, two devices dead"
YARDSTICK = "scp, one plain copy"


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


def costs_table(runs: Sequence[Run]) -> str:
    """Markdown: processor nanoseconds per image byte, and peak memory, of each of Tessera's processes."""
    lines = [
        "| workload | | client ns/B | broker ns/B | workers ns/B | all | client MiB | broker MiB | worker MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (workload, what, _), group in grouped([run for run in runs if run.measured.behind]).items():

        def nanoseconds(name: str, group: Sequence[Run] = group) -> float:
            seconds = [r.measured.command.processor if name == "client" else r.measured.behind[name] for r in group]
            return statistics.median(seconds) / group[0].size * 1e9

        costs = [nanoseconds(name) for name in ("client", "broker", "workers")]
        peaks = [
            max(run.measured.command.peak for run in group),
            *(max(run.measured.peaks[name] for run in group) for name in ("broker", "workers")),
        ]
        shown = " | ".join(f"{cost:.2f}" for cost in [*costs, sum(costs)])
        lines.append(f"| {workload} | {what} | {shown} | {' | '.join(str(peak // MIB) for peak in peaks)} |")
    return "\n".join(lines)


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
